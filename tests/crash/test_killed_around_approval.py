"""kill -9 before, while and after a person decides: asked once, decided once, carried out at most once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.crash.boundaries import Boundary, at, before_storing, unheard
from tests.crash.log_reader import until
from tests.crash.world import ANSWER, World, outcomes_of

pytestmark = pytest.mark.crash

TURNS = (["look_up", "send"],)

# 1-2 begin the session, 3 the answer, 4 the intent of look_up, 5 its result, 6 the request for send.
RUN = [
    Boundary("while the other call runs", 4, "tool.started", at("look_up:acted"), {"look_up": 2}),
    Boundary(
        "before the request is stored",
        4,
        "tool.started",
        before_storing("look_up:acted"),
        {"look_up": 2},
    ),
    Boundary("waiting, before anybody is told", 6, "approval.requested", unheard("stdout", says="waiting approval:")),
]

# 7 the decision, 8 resumed, 9 the intent of send, 10 its result, 11 the answer, 12 the end.
AFTER_APPROVAL = [
    Boundary("resumed, before the intent", 8, "session.resumed", unheard("stderr")),
    Boundary("send started, before it acts", 9, "tool.started", at("send:begin"), {"send": 0}, {"send": "unknown"}),
    Boundary("send acted, before it returns", 9, "tool.started", at("send:acted"), {"send": 1}, {"send": "unknown"}),
    Boundary(
        "send returned, before its result is stored",
        9,
        "tool.started",
        before_storing("send:acted", then="model:2"),
        {"send": 1},
        {"send": "unknown"},
    ),
    Boundary("send stored, step 2 asked of the model", 10, "tool.completed", at("model:2")),
    Boundary("step 2 answered", 10, "tool.completed", before_storing("model:2")),
    Boundary("completed, before anybody is told", 12, "session.completed", unheard("stdout", says="completed:")),
]
REFUSED = {"send": "refused"}
AFTER_DENIAL = [
    Boundary("resumed, before the refusal is stored", 8, "session.resumed", unheard("stderr"), {"send": 0}, REFUSED),
    Boundary("refused, step 2 asked of the model", 9, "tool.completed", at("model:2"), {"send": 0}, REFUSED),
]


def cases(boundaries: list[Boundary]) -> list[object]:
    return [pytest.param(boundary, id=boundary.name) for boundary in boundaries]


async def waiting(world: World) -> None:
    ended = await world.conduct(world.run)
    assert (ended.code, ended.json["status"]) == (3, "waiting_approval")


async def assert_completed(world: World, boundary: Boundary) -> None:
    resumed = await world.conduct(world.resume)
    assert (resumed.code, resumed.json["final_answer"]) == (0, ANSWER)
    assert outcomes_of(resumed.json) == {"look_up": "succeeded", "send": boundary.outcomes.get("send", "succeeded")}
    for tool in ("look_up", "send"):
        assert world.runs()[tool] == boundary.runs.get(tool, 1)
    assert world.violations() == []


@pytest.mark.parametrize("boundary", cases(RUN))
async def test_a_run_killed_before_the_decision_still_asks_once(tmp_path: Path, boundary: Boundary) -> None:
    async with World(tmp_path, *TURNS) as world:
        await boundary.stop(world, world.run, boundary.seq)
        assert (world.log.last_seq(), world.log.types()[-1]) == (boundary.seq, boundary.last)

        resumed = await world.conduct(world.resume)
        assert (resumed.code, resumed.json["status"]) == (3, "waiting_approval")
        again = await world.conduct(world.resume)
        assert again.json == resumed.json
        assert world.violations() == []

        decided = await world.decide("approve")  # nobody runs now
        assert (decided.code, decided.json["status"], world.runs()["send"]) == (0, "approved", 0)
        await assert_completed(world, boundary)


@pytest.mark.parametrize("boundary", cases(AFTER_APPROVAL))
async def test_an_approved_call_is_made_at_most_once_however_its_process_ends(
    tmp_path: Path, boundary: Boundary
) -> None:
    async with World(tmp_path, *TURNS) as world:
        await waiting(world)
        await world.decide("approve")
        await boundary.stop(world, world.resume, boundary.seq)
        assert (world.log.last_seq(), world.log.types()[-1]) == (boundary.seq, boundary.last)
        assert world.violations() == []
        await assert_completed(world, boundary)


@pytest.mark.parametrize("boundary", cases(AFTER_DENIAL))
async def test_a_denied_call_stays_denied_however_the_process_ends(tmp_path: Path, boundary: Boundary) -> None:
    async with World(tmp_path, *TURNS) as world:
        await waiting(world)
        await world.decide("deny")
        await boundary.stop(world, world.resume, boundary.seq)
        assert (world.log.last_seq(), world.log.types()[-1]) == (boundary.seq, boundary.last)
        await assert_completed(world, boundary)


async def test_a_decision_that_was_stored_counts_although_its_process_died_before_saying_so(tmp_path: Path) -> None:
    async with World(tmp_path, *TURNS) as world:
        await waiting(world)
        approval_id = await world.approval_id()
        await unheard("stdout")(world, ["approvals", "approve", approval_id, "--json"], 7)

        again = await world.conduct(["approvals", "approve", approval_id])

        assert (again.code, again.err.count("\n")) == (2, 1)
        assert "already approved" in again.err
        await assert_completed(world, RUN[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="sees in /proc that the database is open")
async def test_a_decision_that_was_not_stored_can_be_made_again(tmp_path: Path) -> None:
    async with World(tmp_path, *TURNS) as world:
        await waiting(world)
        approval_id = await world.approval_id()
        with world.log.held():
            process = await world.start(["approvals", "approve", approval_id])
            await until(lambda: process.has_open(world.log.database))
            await process.kill()
        assert world.log.last_seq() == 6
        assert world.violations() == []

        denied = await world.conduct(["approvals", "deny", approval_id, "--json"])

        assert denied.json["status"] == "denied"
        await assert_completed(world, AFTER_DENIAL[0])
