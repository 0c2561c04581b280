"""What Anthropic Messages is told before the conversation. Source: API reference, "Create a Message".

None of it needs a beta header.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from conductor_ai.model_catalog import ReasoningStyle
from conductor_ai.providers.answer_schema import for_strict
from conductor_ai.providers.base import HeadSpec, ModelRequest, Reasoning
from conductor_ai.schemas import json_text
from conductor_ai.schemas.parameters import ReasoningEffort

_CACHED = {"type": "ephemeral"}
_ONLY_TEMPERATURE = 1.0
"""What the service takes while the model thinks."""
_MANUAL = re.compile(rb'"thinking":\{"type":"enabled","budget_tokens":\d+\}')
_SETTINGS_BYTES = 1000
"""Where the settings end at the latest, which stand before everything long."""
_OFF = b'"thinking":{"type":"disabled"}'
_USER_TURN = b'{"role":"user",'
_RESULTS_TURN = b'{"role":"user","content":[{"type":"tool_result"'


def head(spec: HeadSpec) -> dict[str, Any]:
    """Raises: InvalidInput where the answer's schema has no form that this service takes."""
    head: dict[str, Any] = {"model": spec.model, "max_tokens": spec.max_output_tokens}
    if spec.temperature is not None:
        head["temperature"] = spec.temperature
    if spec.reasoning is not None:
        head["thinking"] = _thinking(spec.reasoning)
    output = _output_config(spec)
    if output:
        head["output_config"] = output
    if spec.instructions and not spec.instructions.isspace():
        head["system"] = [{"type": "text", "text": spec.instructions, "cache_control": _CACHED}]
    if spec.tools:
        head["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.parameters} for tool in spec.tools
        ]
        head["tools"][-1]["cache_control"] = _CACHED
        if spec.must_call:
            head["tool_choice"] = {"type": "any"}
    if _thinks(spec.reasoning):
        _check_beside_thinking(spec)
    return head


def _thinks(reasoning: Reasoning | None) -> bool:
    return reasoning is not None and reasoning.effort is not ReasoningEffort.NONE


def _thinking(reasoning: Reasoning) -> dict[str, Any]:
    if not _thinks(reasoning):
        return {"type": "disabled"}
    if reasoning.style is ReasoningStyle.BUDGET:
        return {"type": "enabled", "budget_tokens": reasoning.budget_tokens}
    # Newer models keep their thoughts to themselves unless asked; those who watch a session want to see them.
    return {"type": "adaptive", "display": "summarized"}


def _output_config(spec: HeadSpec) -> dict[str, Any]:
    config: dict[str, Any] = {}
    reasoning = spec.reasoning
    if reasoning is not None and reasoning.style is ReasoningStyle.EFFORT and _thinks(reasoning):
        config["effort"] = reasoning.effort.value
    if spec.answer_schema is not None:
        config["format"] = {"type": "json_schema", "schema": for_strict(spec.answer_schema)}
    return config


def _check_beside_thinking(spec: HeadSpec) -> None:
    """Whoever makes a spec knows what goes together; the service answers a slip with a 400 in the middle of a session.

    Source: guide, "Extended thinking", on tool use and on sampling parameters.
    """
    if spec.must_call:
        raise ValueError("a model that thinks cannot be made to call a tool")
    if spec.temperature not in (None, _ONLY_TEMPERATURE):
        raise ValueError("a model that thinks takes no temperature")


def fit_to_turns(request: ModelRequest) -> ModelRequest:
    """The request without thinking by budget, where that would be refused: a cycle of tool calls under way, which was
    begun without a thought. It is of another model, or of one that was not to think; what follows it may think again.

    Source: the service's own 400: "a final `assistant` message must start with a thinking block"; adaptive thinking
    has no such rule.
    """
    manual = _MANUAL.search(request.head, 0, _SETTINGS_BYTES)
    if manual is None or not _began_without_thought(request.turns):
        return request
    return request._replace(head=request.head[: manual.start()] + _OFF + request.head[manual.end() :])


def _began_without_thought(turns: Sequence[bytes]) -> bool:
    at = len(turns) - 1
    while at > 0 and turns[at].startswith(_USER_TURN) and not turns[at].startswith(_RESULTS_TURN):
        at -= 1
    first = None
    while at > 0 and turns[at].startswith(_RESULTS_TURN):
        first, at = turns[at - 1], at - 2
    if first is None:
        return False
    return json_text.loads(first)["content"][0]["type"] not in ("thinking", "redacted_thinking")
