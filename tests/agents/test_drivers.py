"""Who may drive a session, and what happens to a request that comes at an awkward moment."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.conductor import Conductor, StartRequest
from conductor_ai.errors import SessionBusy, SessionNotFound, StoreCorrupt, UnknownTool
from conductor_ai.providers.scripted import Script, call, say, together
from conductor_ai.schemas.session import PauseReason
from conductor_ai.sdk import BaseTool
from conductor_ai.tools.registry import ToolRegistry
from tests.agents.conftest import TASK, Bench, Gate, Tool, answering, edit
from tests.conftest import fail_after


async def conductor_of(bench: Bench, script: Script, *tools: BaseTool) -> Conductor:
    runtime = await bench.open(script)
    registry = ToolRegistry()
    for tool in tools:
        registry.register(tool)
    return Conductor(runtime, registry, runtime.catalog, default_model=lambda: "demo/scripted")


async def test_of_two_drivers_in_one_process_the_second_is_refused(bench: Bench) -> None:
    gate = Gate()
    tool = Tool("send", gate, effect="once")
    conductor = await conductor_of(bench, [call("send"), say("Sent.")], tool)
    session = await conductor.start(StartRequest(messages=TASK))
    running = asyncio.create_task(conductor.run(session.session_id))
    async with fail_after(5):
        await gate.entered.wait()

        for second in (conductor.run(session.session_id), conductor.resume(session.session_id)):
            with pytest.raises(SessionBusy):
                await second
        gate.open.set()
        ended = await running

    assert (ended.status, len(tool.calls)) == ("completed", 1)


async def test_a_step_at_a_time(bench: Bench) -> None:
    gate = Gate()
    runner = await bench.runner([call("send"), say("Sent.")], [Tool("send", gate, effect="once")])
    session = await runner.start_session(TASK)
    first = asyncio.create_task(runner.execute_step(session.session_id))
    async with fail_after(5):
        await gate.entered.wait()
        with pytest.raises(SessionBusy):
            await runner.execute_step(session.session_id)
        gate.open.set()
        assert (await first).type == "tool_call"
        assert (await runner.drive(session.session_id)).final_answer == "Sent."


async def test_many_runners_may_open_the_default_runtime_at_once(conductor_home: Path) -> None:
    runners = [AgentRunner("demo/scripted") for _ in range(4)]

    sessions = await asyncio.gather(*(runner.run(TASK) for runner in runners))

    # The demo's script asks for tools that are not there, and says so.
    assert {session.status for session in sessions} == {"completed"}


def test_a_runner_serves_one_event_loop_after_another(conductor_home: Path) -> None:
    runner = AgentRunner("demo/scripted")

    first = asyncio.run(runner.run(TASK))
    second = asyncio.run(runner.run(TASK))

    assert (first.status, second.status) == ("completed", "completed")


async def test_a_session_that_nobody_steps_is_cancelled_at_once(bench: Bench) -> None:
    runner = await bench.runner([call("look"), say("Never.")], [Tool("look", answering(1))])
    session = await runner.start_session(TASK)
    await runner.execute_step(session.session_id)

    async with fail_after(5):
        cancelled = await runner.cancel(session.session_id)

    assert cancelled.status == "cancelled"
    assert (await runner.execute_step(session.session_id)).type == "cancelled"


async def test_a_cancel_from_elsewhere_ends_a_session_that_came_to_wait(bench: Bench) -> None:
    gate = Gate()
    send = Tool("send", answering("sent"), effect="once", requires_approval=True)
    conductor = await conductor_of(
        bench, [together(call("send"), call("look")), say("Never.")], send, Tool("look", gate)
    )
    session = await conductor.start(StartRequest(messages=TASK))
    running = asyncio.create_task(conductor.run(session.session_id))
    async with fail_after(5):
        await gate.entered.wait()
        await bench.runtime.store.request_cancel(session.session_id, "default", "ann")
        gate.open.set()
        ended = await running

    assert ended.status == "cancelled"
    assert await conductor.approvals() == []


async def test_a_cancel_is_on_record_before_the_tool_has_stopped(bench: Bench) -> None:
    gate = Gate()
    seen: list[str] = []

    async def slow_to_stop(arguments: dict[str, Any]) -> str:
        try:
            return str(await gate(arguments))
        finally:
            await bench.runtime.store.append_org_audit("default", [])  # stored behind what was handed over before
            record = await bench.runtime.store.session(session.session_id, "default")
            seen.append(record.status.value)

    runner = await bench.runner([call("slow"), say("Never.")], [Tool("slow", slow_to_stop)])
    session = await runner.start_session(TASK)
    running = asyncio.create_task(runner.drive(session.session_id))
    async with fail_after(5):
        await gate.entered.wait()
        await runner.cancel(session.session_id)
        assert (await running).status == "cancelled"

    assert seen == ["cancelling"]


async def test_a_tool_cannot_keep_an_interrupt_to_itself(bench: Bench) -> None:
    gate = Gate()

    async def stubborn(arguments: dict[str, Any]) -> str:
        try:
            return str(await gate(arguments))
        except asyncio.CancelledError:
            return "never mind"

    tool = Tool("stubborn", stubborn)
    runner = await bench.runner([call("stubborn"), call("stubborn"), say("Never.")], [tool])
    session = await runner.start_session(TASK)
    running = asyncio.create_task(runner.drive(session.session_id))
    async with fail_after(5):
        await gate.entered.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    view = await bench.runtime.states.view(session.session_id, "default")
    assert (view.status, view.pause_reason, len(tool.calls)) == ("paused", PauseReason.INTERRUPTED, 1)
    assert view.steps[0].tool_calls[0].result == "never mind"


@pytest.mark.parametrize("turns", range(12))
async def test_an_interrupt_at_any_moment_leaves_a_session_that_goes_on_or_has_ended(bench: Bench, turns: int) -> None:
    tool = Tool("look", answering(1))
    runner = await bench.runner([call("look"), say("Done.")], [tool])
    session = await runner.start_session(TASK)
    running = asyncio.create_task(runner.drive(session.session_id))
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    async with fail_after(5):
        outcome = (await asyncio.gather(running, return_exceptions=True))[0]
        view = await runner.resume(session.session_id)

    assert not isinstance(outcome, Exception)
    assert view.final_answer == "Done."


async def test_another_org_cannot_drive_what_is_running_here(bench: Bench) -> None:
    conductor = await conductor_of(bench, [say("Secret.")])
    session = await conductor.start(StartRequest(messages=TASK), org_id="acme")

    for attempt in (conductor.run, conductor.resume, conductor.cancel, conductor.session, conductor.delete):
        with pytest.raises(SessionNotFound):
            await attempt(session.session_id, org_id="evil")

    assert (await conductor.run(session.session_id, org_id="acme")).final_answer == "Secret."


async def test_looking_at_the_steps_of_a_running_session_does_not_freeze_them(bench: Bench) -> None:
    runner = await bench.runner([call("look"), say("Done.")], [Tool("look", answering(1))])
    session = await runner.start_session(TASK)
    while session.status == "running":
        assert session.steps == []
        await runner.execute_step(session.session_id)

    assert [step.type for step in session.steps] == ["tool_call", "final_answer"]


async def test_a_live_step_tells_what_the_stored_one_does(bench: Bench) -> None:
    runner = await bench.runner([call("look"), say("Done.")], [Tool("look", answering({"a": 1}))])
    session = await runner.start_session(TASK)

    live = [await runner.execute_step(session.session_id), await runner.execute_step(session.session_id)]

    assert live == session.steps


async def test_a_session_is_resumed_with_its_own_tools_only(bench: Bench) -> None:
    danger = Tool("danger", answering("boom"))
    first = await bench.runner([call("danger"), say("Done.")], limits={"max_steps": 1})
    session = await first.run(TASK)
    registry = ToolRegistry()
    registry.register(danger)
    second = AgentRunner("demo/scripted", ["danger"], registry, runtime=bench.runtime)

    resumed = await second.resume(session.session_id, limits={"max_steps": 5})

    assert resumed.status == "completed"
    assert danger.calls == []


async def test_a_runner_without_a_sessions_tools_does_not_take_it(bench: Bench) -> None:
    first = await bench.runner([call("look"), say("Done.")], [Tool("look", answering(1))], limits={"max_steps": 1})
    session = await first.run(TASK)

    with pytest.raises(UnknownTool, match="look"):
        await AgentRunner("demo/scripted", runtime=bench.runtime).resume(session.session_id)
    assert (await first.resume(session.session_id, limits={"max_steps": 5})).status == "completed"


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM session_events WHERE seq > 3",
        "DELETE FROM session_events WHERE seq = 2",
        "UPDATE session_events SET payload = '{}' WHERE seq = 2",
        "UPDATE session_events SET type = 'weird' WHERE seq = 2",
        "UPDATE session_events SET payload = 'no json' WHERE seq = 3",
    ],
)
async def test_a_damaged_log_is_not_driven(bench: Bench, damage: str) -> None:
    runner = await bench.runner([call("look"), say("Done.")], [Tool("look", answering(1))], limits={"max_steps": 1})
    session = await runner.run(TASK)
    edit(bench, damage)

    with pytest.raises(StoreCorrupt, match=session.session_id):
        await runner.resume(session.session_id, limits={"max_steps": 5})


async def test_what_a_tool_does_to_its_arguments_is_not_what_is_on_record(bench: Bench) -> None:
    async def disguise(arguments: dict[str, Any]) -> str:
        arguments.clear()
        arguments["innocent"] = True
        return "done"

    runner = await bench.runner([call("t", {"target": "prod"}), say("Done.")], [Tool("t", disguise)])
    session = await runner.run(TASK)

    [row] = await bench.runtime.store.tool_executions("default", session.session_id)
    assert row.input == '{"target":"prod"}'
    assert session.steps[0].tool_calls[0].arguments == {"target": "prod"}


async def test_instructions_are_the_same_before_and_after_a_resume(bench: Bench) -> None:
    secret = "canary-0123456789-abcdef"
    heads: list[str] = []
    runner = await bench.runner([say("Hi."), say("Again.")], instructions=f"Use {secret}.")
    bench.runtime.redactor.add(secret)
    session = await runner.run([{"role": "user", "content": "x" * 70 + secret}])
    heads.append((await bench.events(session.session_id))[0].payload["instructions"])

    assert heads == ["Use [redacted]."]
    assert "canary" not in session.title


async def test_live_items_reach_whoever_watches(bench: Bench) -> None:
    conductor = await conductor_of(bench, [call("look"), say("Done.")], Tool("look", answering(1)))
    session = await conductor.start(StartRequest(messages=TASK))
    items = bench.runtime.states.hot.subscribe(session.session_id)

    await conductor.run(session.session_id)

    async with fail_after(5):
        seen = [(await anext(items))["type"]]
        while seen[-1] != "session.completed":
            seen.append((await anext(items))["type"])
    assert seen.count("model.started") == 2
    assert "model.delta" in seen
    stored = ["model.completed", "tool.started", "tool.completed", "model.completed", "session.completed"]
    assert [item for item in seen if item not in ("model.started", "model.delta")] == stored
