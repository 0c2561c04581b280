"""kill -9 around a tool that asks in the middle of its work: it asks once, and acts at most once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.boundaries import Boundary, at, before_storing, unheard
from tests.crash.world import ANSWER, World, outcomes_of

pytestmark = pytest.mark.crash

TURNS = (["deploy"],)
UNKNOWN = {"deploy": "unknown"}
REFUSED = {"deploy": "refused"}

# 1-2 begin the session, 3 the answer, 4 the intent, 5 the request.
WAITING = Boundary(
    "waiting, before anybody is told", 5, "approval.requested", unheard("stdout", says="waiting approval:")
)
BEFORE_THE_REQUEST = [
    Boundary("started, before it asks", 4, "tool.started", at("deploy:entered")),
    Boundary("asked, before that is stored", 4, "tool.started", before_storing("deploy:entered")),
]

# 6 the decision, 7 resumed, 8 the second intent, 9 the result, 10 the answer, 11 the end.
AFTER_APPROVAL = [
    Boundary("resumed, before the second intent", 7, "session.resumed", unheard("stderr")),
    Boundary("started again, before it asks", 8, "tool.started", at("deploy:entered"), {"deploy": 0}, UNKNOWN),
    Boundary("let through, before it acts", 8, "tool.started", at("deploy:begin"), {"deploy": 0}, UNKNOWN),
    Boundary("acted, before it returns", 8, "tool.started", at("deploy:acted"), {"deploy": 1}, UNKNOWN),
    Boundary(
        "returned, before its result is stored",
        8,
        "tool.started",
        before_storing("deploy:acted", then="model:2"),
        {"deploy": 1},
        UNKNOWN,
    ),
    Boundary("stored, step 2 asked of the model", 9, "tool.completed", at("model:2")),
]
AFTER_DENIAL = [
    Boundary("resumed, before the refusal is stored", 7, "session.resumed", unheard("stderr"), {"deploy": 0}, REFUSED),
    Boundary("refused, step 2 asked of the model", 8, "tool.completed", at("model:2"), {"deploy": 0}, REFUSED),
]


def cases(boundaries: list[Boundary]) -> list[object]:
    return [pytest.param(boundary, id=boundary.name) for boundary in boundaries]


async def waits(world: World) -> None:
    ended = await world.conduct(world.run)
    assert (ended.code, ended.json["status"]) == (3, "waiting_approval")


async def stopped_at(world: World, arguments: list[str], boundary: Boundary) -> None:
    await boundary.stop(world, arguments, boundary.seq)
    assert (world.log.last_seq(), world.log.types()[-1]) == (boundary.seq, boundary.last)
    assert world.violations() == []


async def assert_completed(world: World, tool: str = "deploy", runs: int = 1, outcome: str = "succeeded") -> None:
    resumed = await world.conduct(world.resume)
    assert (resumed.code, resumed.json["final_answer"]) == (0, ANSWER)
    assert outcomes_of(resumed.json) == {tool: outcome}
    assert world.runs()[tool] == runs
    assert world.violations() == []


@pytest.mark.parametrize("boundary", cases(BEFORE_THE_REQUEST))
async def test_a_once_tool_killed_before_it_could_ask_is_neither_repeated_nor_asked_about(
    tmp_path: Path, boundary: Boundary
) -> None:
    async with World(tmp_path, *TURNS) as world:
        await stopped_at(world, world.run, boundary)
        await assert_completed(world, runs=0, outcome="unknown")
        assert "approval.requested" not in world.log.types()


async def test_an_idempotent_tool_killed_before_it_could_ask_starts_again_and_asks(tmp_path: Path) -> None:
    async with World(tmp_path, ["publish"]) as world:
        await at("publish:entered")(world, world.run, 4)
        resumed = await world.conduct(world.resume)
        assert (resumed.code, resumed.json["status"]) == (3, "waiting_approval")
        assert (world.runs()["publish"], world.violations()) == (0, [])
        await world.decide("approve")
        await assert_completed(world, "publish")


async def test_killed_while_it_waits_it_still_asks_once(tmp_path: Path) -> None:
    async with World(tmp_path, *TURNS) as world:
        await stopped_at(world, world.run, WAITING)
        again = await world.conduct(world.resume)
        assert (again.code, again.json["status"], world.log.last_seq()) == (3, "waiting_approval", 5)
        assert (await world.decide("approve")).json["action"] == "release: _release"
        assert world.runs()["deploy"] == 0
        await assert_completed(world)


@pytest.mark.parametrize("boundary", cases(AFTER_APPROVAL))
async def test_an_approved_tool_acts_at_most_once_however_its_process_ends(tmp_path: Path, boundary: Boundary) -> None:
    async with World(tmp_path, *TURNS) as world:
        await waits(world)
        await world.decide("approve")
        await stopped_at(world, world.resume, boundary)
        await assert_completed(
            world, runs=boundary.runs.get("deploy", 1), outcome=boundary.outcomes.get("deploy", "succeeded")
        )


@pytest.mark.parametrize("boundary", cases(AFTER_DENIAL))
async def test_a_denied_tool_does_not_start_again_however_its_process_ends(tmp_path: Path, boundary: Boundary) -> None:
    async with World(tmp_path, *TURNS) as world:
        await waits(world)
        await world.decide("deny")
        await stopped_at(world, world.resume, boundary)
        await assert_completed(world, runs=0, outcome="refused")
        assert world.log.types().count("tool.started") == 1


async def test_an_idempotent_tool_killed_after_it_was_let_through_uses_the_same_word_again(tmp_path: Path) -> None:
    async with World(tmp_path, ["publish"]) as world:
        await waits(world)
        await world.decide("approve")
        await at("publish:acted")(world, world.resume, 8)
        await assert_completed(world, "publish", runs=2)
        assert world.log.types().count("approval.requested") == 1
