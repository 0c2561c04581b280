"""A tool called outside any session: a person to ask, facts for the audit, the effect of this very call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from conductor_ai.conductor import Conductor
from conductor_ai.errors import ApprovalRequired, UsageError
from conductor_ai.providers.scripted import say
from conductor_ai.schemas.audit import first_break
from conductor_ai.sdk import BaseTool, PluginRegistry
from conductor_ai.sdk.base import ToolEffect
from conductor_ai.sdk.context import current_context
from conductor_ai.sdk.security.approval import ApprovalRequest, bind_approver, require_approval
from conductor_ai.tools.registry import ToolRegistry
from tests.agents.conftest import Bench, Gate, Tool, answering
from tests.conftest import fail_after


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield Bench(tmp_path / "home", stack)


async def opened(bench: Bench, tool: BaseTool) -> Conductor:
    runtime = await bench.open([say("Nobody asks.")])
    registry = ToolRegistry()
    registry.register(tool)
    return Conductor(runtime, registry, runtime.catalog, default_model=lambda: "demo/scripted")


async def audit_of(bench: Bench) -> list[tuple[str, dict[str, Any]]]:
    rows, head = await bench.runtime.store.audit_rows("default", None)
    assert first_break(rows, head) is None
    return [(row.action, json.loads(row.metadata)) for row in rows]


class Machine:
    """A tool that asks: `began` counts its starts, `running` what is under way, `ran` has what was approved."""

    def __init__(self) -> None:
        self.began = self.running = 0
        self.ran: list[str] = []
        registry = PluginRegistry()

        @require_approval(category="code_execution")
        async def run_code(code: str) -> str:
            self.ran.append(code)
            return f"ran {code}"

        @registry.tool(effect="once")
        async def machine(codes: list[str]) -> list[str]:
            """Run code."""
            self.began += 1
            self.running += 1
            try:
                return [await run_code(code) for code in codes]
            finally:
                self.running -= 1

        self.tool: BaseTool = machine


async def test_without_an_approver_a_tool_that_asks_fails_and_says_why(bench: Bench) -> None:
    machine = Machine()
    conductor = await opened(bench, machine.tool)

    result = await conductor.call_tool("machine", {"codes": ["x"]})

    assert (result.success, machine.ran) == (False, [])
    assert result.error == "ApprovalRequired: code_execution: run_code needs approval, and nobody is there to ask"


async def test_an_approver_is_asked_and_the_tool_starts_again(bench: Bench) -> None:
    machine = Machine()
    conductor = await opened(bench, machine.tool)
    asked: list[ApprovalRequest] = []

    async def yes(request: ApprovalRequest) -> bool:
        asked.append(request)
        return True

    result = await conductor.call_tool("machine", {"codes": ["x", "y", "x"]}, approver=yes)

    assert result.result == ["ran x", "ran y", "ran x"]
    assert [request.arguments["code"] for request in asked] == ["x", "y", "x"]
    assert machine.ran == ["x", "y", "x"]
    assert machine.began == 2
    audit = await audit_of(bench)
    assert [action for action, _ in audit] == ["tool.started", *["approval.decided"] * 3, "tool.completed"]
    assert (audit[1][1]["action"], audit[1][1]["decision"]) == ("code_execution: run_code", "approved")
    [execution] = await bench.runtime.store.tool_executions("default", None)
    assert execution.success


async def test_a_no_ends_the_call_as_refused_and_is_on_record(bench: Bench) -> None:
    machine = Machine()
    conductor = await opened(bench, machine.tool)

    async def no(request: ApprovalRequest) -> bool:
        return False

    result = await conductor.call_tool("machine", {"codes": ["x"]}, approver=no)

    assert (result.success, result.error) == (False, "code_execution: run_code was not allowed")
    assert (machine.ran, machine.began) == ([], 1)
    audit = await audit_of(bench)
    assert audit[1][1]["decision"] == "denied"
    assert audit[2][1]["outcome"] == "refused"


async def test_what_the_approver_raises_is_the_callers_and_the_end_is_on_record(bench: Bench) -> None:
    machine = Machine()
    conductor = await opened(bench, machine.tool)

    async def cannot(request: ApprovalRequest) -> bool:
        raise UsageError("nobody is here")

    with pytest.raises(UsageError, match="nobody is here"):
        await conductor.call_tool("machine", {"codes": ["x"]}, approver=cannot)

    assert machine.ran == []
    assert (await audit_of(bench))[-1][1]["outcome"] == "refused"


async def test_no_time_of_the_tool_passes_while_a_person_thinks(bench: Bench) -> None:
    machine = Machine()
    conductor = await opened(bench, machine.tool)
    running: list[int] = []

    async def yes(request: ApprovalRequest) -> bool:
        running.append(machine.running)
        return True

    await conductor.call_tool("machine", {"codes": ["x"]}, approver=yes)

    assert running == [0]


async def test_a_tool_that_keeps_the_question_to_itself_is_asked_about_all_the_same(bench: Bench) -> None:
    @require_approval(category="code_execution")
    async def act() -> str:
        return "acted"

    async def body(arguments: dict[str, Any]) -> str:
        try:
            return await act()
        except ApprovalRequired:
            return "swallowed"

    conductor = await opened(bench, Tool("act", body))

    async def yes(request: ApprovalRequest) -> bool:
        return True

    assert (await conductor.call_tool("act", {}, approver=yes)).result == "acted"
    assert (await conductor.call_tool("act", {})).result == "swallowed"


async def test_an_approver_that_the_caller_bound_itself_counts(bench: Bench) -> None:
    machine = Machine()
    conductor = await opened(bench, machine.tool)

    async def yes(request: ApprovalRequest) -> bool:
        return True

    with bind_approver(yes):
        result = await conductor.call_tool("machine", {"codes": ["x"]})

    assert (result.result, machine.began) == (["ran x"], 1)


async def test_a_call_interrupted_while_a_person_thinks_has_not_run(bench: Bench) -> None:
    machine = Machine()
    conductor = await opened(bench, machine.tool)
    asked = asyncio.Event()

    async def never(request: ApprovalRequest) -> bool:
        asked.set()
        await asyncio.Event().wait()
        return True

    calling = asyncio.create_task(conductor.call_tool("machine", {"codes": ["x"]}, approver=never))
    async with fail_after(5):
        await asked.wait()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling

    assert machine.ran == []
    assert (await audit_of(bench))[-1][1]["outcome"] == "refused"


async def test_facts_of_a_call_are_in_its_audit_row_however_it_ends(bench: Bench) -> None:
    async def body(arguments: dict[str, Any]) -> None:
        current_context().record(url="http://a", hops=1)
        current_context().record(url="http://b", odd={1, 2} & {2})
        raise ValueError("no")

    conductor = await opened(bench, Tool("look", body))

    result = await conductor.call_tool("look", {})

    assert result.error == "ValueError: no"
    facts = (await audit_of(bench))[-1][1]["facts"]
    assert facts == {"url": "http://b", "hops": 1, "odd": "{2}"}


async def test_a_call_without_facts_has_none_in_its_audit_row(bench: Bench) -> None:
    conductor = await opened(bench, Tool("look", answering(1)))
    await conductor.call_tool("look", {})
    assert "facts" not in (await audit_of(bench))[-1][1]


class Fetch(Tool):
    def effect_of(self, arguments: dict[str, Any]) -> ToolEffect:
        return "once" if arguments.get("method") == "POST" else "read"


@pytest.mark.parametrize(("method", "unknown"), [("POST", True), ("GET", False)])
async def test_what_a_timeout_means_depends_on_this_very_call(bench: Bench, method: str, unknown: bool) -> None:
    conductor = await opened(bench, Fetch("fetch", Gate(), timeout_s=0.05, effect="read"))

    result = await conductor.call_tool("fetch", {"method": method})

    assert ("outcome unknown" in (result.error or "")) is unknown
