"""Whoever has lost a session writes nothing more, even where nothing but the log's own fence is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conductor_ai.agents.session_state import SessionConfig
from conductor_ai.errors import OwnershipLost
from conductor_ai.schemas.events import EventType
from conductor_ai.schemas.messages import Message, Role
from conductor_ai.settings import Settings
from conductor_ai.storage.sqlite.database import LOCK_FILE_NAME
from conductor_ai.wiring import open_runtime
from tests.crash import invariants
from tests.crash.log_reader import LogReader
from tests.crash.world import World, outcomes_of

PAUSED = {"reason": "interrupted", "detail": "interrupted"}


async def take_over(world: World, mutant: str = "") -> tuple[int, list[tuple[Any, ...]]]:
    """A session whose driver is at work in `charge` is driven to its end by another process, for the file with the
    locks is gone; then the first one goes on. Returns its exit code, and the log as it was before it went on."""
    hold = world.stage.hold("charge:acted")
    first = await world.start(world.run, mutant=mutant)
    await hold.arrived()
    (world.home / LOCK_FILE_NAME).unlink()
    second = await world.conduct(world.resume)
    assert (second.code, outcomes_of(second.json)) == (0, {"charge": "unknown"})
    assert invariants.violations(world.log, world.effects()) == []
    log = stored(world.log)
    hold.release()
    return (await first.ended()).code, log


def stored(log: LogReader) -> list[tuple[Any, ...]]:
    tables = ("sessions", "session_events", "audit_logs", "tool_executions")
    return [tuple(row) for table in tables for row in log.rows(f"SELECT * FROM {table} ORDER BY rowid")]


async def test_a_process_that_lost_its_session_leaves_without_a_trace(tmp_path: Path) -> None:
    async with World(tmp_path, ["charge"]) as world:
        code, log = await take_over(world)
        assert code == 2
        assert stored(world.log) == log
        assert world.runs()["charge"] == 1


@pytest.mark.crash
async def test_without_the_fence_the_same_process_is_seen_to_spoil_the_log(tmp_path: Path) -> None:
    async with World(tmp_path, ["charge"]) as world:
        _, log = await take_over(world, "append_without_fence")
        assert stored(world.log) != log
        found = invariants.violations(world.log, world.effects())
        assert "call c1_0 has 2 results" in found
        assert any("stored twice" in violation for violation in found)


async def test_a_claim_fences_off_everybody_who_claimed_before(tmp_path: Path) -> None:
    settings = Settings(conductor_home=tmp_path)
    async with open_runtime(settings) as first, open_runtime(settings) as second:
        old = await first.states.create(SessionConfig("default", "demo/scripted"), [Message(Role.USER, "hi")], encode)
        old.release()
        new = await second.states.claim(old.session_id, "default", None)
        record = await second.store.session(old.session_id, "default")

        old.stage(EventType.SESSION_PAUSED, PAUSED)
        with pytest.raises(OwnershipLost):
            await old.durable()

        assert record.owner_epoch == 2
        assert await second.store.session(old.session_id, "default") == record
        new.stage(EventType.SESSION_PAUSED, PAUSED)
        await new.durable()
        log = LogReader(tmp_path / "conductor.db")
        assert log.types() == ["session.created", "message.added", "session.paused"]
        assert invariants.violations(log, []) == []


def encode(message: Message) -> bytes:
    return message.content.encode()
