"""Anthropic Messages API: POST /v1/messages, version 2023-06-01. Source: API reference, "Create a Message"."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import aiohttp

from conductor_ai.providers.anthropic_head import fit_to_turns, head
from conductor_ai.providers.anthropic_reply import NAME, NOTHING, USABLE_ID, read_message, status_of
from conductor_ai.providers.anthropic_stream import AnthropicAssembly
from conductor_ai.providers.base import HeadSpec, ModelRequest
from conductor_ai.providers.failures import Failures, Timeouts
from conductor_ai.providers.http import ProviderHTTP, base_address, key_of
from conductor_ai.schemas import json_text
from conductor_ai.schemas.deltas import Delta
from conductor_ai.schemas.images import Image
from conductor_ai.schemas.messages import Message, ModelResponse, Role, ToolCall, ToolReply

VERSION = "2023-06-01"
DEFAULT_BASE_URL = "https://api.anthropic.com"

_MARK = b',"cache_control":{"type":"ephemeral"}}]}'
_USER_TURN = b'{"role":"user","content":['
_TURNS_MARKED = 2
"""Of the four marks that a request may have, after one for the tools and one for the instructions."""


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
        return json_text.wire_dumps(head(spec))[:-1] + b',"messages":['

    def encode_turn(self, message: Message) -> bytes:
        if message.role is Role.TOOL:
            turn = {"role": "user", "content": [_tool_result(reply) for reply in message.tool_replies]}
        elif message.role is Role.USER:
            turn = {"role": "user", "content": _said(message)}
        elif message.wire is not None and message.wire.provider == NAME:
            return message.wire.json
        else:
            turn = {"role": "assistant", "content": _rebuilt(message)}
        return json_text.exact(json_text.wire_dumps(turn))

    async def complete(self, request: ModelRequest) -> ModelResponse:
        return await self._http.ask(self._url, _marked(fit_to_turns(request)), self._read)

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | ModelResponse]:
        return self._http.stream(self._url, _marked(fit_to_turns(request)), self._read, self._assembly)

    def _assembly(self, headers: Mapping[str, str], model: str) -> AnthropicAssembly:
        return AnthropicAssembly(self._http.failures, headers, model)

    def _read(self, data: dict[str, Any], headers: Mapping[str, str], model: str) -> ModelResponse:
        if data.get("type") == "error":
            raise self._http.failures.refusal(status_of(data), data, headers, model, within_200=True)
        return read_message(data, headers, model)


def _marked(request: ModelRequest) -> ModelRequest:
    """The request with its newest turns marked for the cache: what stands before a mark is cached, and found again.

    Only turns of the user are marked: none of their blocks refuses a mark, as thinking does. The one before the newest
    was the newest of the step before; its mark finds that step's entry where more than the 20 blocks lie between the
    two that the service looks back from a mark. The kept bytes stay as they are. Source: guide, "Prompt caching".
    """
    turns = [*request.turns]
    left = _TURNS_MARKED
    for at in range(len(turns) - 1, -1, -1):
        if turns[at].startswith(_USER_TURN):
            turns[at] = turns[at][:-3] + _MARK
            left -= 1
            if not left:
                break
    return request._replace(turns=turns)


def _meaning(status: int, error: Mapping[str, Any]) -> int:
    # An empty account is a 400 invalid_request_error; only its text says so.
    message = error.get("message")
    if error.get("type") == "billing_error" or (isinstance(message, str) and "credit balance is too low" in message):
        return 402
    return status


def _is_blank(content: str) -> bool:
    return not content or content.isspace()


def _text(content: str) -> str:
    return NOTHING if _is_blank(content) else content


def _said(message: Message) -> list[dict[str, Any]]:
    """Images, then the text: in this order they are understood best. Source: guide, "Vision"."""
    blocks = [_image(image) for image in message.images]
    if not blocks or not _is_blank(message.content):
        blocks.append({"type": "text", "text": _text(message.content)})
    return blocks


def _image(image: Image) -> dict[str, Any]:
    if not image.data:
        raise ValueError("an image that was not fetched cannot be sent")
    return {"type": "image", "source": {"type": "base64", "media_type": image.media_type, "data": image.data}}


def _known_as(call: ToolCall) -> str:
    """The id of a call on this wire. Theirs where it is Anthropic's own, ours for a call of another provider."""
    theirs = call.provider_call_id
    if theirs is None or call.provider not in (None, NAME) or not USABLE_ID.fullmatch(theirs):
        return call.call_id
    return theirs


def _tool_result(reply: ToolReply) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": _known_as(reply.call), "content": reply.shown}
    if reply.is_error:
        block["is_error"] = True
    return block


def _rebuilt(message: Message) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if not message.tool_calls or not _is_blank(message.content):
        blocks.append({"type": "text", "text": _text(message.content)})
    return blocks + [
        {"type": "tool_use", "id": _known_as(call), "name": call.name, "input": call.arguments or {}}
        for call in message.tool_calls
    ]
