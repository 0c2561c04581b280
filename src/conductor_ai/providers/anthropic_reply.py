"""What Anthropic Messages answers, read: the message, whether it came whole or in events, and the error in its place.
Source: API reference, "Create a Message" and "Errors"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from conductor_ai.providers import tool_arguments
from conductor_ai.schemas import json_text
from conductor_ai.schemas.ids import new_id
from conductor_ai.schemas.messages import ModelResponse, StopReason, ToolCall, WireTurn
from conductor_ai.schemas.usage import Usage

NAME = "anthropic"
NOTHING = "(empty)"
"""Stands where a message has no text: the API refuses text blocks, and messages, of nothing but white space."""
USABLE_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")

_STOP = {
    "end_turn": StopReason.END_TURN,
    "max_tokens": StopReason.MAX_TOKENS,
    "stop_sequence": StopReason.STOP_SEQUENCE,
    "tool_use": StopReason.TOOL_USE,
    "pause_turn": StopReason.PAUSE_TURN,
    "refusal": StopReason.REFUSAL,
    "model_context_window_exceeded": StopReason.CONTEXT_WINDOW,
}
_CUT = ("max_tokens", "model_context_window_exceeded")
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def stop_reason(given: str | None) -> StopReason:
    return _STOP.get(given or "", StopReason.OTHER)


def status_of(body: Mapping[str, Any]) -> int:
    """The status that an error means which came under a 200: in a stream that had begun, or through a gateway."""
    error = body.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    return _STATUS.get(kind, 500) if isinstance(kind, str) else 500


def read_message(data: dict[str, Any], headers: Mapping[str, str], model: str) -> ModelResponse:
    text, reasoning = [], []
    calls: list[ToolCall] = []
    echo: list[dict[str, Any]] = []
    for block in data["content"]:
        kind = block["type"]
        if kind == "text":
            if not block["text"] or block["text"].isspace():
                continue  # comes now and then, and is refused when it comes back
            text.append(block["text"])
        elif kind == "tool_use":
            block = _read_call(block, calls)
        elif kind == "thinking":
            reasoning.append(block["thinking"])
            if not block.get("signature") and data["stop_reason"] in _CUT:
                continue  # broke off before it was signed, and is refused when it comes back
        echo.append(block)
    turn = {"role": "assistant", "content": echo or [{"type": "text", "text": NOTHING}]}
    return ModelResponse(
        content="".join(text),
        tool_calls=tuple(calls),
        stop_reason=stop_reason(data["stop_reason"]),
        usage=usage_of(data.get("usage")),
        wire=WireTurn(NAME, json_text.exact(json_text.wire_dumps(turn))),
        answered_by=data.get("model") or model,
        reasoning="\n".join(reasoning),
        request_id=headers.get("request-id"),
    )


def _read_call(block: dict[str, Any], calls: list[ToolCall]) -> dict[str, Any]:
    """Add the call of a tool_use block; gives the block as it may go back."""
    arguments, raw = tool_arguments.from_value(block.get("input"))
    call_id = block["id"]
    if not USABLE_ID.fullmatch(call_id) or any(call.provider_call_id == call_id for call in calls):
        call_id = f"call_{new_id()}"
    calls.append(ToolCall("", block["name"], arguments, raw, call_id, NAME))
    if arguments is block.get("input") and call_id == block["id"]:
        return block
    return {**block, "id": call_id, "input": arguments or {}}


def usage_of(usage: dict[str, Any] | None) -> Usage | None:
    """None where a count that is always there is missing, as from a gateway behind ANTHROPIC_BASE_URL.

    Source: API reference, "Usage": `input_tokens` leaves out both cache counts.
    """
    if not usage or usage.get("input_tokens") is None or usage.get("output_tokens") is None:
        return None
    details = usage.get("output_tokens_details") or {}
    return Usage(
        input_tokens=int(usage["input_tokens"]),
        output_tokens=int(usage["output_tokens"]),
        cache_read_tokens=int(usage.get("cache_read_input_tokens") or 0),
        cache_write_tokens=int(usage.get("cache_creation_input_tokens") or 0),
        reasoning_tokens=int(details.get("thinking_tokens") or 0),
    )
