"""A session's status, the transitions it may make, and its row."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from conductor_ai.errors import InvalidTransition
from conductor_ai.schemas.usage import Usage


class SessionStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING_APPROVAL = "waiting_approval"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class PauseReason(StrEnum):
    MAX_STEPS = "max_steps"
    MAX_COST = "max_cost"
    MAX_TOKENS = "max_tokens"
    DEADLINE = "deadline"
    INTERRUPTED = "interrupted"
    ORG_BUDGET = "org_budget"


S = SessionStatus
_ALLOWED: dict[SessionStatus, frozenset[SessionStatus]] = {
    S.QUEUED: frozenset({S.RUNNING, S.CANCELLED}),
    S.RUNNING: frozenset({S.WAITING_APPROVAL, S.PAUSED, S.CANCELLING, S.COMPLETED, S.FAILED}),
    S.WAITING_APPROVAL: frozenset({S.RUNNING, S.CANCELLING}),
    S.PAUSED: frozenset({S.RUNNING, S.CANCELLING}),
    S.CANCELLING: frozenset({S.CANCELLED}),
    S.COMPLETED: frozenset({S.RUNNING}),
    S.FAILED: frozenset({S.RUNNING}),
    S.CANCELLED: frozenset({S.RUNNING}),
}
ENDED = frozenset({S.COMPLETED, S.FAILED, S.CANCELLED})
OVERRULED_BY_CANCEL = frozenset({S.COMPLETED, S.FAILED})
"""Ends that are not stored any more once somebody was told that the session is being cancelled."""
del S


def transition(current: SessionStatus, to: SessionStatus) -> SessionStatus:
    """The new status. Raises: InvalidTransition where the lifecycle has no such way."""
    if to not in _ALLOWED[current]:
        raise InvalidTransition(f"a {current} session cannot become {to}")
    return to


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One row of `sessions`: the log's projection, as last stored. Money in US dollars; None where a call had no price.

    `owner_epoch` counts claims; `last_seq` is the newest event; `audit_seq` and `audit_head` are the length and the
    newest hash of the session's audit chain. `cancel_requested_by` is of use only beside `cancel_requested_at`.
    """

    session_id: str
    org_id: str
    status: SessionStatus
    model: str
    agent: str | None
    title: str
    pause_reason: PauseReason | None
    error: str | None
    step_no: int
    segment_no: int
    usage: Usage
    cost_usd: Decimal | None
    owner_epoch: int
    owner: str | None
    last_seq: int
    audit_seq: int
    audit_head: str
    cancel_requested_at: str | None
    cancel_requested_by: str | None
    created_at: str
    updated_at: str
