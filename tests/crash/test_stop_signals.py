"""Ctrl-C and SIGTERM, once: the session is paused, the process says how to go on, and going on completes it."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path

import pytest

from tests.crash.world import ANSWER, World, outcomes_of

pytestmark = pytest.mark.crash

TURNS = (["look_up"], ["save"], ["charge"])
# Where the signal comes, how often the tool then acts, how its call ends.
PLACES = [
    ("model:2", "save", 1, "succeeded"),
    ("look_up:acted", "look_up", 2, "succeeded"),
    ("save:begin", "save", 1, "succeeded"),
    ("charge:begin", "charge", 0, "unknown"),
    ("charge:acted", "charge", 1, "unknown"),
]


@pytest.mark.parametrize(
    ("number", "point", "tool", "runs", "outcome"),
    [
        pytest.param(
            number,
            *place,
            id=f"{number.name}-{place[0]}",
        )
        for number in (signal.SIGINT, signal.SIGTERM)
        for place in PLACES
    ],
)
async def test_the_first_signal_pauses_and_the_printed_line_goes_on(
    tmp_path: Path, number: signal.Signals, point: str, tool: str, runs: int, outcome: str
) -> None:
    async with World(tmp_path, *TURNS) as world:
        hold = world.stage.hold(point)
        process = await world.start(world.run)
        await hold.arrived()
        process.signal(number)
        paused = await process.ended()
        world.stage.let_go()

        assert (paused.code, paused.json["status"], paused.json["pause_reason"]) == (130, "paused", "interrupted")
        assert world.log.types()[-1] == "session.paused"
        assert world.violations() == []

        [line] = [line for line in paused.err.splitlines() if line.startswith("resume:")]
        _, conductor, *arguments = shlex.split(line)
        assert conductor == "conductor"
        resumed = await world.conduct([*arguments, "--json"])

        assert (resumed.code, resumed.json["final_answer"]) == (0, ANSWER)
        expected = dict.fromkeys(("look_up", "save", "charge"), "succeeded") | {tool: outcome}
        assert outcomes_of(resumed.json) == expected
        assert world.runs()[tool] == runs
        assert world.violations() == []
