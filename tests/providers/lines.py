"""A provider's adapter and the server at the other end, for tests to talk over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import aiohttp

from conductor_ai.providers.base import HeadSpec, ModelRequest, Provider
from conductor_ai.providers.failures import Timeouts
from conductor_ai.schemas.deltas import Delta
from conductor_ai.schemas.messages import Message, ModelResponse, Role, ToolReply
from conductor_ai.sdk.base import ToolCategory, ToolDefinition
from tests.providers.wires import Wire
from tests.servers import ProviderServer

MODEL = "maker/model-1"
HELLO = Message(Role.USER, "Hello")
FIND = ToolDefinition(
    name="find",
    description="Find things.",
    category=ToolCategory.DATA,
    parameters={"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
)


@dataclass(frozen=True)
class Line:
    wire: Wire
    server: ProviderServer
    http: aiohttp.ClientSession
    provider: Provider

    def reconnected(self, *, url: str | None = None, timeouts: Timeouts | None = None) -> Line:
        return replace(self, provider=self.wire.connect(self.http, url or self.server.url, timeouts))

    async def ask(self, *messages: Message, **head: Any) -> ModelResponse:
        """One call over a whole conversation, a greeting where there is none."""
        return await self.provider.complete(self.request(*messages, **head))

    def request(self, *messages: Message, **head: Any) -> ModelRequest:
        spec = HeadSpec(**{"model": MODEL, "instructions": None, "tools": (), "max_output_tokens": 100, **head})
        turns = [self.provider.encode_turn(message) for message in messages or (HELLO,)]
        return ModelRequest(spec.model, self.provider.encode_head(spec), turns)

    async def stream(self, *messages: Message, **head: Any) -> tuple[list[Delta], ModelResponse]:
        """The same call, streamed: every delta, and the whole answer, which comes last and once."""
        *deltas, last = [item async for item in self.provider.stream(self.request(*messages, **head))]
        assert isinstance(last, ModelResponse)
        assert not any(isinstance(delta, ModelResponse) for delta in deltas)
        return cast("list[Delta]", deltas), last


@asynccontextmanager
async def connected(wire: Wire, http: aiohttp.ClientSession) -> AsyncIterator[Line]:
    async with wire.server() as server:
        yield Line(wire, server, http, wire.connect(http, server.url, None))


def own_turn(response: ModelResponse, step_no: int = 1) -> Message:
    """The assistant turn as the loop keeps it, its calls numbered."""
    calls = (call._replace(call_id=f"c{step_no}_{index}") for index, call in enumerate(response.tool_calls))
    return Message(Role.ASSISTANT, response.content, tuple(calls), wire=response.wire)


def replies_to(turn: Message, *contents: str, is_error: bool = False) -> Message:
    made = zip(turn.tool_calls, contents, strict=True)
    return Message(Role.TOOL, tool_replies=tuple(ToolReply(call, content, is_error) for call, content in made))
