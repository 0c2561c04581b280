"""What a resume or a page of the API reads, straight from psycopg. Lists and exports are in `storage/listings.py`."""

# ruff: noqa: S608  only names that stand in this package are put into SQL; values are always bound
from __future__ import annotations

from typing import Any

from conductor_ai.errors import ApprovalNotFound
from conductor_ai.schemas.approvals import ApprovalRecord, ApprovalStatus
from conductor_ai.schemas.events import Event
from conductor_ai.schemas.session import SessionRecord
from conductor_ai.storage.base import IdempotencyMark, QueuedMessage
from conductor_ai.storage.postgres.changes import not_found
from conductor_ai.storage.postgres.readers import Readers
from conductor_ai.storage.rows import (
    APPROVAL_COLUMNS,
    SESSION_COLUMNS,
    approval_record,
    event,
    session_record,
    storable,
    whole_number,
)

_OF_ORG = "s.session_id = %(session_id)s AND s.org_id = %(org_id)s"
_SESSION = f"SELECT {', '.join(SESSION_COLUMNS)} FROM sessions s WHERE {_OF_ORG}".encode()
# One statement sees one state: a session that is deleted between two pages is not found, rather than cut off.
_PAGE = f"""
SELECT s.last_seq, e.seq, e.type, e.payload, e.created_at
FROM sessions s LEFT JOIN session_events e ON e.session_id = s.session_id AND e.seq > %(after)s AND e.seq <= %(upto)s
WHERE {_OF_ORG} ORDER BY e.seq
""".encode()
_PAGE_EVENTS = 256
_NO_LIMIT = 2**62
_APPROVALS = f"SELECT {', '.join(APPROVAL_COLUMNS)} FROM approvals WHERE org_id = %(org_id)s"
_APPROVAL = f"{_APPROVALS} AND approval_id = %(approval_id)s".encode()
# The order of text is that of its bytes, as in SQLite, whatever the database's own is.
_APPROVAL_ORDER = 'requested_at, step_no, length(call_id), call_id COLLATE "C", approval_id COLLATE "C"'
_KEY = b"SELECT request_hash, session_id FROM idempotency_keys WHERE org_id = %(org_id)s AND key = %(key)s"
_MESSAGES = f"""
SELECT {", ".join(f"m.{name}" for name in QueuedMessage._fields)} FROM sessions s
LEFT JOIN queued_messages m ON m.session_id = s.session_id WHERE {_OF_ORG} ORDER BY m.created_at, m.message_id
""".encode()


async def read_session(readers: Readers, session_id: str, org_id: str) -> SessionRecord:
    rows = await readers.read(org_id, _SESSION, _of_org(session_id, org_id))
    if not rows:
        raise not_found(session_id)
    return session_record(rows[0])


async def read_events(readers: Readers, session_id: str, org_id: str, after_seq: int, limit: int | None) -> list[Event]:
    """In the order of `seq`, in pages: a connection never holds a whole log."""
    wanted = _NO_LIMIT if limit is None else after_seq + limit  # `seq` has no gap
    events: list[Event] = []
    reached = after_seq
    while True:
        upto = min(reached + _PAGE_EVENTS, wanted)
        values = {**_of_org(session_id, org_id), "after": reached, "upto": upto}
        rows = await readers.read(org_id, _PAGE, values)
        if not rows:
            raise not_found(session_id)
        events += [event(session_id, *row[1:]) for row in rows if row[1] is not None]
        if upto >= min(whole_number(rows[0][0], session_id, "last_seq"), wanted):
            return events
        reached = upto


async def read_approval(readers: Readers, approval_id: str, org_id: str) -> ApprovalRecord:
    values = {"org_id": storable(org_id), "approval_id": storable(approval_id)}
    rows = await readers.read(org_id, _APPROVAL, values)
    if not rows:
        raise ApprovalNotFound(f"no approval {storable(approval_id)}")
    return approval_record(rows[0])


async def read_approvals(
    readers: Readers,
    org_id: str,
    status: ApprovalStatus | None,
    session_id: str | None,
    after: str | None,
    limit: int | None,
) -> list[ApprovalRecord]:
    sql = _APPROVALS
    values: dict[str, Any] = {"org_id": storable(org_id)}
    if status is not None:
        sql += " AND status = %(status)s"
        values["status"] = status.value
    if session_id is not None:
        await read_session(readers, session_id, org_id)
        sql += " AND session_id = %(session_id)s"
        values["session_id"] = storable(session_id)
    if after is not None:
        await read_approval(readers, after, org_id)
        last = f"SELECT {_APPROVAL_ORDER} FROM approvals WHERE approval_id = %(after)s"
        sql += f" AND ({_APPROVAL_ORDER}) > ({last})"
        values["after"] = storable(after)
    sql += f" ORDER BY {_APPROVAL_ORDER}"
    if limit is not None:
        sql += " LIMIT %(limit)s"
        values["limit"] = limit
    return [approval_record(row) for row in await readers.read(org_id, sql.encode(), values)]


async def read_idempotent(readers: Readers, org_id: str, key: str) -> tuple[IdempotencyMark, str] | None:
    rows = await readers.read(org_id, _KEY, {"org_id": storable(org_id), "key": storable(key)})
    return (IdempotencyMark(key, rows[0][0]), rows[0][1]) if rows else None


async def read_messages(readers: Readers, session_id: str, org_id: str) -> list[QueuedMessage]:
    rows = await readers.read(org_id, _MESSAGES, _of_org(session_id, org_id))
    if not rows:
        raise not_found(session_id)
    return [QueuedMessage(*row) for row in rows if row[0] is not None]


async def ping(readers: Readers) -> None:
    await readers.once(b"SELECT 1 FROM schema_migrations LIMIT 1")


async def read_cancel_requests(readers: Readers) -> list[tuple[str, str | None]]:
    rows = await readers.ask(
        b"SELECT session_id, cancel_requested_by FROM sessions WHERE cancel_requested_at IS NOT NULL"
    )
    return [(session_id, by) for session_id, by in rows]


def _of_org(session_id: str, org_id: str) -> dict[str, str]:
    return {"session_id": storable(session_id), "org_id": storable(org_id)}
