"""The one statement that stores a batch of appends: the update of the sessions is the fence, the inserts join it.

It is put together once for each mix of parts, and prepared. Rows travel as JSON, with all text as strings within: what
is JSON itself arrives byte by byte.
"""

# ruff: noqa: S608  only names that stand in this package are put into SQL; values are always bound
from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from conductor_ai.schemas.approvals import ApprovalStatus
from conductor_ai.schemas.audit import AuditRow, ToolExecutionRow
from conductor_ai.schemas.session import ENDED, OVERRULED_BY_CANCEL, SessionStatus
from conductor_ai.storage.base import EventRow, ModelCallRow
from conductor_ai.storage.rows import APPROVAL_COLUMNS

_COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_TYPES = {
    **dict.fromkeys(("seq", "owner_epoch", "fence_seq", "last_seq", "chain_seq", "audit_seq", *_COUNTS), "bigint"),
    **dict.fromkeys(("step_no", "segment_no"), "integer"),
    **dict.fromkeys(("created_at", "updated_at", "requested_at", "decided_at"), "timestamptz"),
    "id": "uuid",
    "execution_time_ms": "double precision",
    "success": "boolean",
    "cost_usd": "numeric",
}
# Text on its way, for as JSON it would be taken for a string of JSON.
_JSON = frozenset({"payload", "metadata", "input", "output", "arguments"})
PROJECTION = (
    "status",
    "model",
    "pause_reason",
    "error",
    "step_no",
    "segment_no",
    *_COUNTS,
    "cost_usd",
    "last_seq",
    "audit_seq",
    "audit_head",
    "updated_at",
)
_NEW = ("org_id", "agent", "title", "created_at")
TABLES: dict[str, tuple[str, ...]] = {
    "session_events": EventRow._fields,
    "audit_logs": AuditRow._fields,
    "tool_executions": ToolExecutionRow._fields,
    "model_calls": ModelCallRow._fields,
    "approvals": APPROVAL_COLUMNS,
}
# While a session is in one of these, the store that appends to it is its owner.
DRIVEN = frozenset({SessionStatus.QUEUED, SessionStatus.RUNNING, SessionStatus.CANCELLING})

FENCES = b"""
SELECT session_id, owner_epoch, last_seq, audit_head, cancel_requested_at IS NOT NULL
FROM sessions WHERE session_id = ANY(%s)
"""


def recordset(name: str, columns: tuple[str, ...]) -> str:
    """The rows of the parameter `name`, a JSON array of objects."""
    typed = ", ".join(f"{column} {_TYPES.get(column, 'text')}" for column in columns)
    return f"json_to_recordset(%({name})s) AS r({typed})"


def insert(table: str, columns: tuple[str, ...], where: str = "true") -> str:
    """All rows of the parameter that is called as the table."""
    values = ", ".join(f"r.{column}::json" if column in _JSON else f"r.{column}" for column in columns)
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {recordset(table, columns)} WHERE {where}"


@cache
def statement(parts: frozenset[str]) -> bytes:
    """With parameters of the names in `parts`, and `worker`.

    Parts: `created` and `changed` sessions, `ending` where one of the latter ends; the names of TABLES; and what may
    keep a session out: `marks`, `decided`, `delivered`. Each row it answers says what it tells, then the session: `in`
    with whether a request to cancel it stood, `used` with what its key was used for, `unfit` with an approval, `gone`.
    """
    conditions = [_CONDITIONS[name] for name in ("marks", "decided", "delivered") if name in parts]
    refused = " UNION ALL ".join(f"SELECT session_id FROM {condition.refused}" for condition in conditions)
    allowed = f"r.session_id NOT IN ({refused})" if refused else "true"
    let_in = [name for name in ("changed", "created") if name in parts]
    steps = [step for condition in conditions for step in condition.steps]
    if "changed" in parts:
        steps.append(f"changed AS ({_change(ending='ending' in parts, where=allowed)})")
    if "created" in parts:
        steps.append(
            f"created AS ({_create()} WHERE {allowed} ON CONFLICT (session_id) DO NOTHING"
            " RETURNING session_id, false AS cancel)"
        )
    steps.append(f"let_in AS ({' UNION ALL '.join(f'SELECT * FROM {name}' for name in let_in)})")
    joins = "r.session_id IN (SELECT session_id FROM let_in)"
    steps += [f"to_{name} AS ({insert(name, TABLES[name], joins)})" for name in TABLES if name in parts]
    steps += [condition.effect for condition in conditions]
    answers = ["SELECT 'in', session_id, cancel::text, NULL FROM let_in", *(one.answer for one in conditions)]
    return f"WITH {', '.join(steps)} {' UNION ALL '.join(answers)}".encode()


def _change(*, ending: bool, where: str) -> str:
    columns = ", ".join(f"{name} = r.{name}" for name in PROJECTION)
    driven = ", ".join(f"'{status.value}'" for status in sorted(DRIVEN))
    ended = ", ".join(f"'{status.value}'" for status in sorted(ENDED))
    overruled = ", ".join(f"'{status.value}'" for status in sorted(OVERRULED_BY_CANCEL))
    # A session that is cancelled has answered its request, but whoever ends it learns of the request.
    cleared = f", cancel_requested_at = CASE WHEN r.status IN ({ended}) THEN NULL ELSE s.cancel_requested_at END"
    unless_cancelled = f" AND (s.cancel_requested_at IS NULL OR r.status NOT IN ({overruled}))"
    before = " JOIN sessions AS b ON b.session_id = r.session_id"
    rows = recordset("changed", ("session_id", "owner_epoch", "fence_seq", *PROJECTION))
    return (
        f"UPDATE sessions AS s SET {columns}, owner = CASE WHEN r.status IN ({driven}) THEN %(worker)s::text END"
        f"{cleared if ending else ''} FROM {rows}{before if ending else ''}"
        " WHERE s.session_id = r.session_id AND s.owner_epoch = r.owner_epoch AND s.last_seq = r.fence_seq"
        f"{unless_cancelled if ending else ''}"
        f" AND {where} RETURNING s.session_id, {'b' if ending else 's'}.cancel_requested_at IS NOT NULL AS cancel"
    )


def _create() -> str:
    columns = ("session_id", "owner_epoch", *_NEW, *PROJECTION)
    driven = ", ".join(f"'{status.value}'" for status in sorted(DRIVEN))
    return (
        f"INSERT INTO sessions ({', '.join(columns)}, owner) SELECT r.*,"
        f" CASE WHEN r.status IN ({driven}) THEN %(worker)s::text END FROM {recordset('created', columns)}"
    )


class _Condition:
    """What may keep a session out of the batch.

    Args:
        refused: The step that has the sessions that are kept out.
        steps: It, and what it is made of.
        effect: What is done for those let in.
        answer: What to tell of those kept out.
    """

    def __init__(self, refused: str, steps: Mapping[str, str], effect: str, answer: str) -> None:
        self.refused = refused
        self.steps = [f"{name} AS MATERIALIZED ({step})" for name, step in steps.items()]
        self.effect = effect
        self.answer = f"SELECT '{refused}', session_id, {answer} FROM {refused}"


_LET_IN = "session_id IN (SELECT session_id FROM let_in)"
_KNOWN = ", ".join(f"'{status.value}'" for status in ApprovalStatus)
_CONDITIONS = {
    "marks": _Condition(
        "used",
        {
            "mark": "SELECT r.session_id, coalesce(r.org_id, s.org_id) AS org_id, r.key, r.request_hash, r.created_at"
            " FROM "
            + recordset("marks", ("session_id", "org_id", "key", "request_hash", "created_at"))
            + " LEFT JOIN sessions s ON s.session_id = r.session_id",
            "used": "SELECT m.session_id, k.session_id AS by_session, k.request_hash"
            " FROM mark m JOIN idempotency_keys k ON k.org_id = m.org_id AND k.key = m.key",
        },
        "to_keys AS (INSERT INTO idempotency_keys (org_id, key, request_hash, session_id, created_at)"
        f" SELECT org_id, key, request_hash, session_id, created_at FROM mark WHERE {_LET_IN})",
        "by_session, request_hash",
    ),
    "decided": _Condition(
        "unfit",
        {
            "decision": "SELECT r.* FROM "
            + recordset("decided", ("session_id", "approval_id", "status", "decided_at", "decided_by", "reason")),
            # What was approved may still turn void, when the arguments are found changed; nothing else changes twice.
            "unfit": "SELECT d.session_id, d.approval_id, a.status FROM decision d LEFT JOIN approvals a"
            " ON a.approval_id = d.approval_id AND a.session_id = d.session_id WHERE a.status IS NULL"
            f" OR a.status NOT IN ({_KNOWN}) OR (a.status <> 'pending' AND d.status <> 'void')",
        },
        "decide AS (UPDATE approvals AS a SET status = d.status, decided_at = d.decided_at, decided_by = d.decided_by,"
        f" reason = d.reason FROM decision d WHERE a.approval_id = d.approval_id AND d.{_LET_IN})",
        "approval_id, status",
    ),
    "delivered": _Condition(
        "gone",
        {
            "message": "SELECT r.* FROM " + recordset("delivered", ("session_id", "message_id")),
            "gone": "SELECT m.session_id, m.message_id FROM message m LEFT JOIN queued_messages q"
            " ON q.message_id = m.message_id AND q.session_id = m.session_id WHERE q.message_id IS NULL",
        },
        "deliver AS (DELETE FROM queued_messages AS q USING message m"
        f" WHERE q.message_id = m.message_id AND m.{_LET_IN})",
        "message_id, NULL",
    ),
}
