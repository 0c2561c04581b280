"""Lists and exports, in SQLAlchemy Core. Each takes a connection, in one read transaction of the caller's.

Importing this module imports SQLAlchemy, which is slow: import it when the first list is read.
"""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, and_, cast, func, select, tuple_
from sqlalchemy import Text as TextType
from sqlalchemy.sql import literal

from conductor_ai.errors import SessionNotFound
from conductor_ai.schemas.audit import AuditRow, ChainHead, ToolExecutionRow
from conductor_ai.schemas.orgs import KeyRecord, OrgRecord
from conductor_ai.schemas.session import SessionRecord
from conductor_ai.schemas.usage import Usage
from conductor_ai.storage.base import Cursor, SessionFilter, UsageRow
from conductor_ai.storage.column_types import Moment, exact_sum, utc_day
from conductor_ai.storage.rows import KEY_COLUMNS, amount, key_record, listed_org, moment, session_record, storable
from conductor_ai.storage.tables import (
    api_keys,
    audit_heads,
    audit_logs,
    model_calls,
    orgs,
    sessions,
    tool_executions,
)

T = TypeVar("T", bound=tuple[Any, ...])


def list_sessions(
    connection: Connection, org_id: str, chosen: SessionFilter, after: Cursor | None, limit: int
) -> list[SessionRecord]:
    """Newest first. Raises: InvalidInput for a time that is none."""
    statement = select(sessions).where(sessions.c.org_id == org_id)
    if chosen.status is not None:
        statement = statement.where(sessions.c.status == chosen.status.value)
    if chosen.agent is not None:
        statement = statement.where(sessions.c.agent == storable(chosen.agent))
    statement = _between(statement, sessions.c.created_at, chosen.created_from, chosen.created_before)
    if after is not None:
        last = tuple_(_time(after.created_at), literal(storable(after.row_id)))
        statement = statement.where(tuple_(sessions.c.created_at, sessions.c.session_id) < last)
    newest_first = statement.order_by(sessions.c.created_at.desc(), sessions.c.session_id.desc()).limit(limit)
    return [session_record(row) for row in connection.execute(newest_first)]


def list_audit_rows(connection: Connection, org_id: str, session_id: str | None) -> tuple[list[AuditRow], ChainHead]:
    """One chain in order, and its head. Raises: SessionNotFound."""
    head = _head(connection, org_id, session_id)
    in_chain = and_(audit_logs.c.org_id == org_id, audit_logs.c.session_id == session_id)
    rows = connection.execute(select(audit_logs).where(in_chain).order_by(audit_logs.c.chain_seq))
    return [AuditRow(*row) for row in rows], head


def list_audit_log(
    connection: Connection, org_id: str, session_id: str | None, after: Cursor | None, limit: int
) -> list[AuditRow]:
    """Of all chains, or of one session's: newest first. Raises: InvalidInput for a time that is none."""
    row_id = cast(audit_logs.c.id, TextType)
    statement = select(audit_logs).where(audit_logs.c.org_id == org_id)
    if session_id is not None:
        statement = statement.where(audit_logs.c.session_id == session_id)
    if after is not None:
        # Rows of one transaction share their time, so their place in the chain is asked for; 0 where there is no such
        # row, and the list goes on with what is older.
        time, last_id = _time(after.created_at), literal(storable(after.row_id))
        twin = audit_logs.alias()
        is_last = and_(twin.c.org_id == org_id, twin.c.created_at == time, cast(twin.c.id, TextType) == last_id)
        last_seq = func.coalesce(select(twin.c.chain_seq).where(is_last).scalar_subquery(), 0)
        behind = tuple_(audit_logs.c.created_at, audit_logs.c.chain_seq, row_id) < tuple_(time, last_seq, last_id)
        statement = statement.where(behind)
    newest_first = statement.order_by(audit_logs.c.created_at.desc(), audit_logs.c.chain_seq.desc(), row_id.desc())
    return [AuditRow(*row) for row in connection.execute(newest_first.limit(limit))]


def list_tool_executions(connection: Connection, org_id: str, session_id: str | None) -> list[ToolExecutionRow]:
    """Oldest first; with `session_id` None those of no session. Raises: SessionNotFound."""
    if session_id is not None:
        _session_head(connection, org_id, session_id)
    statement = select(tool_executions).where(
        tool_executions.c.org_id == org_id, tool_executions.c.session_id == session_id
    )
    rows = connection.execute(statement.order_by(tool_executions.c.created_at, tool_executions.c.id))
    return [ToolExecutionRow(*row) for row in rows]


def list_orgs(connection: Connection) -> list[OrgRecord]:
    """Those that have limits or keys of their own, by id."""
    records = [listed_org(row) for row in connection.execute(select(orgs))]
    known = {record.org_id for record in records}
    with_keys = connection.execute(select(api_keys.c.org_id).distinct())
    records += [OrgRecord(org_id) for (org_id,) in with_keys if org_id not in known]
    return sorted(records, key=lambda record: record.org_id)


def list_keys(connection: Connection, org_id: str) -> list[KeyRecord]:
    """Oldest first."""
    statement = select(*(api_keys.c[name] for name in KEY_COLUMNS)).where(api_keys.c.org_id == org_id)
    rows = connection.execute(statement.order_by(api_keys.c.created_at, api_keys.c.key_id))
    return [key_record(row) for row in rows]


def list_usage(connection: Connection, org_id: str, day_from: str, day_before: str) -> list[UsageRow]:
    """By day, then by model. Raises: InvalidInput for a day that is none."""
    day = utc_day(model_calls.c.created_at)
    tokens = [func.sum(model_calls.c[name]) for name in Usage.__slots__]
    statement = select(
        day,
        model_calls.c.model,
        func.count(),
        func.count(model_calls.c.cost_usd),
        exact_sum(model_calls.c.cost_usd),
        *tokens,
    ).where(model_calls.c.org_id == org_id)
    statement = _between(statement, model_calls.c.created_at, day_from, day_before)
    rows = connection.execute(statement.group_by(day, model_calls.c.model)).all()
    found = [
        UsageRow(
            day=day,
            model=model,
            calls=calls,
            usage=Usage(*map(int, counts)),
            cost_usd=amount(cost_usd, f"the cost of calls of org {org_id} on {day}"),
            unpriced_calls=calls - priced,
        )
        for day, model, calls, priced, cost_usd, *counts in rows
    ]
    return sorted(found, key=lambda row: (row.day, row.model))


def _between(statement: Select[T], column: ColumnElement[Any], first: str | None, before: str | None) -> Select[T]:
    if first is not None:
        statement = statement.where(column >= _time(first))
    if before is not None:
        statement = statement.where(column < _time(before))
    return statement


def _time(text: str) -> ColumnElement[Any]:
    return literal(moment(text), Moment)


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
