"""Does the next prompt fit the model's context window, and what gives way if not? By estimate: no tokenizer is asked.

Old tool results give way first, to pointers; then whole old steps, to one note. Messages, answers and the newest
results stay. Half the window is freed at a time, so that a provider's cache of the prompt lives for a while.
"""

from __future__ import annotations

from collections.abc import Iterable

from conductor_ai.agents.prompt import OldResults, Prompt
from conductor_ai.agents.replies import Cap
from conductor_ai.schemas.events import ContextTrimmed
from conductor_ai.schemas.limits import Limits

# English prose has some 4.5 bytes a token, JSON and code about 3; other scripts 2 to 4.
_TOKENS_PER_BYTE = 1 / 3
# What a provider counts is believed above this; some servers report a figure that has nothing to do with the prompt.
_FEWEST_TOKENS_PER_BYTE = 1 / 5
# Part of the window that is not used: the estimate is one.
_MARGIN = 0.05
_FREED_TO = 0.5
# Of the window, for old steps beside messages that are too large for it by themselves.
_KEPT_BESIDE_TOO_MUCH = 0.25
# The results of one step together take at most this part of the window.
_SHARE_OF_RESULTS = 0.4
_FEWEST_CHARS = 200


def result_cap(limits: Limits, context_window: int | None, results: int) -> Cap:
    """How much of each of `results` new results a prompt shows; without a window only the session's limit counts."""
    if context_window is None:
        return Cap(limits.max_result_chars, 4 * limits.max_result_chars)
    share = int(context_window * _SHARE_OF_RESULTS / _TOKENS_PER_BYTE / results)
    return Cap(limits.max_result_chars, max(_FEWEST_CHARS, share))


def trimming(
    prompt: Prompt, *, step_no: int, context_window: int, output_tokens: int, head_bytes: int
) -> ContextTrimmed | None:
    """What must leave the prompt before the next call; None where it fits, or nothing is left that could go.

    Args:
        step_no: The step that is about to begin.
        output_tokens: What the answer may need.
        head_bytes: Size of the request's unchanging part.
    """
    counted_bytes = head_bytes + prompt.size - prompt.new_bytes
    per_byte = prompt.known_tokens / counted_bytes
    if per_byte < _FEWEST_TOKENS_PER_BYTE:
        per_byte = _TOKENS_PER_BYTE
    tokens = int(counted_bytes * per_byte + prompt.new_bytes * max(per_byte, _TOKENS_PER_BYTE))
    room = int(context_window * (1 - _MARGIN)) - output_tokens
    if tokens <= room:
        return None
    removable = int(sum(old.saves for old in prompt.old_steps()) * per_byte)
    goal = int((tokens - _target(tokens - removable, removable, room)) / per_byte)
    results_through, freed = _oldest(prompt.old_results(), goal)
    steps_through = 0
    if freed < goal:
        # Sizes of steps as they are before their results give way: counting those again would free too little.
        saved = {old.step_no: old.saves for old in prompt.old_results() if old.step_no <= results_through}
        steps = (OldResults(old.step_no, old.saves - saved.get(old.step_no, 0)) for old in prompt.old_steps())
        steps_through, more = _oldest(steps, goal - freed)
        freed += more
    if not freed:
        return None
    return {
        "step_no": step_no,
        "results_through": results_through,
        "steps_through": steps_through,
        "prompt_tokens_before": tokens,
        "prompt_tokens_after": max(0, tokens - int(freed * per_byte)),
        "context_window": context_window,
    }


def _target(stays: int, removable: int, room: int) -> float:
    """How many tokens the prompt shall have after trimming.

    Args:
        stays: Tokens of what may not leave: head, messages, answers, the newest step.
        removable: Tokens of the old steps.
    """
    if stays < room:
        return max(room * _FREED_TO, stays + (room - stays) * _FREED_TO)
    # By the estimate it cannot be made to fit: the provider has the last word. The model keeps what it knows meanwhile,
    # but for what would only grow and grow.
    kept = room * _KEPT_BESIDE_TOO_MUCH
    return stays + (removable if removable <= kept else kept * _FREED_TO)


def give_up_newest(prompt: Prompt, *, step_no: int, context_window: int) -> ContextTrimmed | None:
    """What leaves the prompt after its provider has called it too long, whatever the estimate says: all results, the
    newest too, and all old steps. None where there is nothing of either."""
    results = prompt.newest_results()
    if results is None or not prompt.results_could_shrink():
        return None
    return {
        "step_no": step_no,
        "results_through": results,
        "steps_through": max((old.step_no for old in prompt.old_steps()), default=0),
        "prompt_tokens_before": context_window,
        "prompt_tokens_after": 0,
        "context_window": context_window,
    }


def _oldest(candidates: Iterable[OldResults], goal: int) -> tuple[int, int]:
    """The step up to which to go until `goal` bytes are freed, and the bytes that this frees."""
    through = freed = 0
    for old in candidates:
        if freed >= goal:
            break
        through, freed = old.step_no, freed + old.saves
    return through, freed
