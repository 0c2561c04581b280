"""Several processes want one session, or one decision: one gets it, the others leave with one clear line."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import fail_after
from tests.crash.boundaries import at
from tests.crash.processes import ROOT, Outcome, Started
from tests.crash.world import ANSWER, World, outcomes_of

pytestmark = pytest.mark.crash

RACERS = 4


class Start:
    """A FIFO that holds racers until `go`."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = os.open(path, os.O_RDWR)

    async def racers(self, world: World, lines: Sequence[Sequence[str]]) -> list[Started]:
        """One process per command line; all are loaded when this returns."""
        module = [sys.executable, "-m", "tests.crash.racer", str(self.path)]
        started = [await world.processes.start(*module, *line, env={"PYTHONPATH": str(ROOT)}) for line in lines]
        for process in started:
            await process.said("ready")
        return started

    def go(self, racers: Sequence[Started]) -> None:
        os.write(self._fd, bytes(len(racers)))

    def close(self) -> None:
        os.close(self._fd)


@contextmanager
def start_line(folder: Path) -> Iterator[Start]:
    start = Start(folder / "start")
    try:
        yield start
    finally:
        start.close()


async def all_but_one(racers: Sequence[Started]) -> tuple[Started, list[Outcome]]:
    """The one that goes on while the others have ended."""
    ends = {asyncio.create_task(racer.ended()): racer for racer in racers}
    waiting = set(ends)
    async with fail_after(60):
        while len(waiting) > 1:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    [last] = waiting
    last.cancel()
    return ends[last], [task.result() for task in ends if task is not last]


def one_line(outcome: Outcome) -> str:
    """What a process said that had nothing to say but one line."""
    lines = [line for line in outcome.err.splitlines() if line != "ready" and not line.startswith("hint:")]
    assert len(lines) == 1, outcome.err
    return lines[0]


async def test_of_processes_that_resume_a_session_at_once_exactly_one_drives_it(tmp_path: Path) -> None:
    rounds = 20
    async with World(tmp_path, *[["charge"]] * rounds) as world:
        with start_line(tmp_path) as start:
            await at("model:1")(world, world.run, 2)
            for round_no in range(1, rounds + 1):
                # The winner makes this round's charge and stops before the next one: nobody can come too late.
                hold = world.stage.hold(f"model:{round_no + 1}")
                racers = await start.racers(world, [world.resume] * RACERS)
                start.go(racers)
                await hold.arrived()
                winner, losers = await all_but_one(racers)
                assert [loser.code for loser in losers] == [2] * (RACERS - 1)
                for loser in losers:
                    assert f"session {world.log.session_id()} is driven by pid {winner.pid}" in loser.out + loser.err
                await world.log.reaches(2 + 4 * round_no)
                await winner.kill()
                world.stage.let_go()
                assert world.runs()["charge"] == round_no
                assert world.violations() == []

            resumed = await world.conduct(world.resume)

        assert (resumed.code, resumed.json["final_answer"]) == (0, ANSWER)
        assert world.runs()["charge"] == rounds
        assert world.violations() == []


async def test_of_people_who_decide_at_once_exactly_one_decides(tmp_path: Path) -> None:
    async with World(tmp_path, ["send"]) as world:
        await world.conduct(world.run)
        approval_id = await world.approval_id()
        with start_line(tmp_path) as start:
            lines = [["approvals", decision, approval_id] for decision in ("approve", "deny") * 2]
            racers = await start.racers(world, lines)
            start.go(racers)
            outcomes = [await racer.ended() for racer in racers]

        assert sorted(outcome.code for outcome in outcomes) == [0, 2, 2, 2]
        [decided] = [outcome for outcome in outcomes if outcome.code == 0]
        for outcome in outcomes:
            assert outcome is decided or "already" in one_line(outcome)
        resumed = await world.conduct(world.resume)
        approved = decided.out.split()[1] == "approved"
        assert outcomes_of(resumed.json) == {"send": "succeeded" if approved else "refused"}
        assert world.runs()["send"] == (1 if approved else 0)
        assert world.violations() == []


async def test_a_live_session_is_not_resumed_and_the_line_names_who_drives_it(tmp_path: Path) -> None:
    async with World(tmp_path, ["charge"]) as world:
        hold = world.stage.hold("charge:acted")
        driver = await world.start(world.run)
        await hold.arrived()

        refused = await world.conduct([argument for argument in world.resume if argument != "--json"])

        assert (refused.code, refused.out) == (2, "")
        assert one_line(refused) == f"error: session {world.log.session_id()} is driven by pid {driver.pid}"
        hold.release()
        assert (await driver.ended()).code == 0
        assert (world.runs()["charge"], world.violations()) == (1, [])


@pytest.mark.parametrize("point", ["charge:acted", "model:2"])
async def test_a_stopped_process_keeps_its_session_and_completes_it_when_it_wakes(tmp_path: Path, point: str) -> None:
    async with World(tmp_path, ["charge"]) as world:
        hold = world.stage.hold(point)
        zombie = await world.start(world.run)
        await hold.arrived()
        await zombie.settles()  # what it handed to its writer before is stored
        zombie.signal(signal.SIGSTOP)
        seq = world.log.last_seq()

        refused = await world.conduct(world.resume)

        assert refused.code == 2
        assert f"driven by pid {zombie.pid}" in refused.out + refused.err
        assert world.log.last_seq() == seq
        zombie.signal(signal.SIGCONT)
        hold.release()
        woken = await zombie.ended()
        assert (woken.code, woken.json["final_answer"]) == (0, ANSWER)
        assert outcomes_of(woken.json) == {"charge": "succeeded"}
        assert (world.runs()["charge"], world.violations()) == (1, [])
