"""The lists of `storage/listings*.py`, read from a SQLite file. Importing this module imports SQLAlchemy."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import Connection, QueuePool, create_engine
from sqlalchemy.exc import DBAPIError

from conductor_ai.schemas.audit import AuditRow, ChainHead, ToolExecutionRow
from conductor_ai.schemas.orgs import KeyRecord, OrgRecord
from conductor_ai.schemas.session import SessionRecord
from conductor_ai.storage import listings, listings_of_work
from conductor_ai.storage.base import Cursor, Runnable, SessionFilter, UsageRow


class Lists:
    """Blocks: call it in worker threads, at most `size` at a time. The caller closes it."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, size: int) -> None:
        self._engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=size, max_overflow=0)

    def sessions(self, org_id: str, chosen: SessionFilter, after: Cursor | None, limit: int) -> list[SessionRecord]:
        with self._snapshot() as connection:
            return listings.list_sessions(connection, org_id, chosen, after, limit)

    def audit_rows(self, org_id: str, session_id: str | None) -> tuple[list[AuditRow], ChainHead]:
        with self._snapshot() as connection:
            return listings.list_audit_rows(connection, org_id, session_id)

    def audit_log(self, org_id: str, session_id: str | None, after: Cursor | None, limit: int) -> list[AuditRow]:
        with self._snapshot() as connection:
            return listings.list_audit_log(connection, org_id, session_id, after, limit)

    def tool_executions(self, org_id: str, session_id: str | None) -> list[ToolExecutionRow]:
        with self._snapshot() as connection:
            return listings.list_tool_executions(connection, org_id, session_id)

    def runnable(self) -> list[Runnable]:
        with self._snapshot() as connection:
            return listings_of_work.list_runnable(connection, limit=None)

    def expired(self, default_days: int | None, limit: int) -> list[Runnable]:
        with self._snapshot() as connection:
            return listings_of_work.list_expired(connection, default_days, limit, now=datetime.now(UTC))

    def orgs(self) -> list[OrgRecord]:
        with self._snapshot() as connection:
            return listings.list_orgs(connection)

    def keys(self, org_id: str) -> list[KeyRecord]:
        with self._snapshot() as connection:
            return listings.list_keys(connection, org_id)

    def usage(self, org_id: str, day_from: str, day_before: str) -> list[UsageRow]:
        with self._snapshot() as connection:
            return listings.list_usage(connection, org_id, day_from, day_before)

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
