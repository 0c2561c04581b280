"""kill -9 while three calls of one step are each somewhere else: not yet acted, acted, or stored."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from tests.crash.world import ANSWER, World, calls_of, outcomes_of

pytestmark = pytest.mark.crash

TOOLS = ("look_up", "save", "charge")
ALL = list(product(("begin", "acted", "stored"), repeat=3))


@pytest.mark.parametrize(
    "places",
    [pytest.param(places, id="-".join(places)) for places in ALL],
)
async def test_what_is_stored_stays_and_what_is_not_is_settled_by_its_effect(
    tmp_path: Path, places: tuple[str, str, str]
) -> None:
    place = dict(zip(TOOLS, places, strict=True))
    stored = [tool for tool in TOOLS if place[tool] == "stored"]
    async with World(tmp_path, TOOLS) as world:
        holds = [world.stage.hold(f"{tool}:{place[tool]}") for tool in TOOLS if tool not in stored]
        if not holds:
            holds = [world.stage.hold("model:2")]
        process = await world.start(world.run)
        for hold in holds:
            await hold.arrived()
        await world.log.reaches(6 + len(stored))
        await process.kill()
        world.stage.let_go()
        assert world.violations() == []

        resumed = await world.conduct(world.resume)

        assert (resumed.code, resumed.json["final_answer"]) == (0, ANSWER)
        charge = "succeeded" if place["charge"] == "stored" else "unknown"
        assert outcomes_of(resumed.json) == {"look_up": "succeeded", "save": "succeeded", "charge": charge}
        assert world.runs()["look_up"] == (2 if place["look_up"] == "acted" else 1)
        assert world.runs()["save"] == (2 if place["save"] == "acted" else 1)
        assert world.runs()["charge"] == (0 if place["charge"] == "begin" else 1)
        assert world.violations() == []
        results = world.shown()
        assert [tool in text or "outcome unknown" in text for tool, text in zip(TOOLS, results, strict=True)] == [
            True
        ] * 3
        assert [call["name"] for call in calls_of(resumed.json)] == list(TOOLS)
