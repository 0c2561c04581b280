"""What ended a run, told from what is known of it."""

from __future__ import annotations

import re

from conductor_ai.tools.sandbox.base import KilledBy

_SIGKILL = (-9, 137)
_UNCAUGHT = 1
"""What both runtimes exit with after an error that nobody caught."""
_BY_SHELL = 128
_NO_MEMORY = re.compile(
    r"(?:[\w.]*_ArrayMemoryError|MemoryError)(?::|$)"
    r"|RangeError: (?:Array buffer allocation failed|WebAssembly\.Memory\(\): could not allocate memory)"
    r"|Error \[ERR_MEMORY_ALLOCATION_FAILED\]"
)
_ABORTED_WITHOUT_MEMORY = re.compile(
    r"FATAL ERROR: .*out of memory|# Fatal (?:process|JavaScript) out of memory|  what\(\):  std::bad_alloc$"
)
_BELOW_THE_LAST_WORDS = re.compile(
    r"\s*|\s+at .*|\s+code: .*|\}|Node\.js v\S+|-----.*-----|\s*\d+: 0x.*|#(?:FailureMessage.*)?"
)
"""Python's message is its last line; below V8's comes where it happened."""


def killed_by(
    *,
    killed_by_host: KilledBy | None,
    over_output: bool,
    out_of_memory: bool,
    ended: bool,
    exit_code: int | None,
    stderr: str,
) -> KilledBy:
    """Name what ended a run.

    Args:
        killed_by_host: Why the backend ended it; None where it did not, or only because `Reply.feed` said so.
        over_output: One of its streams went beyond the cap.
        out_of_memory: Something in it was killed for want of memory.
        ended: The guest told the run to its end.
        exit_code: The code's; None where it did not end by itself.
        stderr: What the code wrote there; a runtime that finds no memory says so at its end.
    """
    if killed_by_host not in (None, KilledBy.NONE, KilledBy.OUTPUT):
        return killed_by_host
    if over_output or killed_by_host is KilledBy.OUTPUT:
        return KilledBy.OUTPUT
    if out_of_memory and (not ended or exit_code in _SIGKILL):
        return KilledBy.MEMORY
    if not ended:
        return KilledBy.INFRA
    if exit_code and _names_memory(exit_code, _last_words(stderr)):
        return KilledBy.MEMORY
    return KilledBy.NONE


def _names_memory(exit_code: int, words: str) -> bool:
    """Only in the words of a runtime that ended as it does after them: the code may write to stderr what it likes."""
    if exit_code == _UNCAUGHT:
        return _NO_MEMORY.match(words) is not None
    return (exit_code < 0 or exit_code > _BY_SHELL) and _ABORTED_WITHOUT_MEMORY.match(words) is not None


def _last_words(stderr: str) -> str:
    lines = reversed(stderr.splitlines())
    return next((line for line in lines if not _BELOW_THE_LAST_WORDS.fullmatch(line)), "")
