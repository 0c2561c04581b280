"""Any server of one's own with a chat-completions endpoint: Ollama, llama.cpp, vLLM."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import aiohttp

from conductor_ai.providers import chat_completions
from conductor_ai.providers.base import HeadSpec, ModelRequest
from conductor_ai.providers.chat_stream import ChatAssembly
from conductor_ai.providers.failures import Failures, Timeouts
from conductor_ai.providers.http import ProviderHTTP, base_address, key_of
from conductor_ai.schemas.deltas import Delta
from conductor_ai.schemas.messages import Message, ModelResponse

NAME = "local"
_STREAMED_WITH_USAGE = b'],"stream":true,"stream_options":{"include_usage":true}}'
"""OpenRouter always counts; these servers count a stream only where they are asked to."""


class LocalProvider:
    """`base_url` is where `/chat/completions` begins; it ends in `/v1`. A server without a key needs none."""

    name = NAME

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        base_url: str,
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        key = key_of(api_key, "LOCAL_LLM_API_KEY")
        self._url = base_address(base_url, "LOCAL_LLM_BASE_URL") / "chat/completions"
        self._http = ProviderHTTP(
            http,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            failures=Failures(NAME, "LOCAL_LLM_API_KEY", "LOCAL_LLM_BASE_URL", key),
            timeouts=timeouts or Timeouts(),
        )

    def encode_head(self, spec: HeadSpec) -> bytes:
        extra: dict[str, Any] = {}
        if spec.reasoning is not None:  # a budget has no word here; `none` turns it off
            extra["reasoning_effort"] = spec.reasoning.effort.value
        if spec.answer_schema is not None:  # these servers make a grammar of any schema
            extra["response_format"] = chat_completions.response_format(spec.answer_schema, strict=True)
        return chat_completions.encode_head(spec, extra)

    def encode_turn(self, message: Message) -> bytes:
        return chat_completions.encode_turn(NAME, message)

    async def complete(self, request: ModelRequest) -> ModelResponse:
        return await self._http.ask(self._url, request, self._read)

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | ModelResponse]:
        return self._http.stream(self._url, request, self._read, self._begin, end=_STREAMED_WITH_USAGE)

    def _begin(self, headers: Mapping[str, str], model: str) -> ChatAssembly:
        return ChatAssembly(self._read, headers, model, may_close=True)

    def _read(self, data: dict[str, Any], headers: Mapping[str, str], model: str) -> ModelResponse:
        refused = chat_completions.refused(data)
        if refused is not None:
            raise chat_completions.refusal(self._http.failures, refused, headers, model)
        return chat_completions.read(NAME, data, headers, model)
