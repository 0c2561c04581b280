"""Anthropic Messages API: POST /v1/messages, version 2023-06-01. Source: API reference, "Create a Message"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import aiohttp

from conductor_ai.providers import tool_arguments
from conductor_ai.providers.base import HeadSpec, ModelRequest
from conductor_ai.providers.failures import Failures, Timeouts
from conductor_ai.providers.http import ProviderHTTP, base_address, key_of
from conductor_ai.schemas import json_text
from conductor_ai.schemas.ids import new_id
from conductor_ai.schemas.messages import Message, ModelResponse, Role, StopReason, ToolCall, ToolReply, WireTurn
from conductor_ai.schemas.usage import Usage

NAME = "anthropic"
VERSION = "2023-06-01"
DEFAULT_BASE_URL = "https://api.anthropic.com"

_STOP = {
    "end_turn": StopReason.END_TURN,
    "max_tokens": StopReason.MAX_TOKENS,
    "stop_sequence": StopReason.STOP_SEQUENCE,
    "tool_use": StopReason.TOOL_USE,
    "pause_turn": StopReason.PAUSE_TURN,
    "refusal": StopReason.REFUSAL,
    "model_context_window_exceeded": StopReason.CONTEXT_WINDOW,
}
_USABLE_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NOTHING = "(empty)"
"""Stands where a message has no text: the API refuses text blocks, and messages, of nothing but white space."""


class AnthropicProvider:
    """`base_url` is where `/v1/messages` begins."""

    name = NAME

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        api_key: str,
        base_url: str = DEFAULT_BASE_URL,
        timeouts: Timeouts | None = None,
    ) -> None:
        key = key_of(api_key, "ANTHROPIC_API_KEY")
        self._url = base_address(base_url, "ANTHROPIC_BASE_URL") / "v1/messages"
        self._http = ProviderHTTP(
            http,
            headers={"x-api-key": key, "anthropic-version": VERSION},
            failures=Failures(NAME, "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", key, _meaning),
            timeouts=timeouts or Timeouts(),
        )

    def encode_head(self, spec: HeadSpec) -> bytes:
        head: dict[str, Any] = {"model": spec.model, "max_tokens": spec.max_output_tokens}
        if spec.instructions and not spec.instructions.isspace():
            head["system"] = spec.instructions
        if spec.tools:
            head["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
                for tool in spec.tools
            ]
        return json_text.wire_dumps(head)[:-1] + b',"messages":['

    def encode_turn(self, message: Message) -> bytes:
        if message.role is Role.TOOL:
            turn = {"role": "user", "content": [_tool_result(reply) for reply in message.tool_replies]}
        elif message.role is Role.USER:
            turn = {"role": "user", "content": _text(message.content)}
        elif message.wire is not None and message.wire.provider == NAME:
            return message.wire.json
        else:
            turn = {"role": "assistant", "content": _rebuilt(message)}
        return json_text.exact(json_text.wire_dumps(turn))

    async def complete(self, request: ModelRequest) -> ModelResponse:
        return await self._http.ask(self._url, request, _read)


def _meaning(status: int, error: Mapping[str, Any]) -> int:
    # An empty account is a 400 invalid_request_error; only its text says so.
    message = error.get("message")
    if error.get("type") == "billing_error" or (isinstance(message, str) and "credit balance is too low" in message):
        return 402
    return status


def _text(content: str) -> str:
    return _NOTHING if not content or content.isspace() else content


def _known_as(call: ToolCall) -> str:
    """The id of a call on this wire. Theirs where it is Anthropic's own, ours for a call of another provider."""
    theirs = call.provider_call_id
    if theirs is None or call.provider not in (None, NAME) or not _USABLE_ID.fullmatch(theirs):
        return call.call_id
    return theirs


def _tool_result(reply: ToolReply) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": _known_as(reply.call), "content": reply.shown}
    if reply.is_error:
        block["is_error"] = True
    return block


def _rebuilt(message: Message) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if not message.tool_calls or (message.content and not message.content.isspace()):
        blocks.append({"type": "text", "text": _text(message.content)})
    return blocks + [
        {"type": "tool_use", "id": _known_as(call), "name": call.name, "input": call.arguments or {}}
        for call in message.tool_calls
    ]


def _read(data: dict[str, Any], headers: Mapping[str, str], model: str) -> ModelResponse:
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
        echo.append(block)
    turn = {"role": "assistant", "content": echo or [{"type": "text", "text": _NOTHING}]}
    stop = data["stop_reason"]
    return ModelResponse(
        content="".join(text),
        tool_calls=tuple(calls),
        stop_reason=_STOP.get(stop, StopReason.OTHER),
        usage=_usage(data.get("usage")),
        wire=WireTurn(NAME, json_text.exact(json_text.wire_dumps(turn))),
        answered_by=data.get("model") or model,
        reasoning="\n".join(reasoning),
        request_id=headers.get("request-id"),
    )


def _read_call(block: dict[str, Any], calls: list[ToolCall]) -> dict[str, Any]:
    """Add the call of a tool_use block; gives the block as it may go back."""
    arguments, raw = tool_arguments.from_value(block.get("input"))
    call_id = block["id"]
    if not _USABLE_ID.fullmatch(call_id) or any(call.provider_call_id == call_id for call in calls):
        call_id = f"call_{new_id()}"
    calls.append(ToolCall("", block["name"], arguments, raw, call_id, NAME))
    if arguments is block.get("input") and call_id == block["id"]:
        return block
    return {**block, "id": call_id, "input": arguments or {}}


def _usage(usage: dict[str, Any] | None) -> Usage | None:
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
