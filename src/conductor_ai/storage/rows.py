"""Rows and what they mean, both ways."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar, overload

from conductor_ai.errors import InvalidInput, StoreCorrupt
from conductor_ai.schemas import json_text
from conductor_ai.schemas.approvals import ApprovalRecord, ApprovalStatus
from conductor_ai.schemas.events import Event, EventType
from conductor_ai.schemas.orgs import MONEY_LIMITS, KeyRecord, OrgLimits, OrgRecord, Scope
from conductor_ai.schemas.session import PauseReason, SessionRecord, SessionStatus
from conductor_ai.schemas.usage import Usage

T = TypeVar("T")

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
    "cancel_requested_by",
    "created_at",
    "updated_at",
)
# What goes with a deleted session. The ledger of model calls is not among it: it is what bills and budgets are made of.
TABLES_OF_A_SESSION = (
    "session_events",
    "approvals",
    "tool_executions",
    "queued_messages",
    "idempotency_keys",
    "session_files",
    "sessions",
)
APPROVAL_COLUMNS = tuple(ApprovalRecord.__slots__)
LIMIT_COLUMNS = tuple(OrgLimits.__slots__)
ORG_COLUMNS = ("org_id", *LIMIT_COLUMNS, "created_at", "updated_at")
KEY_COLUMNS = tuple(KeyRecord.__slots__)


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


def moment(text: str) -> str:
    """A time as it is stored: in UTC, with microseconds. Without an offset it is UTC. Raises: InvalidInput."""
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            time = time.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter where UTC lies beyond the years there are
        raise InvalidInput(f"no time: {storable(text)!r:.60}", hint="such as 2026-11-23T08:00:00Z") from None
    return time.replace(tzinfo=UTC).isoformat(timespec="microseconds")


def session_record(row: Any) -> SessionRecord:
    """From the columns of SESSION_COLUMNS. Raises: StoreCorrupt where one is not what was written."""
    values = dict(zip(SESSION_COLUMNS, row, strict=True))
    session_id = values["session_id"]
    for name, meaning in _SESSION_MEANINGS:
        values[name] = _meant(meaning, values[name], f"{name} of session {session_id}")
    usage = Usage(**{name: values.pop(name) for name in Usage.__slots__})
    return SessionRecord(**values, usage=usage)


def event(session_id: str, seq: int, event_type: str | bytes, payload: str | bytes, created_at: str | bytes) -> Event:
    """Bytes are UTF-8. Raises: StoreCorrupt where the row is not what was written."""
    try:
        return Event(session_id, seq, EventType(_text(event_type)), _json_object(payload), _text(created_at))
    except (ValueError, TypeError) as exc:
        raise _damaged(f"event {seq} of session {session_id}", exc) from exc


def approval_record(row: Any) -> ApprovalRecord:
    """From the columns of APPROVAL_COLUMNS. Raises: StoreCorrupt where one is not what was written."""
    values = dict(zip(APPROVAL_COLUMNS, row, strict=True))
    for name, meaning in _APPROVAL_MEANINGS:
        subject = f"{name} of approval {values['approval_id']} of session {values['session_id']}"
        meant = _meant(meaning, values[name], subject)
        if meaning is not _json_object:  # the hash covers the text of `arguments`, not what it means
            values[name] = meant
    return ApprovalRecord(**values)


def org_record(row: Any) -> OrgRecord:
    """From the columns of ORG_COLUMNS. Raises: StoreCorrupt where one is not what was written."""
    values = dict(zip(ORG_COLUMNS, row, strict=True))
    return OrgRecord(values["org_id"], changed_limits(row, {}), values["created_at"], values["updated_at"])


def listed_org(row: Any) -> OrgRecord:
    """As `org_record`, for a list, which one damaged row must not keep from being read."""
    try:
        return org_record(row)
    except StoreCorrupt as exc:
        values = dict(zip(ORG_COLUMNS, row, strict=True))
        told = f"{exc}; {exc.hint}"
        return OrgRecord(values["org_id"], OrgLimits(), values["created_at"], values["updated_at"], problem=told)


def changed_limits(row: Any | None, changes: Mapping[str, Any]) -> OrgLimits:
    """The limits of a row of ORG_COLUMNS, None where there is none yet, with some replaced: what is replaced is not
    read, so that a damaged limit can be set anew.

    Raises: StoreCorrupt; InvalidInput as `OrgLimits.with_changes`.
    """
    kept: dict[str, Any] = {}
    if row is not None:
        values = dict(zip(ORG_COLUMNS, row, strict=True))
        for name in LIMIT_COLUMNS:
            if name not in changes and values[name] is not None:
                kept |= _limit(name, values[name], values["org_id"])
    return OrgLimits(**kept).with_changes(dict(changes))


def has_money_limit(row: Any | None) -> bool:
    """Whether a row of ORG_COLUMNS limits money, readable or not."""
    return row is not None and any(row[ORG_COLUMNS.index(name)] is not None for name in MONEY_LIMITS)


def _limit(name: str, value: Any, org_id: str) -> dict[str, Any]:
    meaning: Callable[[Any], Any] = _money if name in MONEY_LIMITS else _number
    try:
        limits = {name: meaning(value)}
        OrgLimits(**limits)
    except (InvalidInput, ValueError, TypeError, ArithmeticError) as exc:
        raise _damaged(
            f"{name} of org {org_id}",
            exc,
            hint=f"set it anew: conductor orgs set {org_id} --{name.replace('_', '-')} N",
        ) from exc
    return limits


def limit_values(limits: OrgLimits) -> tuple[Any, ...]:
    """In the order of LIMIT_COLUMNS, money as text."""
    values = limits.to_dict()
    return tuple(values[name] for name in LIMIT_COLUMNS)


def key_record(row: Any) -> KeyRecord:
    """From the columns of KEY_COLUMNS. Raises: StoreCorrupt where one is not what was written."""
    values = dict(zip(KEY_COLUMNS, row, strict=True))
    values["scopes"] = _meant(_scopes, values["scopes"], f"scopes of key {values['key_id']}")
    return KeyRecord(**values)


def key_values(key: KeyRecord) -> tuple[Any, ...]:
    """In the order of KEY_COLUMNS."""
    values = {name: getattr(key, name) for name in KEY_COLUMNS}
    values["scopes"] = " ".join(sorted(key.scopes))
    for name in ("org_id", "name", "created_by"):
        values[name] = storable(values[name])
    return tuple(values.values())


def amount(value: Any, subject: str) -> Decimal:
    """Money as a column or a sum has it; nothing is 0. Raises: StoreCorrupt."""
    return _meant(_money, value, subject) or Decimal(0)


def approval_status(value: Any, approval_id: str, session_id: str) -> ApprovalStatus:
    """Raises: StoreCorrupt."""
    return _meant(ApprovalStatus, value, f"status of approval {approval_id} of session {session_id}")


def whole_number(value: Any, session_id: str, name: str) -> int:
    """The number in a column of `sessions`. Raises: StoreCorrupt."""
    return _meant(_number, value, f"{name} of session {session_id}")


def _meant(meaning: Callable[[Any], T], value: Any, subject: str) -> T:
    try:
        return meaning(value)
    except (ValueError, TypeError, ArithmeticError) as exc:  # the last is what `decimal` raises
        raise _damaged(subject, exc) from exc


def _damaged(subject: str, exc: Exception, *, hint: str = "restore the database from a backup") -> StoreCorrupt:
    return StoreCorrupt(f"{subject} is not as it was written ({type(exc).__name__}: {exc!s:.200})", hint=hint)


def _number(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r:.40} is no whole number")
    return value


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _json_object(value: str | bytes) -> dict[str, Any]:
    data = json_text.loads(value)
    if not isinstance(data, dict):
        raise ValueError(f"a JSON object was expected, not {type(data).__name__}")
    return data


def _pause_reason(value: str | None) -> PauseReason | None:
    return None if value is None else PauseReason(value)


def _scopes(value: str) -> frozenset[Scope]:
    return frozenset(map(Scope, value.split()))


def _money(value: str | Decimal | None) -> Decimal | None:
    amount = None if value is None else Decimal(value)
    if amount is not None and not amount.is_finite():
        raise ValueError(f"{amount} is no amount of money")
    return amount


_SESSION_MEANINGS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("status", SessionStatus),
    ("pause_reason", _pause_reason),
    ("cost_usd", _money),
    *((name, _number) for name in ("step_no", "segment_no", *Usage.__slots__, "owner_epoch", "last_seq", "audit_seq")),
)
_APPROVAL_MEANINGS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("status", ApprovalStatus),
    ("step_no", _number),
    ("arguments", _json_object),
)


def approval_values(record: ApprovalRecord) -> tuple[Any, ...]:
    """In the order of APPROVAL_COLUMNS."""
    values = {name: getattr(record, name) for name in APPROVAL_COLUMNS}
    values["status"] = record.status.value
    for name in ("tool_name", "call_id", "action", "decided_by", "reason"):
        values[name] = storable(values[name])
    return tuple(values.values())
