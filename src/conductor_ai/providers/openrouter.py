"""OpenRouter: POST /api/v1/chat/completions. Source: OpenRouter API reference, "Chat completions" and "Errors"."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from decimal import Decimal
from typing import Any

import aiohttp

from conductor_ai.errors import InvalidInput
from conductor_ai.model_catalog import ReasoningStyle
from conductor_ai.providers import chat_completions
from conductor_ai.providers.answer_schema import for_strict
from conductor_ai.providers.base import HeadSpec, ModelRequest, Reasoning
from conductor_ai.providers.chat_stream import ChatAssembly
from conductor_ai.providers.failures import Failures, Timeouts
from conductor_ai.providers.http import ProviderHTTP, base_address, key_of
from conductor_ai.schemas.deltas import Delta
from conductor_ai.schemas.messages import Message, ModelResponse
from conductor_ai.schemas.parameters import ReasoningEffort

NAME = "openrouter"
DEFAULT_BASE_URL = "https://openrouter.ai/api/v1"


class OpenRouterProvider:
    """`base_url` is where `/chat/completions` begins; it ends in `/api/v1`."""

    name = NAME

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        api_key: str,
        base_url: str = DEFAULT_BASE_URL,
        timeouts: Timeouts | None = None,
    ) -> None:
        key = key_of(api_key, "OPENROUTER_API_KEY")
        self._url = base_address(base_url, "OPENROUTER_BASE_URL") / "chat/completions"
        self._http = ProviderHTTP(
            http,
            headers={"Authorization": f"Bearer {key}"},
            failures=Failures(NAME, "OPENROUTER_API_KEY", "OPENROUTER_BASE_URL", key, _meaning),
            timeouts=timeouts or Timeouts(),
        )

    def encode_head(self, spec: HeadSpec) -> bytes:
        extra: dict[str, Any] = {}
        if spec.reasoning is not None:
            extra["reasoning"] = _reasoning(spec.reasoning)
        if spec.answer_schema is not None:
            extra["response_format"] = _response_format(spec.answer_schema)
        routing: dict[str, Any] = {"order": list(spec.hosts)} if spec.hosts else {}
        if spec.tools or spec.answer_schema is not None:
            routing["require_parameters"] = True  # without this, a host that ignores tools or the schema may answer
        if routing:
            extra["provider"] = routing
        return chat_completions.encode_head(spec, extra)

    def encode_turn(self, message: Message) -> bytes:
        return chat_completions.encode_turn(NAME, message)

    async def complete(self, request: ModelRequest) -> ModelResponse:
        return await self._http.ask(self._url, request, self._read)

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | ModelResponse]:
        return self._http.stream(self._url, request, self._read, self._begin)

    def _begin(self, headers: Mapping[str, str], model: str) -> ChatAssembly:
        return ChatAssembly(self._read, headers, model, may_close=False)

    def _read(self, data: dict[str, Any], headers: Mapping[str, str], model: str) -> ModelResponse:
        billed = _billed(data.get("usage"))
        refused = chat_completions.refused(data)
        if refused is not None:
            raise chat_completions.refusal(self._http.failures, refused, headers, model, billed=billed)
        return chat_completions.read(NAME, data, headers, model, billed=billed, host=data.get("provider"))


def _response_format(schema: dict[str, Any]) -> dict[str, Any]:
    """Hosts that are strict know little of JSON schema. What they could not be told is left to those that are not."""
    try:
        return chat_completions.response_format(for_strict(schema), strict=True)
    except InvalidInput:
        return chat_completions.response_format(schema, strict=False)


def _reasoning(asked: Reasoning) -> dict[str, Any]:
    """`enabled` turns it off for any model that lets it; which efforts a model knows, `none` included, varies."""
    if asked.effort is ReasoningEffort.NONE:
        return {"enabled": False}
    if asked.style is ReasoningStyle.BUDGET:
        return {"max_tokens": asked.budget_tokens}
    return {"effort": asked.effort.value}


def _meaning(status: int, error: Mapping[str, Any]) -> int:
    """A 403 is a spent limit of the key, a prompt that moderation flagged, or a key without the right to call."""
    if status != 403:
        return status
    given = error.get("metadata")
    metadata = given if isinstance(given, dict) else {}
    message = str(error.get("message")).lower()
    if "limit_source" in metadata or "limit exceeded" in message:
        return 402
    if "reasons" in metadata or "flagged_input" in metadata or any(word in message for word in _DECLINED):
        return 400
    return status


_DECLINED = ("moderation", "flagged", "blocked")


def _billed(usage: Any) -> Decimal | None:
    """US dollars. Under a key of one's own at the host, `cost` is OpenRouter's fee and the host bills its part."""
    cost = usage.get("cost") if isinstance(usage, dict) else None
    if cost is None:
        return None
    if not usage.get("is_byok"):
        return Decimal(str(cost))
    upstream = (usage.get("cost_details") or {}).get("upstream_inference_cost")
    return None if upstream is None else Decimal(str(cost)) + Decimal(str(upstream))
