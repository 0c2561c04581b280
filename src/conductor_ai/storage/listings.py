"""Lists and exports, in SQLAlchemy Core. Each takes a connection, in one read transaction of the caller's.

Importing this module imports SQLAlchemy, which is slow: import it when the first list is read.
"""

from __future__ import annotations

from sqlalchemy import Connection, and_, select

from conductor_ai.errors import SessionNotFound
from conductor_ai.schemas.audit import AuditRow, ChainHead, ToolExecutionRow
from conductor_ai.schemas.session import SessionRecord, SessionStatus
from conductor_ai.storage.rows import session_record
from conductor_ai.storage.tables import audit_heads, audit_logs, sessions, tool_executions


def list_sessions(connection: Connection, org_id: str, status: SessionStatus | None, limit: int) -> list[SessionRecord]:
    """Newest first."""
    statement = select(sessions).where(sessions.c.org_id == org_id)
    if status is not None:
        statement = statement.where(sessions.c.status == status.value)
    newest_first = statement.order_by(sessions.c.created_at.desc(), sessions.c.session_id.desc()).limit(limit)
    return [session_record(row) for row in connection.execute(newest_first)]


def list_audit_rows(connection: Connection, org_id: str, session_id: str | None) -> tuple[list[AuditRow], ChainHead]:
    """One chain in order, and its head. Raises: SessionNotFound."""
    head = _head(connection, org_id, session_id)
    in_chain = and_(audit_logs.c.org_id == org_id, audit_logs.c.session_id == session_id)
    rows = connection.execute(select(audit_logs).where(in_chain).order_by(audit_logs.c.chain_seq))
    return [AuditRow(*row) for row in rows], head


def list_tool_executions(connection: Connection, org_id: str, session_id: str | None) -> list[ToolExecutionRow]:
    """Oldest first; with `session_id` None those of no session. Raises: SessionNotFound."""
    if session_id is not None:
        _session_head(connection, org_id, session_id)
    statement = select(tool_executions).where(
        tool_executions.c.org_id == org_id, tool_executions.c.session_id == session_id
    )
    rows = connection.execute(statement.order_by(tool_executions.c.created_at, tool_executions.c.id))
    return [ToolExecutionRow(*row) for row in rows]


def _head(connection: Connection, org_id: str, session_id: str | None) -> ChainHead:
    kept = connection.execute(
        select(audit_heads.c.chain_seq, audit_heads.c.hash).where(
            audit_heads.c.org_id == org_id, audit_heads.c.session_id == (session_id or "")
        )
    ).first()
    if kept is not None:
        return ChainHead(*kept)
    return ChainHead() if session_id is None else _session_head(connection, org_id, session_id)


def _session_head(connection: Connection, org_id: str, session_id: str) -> ChainHead:
    row = connection.execute(
        select(sessions.c.audit_seq, sessions.c.audit_head).where(
            sessions.c.session_id == session_id, sessions.c.org_id == org_id
        )
    ).first()
    if row is None:
        raise SessionNotFound(f"no session {session_id}", hint="`conductor sessions list` shows those there are")
    return ChainHead(*row)
