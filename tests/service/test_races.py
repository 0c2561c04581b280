"""Many callers at once, one outcome: of an ending, a start, a decision, a limit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from conductor_ai.schemas.ids import utc_now
from tests.conftest import fail_after
from tests.service.conftest import House
from tests.service.door import Answer, Door, together
from tests.service.model import Hold

ORG = "acme"
RACERS = 50
DECISIONS = ("approve", "deny")
ENDS = {"session.completed", "session.cancelled", "session.failed"}
rounds = pytest.mark.parametrize("rounds", [3, pytest.param(100, marks=pytest.mark.slow)])


@pytest.fixture
async def door(house: House) -> Door:
    return await house.as_org(ORG)


@pytest.fixture
async def doors(door: Door, second_house: House) -> tuple[Door, Door]:
    """The racers come by way of two services over one database."""
    return door, second_house.door.with_key(door.key)


async def end_of(door: Door, session_id: str) -> str:
    """How a session ended, which its log says once and its row says too."""
    events = await door.events(session_id)
    ends = [frame.event for frame in events if frame.event in ENDS]
    assert len(ends) == 1, [frame.event for frame in events]
    assert [frame.id for frame in events] == list(range(1, len(events) + 1))
    status = ends[0].removeprefix("session.")
    assert (await door.get(f"/agents/{session_id}"))["status"] == status
    return status


async def finish(hold: Hold, after: int) -> None:
    """Let the model answer somewhere among the others, each time elsewhere."""
    for _ in range(after):
        await asyncio.sleep(0)
    hold.release()


@rounds
@pytest.mark.usefixtures("takes_minutes")
async def test_a_session_that_is_cancelled_and_finishes_at_once_ends_once(
    house: House, door: Door, rounds: int
) -> None:
    ended: Counter[str] = Counter()
    for number in range(rounds):
        hold = house.model.holds[f"round{number}"]
        session_id = await door.start(f"hold round{number} say Done.")
        await hold.has()

        cancels = [door.ask("POST", f"/agents/{session_id}/cancel") for _ in range(RACERS - 1)]
        *answers, _ = await together(*cancels, finish(hold, number * 7 % 100))
        status = await end_of(door, session_id)
        ended[status] += 1
        for answer in answers:
            assert answer.status in (200, 202, 409), answer.body
            if answer.status == 409:
                assert answer.json["session_status"] == status
            else:
                assert status == "cancelled", f"a cancel was accepted, and the session ended as {status}"
    assert sum(ended.values()) == rounds


@rounds
@pytest.mark.usefixtures("takes_minutes")
async def test_the_same_start_made_many_times_at_once_is_one_session(
    house: House, doors: tuple[Door, Door], rounds: int
) -> None:
    for number in range(rounds):
        body = {"messages": [{"role": "user", "content": "call charge once; say Done."}]}
        headers = {"Idempotency-Key": f"round {number}"}
        answers = await together(
            *(doors[racer % 2].ask("POST", "/agents/run", body, headers=headers) for racer in range(RACERS))
        )
        assert {answer.status for answer in answers} == {202}, [answer.body for answer in answers]
        [session_id] = {answer.json["session_id"] for answer in answers}
        assert await end_of(doors[0], session_id) == "completed"
    assert len(house.contents.rows("SELECT session_id FROM sessions")) == rounds
    assert len(house.effects()) == len(set(house.effects())) == rounds


async def decide(door: Door, approval_id: str, decision: str) -> tuple[str, Answer]:
    return decision, await door.ask("POST", f"/approvals/{approval_id}", {"decision": decision})


@rounds
@pytest.mark.usefixtures("takes_minutes")
async def test_of_many_decisions_on_one_request_one_holds(house: House, doors: tuple[Door, Door], rounds: int) -> None:
    approved, door = 0, doors[0]
    for _ in range(rounds):
        session_id, approval_id = await door.waiting("call send letter; say Done.")

        decided = await together(
            *(decide(doors[racer // 2 % 2], approval_id, DECISIONS[racer % 2]) for racer in range(RACERS))
        )
        assert {answer.status for _, answer in decided} <= {200, 409}
        [winner] = {decision for decision, answer in decided if answer.status == 200}
        told = {(decision == winner, answer.status, answer.json.get("code")) for decision, answer in decided}
        assert told == {(True, 200, None), (False, 409, "approval_already_decided")}
        assert await end_of(door, session_id) == "completed"
        shown = await door.get(f"/approvals/{approval_id}")
        assert shown["status"] == {"approve": "approved", "deny": "denied"}[winner]
        assert [frame.event for frame in await door.events(session_id)].count("approval.decided") == 1
        approved += winner == "approve"
        assert len(house.effects()) == approved


@rounds
@pytest.mark.usefixtures("takes_minutes")
async def test_a_request_that_is_decided_while_its_session_is_cancelled_has_one_outcome(
    house: House, door: Door, rounds: int
) -> None:
    for _ in range(rounds):
        before = len(house.effects())
        session_id, approval_id = await door.waiting("call send letter; say Done.")
        approving = [door.ask("POST", f"/approvals/{approval_id}", {"decision": "approve"}) for _ in range(RACERS // 2)]
        cancelling = [door.ask("POST", f"/agents/{session_id}/cancel") for _ in range(RACERS // 2)]

        answers = await together(*approving, *cancelling)

        assert {answer.status for answer in answers} <= {200, 202, 409}, [answer.body for answer in answers]
        status = await end_of(door, session_id)
        accepted = any(answer.status in (200, 202) for answer in answers[RACERS // 2 :])
        assert status == ("cancelled" if accepted else "completed")
        events = [frame.event for frame in await door.events(session_id)]
        assert events.count("approval.decided") <= 1
        assert len(house.effects()) - before <= events.count("tool.started")


@pytest.fixture
async def most_committed(house: House) -> AsyncIterator[list[Decimal]]:
    """What of the day's money was spent or set aside, looked at all the time."""
    seen: list[Decimal] = []

    async def look() -> None:
        while True:
            seen.append((await house.service.store.committed_usd(ORG, utc_now()))[0])

    looking = asyncio.create_task(look())
    yield seen
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def test_an_orgs_money_is_never_exceeded_by_many_sessions_at_once(
    house: House, doors: tuple[Door, Door], most_committed: list[Decimal]
) -> None:
    limit, door = Decimal("0.05"), doors[0]
    assert (await door.ask("PATCH", "/org", {"max_usd_per_day": str(limit)})).status == 200
    body = {
        "messages": [{"role": "user", "content": "call look_up a; call look_up b; call look_up c; say Done."}],
        "limits": {"max_output_tokens": 200},
        "tools": ["look_up"],
    }

    started = await together(*(doors[racer % 2].ask("POST", "/agents/run", body) for racer in range(RACERS)))
    assert {answer.status for answer in started} <= {202, 402}
    sessions = [await door.stopped(answer.json["session_id"]) for answer in started if answer.status == 202]

    assert {session["status"] for session in sessions} <= {"completed", "paused"}
    assert {session["pause_reason"] for session in sessions} <= {None, "org_budget"}
    paused = [session for session in sessions if session["status"] == "paused"]
    assert paused, "the limit is not for all of them"
    calls = [Decimal(str(cost)) for (cost,) in house.contents.rows("SELECT cost_usd FROM model_calls")]
    assert limit / 2 < sum(calls) <= limit
    assert sum((Decimal(session["cost_usd"]) for session in sessions), Decimal(0)) == sum(calls)
    assert max(most_committed) <= limit
    async with fail_after(10):
        while (await house.service.store.committed_usd(ORG, utc_now()))[0] != sum(calls):
            continue  # what was set aside is given back without anybody waiting
    assert (await door.ask("POST", "/agents/run", body)).status in (202, 402)
