"""Gemini generateContent: POST /v1beta/models/MODEL:generateContent. Source: API reference, "Generating content"."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from conductor_ai.errors import RequestRefused
from conductor_ai.providers import gemini_reply
from conductor_ai.providers.base import HeadSpec, ModelRequest
from conductor_ai.providers.failures import Failures, Timeouts
from conductor_ai.providers.gemini_head import head
from conductor_ai.providers.gemini_reply import NAME, NOTHING, GeminiAssembly
from conductor_ai.providers.http import END, ProviderHTTP, base_address, key_of
from conductor_ai.schemas import json_text
from conductor_ai.schemas.deltas import Delta
from conductor_ai.schemas.images import Image
from conductor_ai.schemas.messages import Message, ModelResponse, Role, ToolCall, ToolReply

DEFAULT_BASE_URL = "https://generativelanguage.googleapis.com"

_FAILED_INSIDE = 500
_FOREIGN_SIGNATURE = "skip_thought_signature_validator"
"""Gemini 3 refuses a call without a signature in the current turn; this one stands for a call that another model
made. Source: Gemini API, "Thought signatures", FAQ on history from another model."""


class GeminiProvider:
    """`base_url` is where `/v1beta` begins."""

    name = NAME

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        api_key: str,
        base_url: str = DEFAULT_BASE_URL,
        timeouts: Timeouts | None = None,
    ) -> None:
        key = key_of(api_key, "GOOGLE_API_KEY")
        self._base = base_address(base_url, "GEMINI_BASE_URL") / "v1beta/models"
        self._urls: dict[tuple[str, str], URL] = {}
        self._http = ProviderHTTP(
            http,
            headers={"x-goog-api-key": key},
            failures=Failures(NAME, "GOOGLE_API_KEY", "GEMINI_BASE_URL", key, _meaning),
            timeouts=timeouts or Timeouts(),
        )

    def encode_head(self, spec: HeadSpec) -> bytes:
        return json_text.wire_dumps(head(spec))[:-1] + b',"contents":['

    def encode_turn(self, message: Message) -> bytes:
        if message.role is Role.TOOL:
            turn = {"role": "user", "parts": [_function_response(reply) for reply in message.tool_replies]}
        elif message.role is Role.USER:
            turn = {"role": "user", "parts": _said(message)}
        elif message.wire is not None and message.wire.provider == NAME:
            return message.wire.json
        else:
            turn = {"role": "model", "parts": _rebuilt(message)}
        return json_text.exact(json_text.wire_dumps(turn))

    async def complete(self, request: ModelRequest) -> ModelResponse:
        url = self._url(request.model, "generateContent")
        try:
            return await self._http.ask(url, request, self._read)
        except RequestRefused as exc:
            request = _signed_anew(request, exc)
        return await self._http.ask(url, request, self._read)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | ModelResponse]:
        url = self._url(request.model, "streamGenerateContent?alt=sse")
        begun = False
        try:
            async with aclosing(self._http.stream(url, request, self._read, self._begin, end=END)) as items:
                async for item in items:
                    begun = True
                    yield item
                return
        except RequestRefused as exc:
            if begun:
                raise
            request = _signed_anew(request, exc)
        async with aclosing(self._http.stream(url, request, self._read, self._begin, end=END)) as items:
            async for item in items:
                yield item

    def _url(self, model: str, method: str) -> URL:
        url = self._urls.get((model, method))
        if url is None:
            path = f"{self._base}/{quote(model, safe='')}:{method}"
            url = self._urls[model, method] = URL(path, encoded=True)
        return url

    def _begin(self, headers: Mapping[str, str], model: str) -> GeminiAssembly:
        return GeminiAssembly(self._read, headers, model)

    def _read(self, data: dict[str, Any], headers: Mapping[str, str], model: str) -> ModelResponse:
        error = data.get("error")
        if error:  # in a 200, alone or in a stream that had begun
            code = error.get("code") if isinstance(error, dict) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else _FAILED_INSIDE
            raise self._http.failures.refusal(status, data, headers, model, within_200=True)
        return gemini_reply.read(data, model)


def _meaning(status: int, error: Mapping[str, Any]) -> int:
    # A wrong key is a 400 INVALID_ARGUMENT; only its google.rpc.ErrorInfo says so.
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and detail.get("reason") == "API_KEY_INVALID":
            return 401
    return status


def _signed_anew(request: ModelRequest, refusal: RequestRefused) -> ModelRequest:
    """The request to make once more, where what was refused were the signatures of earlier turns.

    They hold for the model and the key that made them; after a change of either they are "corrupted" or missing.
    Raises: `refusal`, where it is about something else, or there is nothing to sign anew.
    """
    turns = [_turn_signed_anew(turn) for turn in request.turns]
    if refusal.status != 400 or "signature" not in str(refusal).lower() or turns == list(request.turns):
        raise refusal
    return request._replace(turns=turns)


def _turn_signed_anew(turn: bytes) -> bytes:
    if b"thoughtSignature" not in turn and b"functionCall" not in turn:
        return turn
    content = json_text.loads(turn)
    if content["role"] != "model":
        return turn
    bare = [{name: value for name, value in part.items() if name != "thoughtSignature"} for part in content["parts"]]
    parts = [part for part in bare if part != {"text": ""}] or [{"text": NOTHING}]
    called = next((part for part in parts if "functionCall" in part), None)
    if called is not None:
        called["thoughtSignature"] = _FOREIGN_SIGNATURE
    return json_text.wire_dumps({**content, "parts": parts})


def _said(message: Message) -> list[dict[str, Any]]:
    """Images, then the text. Source: Gemini API, "Image understanding", on a prompt with a single image."""
    parts = [_image(image) for image in message.images]
    if message.content or not parts:
        parts.append({"text": message.content or NOTHING})
    return parts


def _image(image: Image) -> dict[str, Any]:
    if not image.data:
        raise ValueError("an image that was not fetched cannot be sent")
    return {"inlineData": {"mimeType": image.media_type, "data": image.data}}


def _theirs(call: ToolCall) -> dict[str, str]:
    """The id of a call, only where Gemini itself gave one: without ids, the order of the results is what counts."""
    if call.provider_call_id is None or call.provider not in (None, NAME):
        return {}
    return {"id": call.provider_call_id}


def _function_response(reply: ToolReply) -> dict[str, Any]:
    call = reply.call
    response = {"error" if reply.is_error else "output": reply.shown}
    return {"functionResponse": {**_theirs(call), "name": call.name, "response": response}}


def _rebuilt(message: Message) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    if message.content or not message.tool_calls:
        parts.append({"text": message.content or NOTHING})
    for index, call in enumerate(message.tool_calls):
        part: dict[str, Any] = {"functionCall": {**_theirs(call), "name": call.name, "args": call.arguments or {}}}
        if index == 0:  # as the model itself does it: parallel calls are signed on the first
            part["thoughtSignature"] = _FOREIGN_SIGNATURE
        parts.append(part)
    return parts
