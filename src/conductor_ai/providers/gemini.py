"""Gemini generateContent: POST /v1beta/models/MODEL:generateContent. Source: API reference, "Generating content"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from conductor_ai.providers import tool_arguments
from conductor_ai.providers.base import HeadSpec, ModelRequest
from conductor_ai.providers.failures import Failures, Timeouts
from conductor_ai.providers.http import ProviderHTTP, base_address, key_of
from conductor_ai.schemas import json_text
from conductor_ai.schemas.messages import Message, ModelResponse, Role, StopReason, ToolCall, ToolReply, WireTurn
from conductor_ai.schemas.usage import Usage

NAME = "gemini"
DEFAULT_BASE_URL = "https://generativelanguage.googleapis.com"

_STOP = {
    "STOP": StopReason.END_TURN,
    "MAX_TOKENS": StopReason.MAX_TOKENS,
    "SAFETY": StopReason.CONTENT_FILTER,
    "RECITATION": StopReason.CONTENT_FILTER,
    "BLOCKLIST": StopReason.CONTENT_FILTER,
    "PROHIBITED_CONTENT": StopReason.CONTENT_FILTER,
    "SPII": StopReason.CONTENT_FILTER,
    "MODEL_ARMOR": StopReason.CONTENT_FILTER,
    "IMAGE_SAFETY": StopReason.CONTENT_FILTER,
    "IMAGE_PROHIBITED_CONTENT": StopReason.CONTENT_FILTER,
    "IMAGE_RECITATION": StopReason.CONTENT_FILTER,
}
_NOTHING = "(empty)"
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
        self._urls: dict[str, URL] = {}
        self._http = ProviderHTTP(
            http,
            headers={"x-goog-api-key": key},
            failures=Failures(NAME, "GOOGLE_API_KEY", "GEMINI_BASE_URL", key, _meaning),
            timeouts=timeouts or Timeouts(),
        )

    def encode_head(self, spec: HeadSpec) -> bytes:
        head: dict[str, Any] = {"generationConfig": {"maxOutputTokens": spec.max_output_tokens}}
        if spec.instructions:
            head["systemInstruction"] = {"parts": [{"text": spec.instructions}]}
        if spec.tools:
            declarations = [
                {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters}
                for tool in spec.tools
            ]
            head["tools"] = [{"functionDeclarations": declarations}]
        return json_text.wire_dumps(head)[:-1] + b',"contents":['

    def encode_turn(self, message: Message) -> bytes:
        if message.role is Role.TOOL:
            turn = {"role": "user", "parts": [_function_response(reply) for reply in message.tool_replies]}
        elif message.role is Role.USER:
            turn = {"role": "user", "parts": [{"text": message.content or _NOTHING}]}
        elif message.wire is not None and message.wire.provider == NAME:
            return message.wire.json
        else:
            turn = {"role": "model", "parts": _rebuilt(message)}
        return json_text.exact(json_text.wire_dumps(turn))

    async def complete(self, request: ModelRequest) -> ModelResponse:
        url = self._urls.get(request.model)
        if url is None:
            path = f"{self._base}/{quote(request.model, safe='')}:generateContent"
            url = self._urls[request.model] = URL(path, encoded=True)
        return await self._http.ask(url, request, _read)


def _meaning(status: int, error: Mapping[str, Any]) -> int:
    # A wrong key is a 400 INVALID_ARGUMENT; only its google.rpc.ErrorInfo says so.
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and detail.get("reason") == "API_KEY_INVALID":
            return 401
    return status


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
        parts.append({"text": message.content or _NOTHING})
    for index, call in enumerate(message.tool_calls):
        part: dict[str, Any] = {"functionCall": {**_theirs(call), "name": call.name, "args": call.arguments or {}}}
        if index == 0:  # as the model itself does it: parallel calls are signed on the first
            part["thoughtSignature"] = _FOREIGN_SIGNATURE
        parts.append(part)
    return parts


def _read(data: dict[str, Any], headers: Mapping[str, str], model: str) -> ModelResponse:
    text, reasoning = [], []
    calls: list[ToolCall] = []
    stop, parts = _candidate(data)
    echo: list[dict[str, Any]] = []
    for part in parts:
        if "functionCall" in part:
            part = _read_call(part, calls)
        elif part.get("thought"):
            reasoning.append(part.get("text") or "")
        else:
            text.append(part.get("text") or "")
        echo.append(part)  # an empty text may carry the signature
    turn = {"role": "model", "parts": echo or [{"text": _NOTHING}]}
    return ModelResponse(
        content="".join(text),
        tool_calls=tuple(calls),
        stop_reason=StopReason.TOOL_USE if calls and stop is StopReason.END_TURN else stop,
        usage=_usage(data.get("usageMetadata")),
        wire=WireTurn(NAME, json_text.exact(json_text.wire_dumps(turn))),
        answered_by=data.get("modelVersion") or model,
        reasoning="".join(reasoning),
        request_id=data.get("responseId"),
    )


def _candidate(data: dict[str, Any]) -> tuple[StopReason, list[dict[str, Any]]]:
    """Why it stopped, and its parts, none where the answer was held back.

    A blocked prompt has no candidate at all, a blocked answer `content: {}`, one that spent its tokens on thinking a
    content without parts.
    """
    candidates = data.get("candidates")
    if not candidates:
        if (data.get("promptFeedback") or {}).get("blockReason"):
            return StopReason.CONTENT_FILTER, []
        raise KeyError("candidates")
    candidate = candidates[0]
    stop = _STOP.get(candidate.get("finishReason"), StopReason.OTHER)
    return stop, (candidate.get("content") or {}).get("parts") or []


def _read_call(part: dict[str, Any], calls: list[ToolCall]) -> dict[str, Any]:
    """Add the call of a functionCall part; gives the part as it may go back."""
    function = part["functionCall"]
    arguments, raw = tool_arguments.from_value(function.get("args"))
    calls.append(ToolCall("", function["name"], arguments, raw, function.get("id") or None, NAME))
    return part if raw is None else {**part, "functionCall": {**function, "args": {}}}


def _usage(usage: dict[str, Any] | None) -> Usage | None:
    """None where not even the prompt was counted.

    Source: API reference, "UsageMetadata": the prompt includes what was cached, the candidates leave out thoughts,
    and a count of 0 is left out.
    """
    if not usage or usage.get("promptTokenCount") is None:
        return None
    cached = int(usage.get("cachedContentTokenCount") or 0)
    thoughts = int(usage.get("thoughtsTokenCount") or 0)
    prompt = int(usage["promptTokenCount"]) + int(usage.get("toolUsePromptTokenCount") or 0)
    return Usage(
        input_tokens=max(0, prompt - cached),
        output_tokens=int(usage.get("candidatesTokenCount") or 0) + thoughts,
        cache_read_tokens=cached,
        reasoning_tokens=thoughts,
    )
