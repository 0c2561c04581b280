"""Whoever watches a session cannot harm it: what a tool did is stored before anybody is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.providers.scripted import call, say
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring import open_runtime
from tests.agents.conftest import TASK, Tool, answering


async def test_a_result_is_stored_although_the_watcher_fails_at_it(tmp_path: Path) -> None:
    def full_disk(event: dict[str, Any]) -> None:
        if event["type"] == "tool.completed":
            raise OSError(28, "No space left on device")

    registry = ToolRegistry()
    tool = Tool("charge", answering("charged"), effect="once")
    registry.register(tool)
    async with open_runtime(Settings(conductor_home=tmp_path), script=[call("charge"), say("Done.")]) as runtime:
        runner = AgentRunner("demo/scripted", ["charge"], registry, runtime=runtime)
        session = await runner.run(TASK, on_event=full_disk)

    assert len(tool.calls) == 1
    assert session.steps[0].tool_calls[0].outcome == "succeeded"
