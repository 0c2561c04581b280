"""The lists of `storage/listings.py`, read from a SQLite file. Importing this module imports SQLAlchemy."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, QueuePool, create_engine
from sqlalchemy.exc import DBAPIError

from conductor_ai.schemas.audit import AuditRow, ChainHead, ToolExecutionRow
from conductor_ai.schemas.session import SessionRecord, SessionStatus
from conductor_ai.storage import listings


class Lists:
    """Blocks: call it in worker threads, at most `size` at a time. The caller closes it."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, size: int) -> None:
        self._engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=size, max_overflow=0)

    def sessions(self, org_id: str, status: SessionStatus | None, limit: int) -> list[SessionRecord]:
        with self._snapshot() as connection:
            return listings.list_sessions(connection, org_id, status, limit)

    def audit_rows(self, org_id: str, session_id: str | None) -> tuple[list[AuditRow], ChainHead]:
        with self._snapshot() as connection:
            return listings.list_audit_rows(connection, org_id, session_id)

    def tool_executions(self, org_id: str, session_id: str | None) -> list[ToolExecutionRow]:
        with self._snapshot() as connection:
            return listings.list_tool_executions(connection, org_id, session_id)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        """A connection whose statements all see one state: a head must not be newer than the rows it closes."""
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("BEGIN")
                yield connection  # leaving it rolls back
        except DBAPIError as exc:
            raise exc.orig or exc from exc
