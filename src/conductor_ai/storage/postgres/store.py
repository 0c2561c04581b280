"""`Store` on Postgres: a task that writes, a few connections that read, and a lease instead of locks."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self, TypeVar

import psycopg

from conductor_ai.schemas.approvals import ApprovalRecord, ApprovalStatus
from conductor_ai.schemas.audit import AuditEntry, AuditRow, ChainHead, ToolExecutionRow
from conductor_ai.schemas.events import Event
from conductor_ai.schemas.ids import new_id
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
from conductor_ai.storage.postgres import address as addresses
from conductor_ai.storage.postgres import changes, files, orgs, reads
from conductor_ai.storage.postgres.changes import Recorded, Worker
from conductor_ai.storage.postgres.database import migrate, require_fit
from conductor_ai.storage.postgres.faults import translated
from conductor_ai.storage.postgres.lease import DEAD_AFTER_S, Lease, Locks
from conductor_ai.storage.postgres.link import REPLY_S, Link
from conductor_ai.storage.postgres.readers import Readers
from conductor_ai.storage.postgres.writer import Writer
from conductor_ai.storage.rows import storable

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from conductor_ai.storage.postgres.lists import Lists

T = TypeVar("T")

_PATIENCE_S = 20.0


class PostgresStore:
    """`await PostgresStore.open(url)` on the loop that will use it; `await store.close()` when done.

    `worker_id` is this store's name among all that drive sessions of the database: the owner of what it drives.
    """

    def __init__(
        self, address: addresses.Address, worker: Worker, writer: Writer, readers: Readers, lease: Lease
    ) -> None:
        self.worker_id = worker.worker
        self._address = address
        self._worker = worker
        self._writer = writer
        self._readers = readers
        self._lists: Lists | None = None
        self._locks = Locks(address.shown, address.shown)
        self._lease = lease

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        migrate_first: bool = False,
        patience_s: float = _PATIENCE_S,
        reply_s: float = REPLY_S,
        dead_after_s: float = DEAD_AFTER_S,
    ) -> Self:
        """Open the database, which must be up to date.

        Args:
            migrate_first: Bring it up to date. Else `conductor db migrate` has to have been run.
            patience_s: How long a write is tried again while the database is away.
            reply_s: How long a statement may take before its connection is given up, and another tried.
            dead_after_s: How long after its last heartbeat another worker counts as dead; 0: it always does.
        Raises: InvalidInput for a URL that is none; StoreUnavailable, MigrationError.
        """
        address = addresses.parse(url)
        if migrate_first:
            await asyncio.to_thread(migrate, url)
        worker = Worker(f"{os.getpid()}@{socket.gethostname()}/{new_id()}", dead_after_s)
        try:
            link = await Link.open(address, reply_s=reply_s)
        except (psycopg.Error, OSError) as exc:
            raise translated(exc, address) from exc
        try:
            await require_fit(link, address)
        except psycopg.Error as exc:
            await link.close()
            raise translated(exc, address) from exc
        except BaseException:
            await link.close()
            raise
        writer = Writer(link, address, worker_id=worker.worker, patience_s=patience_s, reply_s=reply_s)
        readers = Readers(address, patience_s=patience_s, reply_s=reply_s)
        lease = Lease(Readers(address, patience_s=patience_s, reply_s=reply_s, connections=1), worker.worker)
        store = cls(address, worker, writer, readers, lease)
        try:
            await store._lease.begin()
        except BaseException:
            await store.close()
            raise
        return store

    def append(self, append: Append) -> asyncio.Future[bool]:
        return self._writer.append(append)

    def append_later(self, append: Append) -> None:
        self._writer.append_later(append)

    def try_lock(self, session_id: str) -> bool:
        """Within this process; `claim` finds out about the others."""
        return self._locks.try_lock(session_id)

    def lock_holder(self, session_id: str) -> int | None:
        self._locks.require_open()
        return None

    def unlock(self, session_id: str) -> None:
        async def release(link: Link, _: bool) -> None:
            owner_epoch = self._writer.owned.get(session_id)
            if owner_epoch is not None:
                await changes.release(link, session_id, owner_epoch, self._worker)
                self._writer.owned.pop(session_id, None)

        self._locks.unlock(session_id)
        self._writer.change_later(release)

    async def claim(self, session_id: str, org_id: str, owner: str) -> SessionRecord:
        """As this worker, whatever `owner` says."""

        async def claim(link: Link, _: bool) -> SessionRecord:
            record = await changes.claim(link, session_id, org_id, self._worker)
            self._writer.owned[record.session_id] = record.owner_epoch
            return record

        return await self._writer.change(claim)

    async def delete_session(self, session_id: str, org_id: str, tombstone: AuditEntry) -> None:
        """Raises: SessionBusy where another live worker drives it."""
        await self._writer.change(changes.deletion(session_id, org_id, tombstone, self._worker))

    async def request_cancel(self, session_id: str, org_id: str, by: str) -> None:
        await self._writer.change(lambda link, _: changes.request_cancel(link, session_id, org_id, by))

    async def append_org_audit(
        self, org_id: str, entries: Sequence[AuditEntry], executions: Sequence[ToolExecutionRow] = ()
    ) -> None:
        await self._writer.change(changes.org_audit(org_id, entries, executions))

    async def session(self, session_id: str, org_id: str) -> SessionRecord:
        return await reads.read_session(self._readers, session_id, org_id)

    async def events(
        self, session_id: str, org_id: str, *, after_seq: int = 0, limit: int | None = None
    ) -> list[Event]:
        return await reads.read_events(self._readers, session_id, org_id, after_seq, limit)

    async def cancel_requests(self) -> list[tuple[str, str | None]]:
        return await reads.read_cancel_requests(self._readers)

    async def approval(self, approval_id: str, org_id: str) -> ApprovalRecord:
        return await reads.read_approval(self._readers, approval_id, org_id)

    async def approvals(
        self,
        org_id: str,
        *,
        status: ApprovalStatus | None = None,
        session_id: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[ApprovalRecord]:
        return await reads.read_approvals(self._readers, org_id, status, session_id, after, limit)

    async def idempotent(self, org_id: str, key: str) -> tuple[IdempotencyMark, str] | None:
        return await reads.read_idempotent(self._readers, org_id, key)

    async def enqueue_message(self, message: QueuedMessage, idempotency: IdempotencyMark | None = None) -> None:
        await self._writer.change(lambda link, again: changes.enqueue(link, again, message, idempotency))

    async def queued_messages(self, session_id: str, org_id: str) -> list[QueuedMessage]:
        return await reads.read_messages(self._readers, session_id, org_id)

    async def discard_messages(
        self, session_id: str, org_id: str, entry: Callable[[int], AuditEntry], *, message_id: str | None = None
    ) -> None:
        await self._writer.change(changes.discard(session_id, org_id, entry, message_id))

    async def put_file(self, session_id: str, org_id: str, file: SessionFile, content: bytes) -> None:
        await files.put(self._readers, session_id, org_id, file, content)

    async def files(self, session_id: str, org_id: str) -> list[SessionFile]:
        return await files.read_all(self._readers, session_id, org_id)

    async def file(self, session_id: str, org_id: str, name: str) -> tuple[SessionFile, bytes]:
        return await files.read(self._readers, session_id, org_id, name)

    async def sessions(
        self, org_id: str, chosen: SessionFilter = EVERY_SESSION, *, after: Cursor | None = None, limit: int = 100
    ) -> list[SessionRecord]:
        from conductor_ai.storage.listings import list_sessions

        org = storable(org_id)
        return await self._list(org, lambda db: list_sessions(db, org, chosen, after, limit))

    async def audit_rows(self, org_id: str, session_id: str | None) -> tuple[list[AuditRow], ChainHead]:
        from conductor_ai.storage.listings import list_audit_rows

        org, session_id = storable(org_id), storable(session_id)
        return await self._list(org, lambda db: list_audit_rows(db, org, session_id))

    async def audit_log(
        self, org_id: str, *, session_id: str | None = None, after: Cursor | None = None, limit: int = 100
    ) -> list[AuditRow]:
        from conductor_ai.storage.listings import list_audit_log

        org, session_id = storable(org_id), storable(session_id)
        return await self._list(org, lambda db: list_audit_log(db, org, session_id, after, limit))

    async def tool_executions(self, org_id: str, session_id: str | None) -> list[ToolExecutionRow]:
        from conductor_ai.storage.listings import list_tool_executions

        org, session_id = storable(org_id), storable(session_id)
        return await self._list(org, lambda db: list_tool_executions(db, org, session_id))

    async def runnable(self, *, limit: int) -> list[Runnable]:
        from conductor_ai.storage.listings_of_work import list_runnable
        from conductor_ai.storage.postgres.lists import driven_elsewhere

        driven = driven_elsewhere(self._worker)
        return await self._list(None, lambda db: list_runnable(db, limit=limit, driven=driven))

    async def expired(self, default_days: int | None, *, limit: int) -> list[Runnable]:
        from conductor_ai.storage.listings_of_work import list_expired

        return await self._list(None, lambda db: list_expired(db, default_days, limit, now=datetime.now(UTC)))

    async def ping(self) -> None:
        await reads.ping(self._readers)

    async def org(self, org_id: str) -> OrgRecord:
        return await orgs.read_org(self._readers, org_id)

    async def orgs(self) -> list[OrgRecord]:
        from conductor_ai.storage.listings import list_orgs

        return await self._list(None, list_orgs)

    async def set_org_limits(self, org_id: str, changes: Mapping[str, Any], entry: AuditEntry) -> OrgRecord:
        await self._writer.change(orgs.limits_change(org_id, changes, entry))
        return await self.org(org_id)

    async def add_key(self, key: KeyRecord, digest: bytes, entry: AuditEntry) -> None:
        await self._writer.change(orgs.key_addition(key, digest, entry))

    async def has_keys(self) -> bool:
        return await orgs.has_keys(self._readers)

    async def key(self, key_id: str) -> tuple[KeyRecord, bytes] | None:
        return await orgs.read_key(self._readers, key_id)

    async def keys(self, org_id: str) -> list[KeyRecord]:
        from conductor_ai.storage.listings import list_keys

        org = storable(org_id)
        return await self._list(org, lambda db: list_keys(db, org))

    async def revoke_key(self, key_id: str, org_id: str, entry: AuditEntry) -> KeyRecord:
        return await self._changed_key(key_id, org_id, orgs.revocation(key_id, org_id, entry))

    async def expire_key(self, key_id: str, org_id: str, at: str, entry: AuditEntry) -> KeyRecord:
        return await self._changed_key(key_id, org_id, orgs.expiry(key_id, org_id, at, entry))

    async def key_used(self, key_id: str, at: str) -> None:
        await self._writer.change(lambda link, _: orgs.key_used(link, key_id, at))

    async def running_sessions(self, org_id: str) -> int:
        return await orgs.count_running(self._readers, org_id)

    async def usage(self, org_id: str, *, day_from: str, day_before: str) -> list[UsageRow]:
        from conductor_ai.storage.listings import list_usage

        org = storable(org_id)
        return await self._list(org, lambda db: list_usage(db, org, day_from, day_before))

    async def committed_usd(self, org_id: str, at: str) -> tuple[Decimal, Decimal]:
        return await orgs.read_committed(self._readers, org_id, at)

    async def reserve_usd(self, org_id: str, usd: Decimal, at: str) -> bool:
        return await self._writer.change(lambda link, _: orgs.reserve(link, org_id, usd, at))

    async def settle_usd(self, org_id: str, reserved_usd: Decimal, spent_usd: Decimal, at: str) -> None:
        await self._writer.change(lambda link, again: orgs.settle(link, again, org_id, reserved_usd, spent_usd, at))

    async def close(self) -> None:
        await self._writer.close()
        if self._locks.closed:
            return
        self._locks.close()
        await self._lease.end()
        if self._lists is not None:
            await self._lists.close()
        await self._readers.close()

    async def _changed_key(self, key_id: str, org_id: str, change: Recorded) -> KeyRecord:
        await self._writer.change(change)
        found = await self.key(key_id)
        return orgs.own_key(None if found is None else found[0], key_id, org_id)

    async def _list(self, org_id: str | None, read: Callable[[Connection], T]) -> T:
        if self._lists is None:
            # Half a second of CPU on a slow machine, which a run or a resume never pays.
            from conductor_ai.storage.postgres.lists import Lists

            self._lists = Lists(self._address)
        return await self._lists.read(org_id, read)
