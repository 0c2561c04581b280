"""kill -9 of `conductor run` at every boundary of a session whose tools run one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.boundaries import IN_TURN, Boundary, as_soon_as_stored
from tests.crash.processes import Outcome
from tests.crash.world import ANSWER, World, outcomes_of

pytestmark = pytest.mark.crash

TURNS = (["look_up"], ["save"], ["charge"])
TOOLS = ("look_up", "save", "charge")


def assert_whole(world: World, resumed: Outcome, boundary: Boundary) -> None:
    assert (resumed.code, resumed.json["status"], resumed.json["final_answer"]) == (0, "completed", ANSWER)
    assert outcomes_of(resumed.json) == {tool: boundary.outcomes.get(tool, "succeeded") for tool in TOOLS}
    assert {tool: world.runs()[tool] for tool in TOOLS} == {tool: boundary.runs.get(tool, 1) for tool in TOOLS}
    assert world.violations() == []


@pytest.mark.parametrize(
    "boundary",
    [pytest.param(boundary, id=boundary.name) for boundary in IN_TURN],
)
async def test_a_session_killed_at_a_boundary_is_completed_by_resume(tmp_path: Path, boundary: Boundary) -> None:
    async with World(tmp_path, *TURNS) as world:
        await boundary.stop(world, world.run, boundary.seq)
        assert (world.log.last_seq(), world.log.types()[-1]) == (boundary.seq, boundary.last)
        assert world.violations() == []

        resumed = await world.conduct(world.resume)

        assert_whole(world, resumed, boundary)


async def test_a_session_killed_at_one_boundary_after_the_other_is_completed(tmp_path: Path) -> None:
    once = ("charge started, before it acts", "charge returned, before its result is stored")  # it has one chance
    boundaries = [boundary for boundary in IN_TURN if boundary.name not in once]
    async with World(tmp_path, *TURNS) as world:
        for deaths, boundary in enumerate(boundaries):
            await boundary.stop(world, world.resume if deaths else world.run, boundary.seq + deaths)
            assert world.log.last_seq() == boundary.seq + deaths  # each resume leaves one event more
            assert world.violations() == []

        resumed = await world.conduct(world.resume)

        runs = {"look_up": 3, "save": 3}
        assert_whole(world, resumed, Boundary("", 0, "", boundaries[-1].stop, runs, {"charge": "unknown"}))


@pytest.mark.parametrize("seq", range(1, 14))
async def test_a_session_killed_as_soon_as_an_event_is_seen_is_completed(tmp_path: Path, seq: int) -> None:
    async with World(tmp_path, *TURNS) as world:
        await as_soon_as_stored()(world, world.run, seq)
        charged = world.runs()["charge"]
        assert world.violations() == []

        resumed = await world.conduct(world.resume)

        assert resumed.json["final_answer"] == ANSWER
        assert world.runs()["charge"] == charged or seq < 10
        assert world.violations() == []


async def test_the_result_of_a_completed_session_is_told_again_and_nothing_is_done(tmp_path: Path) -> None:
    async with World(tmp_path, *TURNS) as world:
        await IN_TURN[-1].stop(world, world.run, 13)
        first, second = await world.conduct(world.resume), await world.conduct(world.resume)
        assert first.json == second.json
        assert_whole(world, second, IN_TURN[-1])
        assert world.log.last_seq() == 13
