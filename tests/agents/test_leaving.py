"""A process that gives its sessions up for another one to go on with, and messages added before anybody drives."""

from __future__ import annotations

import asyncio

import pytest

from conductor_ai.errors import IdempotencyKeyUsed
from conductor_ai.providers.scripted import call, say
from conductor_ai.schemas.events import EventType, ToolOutcome
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.storage.base import IdempotencyMark
from tests.agents.conftest import TASK, Bench, Gate, Tool
from tests.conftest import fail_after

MARK = IdempotencyMark("order-7", "a" * 64)
SCRIPT = [call("wait"), say("done")]


async def test_who_leaves_finishes_the_step_and_the_session_runs_on_elsewhere(bench: Bench) -> None:
    gate = Gate()
    runner = await bench.runner(SCRIPT, [Tool("wait", gate)])
    session = await runner.start_session(TASK)
    driving = asyncio.create_task(runner.drive(session.session_id))
    async with fail_after(20):
        await gate.entered.wait()
        runner.leave()
        gate.open.set()
        left = await driving
    assert left.status is SessionStatus.RUNNING
    assert not runner.drives(session.session_id)
    assert (await bench.types(session.session_id))[-1] == EventType.TOOL_COMPLETED

    other = await bench.runner(SCRIPT, [Tool("wait", gate)])
    resumed = await other.resume(session.session_id)
    assert (resumed.status, resumed.final_answer) == (SessionStatus.COMPLETED, "done")


async def test_who_is_ended_while_leaving_does_not_pause_and_a_once_call_is_not_repeated(bench: Bench) -> None:
    gate = Gate()
    once = Tool("wait", gate, effect="once")
    runner = await bench.runner(SCRIPT, [once])
    session = await runner.start_session(TASK)
    driving = asyncio.create_task(runner.drive(session.session_id))
    async with fail_after(20):
        await gate.entered.wait()
        runner.leave()
        driving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await driving
    record = await bench.runtime.store.session(session.session_id, "default")
    assert record.status is SessionStatus.RUNNING
    assert EventType.SESSION_PAUSED not in await bench.types(session.session_id)

    other = await bench.runner(SCRIPT, [once])
    resumed = await other.resume(session.session_id)
    assert resumed.status is SessionStatus.COMPLETED
    assert [call.outcome for step in resumed.steps for call in step.tool_calls] == [ToolOutcome.UNKNOWN]
    assert len(once.calls) == 1


async def test_a_message_is_durable_before_anybody_drives_and_uses_up_its_key(bench: Bench) -> None:
    runner = await bench.runner([say("It is."), say("Still.")])
    session = await runner.run(TASK)
    added = await runner.add_message(session.session_id, "And now?", by="key 12345678", idempotency=MARK)
    assert added.status is SessionStatus.RUNNING
    assert await bench.runtime.store.idempotent("default", MARK.key) == (MARK, session.session_id)
    done = await runner.drive(session.session_id)
    assert done.status is SessionStatus.COMPLETED
    with pytest.raises(IdempotencyKeyUsed) as caught:
        await runner.add_message(session.session_id, "And now?", idempotency=MARK)
    assert (caught.value.session_id, caught.value.request_hash) == (session.session_id, MARK.request_hash)
    assert (await bench.types(session.session_id)).count(EventType.MESSAGE_ADDED) == 2
    by = [event.payload.get("by") for event in await bench.events(session.session_id) if "by" in event.payload]
    assert by == ["key 12345678"]


async def test_a_session_that_uses_a_key_is_the_only_one(bench: Bench) -> None:
    runner = await bench.runner([say("hello")])
    first = await runner.start_session(TASK, idempotency=MARK, by="key 1")
    with pytest.raises(IdempotencyKeyUsed) as caught:
        await runner.start_session(TASK, idempotency=MARK)
    assert caught.value.session_id == first.session_id
    assert (await runner.start_session(TASK, "another-org", idempotency=MARK)).session_id != first.session_id
    assert len(await bench.runtime.store.sessions("default")) == 1
