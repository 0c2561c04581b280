"""The chat-completions wire, as far as OpenRouter and local servers share it. Source: OpenRouter API reference."""

from __future__ import annotations

from typing import Any

from conductor_ai.providers import tool_arguments
from conductor_ai.providers.base import HeadSpec
from conductor_ai.schemas import json_text
from conductor_ai.schemas.ids import new_id
from conductor_ai.schemas.messages import Message, Role, StopReason, ToolCall, WireTurn
from conductor_ai.schemas.usage import Usage

_STOP = {
    "stop": StopReason.END_TURN,
    "tool_calls": StopReason.TOOL_USE,
    "function_call": StopReason.TOOL_USE,
    "length": StopReason.MAX_TOKENS,
    "content_filter": StopReason.CONTENT_FILTER,
}
_ECHOED = ("role", "content", "reasoning", "reasoning_content", "reasoning_details")
"""What a server reads in a turn that goes back, besides the calls. Some models refuse a turn without its reasoning."""


def encode_head(spec: HeadSpec, extra: dict[str, Any]) -> bytes:
    head: dict[str, Any] = {"model": spec.model, "max_tokens": spec.max_output_tokens, **extra}
    if spec.tools:
        head["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            }
            for tool in spec.tools
        ]
    encoded = json_text.wire_dumps(head)[:-1] + b',"messages":['
    if spec.instructions:
        encoded += json_text.wire_dumps({"role": "system", "content": spec.instructions}) + b","
    return encoded


def encode_turn(provider: str, message: Message) -> bytes:
    if message.role is Role.TOOL:
        replies = [
            {"role": "tool", "tool_call_id": _known_as(provider, reply.call), "content": reply.shown}
            for reply in message.tool_replies
        ]
        return json_text.exact(b",".join(map(json_text.wire_dumps, replies)))
    if message.role is Role.USER:
        turn: dict[str, Any] = {"role": "user", "content": message.content}
    elif message.wire is not None and message.wire.provider == provider:
        return message.wire.json
    else:
        turn = {"role": "assistant", "content": message.content}
        if message.tool_calls:
            turn["tool_calls"] = [_rebuilt(provider, call) for call in message.tool_calls]
    return json_text.exact(json_text.wire_dumps(turn))


def _known_as(provider: str, call: ToolCall) -> str:
    """The id of a call on this wire: theirs, unchanged, where it is this provider's own."""
    if call.provider_call_id is None or call.provider not in (None, provider):
        return call.call_id
    return call.provider_call_id


def _rebuilt(provider: str, call: ToolCall) -> dict[str, Any]:
    arguments = json_text.wire_dumps(call.arguments or {}).decode()
    return {
        "id": _known_as(provider, call),
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def read_turn(provider: str, message: dict[str, Any]) -> tuple[str, tuple[ToolCall, ...], WireTurn]:
    """Text, calls, and the turn as it goes back."""
    calls: list[ToolCall] = []
    turn = {name: message[name] for name in _ECHOED if message.get(name) is not None}
    turn["role"] = "assistant"
    turn.setdefault("content", "")
    given = message.get("tool_calls")
    if given:
        turn["tool_calls"] = [_read_call(provider, call, calls) for call in given]
    wire = WireTurn(provider, json_text.exact(json_text.wire_dumps(turn)))
    return _text(message.get("content")), tuple(calls), wire


def _read_call(provider: str, given: dict[str, Any], calls: list[ToolCall]) -> dict[str, Any]:
    """Add one call; gives it as it may go back, with fields of the host's own and, if they can be used, its id."""
    function = given["function"]
    arguments, raw, text = _arguments(function.get("arguments"))
    call_id = given.get("id")
    if not call_id or any(call.provider_call_id == call_id for call in calls):
        call_id = f"call_{new_id()}"  # some hosts give none, or one for all
    calls.append(ToolCall("", function["name"], arguments, raw, call_id, provider))
    if text is None and call_id == given.get("id"):
        return given
    return {**given, "id": call_id, "function": {**function, "arguments": text or function["arguments"]}}


def _arguments(given: Any) -> tuple[dict[str, Any] | None, str | None, str | None]:
    """Arguments, the raw text where they are none, and the text to send back where theirs would not be read again."""
    if isinstance(given, str):
        arguments, raw = tool_arguments.from_text(given)
        return arguments, raw, None if arguments else tool_arguments.EMPTY_OBJECT
    arguments, raw = tool_arguments.from_value(given)
    return arguments, raw, json_text.wire_dumps(arguments or {}).decode()


def _text(content: Any) -> str:
    """Most hosts send text or null, some a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content or ())


def stop_reason(given: str | None, calls: tuple[ToolCall, ...]) -> StopReason:
    """Some hosts say "stop", or nothing, beside calls: the calls count."""
    if calls and given in ("stop", "tool_calls", "function_call", "", None):
        return StopReason.TOOL_USE
    stop = _STOP.get(given or "", StopReason.OTHER)
    return StopReason.OTHER if stop is StopReason.TOOL_USE else stop


def usage(given: dict[str, Any] | None) -> Usage | None:
    """None where one of the two counts is missing: some servers report nothing, and a half is no bill.

    The prompt includes what was read from and written to a cache, the completion includes reasoning.
    """
    if not given or given.get("prompt_tokens") is None or given.get("completion_tokens") is None:
        return None
    prompt = given.get("prompt_tokens_details") or {}
    completion = given.get("completion_tokens_details") or {}
    cached = int(prompt.get("cached_tokens") or 0)
    written = int(prompt.get("cache_write_tokens") or 0)
    return Usage(
        input_tokens=max(0, int(given["prompt_tokens"]) - cached - written),
        output_tokens=int(given["completion_tokens"]),
        cache_read_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=int(completion.get("reasoning_tokens") or 0),
    )
