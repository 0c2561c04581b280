"""A cancel that is accepted while the session comes to its end: what was promised holds, and nothing is lost."""

from __future__ import annotations

import asyncio

import pytest

from conductor_ai.agents import org_money
from conductor_ai.errors import RequestRefused
from conductor_ai.providers.scripted import Line, Moment
from conductor_ai.schemas.audit import first_break
from conductor_ai.schemas.orgs import OrgRecord
from tests.agents.conftest import TASK, Bench, edit
from tests.conftest import fail_after

MARK = "UPDATE sessions SET cancel_requested_at = created_at"


async def test_an_answer_that_comes_behind_an_accepted_cancel_is_kept_and_is_not_the_end(bench: Bench) -> None:
    def answer(moment: Moment) -> Line:
        edit(bench, MARK)  # as another process writes it down
        return Line("Done.")

    runner = await bench.runner([answer])
    ended = await runner.run(TASK)

    assert (ended.status, ended.final_answer) == ("cancelled", None)
    assert await bench.types(ended.session_id) == [
        "session.created",
        "message.added",
        "model.completed",
        "session.cancel_requested",
        "session.cancelled",
    ]
    stored = await bench.runtime.store.session(ended.session_id, "default")
    assert (stored.status, stored.usage, stored.cost_usd) == ("cancelled", ended.usage, ended.cost_usd)
    assert first_break(*await bench.runtime.store.audit_rows("default", ended.session_id)) is None


async def test_a_failure_that_comes_behind_an_accepted_cancel_is_not_the_end(bench: Bench) -> None:
    def fail(moment: Moment) -> Line:
        edit(bench, MARK)
        raise RequestRefused("no", provider="demo", model="scripted")

    runner = await bench.runner([fail])
    ended = await runner.run(TASK)

    assert ended.status == "cancelled"
    assert (await bench.types(ended.session_id))[-2:] == ["session.cancel_requested", "session.cancelled"]


async def test_a_cancelled_session_goes_on_when_somebody_says_so(bench: Bench) -> None:
    def answer(moment: Moment) -> Line:
        edit(bench, MARK)
        return Line("Not wanted.")

    runner = await bench.runner([answer, Line("Wanted.")])
    ended = await runner.run(TASK)
    again = await runner.continue_session(ended.session_id, "After all.")

    assert (ended.status, again.status, again.final_answer) == ("cancelled", "completed", "Wanted.")


async def test_a_cancel_between_the_last_byte_and_the_answers_event_wins(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = await bench.runner([Line("Done.")])
    session = await runner.start_session(TASK)
    store, asked, go_on = bench.runtime.store, asyncio.Event(), asyncio.Event()
    org, looks = store.org, 0

    async def slow_after_the_call(org_id: str) -> OrgRecord:
        nonlocal looks
        looks += 1
        if looks == 2:
            asked.set()
            await go_on.wait()
        return await org(org_id)

    monkeypatch.setattr(org_money, "_KNOWN_FOR_S", -1.0)
    monkeypatch.setattr(store, "org", slow_after_the_call)
    running = asyncio.create_task(runner.drive(session.session_id))
    async with fail_after(10):
        await asked.wait()
        cancelling = asyncio.create_task(runner.cancel(session.session_id))
        await asyncio.sleep(0)  # the request is written down
        go_on.set()
        ended, cancelled = await running, await cancelling

    assert (ended.status, cancelled.status) == ("cancelled", "cancelled")
    assert "model.completed" in await bench.types(session.session_id)
