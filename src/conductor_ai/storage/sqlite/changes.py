"""The rare writes: each is called in a transaction of its own, in the writer's turn."""

# ruff: noqa: S608  only names that stand in this package are put into SQL; values are always bound
from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from conductor_ai.schemas.audit import AuditEntry, ChainHead, ToolExecutionRow
from conductor_ai.schemas.ids import utc_now
from conductor_ai.schemas.session import ENDED, SessionRecord
from conductor_ai.storage.rows import TABLES_OF_A_SESSION, storable
from conductor_ai.storage.sqlite import requests
from conductor_ai.storage.sqlite.append import insert_audit, insert_tool_executions
from conductor_ai.storage.sqlite.reads import read_session, require_session

_SET_HEAD = """
INSERT INTO audit_heads (org_id, session_id, chain_seq, hash) VALUES (?, ?, ?, ?)
ON CONFLICT (org_id, session_id) DO UPDATE SET chain_seq = excluded.chain_seq, hash = excluded.hash
"""


def claim(connection: sqlite3.Connection, session_id: str, org_id: str, owner: str) -> SessionRecord:
    require_session(connection, session_id, org_id)
    connection.execute(
        "UPDATE sessions SET owner_epoch = owner_epoch + 1, owner = ? WHERE session_id = ?",
        (storable(owner), session_id),
    )
    return read_session(connection, session_id, org_id)


def request_cancel(connection: sqlite3.Connection, session_id: str, org_id: str, by: str) -> None:
    status = read_session(connection, session_id, org_id).status
    if status not in ENDED:  # else the request would stop whatever continues the session one day
        connection.execute(
            "UPDATE sessions SET cancel_requested_at = ?, cancel_requested_by = ?"
            " WHERE session_id = ? AND cancel_requested_at IS NULL",
            (utc_now(), storable(by), session_id),
        )


def delete_session(connection: sqlite3.Connection, session_id: str, org_id: str, tombstone: AuditEntry) -> None:
    record = read_session(connection, session_id, org_id)
    # The audit rows stay, so the head that proves them whole must outlive the row that held it.
    connection.execute(_SET_HEAD, (org_id, session_id, record.audit_seq, record.audit_head))
    for table in TABLES_OF_A_SESSION:
        connection.execute(f"DELETE FROM {table} WHERE session_id = ?", (session_id,))
    append_org_audit(connection, org_id, [tombstone], [])


def discard_messages(
    connection: sqlite3.Connection,
    session_id: str,
    org_id: str,
    entry: Callable[[int], AuditEntry],
    message_id: str | None,
) -> None:
    if count := requests.discard_messages(connection, session_id, org_id, message_id):
        append_org_audit(connection, storable(org_id), [entry(count)], [])


def append_org_audit(
    connection: sqlite3.Connection, org_id: str, entries: Sequence[AuditEntry], executions: Sequence[ToolExecutionRow]
) -> None:
    head = _org_head(connection, org_id)
    now = utc_now()
    insert_audit(connection, [head.extend(entry, org_id=org_id, session_id=None, created_at=now) for entry in entries])
    insert_tool_executions(connection, executions)
    connection.execute(_SET_HEAD, (org_id, "", head.seq, head.hash))


def _org_head(connection: sqlite3.Connection, org_id: str) -> ChainHead:
    row = connection.execute(
        "SELECT chain_seq, hash FROM audit_heads WHERE org_id = ? AND session_id = ''", (org_id,)
    ).fetchone()
    return ChainHead(*row) if row else ChainHead()
