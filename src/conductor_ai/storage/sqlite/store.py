"""`Store` on one SQLite file: a thread that writes, a few that read, and locks that die with the process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from conductor_ai.schemas.approvals import ApprovalRecord, ApprovalStatus
from conductor_ai.schemas.audit import AuditEntry, AuditRow, ChainHead, ToolExecutionRow
from conductor_ai.schemas.events import Event
from conductor_ai.schemas.orgs import KeyRecord, OrgRecord
from conductor_ai.schemas.session import SessionRecord
from conductor_ai.sdk.context import SessionFile
from conductor_ai.storage.base import (
    EVERY_SESSION,
    Append,
    Cursor,
    IdempotencyMark,
    QueuedMessage,
    Runnable,
    SessionFilter,
    UsageRow,
)
from conductor_ai.storage.rows import storable
from conductor_ai.storage.sqlite import changes, files, orgs, reads, requests
from conductor_ai.storage.sqlite.database import FILE_NAME, LOCK_FILE_NAME, open_for_writing, prepare_home
from conductor_ai.storage.sqlite.faults import faults
from conductor_ai.storage.sqlite.locks import FileLocks
from conductor_ai.storage.sqlite.readers import Readers
from conductor_ai.storage.sqlite.writer import Writer

if TYPE_CHECKING:
    from conductor_ai.storage.sqlite.lists import Lists

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

    async def request_cancel(self, session_id: str, org_id: str, by: str) -> None:
        await self._writer.change(lambda db: changes.request_cancel(db, session_id, org_id, by))

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

    async def cancel_requests(self) -> list[tuple[str, str | None]]:
        return await self._readers.read(reads.read_cancel_requests)

    async def approval(self, approval_id: str, org_id: str) -> ApprovalRecord:
        return await self._readers.read(lambda db: reads.read_approval(db, approval_id, org_id))

    async def approvals(
        self,
        org_id: str,
        *,
        status: ApprovalStatus | None = None,
        session_id: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[ApprovalRecord]:
        return await self._readers.read(lambda db: reads.read_approvals(db, org_id, status, session_id, after, limit))

    async def idempotent(self, org_id: str, key: str) -> tuple[IdempotencyMark, str] | None:
        return await self._readers.read(lambda db: requests.read_key(db, org_id, key))

    async def enqueue_message(self, message: QueuedMessage, idempotency: IdempotencyMark | None = None) -> None:
        await self._writer.change(lambda db: requests.enqueue(db, message, idempotency))

    async def queued_messages(self, session_id: str, org_id: str) -> list[QueuedMessage]:
        return await self._readers.read(lambda db: requests.read_messages(db, session_id, org_id))

    async def discard_messages(
        self, session_id: str, org_id: str, entry: Callable[[int], AuditEntry], *, message_id: str | None = None
    ) -> None:
        await self._writer.change(lambda db: changes.discard_messages(db, session_id, org_id, entry, message_id))

    async def put_file(self, session_id: str, org_id: str, file: SessionFile, content: bytes) -> None:
        await self._writer.change(lambda db: files.put(db, session_id, org_id, file, content))

    async def files(self, session_id: str, org_id: str) -> list[SessionFile]:
        return await self._readers.read(lambda db: files.read_all(db, session_id, org_id))

    async def file(self, session_id: str, org_id: str, name: str) -> tuple[SessionFile, bytes]:
        return await self._readers.read(lambda db: files.read(db, session_id, org_id, name))

    async def sessions(
        self, org_id: str, chosen: SessionFilter = EVERY_SESSION, *, after: Cursor | None = None, limit: int = 100
    ) -> list[SessionRecord]:
        return await self._readers.list(lambda lists: lists.sessions(storable(org_id), chosen, after, limit))

    async def audit_rows(self, org_id: str, session_id: str | None) -> tuple[list[AuditRow], ChainHead]:
        return await self._readers.list(lambda lists: lists.audit_rows(storable(org_id), storable(session_id)))

    async def audit_log(
        self, org_id: str, *, session_id: str | None = None, after: Cursor | None = None, limit: int = 100
    ) -> list[AuditRow]:
        org_id, session_id = storable(org_id), storable(session_id)
        return await self._readers.list(lambda lists: lists.audit_log(org_id, session_id, after, limit))

    async def tool_executions(self, org_id: str, session_id: str | None) -> list[ToolExecutionRow]:
        return await self._readers.list(lambda lists: lists.tool_executions(storable(org_id), storable(session_id)))

    async def runnable(self, *, limit: int) -> list[Runnable]:
        """Those that no process holds the lock of, as far as the system says who does."""
        return await self._readers.list(lambda lists: self._unlocked(lists, limit))

    async def expired(self, default_days: int | None, *, limit: int) -> list[Runnable]:
        return await self._readers.list(lambda lists: lists.expired(default_days, limit))

    async def ping(self) -> None:
        await self._readers.read(reads.ping)

    async def org(self, org_id: str) -> OrgRecord:
        return await self._readers.read(lambda db: orgs.read_org(db, org_id))

    async def orgs(self) -> list[OrgRecord]:
        return await self._readers.list(lambda lists: lists.orgs())

    async def set_org_limits(self, org_id: str, changes: Mapping[str, Any], entry: AuditEntry) -> OrgRecord:
        return await self._writer.change(lambda db: orgs.set_limits(db, org_id, changes, entry))

    async def add_key(self, key: KeyRecord, digest: bytes, entry: AuditEntry) -> None:
        await self._writer.change(lambda db: orgs.add_key(db, key, digest, entry))

    async def has_keys(self) -> bool:
        return await self._readers.read(orgs.has_keys)

    async def key(self, key_id: str) -> tuple[KeyRecord, bytes] | None:
        return await self._readers.read(lambda db: orgs.read_key(db, key_id))

    async def keys(self, org_id: str) -> list[KeyRecord]:
        return await self._readers.list(lambda lists: lists.keys(storable(org_id)))

    async def revoke_key(self, key_id: str, org_id: str, entry: AuditEntry) -> KeyRecord:
        return await self._writer.change(lambda db: orgs.revoke_key(db, key_id, org_id, entry))

    async def expire_key(self, key_id: str, org_id: str, at: str, entry: AuditEntry) -> KeyRecord:
        return await self._writer.change(lambda db: orgs.expire_key(db, key_id, org_id, at, entry))

    async def key_used(self, key_id: str, at: str) -> None:
        await self._writer.change(lambda db: orgs.key_used(db, key_id, at))

    async def running_sessions(self, org_id: str) -> int:
        return await self._readers.read(lambda db: orgs.count_running(db, org_id))

    async def usage(self, org_id: str, *, day_from: str, day_before: str) -> list[UsageRow]:
        return await self._readers.list(lambda lists: lists.usage(storable(org_id), day_from, day_before))

    async def committed_usd(self, org_id: str, at: str) -> tuple[Decimal, Decimal]:
        return await self._readers.read(lambda db: orgs.read_committed(db, org_id, at))

    async def reserve_usd(self, org_id: str, usd: Decimal, at: str) -> bool:
        return await self._writer.change(lambda db: orgs.reserve(db, org_id, usd, at))

    async def settle_usd(self, org_id: str, reserved_usd: Decimal, spent_usd: Decimal, at: str) -> None:
        await self._writer.change(lambda db: orgs.settle(db, org_id, reserved_usd, spent_usd, at))

    async def close(self) -> None:
        self._writer.stop()
        await asyncio.to_thread(self._writer.join)
        await self._readers.close()
        self._locks.close()

    def _unlocked(self, lists: Lists, limit: int) -> list[Runnable]:
        return [one for one in lists.runnable() if self._locks.holder(one.session_id) is None][:limit]


def _opened(home: Path, busy_timeout_s: float) -> tuple[FileLocks, sqlite3.Connection]:
    path = prepare_home(home)
    locks = FileLocks(home / LOCK_FILE_NAME)
    try:
        return locks, open_for_writing(path, locks, busy_timeout_s=busy_timeout_s)
    except BaseException:
        locks.close()
        raise
