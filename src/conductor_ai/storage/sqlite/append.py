"""A batch of appends as SQL: few statements with many rows, each append under its session's fence.

Every statement that `sqlite3` runs lets go of the GIL and must win it back, which takes milliseconds each time while
the loop is busy. So the number of statements does not depend on the number of appends: one read of all fences, one
update of all sessions, one insert per table. See docs/benchmarks.md for the figures.
"""

# ruff: noqa: S608  only names that stand in this package are put into SQL; values are always bound
from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

from conductor_ai.errors import (
    ApprovalAlreadyDecided,
    ApprovalNotFound,
    CancelRequested,
    ConductorError,
    OwnershipLost,
    StorageError,
    StoreCorrupt,
)
from conductor_ai.schemas import json_text
from conductor_ai.schemas.approvals import ApprovalStatus
from conductor_ai.schemas.audit import AuditRow, ToolExecutionRow
from conductor_ai.schemas.session import ENDED, OVERRULED_BY_CANCEL
from conductor_ai.storage.base import Append, ApprovalDecision, EventRow, ModelCallRow
from conductor_ai.storage.rows import APPROVAL_COLUMNS, approval_status, approval_values, storable
from conductor_ai.storage.sqlite import requests

_Row = Sequence[Any]

_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_MAX_ROWS = _SIZES[-1]  # times 22 columns: within the 32,766 parameters of a stock SQLite

_NEW_SESSION = ("session_id", "org_id", "agent", "model", "title", "owner", "created_at")
# What every append rewrites; the constants make a new session's row complete until the update in the same batch.
_PROJECTION = (
    "status",
    "model",
    "pause_reason",
    "error",
    "step_no",
    "segment_no",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_usd",
    "last_seq",
    "audit_seq",
    "audit_head",
    "updated_at",
)
_FENCE = ("session_id", "owner_epoch", "last_seq")
_INSERT_NEW_SESSION = (
    f"INSERT INTO sessions ({', '.join(_NEW_SESSION)}, owner_epoch, status, step_no, segment_no, input_tokens,"
    " output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, last_seq, audit_seq, audit_head,"
    f" updated_at) SELECT {', '.join(f'column{i + 1}' for i in range(len(_NEW_SESSION)))},"
    " 1, 'queued', 0, 0, 0, 0, 0, 0, 0, 0, 0, '', column7"
)
_FENCES = """
SELECT json_group_array(json_array(session_id, owner_epoch, last_seq, cancel_requested_at IS NOT NULL))
FROM sessions WHERE session_id IN (SELECT value FROM json_each(?))
"""
_DECIDE = "UPDATE approvals SET status = ?, decided_at = ?, decided_by = ?, reason = ? WHERE approval_id = ?"


@dataclass(slots=True)
class _Fence:
    """A session as this transaction sees it; `stored_seq` is what its row still says."""

    owner_epoch: int
    stored_seq: int
    last_seq: int
    cancel_requested: bool


class _Batch:
    """The rows of the appends that were let in, by table."""

    def __init__(self) -> None:
        self.new_sessions: list[_Row] = []
        self.projections: dict[str, _Row] = {}
        self.events: list[EventRow] = []
        self.audit: list[AuditRow] = []
        self.tool_executions: list[_Row] = []
        self.model_calls: list[_Row] = []


def store_appends(
    connection: sqlite3.Connection, appends: Sequence[Append], broken: dict[str, StorageError]
) -> list[bool | ConductorError]:
    """Store what the fences let in and say of each append what became of it. Inside a transaction.

    `broken` says why an earlier append of a session could not be stored. Raises: what `sqlite3` raises for a row it
    refuses; the transaction must then be rolled back.
    """
    fences = _fences(connection, {append.session_id for append in appends})
    batch = _Batch()
    outcomes: list[bool | ConductorError] = []
    for append in appends:
        fence = fences.get(append.session_id)
        refusal = _refusal(connection, append, fence, broken)
        if append.idempotency is not None:
            refusal = _used_key(connection, append, append.idempotency.key) or refusal
        if refusal is not None:
            outcomes.append(refusal)
            continue
        if fence is None:  # then the append creates the session
            fence = fences[append.session_id] = _Fence(1, 0, 0, cancel_requested=False)
        fence.last_seq += len(append.events)
        _collect(batch, append, fence)
        if append.approvals_requested or append.approvals_decided:
            _store_approvals(connection, append)
        if append.idempotency is not None or append.delivered:
            _store_requests(connection, append)
        outcomes.append(fence.cancel_requested)
    _insert(connection, batch)
    return outcomes


def insert_audit(connection: sqlite3.Connection, rows: Sequence[AuditRow]) -> None:
    _insert_rows(connection, _into("audit_logs", AuditRow._fields), rows)


def insert_tool_executions(connection: sqlite3.Connection, rows: Iterable[ToolExecutionRow]) -> None:
    values = [_tool_execution_values(row) for row in rows]
    _insert_rows(connection, _into("tool_executions", ToolExecutionRow._fields), values)


def _fences(connection: sqlite3.Connection, session_ids: set[str]) -> dict[str, _Fence]:
    # One row with everything in it, for each row fetched would be one more turn of the GIL.
    (text,) = connection.execute(_FENCES, (json_text.dumps(list(session_ids)),)).fetchone()
    return {row[0]: _Fence(row[1], row[2], row[2], bool(row[3])) for row in json_text.loads(text)}


def _refusal(
    connection: sqlite3.Connection, append: Append, fence: _Fence | None, broken: dict[str, StorageError]
) -> ConductorError | None:
    refusal = _fenced_off(append, fence, broken) or _out_of_order(append)
    if refusal is not None:
        return refusal
    if append.delivered and not requests.all_queued(connection, append.session_id, append.delivered):
        return OwnershipLost(f"a queued message of session {append.session_id} was taken by somebody else")
    if append.approvals_decided:
        return _decision_refusal(connection, append)
    return None


def _fenced_off(append: Append, fence: _Fence | None, broken: dict[str, StorageError]) -> ConductorError | None:
    session_id = append.session_id
    if append.created is not None:
        if fence is not None or append.last_seq != 0 or append.owner_epoch != 1:
            return OwnershipLost(f"session {session_id} exists already")
    elif fence is None:
        return OwnershipLost(f"session {session_id} is no longer there")
    elif append.owner_epoch != fence.owner_epoch or append.last_seq < fence.last_seq:
        return OwnershipLost(f"session {session_id} has another owner")
    elif append.last_seq > fence.last_seq:
        cause = broken.get(session_id)
        message = str(cause) if cause else f"an earlier append of session {session_id} was not stored"
        return type(cause or StorageError(""))(message, hint=cause.hint if cause else None)
    elif fence.cancel_requested and append.projection.status in OVERRULED_BY_CANCEL:
        return CancelRequested(f"session {session_id} is being cancelled")
    return None


def _out_of_order(append: Append) -> StorageError | None:
    seq = append.last_seq
    for event in append.events:
        seq += 1
        if event.seq != seq or event.session_id != append.session_id:
            return StorageError(f"event {event.seq} does not continue session {append.session_id} at {seq}")
    return None


def _used_key(connection: sqlite3.Connection, append: Append, key: str) -> ConductorError | None:
    org_id = _org_of(connection, append)
    return None if org_id is None else requests.used_key(connection, org_id, key)


def _org_of(connection: sqlite3.Connection, append: Append) -> str | None:
    if append.created is not None:
        return append.created.org_id
    row = connection.execute("SELECT org_id FROM sessions WHERE session_id = ?", (append.session_id,)).fetchone()
    return row[0] if row else None


def _decision_refusal(connection: sqlite3.Connection, append: Append) -> ConductorError | None:
    requested = {record.approval_id: record.status for record in append.approvals_requested}
    for decision in append.approvals_decided:
        status = requested.get(decision.approval_id)
        if status is None:
            row = connection.execute(
                "SELECT status FROM approvals WHERE approval_id = ? AND session_id = ?",
                (decision.approval_id, append.session_id),
            ).fetchone()
            if row is None:
                return ApprovalNotFound(f"no approval {decision.approval_id}")
            try:
                status = approval_status(row[0], decision.approval_id, append.session_id)
            except StoreCorrupt as exc:
                return exc
        # What was approved may still turn void, when the arguments are found changed; nothing else changes twice.
        if status is not ApprovalStatus.PENDING and decision.status is not ApprovalStatus.VOID:
            return ApprovalAlreadyDecided(f"approval {decision.approval_id} is {status} already")
    return None


def _store_approvals(connection: sqlite3.Connection, append: Append) -> None:
    # Rare, and at once: a later append of the same batch may decide what this one asks for.
    columns = ", ".join(APPROVAL_COLUMNS)
    marks = ", ".join("?" * len(APPROVAL_COLUMNS))
    for record in append.approvals_requested:
        connection.execute(f"INSERT INTO approvals ({columns}) VALUES ({marks})", approval_values(record))
    for decision in append.approvals_decided:
        connection.execute(_DECIDE, _decision_values(decision))


def _store_requests(connection: sqlite3.Connection, append: Append) -> None:
    # As approvals are: the next append of the same batch may come with the same key.
    if append.idempotency is not None:
        org_id = _org_of(connection, append)
        if org_id is None:  # its session is created in this very batch; alone, after that, it will be stored
            raise StorageError(f"session {append.session_id} is not stored yet")
        requests.use_key(connection, org_id, append.idempotency, append.session_id, append.projection.updated_at)
    requests.take_messages(connection, append.delivered)


def _decision_values(decision: ApprovalDecision) -> _Row:
    return (
        decision.status.value,
        decision.decided_at,
        storable(decision.decided_by),
        storable(decision.reason),
        decision.approval_id,
    )


def _collect(batch: _Batch, append: Append, fence: _Fence) -> None:
    session_id, projection, new = append.session_id, append.projection, append.created
    if new is not None:
        batch.new_sessions.append(
            (
                session_id,
                new.org_id,
                storable(new.agent),
                storable(new.model),
                storable(new.title),
                storable(new.owner),
                projection.updated_at,
            )
        )
    usage, cost = projection.usage, projection.cost_usd
    # `_value_` is `value` without the property, which costs as much as binding the row.
    batch.projections[session_id] = (
        projection.status._value_,
        storable(projection.model),
        None if projection.pause_reason is None else projection.pause_reason._value_,
        storable(projection.error),
        projection.step_no,
        projection.segment_no,
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
        None if cost is None else str(cost),
        fence.last_seq,
        projection.audit_seq,
        projection.audit_head,
        projection.updated_at,
        session_id,
        fence.owner_epoch,
        fence.stored_seq,
    )
    batch.events += append.events
    batch.audit += append.audit
    for execution in append.tool_executions:
        batch.tool_executions.append(_tool_execution_values(execution))
    for call in append.model_calls:
        cost_usd = None if call.cost_usd is None else str(call.cost_usd)
        batch.model_calls.append((*call[:3], storable(call.model), *call[4:9], cost_usd, call.created_at))


def _tool_execution_values(row: ToolExecutionRow) -> _Row:
    # `sqlite3` looks up an adapter for each bool, as for every type that it does not know by heart.
    success = 1 if row.success else 0
    return (*row[:3], storable(row.call_id), storable(row.tool_name), *row[5:8], success, storable(row.error), row[10])


def _insert(connection: sqlite3.Connection, batch: _Batch) -> None:
    _insert_rows(connection, _INSERT_NEW_SESSION, batch.new_sessions)
    if batch.projections:
        _update_sessions(connection, list(batch.projections.values()))
    _insert_rows(connection, _into("session_events", EventRow._fields), batch.events)
    insert_audit(connection, batch.audit)
    _insert_rows(connection, _into("tool_executions", ToolExecutionRow._fields), batch.tool_executions)
    _insert_rows(connection, _into("model_calls", ModelCallRow._fields), batch.model_calls)


def _update_sessions(connection: sqlite3.Connection, rows: Sequence[_Row]) -> None:
    for start in range(0, len(rows), _MAX_ROWS):
        chunk = rows[start : start + _MAX_ROWS]
        sql, values = _padded(_update_sql, "", chunk)
        # The fence itself; `_refusal` only tells beforehand which appends would meet it.
        if connection.execute(sql, values).rowcount != len(chunk):
            raise StorageError("a session's row changed under the write lock")


def _insert_rows(connection: sqlite3.Connection, into: str, rows: Sequence[_Row]) -> None:
    for start in range(0, len(rows), _MAX_ROWS):
        chunk = rows[start : start + _MAX_ROWS]
        if connection.execute(*_padded(_insert_sql, into, chunk)).rowcount != len(chunk):
            raise StorageError("a row without a key")  # it was taken for filling


def _padded(sql: Any, into: str, rows: Sequence[_Row]) -> tuple[str, list[Any]]:
    """The statement for a few rows more, filled up with NULL, so that a handful of prepared ones serve every batch."""
    width = len(rows[0])
    size = _SIZES[bisect_left(_SIZES, len(rows))]
    values = list(chain.from_iterable(rows))
    values.extend([None] * ((size - len(rows)) * width))
    return sql(into, width, size), values


@cache
def _into(table: str, columns: tuple[str, ...]) -> str:
    chosen = ", ".join(f"column{i + 1}" for i in range(len(columns)))
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {chosen}"


@cache
def _insert_sql(into: str, width: int, size: int) -> str:
    return f"{into} FROM ({_values(width, size)}) WHERE column1 IS NOT NULL"


@cache
def _update_sql(_: str, width: int, size: int) -> str:
    # A session that ends has answered its request to be cancelled; one that goes on later begins without it.
    ended = ", ".join(f"'{status.value}'" for status in sorted(ENDED))
    changes = ", ".join(f"{name} = v.column{i + 1}" for i, name in enumerate(_PROJECTION))
    fence = " AND ".join(f"{name} = v.column{len(_PROJECTION) + i + 1}" for i, name in enumerate(_FENCE))
    return (
        f"UPDATE sessions SET {changes},"
        f" cancel_requested_at = CASE WHEN v.column1 IN ({ended}) THEN NULL ELSE cancel_requested_at END"
        f" FROM ({_values(width, size)}) AS v WHERE {fence}"
    )


def _values(width: int, size: int) -> str:
    row = f"({', '.join('?' * width)})"
    return f"VALUES {', '.join([row] * size)}"
