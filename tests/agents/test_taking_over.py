"""Sessions that somebody else left behind, in whatever state, and requests for sessions that are not here."""

from __future__ import annotations

import asyncio

import pytest

from conductor_ai.errors import SessionNotFound, StoreUnavailable
from conductor_ai.providers.scripted import call, say
from conductor_ai.schemas.events import EventType
from conductor_ai.sdk import ToolResult
from tests.agents.conftest import TASK, Bench, Gate, Tool, answering
from tests.conftest import fail_after


async def test_a_step_takes_over_what_another_runner_let_go_of(bench: Bench) -> None:
    script = [call("look"), say("Done.")]
    first = await bench.runner(script, [Tool("look", answering(1))])
    session = await first.start_session(TASK)
    await first.execute_step(session.session_id)
    await first.close()
    second = await bench.runner(script, [Tool("look", answering(1))])

    step = await second.execute_step(session.session_id)

    assert (step.type, step.content) == ("final_answer", "Done.")


async def test_a_cancel_that_its_driver_did_not_live_to_see_is_finished_by_the_next(bench: Bench) -> None:
    tool = Tool("send", answering("sent"), effect="idempotent")
    first = await bench.runner([call("send"), say("Never.")], [tool])
    session = await first.start_session(TASK)
    await first.close()
    await bench.runtime.store.request_cancel(session.session_id, "default", "ann")

    step = await first.execute_step(session.session_id)

    view = await bench.runtime.states.view(session.session_id, "default")
    assert (step.type, view.status, tool.calls) == ("cancelled", "cancelled", [])


async def test_a_cancel_from_elsewhere_ends_what_only_waits(bench: Bench) -> None:
    gate = Gate()
    runner = await bench.runner([call("wait"), say("Never.")], [Tool("wait", gate, effect="idempotent")])
    session = await runner.start_session(TASK)
    running = asyncio.create_task(runner.drive(session.session_id))
    async with fail_after(10):
        await gate.entered.wait()
        await bench.runtime.store.request_cancel(session.session_id, "default", "ann")
        ended = await running

    assert ended.status == "cancelled"
    assert ended.steps[0].tool_calls[0].outcome == "unknown"


async def test_a_call_that_only_reads_and_is_interrupted_by_a_cancel_says_that_it_ran(bench: Bench) -> None:
    gate = Gate()
    runner = await bench.runner([call("look"), say("Never.")], [Tool("look", gate, effect="read")])
    session = await runner.start_session(TASK)
    running = asyncio.create_task(runner.drive(session.session_id))
    async with fail_after(10):
        await gate.entered.wait()
        ended = await runner.cancel(session.session_id, by="ann")
        await running

    [looked] = ended.steps[0].tool_calls
    assert (looked.outcome, looked.error) == ("failed", "interrupted: the session was cancelled")
    assert looked.execution_time_ms is not None and looked.execution_time_ms > 0
    [row] = await bench.runtime.store.tool_executions("default", session.session_id)
    assert (row.success, row.error) == (False, looked.error) and row.execution_time_ms == looked.execution_time_ms


async def test_an_intent_that_nobody_acted_on_is_known_not_to_have_run(bench: Bench) -> None:
    tool = Tool("send", answering("sent"), effect="once")
    runner = await bench.runner([call("send"), say("Never.")], [tool])
    session = await runner.start_session(TASK)
    await bench.runtime.store.request_cancel(session.session_id, "default", "ann")

    ended = await runner.drive(session.session_id)  # which learns of it when the intent is stored

    assert (ended.status, tool.calls) == ("cancelled", [])
    assert ended.steps[0].tool_calls[0].outcome == "not_run"


async def test_what_is_not_here_is_not_found(bench: Bench) -> None:
    runner = await bench.runner([say("Hi.")])
    session = await runner.start_session(TASK, org_id="acme")

    for attempt in (runner.drive("nowhere"), runner.cancel("nowhere"), runner.execute_step("nowhere")):
        with pytest.raises(SessionNotFound):
            await attempt
    with pytest.raises(SessionNotFound):
        await runner.execute_step(session.session_id, org_id="evil")
    assert (await runner.drive(session.session_id)).final_answer == "Hi."


async def test_a_cancel_after_the_end_changes_nothing(bench: Bench) -> None:
    runner = await bench.runner([say("Hi.")])
    session = await runner.run(TASK)

    with pytest.raises(SessionNotFound):
        await runner.cancel(session.session_id)

    assert "session.cancelled" not in await bench.types(session.session_id)


async def test_a_store_that_is_gone_ends_the_run_and_keeps_the_intent_unspoken(bench: Bench) -> None:
    tool = Tool("look", answering(1))
    runner = await bench.runner([call("look"), say("Never.")], [tool])
    session = await runner.start_session(TASK)
    await bench.runtime.store.close()

    with pytest.raises(StoreUnavailable):
        await runner.drive(session.session_id)

    assert tool.calls == []
    assert not runner.drives(session.session_id)


async def test_a_session_cannot_start_where_nothing_can_be_stored(bench: Bench) -> None:
    runner = await bench.runner([say("Never.")])
    await bench.runtime.store.close()

    with pytest.raises(StoreUnavailable):
        await runner.run(TASK)


async def test_a_paused_step_goes_on_with_its_calls_when_a_message_comes_first(bench: Bench) -> None:
    runner = await bench.runner(
        [call("look"), say("Done.")], [Tool("look", answering(1), timeout_s=60)], limits={"deadline_s": 3600}
    )
    session = await runner.start_session(TASK)
    gate = Gate()
    tool = Tool("look", gate)
    second = await bench.runner([call("look"), say("Done.")], [tool])
    await runner.close()
    running = asyncio.create_task(second.resume(session.session_id))
    async with fail_after(5):
        await gate.entered.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    continued = await second.continue_session(session.session_id, "Never mind that.")

    assert continued.status == "completed"
    [looked] = continued.steps[0].tool_calls
    assert (looked.outcome, looked.error) == ("failed", "interrupted: a new message came first")


async def test_a_tool_may_fail_in_its_own_words(bench: Bench) -> None:
    failing = ToolResult(tool_name="t", success=False, error="No free slot. Try another day.")
    runner = await bench.runner([call("t"), say("Sorry.")], [Tool("t", answering(failing))])

    session = await runner.run(TASK)

    assert session.steps[0].tool_calls[0].error == "No free slot. Try another day."


async def test_a_call_without_tools_is_told_so(bench: Bench) -> None:
    runner = await bench.runner([call("t"), say("Oh.")])

    session = await runner.run(TASK)

    assert session.steps[0].tool_calls[0].error == "no tools are available"


async def test_progress_reaches_the_watcher_and_not_the_log(bench: Bench) -> None:
    class Talking(Tool):
        async def run(self, arguments: dict[str, object]) -> ToolResult:
            self.context.progress("half way")
            return ToolResult(tool_name="t", success=True, result=self.context.idempotency_key)

    seen: list[object] = []
    runner = await bench.runner([call("t"), say("Done.")], [Talking("t", answering(None))])
    session = await runner.run(TASK, on_event=seen.append)

    texts = [item["payload"]["text"] for item in seen if isinstance(item, dict) and item["type"] == "tool.progress"]
    assert texts == ["half way"]
    assert session.steps[0].tool_calls[0].result == f"{session.session_id}:c1_0"
    assert EventType.TOOL_COMPLETED in await bench.types(session.session_id)
