"""The database of a session, seen from outside the processes that write it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import fail_after

_POLL_S = 0.01
_WAIT_S = 30.0


async def until(true: Callable[[], bool]) -> None:
    """Return once `true` is, of something that another process does and tells nobody."""
    async with fail_after(_WAIT_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)


class LogReader:
    """Reads `conductor.db` with connections of its own; for homes with one session."""

    def __init__(self, database: Path) -> None:
        self.database = database

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(sql, values).fetchall()

    def session_id(self) -> str:
        [row] = self.rows("SELECT session_id FROM sessions")
        return str(row["session_id"])

    def types(self) -> list[str]:
        return [row["type"] for row in self.rows("SELECT type FROM session_events ORDER BY seq")]

    def last_seq(self) -> int:
        return int(self.rows("SELECT coalesce(max(seq), 0) AS seq FROM session_events")[0]["seq"])

    def has_event(self, event_type: str, call_id: str) -> bool:
        found = self.rows(
            "SELECT 1 FROM session_events WHERE type = ? AND json_extract(payload, '$.call_id') = ?",
            event_type,
            call_id,
        )
        return bool(found)

    def has_step(self, step_no: int) -> bool:
        found = self.rows(
            "SELECT 1 FROM session_events WHERE type = 'model.completed' AND json_extract(payload, '$.step_no') = ?",
            step_no,
        )
        return bool(found)

    async def reaches(self, seq: int) -> None:
        """Return once event `seq` is stored."""
        await until(lambda: self.last_seq() >= seq)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody can store anything while this is entered; reading goes on."""
        with closing(sqlite3.connect(self.database, timeout=_WAIT_S, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                connection.execute("ROLLBACK")
