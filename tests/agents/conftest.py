"""A runtime over a real store, driven by the scripted model, and tools that do what each test needs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.providers.scripted import Cue, Line, Moment, Script
from conductor_ai.schemas.events import Event
from conductor_ai.sdk import BaseTool, ToolCategory, ToolDefinition, ToolResult
from conductor_ai.sdk.base import ToolEffect
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring import Runtime, open_runtime

Body = Callable[[dict[str, Any]], Awaitable[Any]]
TASK = [{"role": "user", "content": "Do it."}]


class Tool(BaseTool):
    """A tool whose behaviour is the test's; `calls` has the arguments of each run."""

    def __init__(
        self,
        name: str,
        body: Body,
        *,
        effect: ToolEffect = "read",
        requires_approval: bool = False,
        timeout_s: float | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> None:
        self.calls: list[dict[str, Any]] = []
        self._body = body
        self._definition = ToolDefinition(
            name=name,
            description="A tool of a test.",
            category=ToolCategory.DATA,
            parameters=parameters or {"type": "object", "properties": {}},
            effect=effect,
            requires_approval=requires_approval,
            timeout_s=timeout_s,
        )

    @property
    def definition(self) -> ToolDefinition:
        return self._definition

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        self.calls.append(arguments)
        answer = await self._body(arguments)
        if isinstance(answer, ToolResult):
            return answer
        return ToolResult(tool_name=self._definition.name, success=True, result=answer)


def answering(value: Any) -> Body:
    async def body(arguments: dict[str, Any]) -> Any:
        return value

    return body


def line(cues: Sequence[Cue], moment: Moment) -> Line:
    """The line of a script of cues, for scripts that also watch."""
    cue = cues[moment.turn]
    return cue(moment) if callable(cue) else cue


class Gate:
    """A tool body that reports its start and then waits until it is let go."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, arguments: dict[str, Any]) -> Any:
        self.entered.set()
        await self.open.wait()
        return "through"


def edit(bench: Bench, statement: str) -> None:
    """What somebody with the file in hand could do."""
    connection = sqlite3.connect(bench.settings.conductor_home / "conductor.db")
    with connection:
        connection.execute(statement)
    connection.close()


class Bench:
    """Opens runtimes over one home: a second one is what a second process would see."""

    def __init__(self, home: Path, stack: AsyncExitStack) -> None:
        self.settings = Settings(conductor_home=home)
        self._stack = stack
        self.runtime: Runtime

    async def open(self, script: Script) -> Runtime:
        self.runtime = await self._stack.enter_async_context(open_runtime(self.settings, script=script))
        return self.runtime

    async def runner(self, script: Script, tools: Sequence[BaseTool] = (), **options: Any) -> AgentRunner:
        runtime = await self.open(script)
        registry = ToolRegistry()
        for tool in tools:
            registry.register(tool)
        names = [tool.definition.name for tool in tools]
        return AgentRunner("demo/scripted", names, registry, runtime=runtime, **options)

    async def events(self, session_id: str) -> list[Event]:
        return await self.runtime.store.events(session_id, "default")

    async def types(self, session_id: str) -> list[str]:
        return [event.type.value for event in await self.events(session_id)]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield Bench(tmp_path / "home", stack)
