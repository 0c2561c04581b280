"""kill -9 before a session's first event is stored: there is no session, and the next run is as the first."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.crash.log_reader import until
from tests.crash.world import ANSWER, World


@pytest.mark.crash
@pytest.mark.skipif(sys.platform != "linux", reason="sees in /proc that the database is open")
async def test_a_session_that_was_never_stored_never_was(tmp_path: Path) -> None:
    async with World(tmp_path, ["charge"]) as world:
        with world.log.held():
            process = await world.start(world.run)
            await until(lambda: process.has_open(world.log.database))
            await process.kill()
        listed = await world.conduct(["sessions", "list", "--json"])
        assert (listed.code, listed.json) == (0, [])
        assert world.stage.requests == []

        ended = await world.conduct(world.run)

        assert (ended.code, ended.json["final_answer"]) == (0, ANSWER)
        assert (world.runs()["charge"], world.violations()) == (1, [])
