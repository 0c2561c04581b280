"""The one door: what it refuses, what it shows, what it leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from conductor_ai.conductor import Conductor, StartRequest
from conductor_ai.errors import InvalidInput, InvalidTransition, SessionBusy, SessionNotFound, UnknownTool
from conductor_ai.providers.scripted import call, say
from conductor_ai.schemas.audit import first_break
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring import DEMO_TASK, DEMO_TOOLS, open_conductor, plan_run
from tests.agents.conftest import TASK, Bench, Gate, Tool, answering
from tests.conftest import fail_after


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield Bench(tmp_path / "home", stack)


async def opened(bench: Bench, *tools: Tool) -> Conductor:
    runtime = await bench.open([call("look"), say("Done.")])
    registry = ToolRegistry()
    for tool in tools:
        registry.register(tool)
    return Conductor(runtime, registry, runtime.catalog, default_model=lambda: "demo/scripted")


async def test_the_demo_answers_from_what_its_tools_replied(conductor_home: Path) -> None:
    async with open_conductor() as conductor:
        request = StartRequest(
            messages=[{"role": "user", "content": DEMO_TASK}], model="demo/scripted", tools=DEMO_TOOLS
        )
        session = await conductor.start(request)
        ended = await conductor.run(session.session_id)
        again = await conductor.continue_session(session.session_id, "And now?")

    assert ended.final_answer is not None
    assert ended.final_answer.count("\n- ") == 3
    assert "only follows its script" in (again.final_answer or "")
    assert (conductor_home / "example_plugin" / "org-default" / "shortlist-west-coast.json").exists()


async def test_a_request_without_a_model_or_tools_takes_the_default_and_all(bench: Bench) -> None:
    conductor = await opened(bench, Tool("look", answering(1)))

    session = await conductor.start(StartRequest(messages=TASK))
    ended = await conductor.run(session.session_id)

    assert (ended.model, ended.final_answer) == ("demo/scripted", "Done.")
    assert [tool.name for tool in conductor.tools()] == ["look"]
    assert "demo/scripted" in [model.id for model in conductor.models()]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (StartRequest(messages=TASK, tools=["look", "look"]), InvalidInput),
        (StartRequest(messages=TASK, tools=["nope"]), UnknownTool),
        (StartRequest(messages=TASK, pre_approved=["nope"]), UnknownTool),
        (StartRequest(messages=TASK, limits={"max_steps": 0}), InvalidInput),
    ],
)
async def test_what_cannot_be_is_refused_and_leaves_nothing(
    bench: Bench, request_: StartRequest, error: type[Exception]
) -> None:
    conductor = await opened(bench, Tool("look", answering(1)))

    with pytest.raises(error):
        await conductor.start(request_)

    assert await conductor.sessions() == []


def test_a_plan_says_what_would_happen_and_makes_nothing(conductor_home: Path) -> None:
    request = StartRequest(messages=TASK, model="claude-sonnet-4-5-20250929", tools=["find_dealers", "send_outreach"])
    settings = Settings.load().model_copy(update={"anthropic_api_key": "any"})

    plan = plan_run(settings, request)

    assert plan["provider"] == "anthropic"
    assert [tool["requires_approval"] for tool in plan["tools"]] == [False, True]
    assert float(plan["first_call_at_most_usd"]) > 8192 * 15 / 1e6
    assert list(conductor_home.parent.iterdir()) == []


async def test_sessions_are_listed_newest_first_and_can_be_deleted(bench: Bench) -> None:
    conductor = await opened(bench, Tool("look", answering(1)))
    ids = []
    for _ in range(2):
        session = await conductor.start(StartRequest(messages=TASK))
        ids.append((await conductor.run(session.session_id)).session_id)

    assert [session.session_id for session in await conductor.sessions(status=SessionStatus.COMPLETED)] == ids[::-1]
    assert len(await conductor.events(ids[0], after_seq=2)) == 5
    await conductor.delete(ids[0], by="ann")

    assert [session.session_id for session in await conductor.sessions()] == ids[1:]
    with pytest.raises(SessionNotFound):
        await conductor.session(ids[0])
    rows, head = await bench.runtime.store.audit_rows("default", None)
    assert [row.action for row in rows] == ["session.deleted"]
    assert first_break(rows, head) is None


async def test_an_ended_session_is_not_cancelled(bench: Bench) -> None:
    conductor = await opened(bench, Tool("look", answering(1)))
    session = await conductor.start(StartRequest(messages=TASK))
    await conductor.run(session.session_id)

    with pytest.raises(InvalidTransition):
        await conductor.cancel(session.session_id)


async def test_a_session_of_this_process_is_cancelled_at_once_and_one_of_another_is_told(bench: Bench) -> None:
    gate = Gate()
    tool = Tool("look", gate)
    conductor = await opened(bench, tool)
    session = await conductor.start(StartRequest(messages=TASK))
    running = asyncio.create_task(conductor.run(session.session_id))
    async with fail_after(5):
        await gate.entered.wait()
    other = await opened(bench, tool)  # over the same home, as another process would be

    told = await other.cancel(session.session_id)
    with pytest.raises(SessionBusy):
        await other.resume(session.session_id)
    with pytest.raises(SessionBusy):
        await other.delete(session.session_id)
    async with fail_after(10):
        ended = await running

    assert (told.status, ended.status) == ("running", "cancelled")


async def test_a_session_whose_tools_are_not_loaded_says_which(bench: Bench) -> None:
    conductor = await opened(bench, Tool("look", answering(1)))
    session = await conductor.start(StartRequest(messages=TASK, limits={"max_steps": 1}))
    await conductor.run(session.session_id)

    with pytest.raises(UnknownTool, match="look"):
        await (await opened(bench)).resume(session.session_id)


async def test_a_tool_is_called_outside_a_session_and_on_record(bench: Bench) -> None:
    conductor = await opened(bench, Tool("look", answering({"found": 3})))

    result = await conductor.call_tool("look", {}, org_id="acme")

    assert (result.success, result.result) == (True, {"found": 3})
    rows, head = await bench.runtime.store.audit_rows("acme", None)
    assert [row.action for row in rows] == ["tool.started", "tool.completed"]
    assert first_break(rows, head) is None
    [execution] = await bench.runtime.store.tool_executions("acme", None)
    assert (execution.tool_name, execution.output) == ("look", '{"found":3}')


async def test_an_interrupted_tool_call_leaves_its_end_on_record(bench: Bench) -> None:
    gate = Gate()
    conductor = await opened(bench, Tool("look", gate, effect="once"))
    calling = asyncio.create_task(conductor.call_tool("look", {}))
    async with fail_after(5):
        await gate.entered.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling

    [execution] = await bench.runtime.store.tool_executions("default", None)
    assert "outcome unknown" in (execution.error or "")


async def test_arguments_that_do_not_fit_are_refused_and_nothing_runs(bench: Bench) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    tool = Tool("look", answering(1), parameters=schema)
    conductor = await opened(bench, tool)

    with pytest.raises(InvalidInput, match="n"):
        await conductor.call_tool("look", {})

    assert tool.calls == []
