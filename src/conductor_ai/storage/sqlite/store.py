"""`SessionStore` on one SQLite file: a thread that writes, a few that read, and locks that die with the process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from conductor_ai.schemas.approvals import ApprovalRecord, ApprovalStatus
from conductor_ai.schemas.audit import AuditEntry, AuditRow, ChainHead, ToolExecutionRow
from conductor_ai.schemas.events import Event
from conductor_ai.schemas.session import SessionRecord, SessionStatus
from conductor_ai.storage.base import Append
from conductor_ai.storage.rows import storable
from conductor_ai.storage.sqlite import changes, reads
from conductor_ai.storage.sqlite.database import FILE_NAME, LOCK_FILE_NAME, open_for_writing, prepare_home
from conductor_ai.storage.sqlite.faults import faults
from conductor_ai.storage.sqlite.locks import FileLocks
from conductor_ai.storage.sqlite.readers import Readers
from conductor_ai.storage.sqlite.writer import Writer

_BUSY_TIMEOUT_S = 10.0


class SQLiteStore:
    """`await SQLiteStore.open(home)` on the loop that will use it; `await store.close()` when done."""

    def __init__(self, path: Path, writer: Writer, readers: Readers, locks: FileLocks) -> None:
        self.path = path
        self._writer = writer
        self._readers = readers
        self._locks = locks

    @classmethod
    async def open(cls, home: Path, *, busy_timeout_s: float = _BUSY_TIMEOUT_S) -> Self:
        """Make, migrate and open `conductor.db` in the folder `home`.

        `busy_timeout_s` is how long a write waits for another process before it fails.
        Raises: StoreCorrupt, StoreUnavailable, MigrationError.
        """
        path = home / FILE_NAME
        readers = Readers(path, busy_timeout_s=busy_timeout_s)
        try:
            locks, connection = await readers.run(lambda: _opened(home, busy_timeout_s))
        except BaseException:
            await readers.close()
            raise
        return cls(path, Writer(connection, path, asyncio.get_running_loop()), readers, locks)

    def append(self, append: Append) -> asyncio.Future[bool]:
        return self._writer.append(append)

    def append_later(self, append: Append) -> None:
        self._writer.append_later(append)

    def try_lock(self, session_id: str) -> bool:
        with faults(self.path):
            return self._locks.try_lock(session_id)

    def lock_holder(self, session_id: str) -> int | None:
        with faults(self.path):
            return self._locks.holder(session_id)

    def unlock(self, session_id: str) -> None:
        self._locks.unlock(session_id)

    async def claim(self, session_id: str, org_id: str, owner: str) -> SessionRecord:
        return await self._writer.change(lambda db: changes.claim(db, session_id, org_id, owner))

    async def delete_session(self, session_id: str, org_id: str, tombstone: AuditEntry) -> None:
        await self._writer.change(lambda db: changes.delete_session(db, session_id, org_id, tombstone))

    async def request_cancel(self, session_id: str, org_id: str) -> None:
        await self._writer.change(lambda db: changes.request_cancel(db, session_id, org_id))

    async def append_org_audit(
        self, org_id: str, entries: Sequence[AuditEntry], executions: Sequence[ToolExecutionRow] = ()
    ) -> None:
        await self._writer.change(lambda db: changes.append_org_audit(db, org_id, entries, executions))

    async def session(self, session_id: str, org_id: str) -> SessionRecord:
        return await self._readers.read(lambda db: reads.read_session(db, session_id, org_id))

    async def events(
        self, session_id: str, org_id: str, *, after_seq: int = 0, limit: int | None = None
    ) -> list[Event]:
        return await self._readers.read(lambda db: reads.read_events(db, session_id, org_id, after_seq, limit))

    async def cancel_requests(self) -> list[str]:
        return await self._readers.read(reads.read_cancel_requests)

    async def approval(self, approval_id: str, org_id: str) -> ApprovalRecord:
        return await self._readers.read(lambda db: reads.read_approval(db, approval_id, org_id))

    async def approvals(
        self, org_id: str, *, status: ApprovalStatus | None = None, session_id: str | None = None
    ) -> list[ApprovalRecord]:
        return await self._readers.read(lambda db: reads.read_approvals(db, org_id, status, session_id))

    async def sessions(
        self, org_id: str, *, status: SessionStatus | None = None, limit: int = 100
    ) -> list[SessionRecord]:
        return await self._readers.list(lambda lists: lists.sessions(storable(org_id), status, limit))

    async def audit_rows(self, org_id: str, session_id: str | None) -> tuple[list[AuditRow], ChainHead]:
        return await self._readers.list(lambda lists: lists.audit_rows(storable(org_id), storable(session_id)))

    async def tool_executions(self, org_id: str, session_id: str | None) -> list[ToolExecutionRow]:
        return await self._readers.list(lambda lists: lists.tool_executions(storable(org_id), storable(session_id)))

    async def close(self) -> None:
        self._writer.stop()
        await asyncio.to_thread(self._writer.join)
        await self._readers.close()
        self._locks.close()


def _opened(home: Path, busy_timeout_s: float) -> tuple[FileLocks, sqlite3.Connection]:
    path = prepare_home(home)
    locks = FileLocks(home / LOCK_FILE_NAME)
    try:
        return locks, open_for_writing(path, locks, busy_timeout_s=busy_timeout_s)
    except BaseException:
        locks.close()
        raise
