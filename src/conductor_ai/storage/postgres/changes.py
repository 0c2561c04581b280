"""The rare writes, each in the writer's turn. All may be tried again after a lost answer; where that would do a thing
twice, the change finds out first whether it was done."""

# ruff: noqa: S608  only names that stand in this package are put into SQL; values are always bound
from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from psycopg.errors import UniqueViolation

from conductor_ai.errors import SessionBusy, SessionNotFound
from conductor_ai.schemas import json_text
from conductor_ai.schemas.audit import AuditEntry, AuditRow, ChainHead, ToolExecutionRow
from conductor_ai.schemas.ids import utc_now
from conductor_ai.schemas.session import ENDED, SessionRecord
from conductor_ai.storage.base import IdempotencyMark, QueuedMessage
from conductor_ai.storage.postgres.append import execution_values, key_used
from conductor_ai.storage.postgres.append_sql import TABLES, insert
from conductor_ai.storage.postgres.link import Link
from conductor_ai.storage.rows import SESSION_COLUMNS, TABLES_OF_A_SESSION, session_record, storable

_ENDED = ", ".join(f"'{status.value}'" for status in sorted(ENDED))
_DRIVEN_ELSEWHERE = (
    "s.owner IS NOT NULL AND s.owner <> %(worker)s AND EXISTS (SELECT FROM workers w WHERE w.worker_id = s.owner"
    " AND w.heartbeat_at > now() - %(dead_after_s)s * interval '1 second')"
)
_OF_ORG = "s.session_id = %(session_id)s AND s.org_id = %(org_id)s"
_CLAIM = f"""
UPDATE sessions AS s SET owner_epoch = s.owner_epoch + 1, owner = %(worker)s
WHERE {_OF_ORG} AND s.owner_epoch = %(seen_epoch)s AND NOT ({_DRIVEN_ELSEWHERE})
RETURNING {", ".join(f"s.{name}" for name in SESSION_COLUMNS)}
""".encode()
_RELEASE = b"""
UPDATE sessions SET owner = NULL
WHERE session_id = %(session_id)s AND owner = %(worker)s AND owner_epoch = %(owner_epoch)s
"""
_EPOCH = f"SELECT s.owner_epoch FROM sessions s WHERE {_OF_ORG}".encode()
_REQUEST_CANCEL = f"""
UPDATE sessions AS s SET (cancel_requested_at, cancel_requested_by) = (
    SELECT CASE WHEN stays THEN s.cancel_requested_at ELSE %(at)s END,
           CASE WHEN stays THEN s.cancel_requested_by ELSE %(by)s::text END
    FROM (SELECT s.status IN ({_ENDED}) OR s.cancel_requested_at IS NOT NULL AS stays) AS known
) WHERE {_OF_ORG} RETURNING 1
""".encode()
_LOCK_FOR_DELETION = f"""
SELECT s.audit_seq, s.audit_head, {_DRIVEN_ELSEWHERE} FROM sessions s WHERE {_OF_ORG} FOR UPDATE OF s
""".encode()
_DELETE = [f"DELETE FROM {table} WHERE session_id = %(session_id)s".encode() for table in TABLES_OF_A_SESSION]
_SET_HEAD = b"""
INSERT INTO audit_heads (org_id, session_id, chain_seq, hash) VALUES (%s, %s, %s, %s)
ON CONFLICT (org_id, session_id) DO UPDATE SET chain_seq = excluded.chain_seq, hash = excluded.hash
"""
_FIRST_HEAD = b"""
INSERT INTO audit_heads (org_id, session_id, chain_seq, hash) VALUES (%s, '', %s, %s) ON CONFLICT DO NOTHING
"""
_LOCK_HEAD = b"SELECT chain_seq, hash FROM audit_heads WHERE org_id = %s AND session_id = '' FOR UPDATE"
_IS_RECORDED = b"SELECT 1 FROM audit_logs WHERE id = %s"
_INSERT_AUDIT = insert("audit_logs", TABLES["audit_logs"]).encode()
_INSERT_EXECUTIONS = insert("tool_executions", TABLES["tool_executions"]).encode()
_ENQUEUE = b"""
WITH known AS (SELECT 1 FROM sessions WHERE session_id = %(session_id)s AND org_id = %(org_id)s),
used AS (SELECT session_id, request_hash FROM idempotency_keys WHERE org_id = %(org_id)s AND key = %(key)s::text),
queued AS (
    INSERT INTO queued_messages (message_id, session_id, org_id, payload, created_at)
    SELECT %(message_id)s, %(session_id)s, %(org_id)s, %(payload)s::json, %(created_at)s::timestamptz
    WHERE EXISTS (SELECT FROM known) AND NOT EXISTS (SELECT FROM used)
    ON CONFLICT (message_id) DO NOTHING RETURNING 1
),
marked AS (
    INSERT INTO idempotency_keys (org_id, key, request_hash, session_id, created_at)
    SELECT %(org_id)s, %(key)s::text, %(request_hash)s::text, %(session_id)s, %(created_at)s::timestamptz
    WHERE %(key)s::text IS NOT NULL AND EXISTS (SELECT FROM queued)
)
SELECT EXISTS (SELECT FROM known), used.session_id, used.request_hash FROM (SELECT 1) AS one LEFT JOIN used ON true
"""
_DISCARD = b"""
DELETE FROM queued_messages
WHERE session_id = %(session_id)s AND org_id = %(org_id)s AND message_id = coalesce(%(message_id)s::text, message_id)
RETURNING 1
"""


class Worker(NamedTuple):
    """Who claims, and when it takes another for dead."""

    worker: str
    dead_after_s: float


async def claim(link: Link, session_id: str, org_id: str, worker: Worker) -> SessionRecord:
    """Twice is once more than needed, and harmless. One that arrives too late, on a connection that was given up, finds
    another epoch than the one that was seen, and does nothing."""
    values = {**_of_org(session_id, org_id), **worker._asdict()}
    seen = await link.run(_EPOCH, values)
    if not seen:
        raise not_found(session_id)
    rows = await link.run(_CLAIM, {**values, "seen_epoch": str(seen[0][0])})
    if not rows:
        raise _busy(session_id)
    return session_record(rows[0])


async def release(link: Link, session_id: str, owner_epoch: int, worker: Worker) -> None:
    values = {"session_id": session_id, "owner_epoch": str(owner_epoch), "worker": worker.worker}
    await link.run(_RELEASE, values)


async def request_cancel(link: Link, session_id: str, org_id: str, by: str) -> None:
    values = {**_of_org(session_id, org_id), "at": utc_now(), "by": storable(by)}
    if not await link.run(_REQUEST_CANCEL, values):
        raise not_found(session_id)


async def enqueue(link: Link, again: bool, message: QueuedMessage, mark: IdempotencyMark | None) -> None:
    values = message._asdict() | {
        "org_id": storable(message.org_id),
        "session_id": storable(message.session_id),
        "key": None if mark is None else storable(mark.key),
        "request_hash": None if mark is None else storable(mark.request_hash),
    }
    try:
        ((known, by_session, request_hash),) = await link.run(_ENQUEUE, values)
    except UniqueViolation:  # another process used the same key meanwhile: what for can be seen now
        ((known, by_session, request_hash),) = await link.run(_ENQUEUE, values)
    if by_session is not None:
        if again and (by_session, request_hash) == (values["session_id"], values["request_hash"]):
            return
        raise key_used(by_session, request_hash)
    if not known:
        raise not_found(message.session_id)


class Recorded:
    """A change and the entries that it leaves in the org's own chain, in one transaction.

    Whoever changes an org holds the head of its chain meanwhile: after a lost answer, a change that was carried out
    all the same has left its entries by the time that the head can be held again.

    Args:
        change: Says whether there is anything to record.
    """

    def __init__(self, org_id: str, entries: Sequence[AuditEntry], change: Callable[[Link], Awaitable[bool]]) -> None:
        self._org_id = org_id
        self._entries = entries
        self._change = change
        self._row_id: str | None = None

    async def __call__(self, link: Link, again: bool) -> None:
        async with link.transaction():
            head = await self._held_head(link)
            if again and self._row_id is not None and await link.run(_IS_RECORDED, (self._row_id,)):
                return
            if await self._change(link):
                await self._chain(link, head)

    async def _held_head(self, link: Link) -> ChainHead:
        rows = await link.run(_LOCK_HEAD, (self._org_id,))
        if not rows:
            first = ChainHead()
            await link.run(_FIRST_HEAD, (self._org_id, first.seq, first.hash))
            rows = await link.run(_LOCK_HEAD, (self._org_id,))
        return ChainHead(*rows[0])

    async def _chain(self, link: Link, head: ChainHead) -> None:
        now = utc_now()
        rows: list[AuditRow] = [
            head.extend(entry, org_id=self._org_id, session_id=None, created_at=now) for entry in self._entries
        ]
        if rows:
            self._row_id = rows[0].id
        await link.run(_INSERT_AUDIT, {"audit_logs": json_text.dumps([row._asdict() for row in rows])})
        await link.run(_SET_HEAD, (self._org_id, "", head.seq, head.hash))


def org_audit(org_id: str, entries: Sequence[AuditEntry], executions: Sequence[ToolExecutionRow]) -> Recorded:
    async def store(link: Link) -> bool:
        if executions:
            rows = json_text.dumps([execution_values(row) for row in executions])
            await link.run(_INSERT_EXECUTIONS, {"tool_executions": rows})
        return True

    return Recorded(org_id, entries, store)


def discard(session_id: str, org_id: str, entry: Callable[[int], AuditEntry], message_id: str | None) -> Recorded:
    values = {**_of_org(session_id, org_id), "message_id": message_id}
    entries: list[AuditEntry] = []

    async def delete(link: Link) -> bool:
        count = len(await link.run(_DISCARD, values))
        entries[:] = [entry(count)]
        return count > 0

    return Recorded(storable(org_id), entries, delete)


def deletion(session_id: str, org_id: str, tombstone: AuditEntry, worker: Worker) -> Recorded:
    values = {**_of_org(session_id, org_id), **worker._asdict()}

    async def delete(link: Link) -> bool:
        rows = await link.run(_LOCK_FOR_DELETION, values)
        if not rows:
            raise not_found(session_id)
        audit_seq, audit_head, driven_elsewhere = rows[0]
        if driven_elsewhere:
            raise _busy(session_id)
        # The audit rows stay, so the head that proves them whole must outlive the row that held it.
        await link.run(_SET_HEAD, (org_id, session_id, audit_seq, audit_head))
        for statement in _DELETE:
            await link.run(statement, values)
        return True

    return Recorded(storable(org_id), [tombstone], delete)


def not_found(session_id: str) -> SessionNotFound:
    return SessionNotFound(f"no session {storable(session_id)}", hint="`conductor sessions list` shows those there are")


def _busy(session_id: str) -> SessionBusy:
    return SessionBusy(
        f"session {session_id} is driven by another worker",
        pid=None,
        hint="a worker that has died gives its sessions free within seconds",
    )


def _of_org(session_id: str, org_id: str) -> dict[str, str]:
    return {"session_id": storable(session_id), "org_id": storable(org_id)}
