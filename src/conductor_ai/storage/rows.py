"""Rows and what they mean, both ways."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, overload

from conductor_ai.errors import StoreCorrupt
from conductor_ai.schemas import json_text
from conductor_ai.schemas.approvals import ApprovalRecord, ApprovalStatus
from conductor_ai.schemas.events import Event, EventType
from conductor_ai.schemas.session import PauseReason, SessionRecord, SessionStatus
from conductor_ai.schemas.usage import Usage

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

SESSION_COLUMNS = (
    "session_id",
    "org_id",
    "status",
    "model",
    "agent",
    "title",
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
    "owner_epoch",
    "owner",
    "last_seq",
    "audit_seq",
    "audit_head",
    "cancel_requested_at",
    "created_at",
    "updated_at",
)
APPROVAL_COLUMNS = tuple(ApprovalRecord.__slots__)


@overload
def storable(text: str) -> str: ...
@overload
def storable(text: None) -> None: ...
@overload
def storable(text: str | None) -> str | None: ...


def storable(text: str | None) -> str | None:
    """`text` as a text column takes it: NUL and lone surrogates, which no database stores alike, become U+FFFD.

    For what people read; whatever must come back exactly is JSON text, where both are escaped.
    """
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def session_record(row: Any) -> SessionRecord:
    """From the columns of SESSION_COLUMNS."""
    return SessionRecord(
        session_id=row[0],
        org_id=row[1],
        status=SessionStatus(row[2]),
        model=row[3],
        agent=row[4],
        title=row[5],
        pause_reason=None if row[6] is None else PauseReason(row[6]),
        error=row[7],
        step_no=row[8],
        segment_no=row[9],
        usage=Usage(*row[10:15]),
        cost_usd=None if row[15] is None else Decimal(row[15]),
        owner_epoch=row[16],
        owner=row[17],
        last_seq=row[18],
        audit_seq=row[19],
        audit_head=row[20],
        cancel_requested_at=row[21],
        created_at=row[22],
        updated_at=row[23],
    )


def event(session_id: str, seq: int, event_type: str, payload: str, created_at: str) -> Event:
    """Raises: StoreCorrupt where the row is not what was written."""
    try:
        return Event(session_id, seq, EventType(event_type), json_text.loads(payload), created_at)
    except ValueError as exc:
        raise StoreCorrupt(
            f"event {seq} of session {session_id} is not as it was written ({exc})",
            hint="restore the database from a backup",
        ) from exc


def approval_record(row: Any) -> ApprovalRecord:
    """From the columns of APPROVAL_COLUMNS."""
    values = dict(zip(APPROVAL_COLUMNS, row, strict=True))
    return ApprovalRecord(**{**values, "status": ApprovalStatus(values["status"])})


def approval_values(record: ApprovalRecord) -> tuple[Any, ...]:
    """In the order of APPROVAL_COLUMNS."""
    values = {name: getattr(record, name) for name in APPROVAL_COLUMNS}
    values["status"] = record.status.value
    for name in ("tool_name", "call_id", "decided_by", "reason"):
        values[name] = storable(values[name])
    return tuple(values.values())
