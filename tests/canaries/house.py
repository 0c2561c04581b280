"""A runtime with every secret planted, its providers on loopback, its log lines caught at DEBUG, and all it leaves."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.observability.logging import configure
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.sdk import BaseTool
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring import Runtime, open_runtime
from tests.canaries import planted
from tests.canaries.echoes import Careless
from tests.canaries.planted import Sweep
from tests.providers.stream_lines import STREAMS

MODELS = {
    "anthropic": "claude-sonnet-4-5-20250929",
    "gemini": "gemini-3.8-flash",
    "openrouter": "deepseek/deepseek-chat-v3",
    "local": "local/mine",
}
KEYS = {
    "anthropic": planted.ANTHROPIC.value,
    "gemini": planted.GOOGLE.value,
    "openrouter": planted.OPENROUTER.value,
    "local": planted.LOCAL.value,
}
TASK = [{"role": "user", "content": "Do it."}]


class House:
    """`providers` by wire. `left` gathers what the sessions leave; live pieces of answers are not part of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.recordings = home.with_name("recordings")
        self.providers = {wire.name: Careless(wire) for wire in STREAMS}
        self.lines = io.StringIO()
        self.left = Sweep()
        self.runtime: Runtime

    def runner(self, *models: str, tools: Sequence[BaseTool] = (), **options: Any) -> AgentRunner:
        registry = ToolRegistry()
        for tool in tools:
            registry.register(tool)
        names = [tool.definition.name for tool in tools]
        return AgentRunner(models=models, tools=names, registry=registry, runtime=self.runtime, **options)

    async def run(self, runner: AgentRunner, label: str, *, watched: bool) -> AgentSession:
        """Run a session, and keep what it told and what it came to."""
        items: list[dict[str, Any]] = []
        if watched:
            session = await runner.run(TASK, on_event=items.append)
        else:
            session = await runner.run(TASK)
        for item in items:
            if item["type"] != "model.delta":
                self.left.add(f"{label}: {item['type']}", json.dumps(item))
        self.left.add(f"{label}: the session", json.dumps(session.to_dict()))
        return session

    def settings(self) -> Settings:
        urls = {name: provider.server.url for name, provider in self.providers.items()}
        return Settings(
            conductor_home=self.home,
            anthropic_api_key=SecretStr(planted.ANTHROPIC.value),
            openrouter_api_key=SecretStr(planted.OPENROUTER.value),
            google_api_key=SecretStr(planted.GOOGLE.value),
            local_llm_api_key=SecretStr(planted.LOCAL.value),
            redis_url=SecretStr(planted.REDIS_URL),
            supabase_service_key=SecretStr(planted.SUPABASE.value),
            anthropic_base_url=urls["anthropic"],
            gemini_base_url=urls["gemini"],
            openrouter_base_url=urls["openrouter"],
            local_llm_base_url=urls["local"],
            conductor_model_attempts=2,
        )


@asynccontextmanager
async def planted_house(tmp_path: Path, app_env: str) -> AsyncIterator[House]:
    """Needs the fixture `logging_as_before`. asyncio's own log says all it can."""
    asyncio.get_running_loop().set_debug(True)
    async with AsyncExitStack() as stack:
        house = House(tmp_path / "home")
        for provider in house.providers.values():
            await stack.enter_async_context(provider.server)
        opening = open_runtime(house.settings(), record_dir=house.recordings)
        house.runtime = await stack.enter_async_context(opening)
        logging.getLogger().handlers.clear()  # pytest's own raise where a line cannot be made
        configure(app_env, house.runtime.redactor, "DEBUG", stream=house.lines)
        yield house
        house.left.add_folder(house.home)  # what SQLite keeps beside its file goes when that is closed
    house.left.add_folder(house.home)
    house.left.add_folder(house.recordings)
    house.left.add("log lines", house.lines.getvalue())
