"""Three providers on loopback over one home, and how they fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.schemas.events import Event, EventType
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring import Runtime, open_runtime
from tests.agents.conftest import Tool, answering
from tests.servers import FakeAnthropic, FakeGemini, FakeOpenRouter, ProviderServer
from tests.servers.provider_server import KEY

CLAUDE, FLASH, DEEPSEEK = "claude-sonnet-4-5-20250929", "gemini-3.8-flash", "deepseek/deepseek-chat-v3"
SIGNED = {"type": "thinking", "thinking": "Let me look.", "signature": "c2lnbmVk"}
NOW = {"retry-after": "0"}


class House:
    """Three providers on loopback, over one home."""

    def __init__(self, home: Path, stack: AsyncExitStack) -> None:
        self._home, self._stack = home, stack
        self.runtime: Runtime
        self.claude, self.flash, self.deepseek = FakeAnthropic(), FakeGemini(), FakeOpenRouter()
        self.claude.wants_tools_with_calls = True

    async def runner(self, *models: str, **options: Any) -> AgentRunner:
        settings = Settings(
            conductor_home=self._home,
            anthropic_api_key=SecretStr(KEY),
            google_api_key=SecretStr(KEY),
            openrouter_api_key=SecretStr(KEY),
            anthropic_base_url=self.claude.url,
            gemini_base_url=self.flash.url,
            openrouter_base_url=self.deepseek.url,
        )
        self.runtime = await self._stack.enter_async_context(open_runtime(settings))
        registry = ToolRegistry()
        registry.register(Tool("look", answering({"found": 3})))
        return AgentRunner(models=models, tools=["look"], registry=registry, runtime=self.runtime, **options)

    async def events(self, session_id: str) -> list[Event]:
        return await self.runtime.store.events(session_id, "default")

    async def switches(self, session_id: str) -> list[tuple[str, str, str]]:
        events = [event for event in await self.events(session_id) if event.type is EventType.MODEL_SWITCHED]
        return [(one.payload["from_model"], one.payload["to_model"], one.payload["code"]) for one in events]


@asynccontextmanager
async def opened_house(tmp_path: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        house = House(tmp_path / "home", stack)
        for server in (house.claude, house.flash, house.deepseek):
            await stack.enter_async_context(server)
        yield house


def down(server: ProviderServer, status: int = 503, times: int = 4) -> None:
    """As many refusals as a call has attempts, each to be repeated at once."""
    for _ in range(times):
        server.will_answer(status, {"error": {"message": "overloaded", "code": status, "status": "X"}}, NOW)


TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
TOO_LONG = {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 2"}}
GONE = {"type": "error", "error": {"type": "not_found_error", "message": "model: gone"}}
