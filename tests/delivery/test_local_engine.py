"""What one process does with the sessions that it finds, is given, loses and leaves."""

from __future__ import annotations

import asyncio
import logging

import pytest

from conductor_ai.conductor import StartRequest
from conductor_ai.delivery.failures import Failures
from conductor_ai.errors import SessionBusy, SessionNotFound, StoreCorrupt, StoreUnavailable, UnknownTool
from conductor_ai.providers.scripted import call, say
from conductor_ai.storage.sqlite import SQLiteStore
from tests.agents.conftest import Gate, Tool, answering
from tests.conftest import fail_after
from tests.delivery.conftest import CALLER, REQUEST, Desk
from tests.service.contents import SQLiteContents
from tests.storage.session_log import stored_file

SCRIPT = [call("look"), say("Done.")]
KEY = ("default", "s1")


async def test_a_started_session_is_driven_to_its_end(desk: Desk) -> None:
    service = await desk.open(SCRIPT, Tool("look", answering(1)))

    session = await service.start(REQUEST, caller=CALLER)

    assert await desk.stopped(service, session.session_id) == "completed"
    shown = await service.session(session.session_id, caller=CALLER)
    assert (shown["final_answer"], [step["type"] for step in shown["steps"]]) == (
        "Done.",
        ["tool_call", "final_answer"],
    )


async def test_what_a_dead_process_left_is_taken_up_at_once_and_all_of_it(desk: Desk) -> None:
    dead = await desk.open(SCRIPT, Tool("look", answering(1)), sweep_s=3600)
    left = [await dead.conductor.start(REQUEST, org_id="default") for _ in range(30)]
    await dead.conductor.close()

    alive = await desk.open(SCRIPT, Tool("look", answering(1)), sweep_s=3600)

    assert await desk.all_stopped(alive) == ["completed"] * len(left)


async def test_a_session_that_another_owner_fenced_off_is_taken_up_again(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    service = await desk.open(SCRIPT, Tool("look", gate))
    session = await service.start(REQUEST, caller=CALLER)
    other = await SQLiteStore.open(desk.home)
    async with fail_after(20):
        await gate.entered.wait()
        await other.claim(session.session_id, "default", "1@elsewhere")  # and then it dies
        gate.open.set()

    assert await desk.stopped(service, session.session_id) == "completed"
    assert (await desk.types(service, session.session_id)).count("session.resumed") == 1
    await other.close()


async def test_a_start_is_not_lost_to_a_look_that_came_before_it(desk: Desk) -> None:
    service = await desk.open(SCRIPT, Tool("look", answering(1)), sweep_s=3600)
    session = await service.conductor.start(REQUEST, org_id="default")
    service.engine.wake("default", session.session_id)  # as a sweep may, before the starter has said a word
    await asyncio.sleep(0)
    service.engine.start("default", session.session_id)

    assert await desk.stopped(service, session.session_id) == "completed"


async def test_leaving_lets_the_step_end_and_the_next_process_goes_on(desk: Desk) -> None:
    gate = Gate()
    first = await desk.open(SCRIPT, Tool("look", gate, effect="once"))
    session = await first.start(REQUEST, caller=CALLER)
    async with fail_after(20):
        await gate.entered.wait()
        leaving = asyncio.create_task(first.close(grace_s=20))
        await asyncio.sleep(0)
        gate.open.set()
        await leaving

    record = await first.store.session(session.session_id, "default")
    assert (record.status, await desk.types(first, session.session_id)) == (
        "running",
        ["session.created", "message.added", "model.completed", "tool.started", "tool.completed"],
    )
    second = await desk.open(SCRIPT, Tool("look", answering(1), effect="once"))
    assert await desk.stopped(second, session.session_id) == "completed"
    shown = await second.session(session.session_id, caller=CALLER)
    assert shown["steps"][0]["tool_calls"][0]["result"] == "through"


async def test_what_does_not_end_in_time_is_cut_off_and_not_paused(desk: Desk) -> None:
    gate, again = Gate(), Tool("look", answering("again"), effect="read")
    first = await desk.open(SCRIPT, Tool("look", gate))
    session = await first.start(REQUEST, caller=CALLER)
    async with fail_after(20):
        await gate.entered.wait()
        await first.close(grace_s=0)

    assert (await first.store.session(session.session_id, "default")).status == "running"
    assert "session.paused" not in await desk.types(first, session.session_id)
    second = await desk.open(SCRIPT, again)
    assert await desk.stopped(second, session.session_id) == "completed"
    assert len(again.calls) == 1


async def test_a_session_whose_tool_is_not_here_waits_and_is_named_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    dead = await desk.open(SCRIPT, Tool("look", answering(1)), sweep_s=3600)
    left = await dead.conductor.start(REQUEST, org_id="default")
    await dead.conductor.close()

    with caplog.at_level(logging.WARNING):
        without = await desk.open(SCRIPT, sweep_s=3600)
        bystander = await without.start(StartRequest(messages=REQUEST.messages, tools=[]), caller=CALLER)
        async with fail_after(20):
            while not without.engine.state()["held_back"]:
                await without.engine.sweep()
                await without.engine.settled("default", left.session_id)
        for _ in range(5):
            await without.engine.sweep()
            await without.engine.settled("default", left.session_id)
        assert await desk.stopped(without, bystander.session_id) == "completed"

    assert sum(left.session_id in line for line in caplog.messages) == 1
    await without.close(0)
    able = await desk.open(SCRIPT, Tool("look", answering(1)))
    assert await desk.stopped(able, left.session_id) == "completed"


async def test_a_session_marked_for_cancellation_while_nobody_was_there_ends(desk: Desk) -> None:
    dead = await desk.open(SCRIPT, Tool("look", answering(1)), sweep_s=3600)
    left = await dead.conductor.start(REQUEST, org_id="default")
    await dead.conductor.close()
    await dead.store.request_cancel(left.session_id, "default", "ann")

    alive = await desk.open(SCRIPT)  # without its tools, which it does not need for that

    assert await desk.stopped(alive, left.session_id) == "cancelled"


async def test_a_damaged_session_keeps_no_other_from_being_deleted(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    first = await desk.open(SCRIPT, Tool("look", answering(1)))
    damaged, other = [await first.start(REQUEST, caller=CALLER) for _ in range(2)]
    await desk.all_stopped(first)
    await first.close(0)
    desk.edit("UPDATE sessions SET updated_at = '2020-01-01T00:00:00.000000+00:00'")
    desk.edit(f"UPDATE sessions SET cost_usd = 'much' WHERE session_id = '{damaged.session_id}'")

    second = await desk.open(SCRIPT, retention_days=30)

    async with fail_after(20):
        while await second.store.expired(30, limit=9) != [("default", damaged.session_id, "completed")]:
            pass
    assert second.engine.state()["ok"]
    warnings = "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)
    assert damaged.session_id in warnings and other.session_id not in warnings


async def test_old_sessions_are_deleted(desk: Desk) -> None:
    first = await desk.open(SCRIPT, Tool("look", answering(1)))
    session = await first.start(REQUEST, caller=CALLER)
    assert await desk.stopped(first, session.session_id) == "completed"
    await first.store.put_file(session.session_id, "default", *stored_file("plot.png", b"PNG"))
    await first.close(0)
    desk.edit("UPDATE sessions SET updated_at = '2020-01-01T00:00:00.000000+00:00'")

    second = await desk.open(SCRIPT, retention_days=30)

    async def ask_until_refused() -> None:
        while True:
            await second.session(session.session_id, caller=CALLER)

    async with fail_after(20):
        with pytest.raises(SessionNotFound):
            await ask_until_refused()
    tombstone = (await second.audit_log(caller=CALLER))[0]
    assert (tombstone.action, '"by":"retention"' in tombstone.metadata) == ("session.deleted", True)
    assert SQLiteContents(desk.home / "conductor.db").rows("SELECT name FROM session_files") == []


@pytest.mark.parametrize(
    ("error", "longest_s", "lines"),
    [
        (StoreUnavailable("away"), 10, 1),
        (SessionBusy("driven", pid=1), 10, 0),
        (UnknownTool("not loaded"), 600, 1),
        (StoreCorrupt("damaged"), 600, 1),
        (ExceptionGroup("tools", [StoreUnavailable("away")]), 10, 1),
        (ZeroDivisionError("a bug"), 600, 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_pauses_double_up_to_a_bound_and_lines_are_not_repeated(
    error: Exception, longest_s: float, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    failures = Failures(clock=lambda: now)
    pauses = []
    with caplog.at_level(logging.INFO):
        for _ in range(20):
            failures.tell(KEY, error)
            begun = now
            while failures.holds_back(KEY):
                now += 0.25
            pauses.append(now - begun)

    assert pauses[0] <= 1.25
    assert longest_s / 2 <= pauses[-1] <= longest_s + 0.25
    assert len(caplog.records) == lines
    failures.forget(KEY)
    assert not failures.holds_back(KEY)
