"""Any server of one's own with a chat-completions endpoint: Ollama, llama.cpp, vLLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp

from conductor_ai.providers import chat_completions
from conductor_ai.providers.base import HeadSpec, ModelRequest
from conductor_ai.providers.failures import Failures, Timeouts
from conductor_ai.providers.http import ProviderHTTP, base_address, key_of
from conductor_ai.schemas.messages import Message, ModelResponse

NAME = "local"


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
        return chat_completions.encode_head(spec, {})

    def encode_turn(self, message: Message) -> bytes:
        return chat_completions.encode_turn(NAME, message)

    async def complete(self, request: ModelRequest) -> ModelResponse:
        return await self._http.ask(self._url, request, _read)


def _read(data: dict[str, Any], headers: Mapping[str, str], model: str) -> ModelResponse:
    choice = data["choices"][0]
    message = choice["message"]
    content, calls, wire = chat_completions.read_turn(NAME, message)
    return ModelResponse(
        content=content,
        tool_calls=calls,
        stop_reason=chat_completions.stop_reason(choice.get("finish_reason"), calls),
        usage=chat_completions.usage(data.get("usage")),
        wire=wire,
        answered_by=data.get("model") or model,
        reasoning=message.get("reasoning") or message.get("reasoning_content") or "",
        request_id=data.get("id"),
    )
