"""What a resume reads, straight from `sqlite3`: SQLAlchemy takes longer to import than all of it takes to run.

Lists and exports are in `storage/listings.py`.
"""

# ruff: noqa: S608  only names that stand in this package are put into SQL; values are always bound
from __future__ import annotations

import sqlite3
from operator import attrgetter
from typing import Any

from conductor_ai.errors import ApprovalNotFound, SessionNotFound
from conductor_ai.schemas import json_text
from conductor_ai.schemas.approvals import ApprovalRecord, ApprovalStatus
from conductor_ai.schemas.events import Event
from conductor_ai.schemas.session import SessionRecord
from conductor_ai.storage.rows import (
    APPROVAL_COLUMNS,
    SESSION_COLUMNS,
    approval_record,
    event,
    session_record,
    storable,
    whole_number,
)

_SESSION = f"SELECT {', '.join(SESSION_COLUMNS)} FROM sessions WHERE session_id = ? AND org_id = ?"
# Many events in one row, for each row fetched is one more turn of the GIL (see append.py). A payload travels as a
# string within: SQLite's own JSON functions would reformat it. A page is bytes: as text, one byte that is no UTF-8
# would fail it with a message that holds all of it.
_PAGE = """
SELECT max(s.last_seq), CAST(
    json_group_array(json_array(e.seq, e.type, CAST(e.payload AS TEXT), e.created_at))
    FILTER (WHERE length(e.payload) <= ?) AS BLOB)
FROM sessions s LEFT JOIN session_events e ON e.session_id = s.session_id AND e.seq > ? AND e.seq <= ?
WHERE s.session_id = ? AND s.org_id = ?
"""
_ROWS = """
SELECT seq, CAST(type AS BLOB), CAST(payload AS BLOB), CAST(created_at AS BLOB)
FROM session_events WHERE session_id = ? AND seq > ? AND seq <= ? AND length(payload) > ?
"""
# SQLite makes no string beyond 1 GB. A page is 128 MiB at worst: a character takes four bytes, an escaped one two.
_PAGE_EVENTS = 256
_PAGE_PAYLOAD_CHARS = 128 * 1024
_NO_LIMIT = 2**62
_seq = attrgetter("seq")
_APPROVALS = f"SELECT {', '.join(APPROVAL_COLUMNS)} FROM approvals WHERE org_id = ?"
_APPROVAL_ORDER = "requested_at, step_no, length(call_id), call_id, approval_id"


def read_session(connection: sqlite3.Connection, session_id: str, org_id: str) -> SessionRecord:
    row = connection.execute(_SESSION, (storable(session_id), storable(org_id))).fetchone()
    if row is None:
        raise _not_found(session_id)
    return session_record(row)


def require_session(connection: sqlite3.Connection, session_id: str, org_id: str) -> None:
    """Raises: SessionNotFound."""
    sql = "SELECT 1 FROM sessions WHERE session_id = ? AND org_id = ?"
    if connection.execute(sql, (storable(session_id), storable(org_id))).fetchone() is None:
        raise _not_found(session_id)


def read_events(
    connection: sqlite3.Connection, session_id: str, org_id: str, after_seq: int, limit: int | None
) -> list[Event]:
    """In the order of `seq`: one statement for an ordinary log, and never a string that grows with the log."""
    wanted = _NO_LIMIT if limit is None else after_seq + limit  # `seq` has no gap
    events: list[Event] = []
    reached = after_seq
    while True:
        upto = min(reached + _PAGE_EVENTS, wanted)
        values = (_PAGE_PAYLOAD_CHARS, reached, upto, storable(session_id), storable(org_id))
        # One statement sees one state: a session that is deleted between two pages is not found, rather than cut off.
        last_seq, page = connection.execute(_PAGE, values).fetchone()
        if last_seq is None:
            raise _not_found(session_id)
        end = min(whole_number(last_seq, session_id, "last_seq"), wanted)
        found = _paged(session_id, page)
        if len(found) < min(upto, end) - max(reached, 0):
            longer_than = _PAGE_PAYLOAD_CHARS if found else -1
            found += _one_by_one(connection, session_id, reached, min(upto, end), longer_than=longer_than)
            require_session(connection, session_id, org_id)
        events += sorted(found, key=_seq)
        if upto >= end:
            return events
        reached = upto


def _paged(session_id: str, page: bytes) -> list[Event]:
    """None where the page holds text that is no UTF-8: which event it is, shows one by one."""
    try:
        rows = json_text.loads(page)
    except ValueError:
        return []
    return [event(session_id, *row) for row in rows]


def _one_by_one(
    connection: sqlite3.Connection, session_id: str, after_seq: int, last_seq: int, *, longer_than: int
) -> list[Event]:
    """Those whose payload has more characters than `longer_than`."""
    rows = connection.execute(_ROWS, (session_id, after_seq, last_seq, longer_than))
    return [event(session_id, *row) for row in rows]


def ping(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT count(*) FROM schema_migrations").fetchone()


def read_cancel_requests(connection: sqlite3.Connection) -> list[tuple[str, str | None]]:
    sql = "SELECT session_id, cancel_requested_by FROM sessions WHERE cancel_requested_at IS NOT NULL"
    return [(session_id, by) for session_id, by in connection.execute(sql)]


def read_approval(connection: sqlite3.Connection, approval_id: str, org_id: str) -> ApprovalRecord:
    row = connection.execute(f"{_APPROVALS} AND approval_id = ?", (storable(org_id), storable(approval_id))).fetchone()
    if row is None:
        raise ApprovalNotFound(f"no approval {storable(approval_id)}")
    return approval_record(row)


def read_approvals(
    connection: sqlite3.Connection,
    org_id: str,
    status: ApprovalStatus | None,
    session_id: str | None,
    after: str | None,
    limit: int | None,
) -> list[ApprovalRecord]:
    sql: str = _APPROVALS
    values: list[str | int] = [storable(org_id)]
    if status is not None:
        sql, values = f"{sql} AND status = ?", [*values, status.value]
    if session_id is not None:
        require_session(connection, session_id, org_id)
        sql, values = f"{sql} AND session_id = ?", [*values, session_id]
    if after is not None:
        read_approval(connection, after, org_id)
        last = f"SELECT {_APPROVAL_ORDER} FROM approvals WHERE approval_id = ?"
        sql, values = f"{sql} AND ({_APPROVAL_ORDER}) > ({last})", [*values, storable(after)]
    sql, values = f"{sql} ORDER BY {_APPROVAL_ORDER} LIMIT ?", [*values, -1 if limit is None else limit]
    rows: list[Any] = connection.execute(sql, values).fetchall()
    return [approval_record(row) for row in rows]


def _not_found(session_id: str) -> SessionNotFound:
    return SessionNotFound(f"no session {storable(session_id)}", hint="`conductor sessions list` shows those there are")
