"""What a resume reads, straight from `sqlite3`: SQLAlchemy takes longer to import than all of it takes to run.

Lists and exports are in `storage/listings.py`.
"""

# ruff: noqa: S608  only names that stand in this package are put into SQL; values are always bound
from __future__ import annotations

import sqlite3
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
)

_SESSION = f"SELECT {', '.join(SESSION_COLUMNS)} FROM sessions WHERE session_id = ? AND org_id = ?"
# All events in one row, for each row fetched is one more turn of the GIL (see append.py). A payload travels as a string
# within: SQLite's own JSON functions would reformat it.
_EVENTS = """
SELECT json_group_array(json_array(seq, type, payload, created_at))
FROM session_events WHERE session_id = ? AND seq > ? AND seq <= ?
"""
_NO_LIMIT = 2**62
_APPROVALS = f"SELECT {', '.join(APPROVAL_COLUMNS)} FROM approvals WHERE org_id = ?"


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
    require_session(connection, session_id, org_id)
    last_seq = _NO_LIMIT if limit is None else after_seq + limit  # `seq` has no gap
    (text,) = connection.execute(_EVENTS, (session_id, after_seq, last_seq)).fetchone()
    return [event(session_id, *row) for row in sorted(json_text.loads(text))]


def read_approval(connection: sqlite3.Connection, approval_id: str, org_id: str) -> ApprovalRecord:
    row = connection.execute(f"{_APPROVALS} AND approval_id = ?", (storable(org_id), storable(approval_id))).fetchone()
    if row is None:
        raise ApprovalNotFound(f"no approval {storable(approval_id)}")
    return approval_record(row)


def read_approvals(
    connection: sqlite3.Connection, org_id: str, status: ApprovalStatus | None, session_id: str | None
) -> list[ApprovalRecord]:
    sql, values = _APPROVALS, [storable(org_id)]
    if status is not None:
        sql, values = f"{sql} AND status = ?", [*values, status.value]
    if session_id is not None:
        require_session(connection, session_id, org_id)
        sql, values = f"{sql} AND session_id = ?", [*values, session_id]
    rows: list[Any] = connection.execute(
        f"{sql} ORDER BY requested_at, step_no, length(call_id), call_id", values
    ).fetchall()
    return [approval_record(row) for row in rows]


def _not_found(session_id: str) -> SessionNotFound:
    return SessionNotFound(f"no session {storable(session_id)}", hint="`conductor sessions list` shows those there are")
