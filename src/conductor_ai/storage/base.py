"""The storage ports: the session log with its projections, and the hot state beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from conductor_ai.schemas.approvals import ApprovalRecord, ApprovalStatus
from conductor_ai.schemas.audit import AuditEntry, AuditRow, ChainHead, ToolExecutionRow
from conductor_ai.schemas.events import Event
from conductor_ai.schemas.session import PauseReason, SessionRecord, SessionStatus
from conductor_ai.schemas.usage import Usage


class EventRow(NamedTuple):
    """One row of `session_events`; `payload` is JSON text."""

    session_id: str
    seq: int
    type: str
    payload: str
    created_at: str


class NewSession(NamedTuple):
    """The columns of `sessions` that never change."""

    org_id: str
    agent: str | None
    model: str
    title: str
    owner: str


class Projection(NamedTuple):
    """The columns of `sessions` that each append rewrites, as they are after it."""

    status: SessionStatus
    model: str
    pause_reason: PauseReason | None
    error: str | None
    step_no: int
    segment_no: int
    usage: Usage
    cost_usd: Decimal | None
    audit_seq: int
    audit_head: str
    updated_at: str


class ApprovalDecision(NamedTuple):
    approval_id: str
    status: ApprovalStatus
    decided_at: str
    decided_by: str
    reason: str | None


class Append(NamedTuple):
    """All that one append stores, in one transaction or not at all.

    It takes effect only while the session's `owner_epoch` and `last_seq` are those named here (the fence); `created`
    makes the row instead, with `owner_epoch` 1. Events continue at `last_seq` + 1.
    """

    session_id: str
    owner_epoch: int
    last_seq: int
    events: tuple[EventRow, ...]
    projection: Projection
    audit: tuple[AuditRow, ...] = ()
    tool_executions: tuple[ToolExecutionRow, ...] = ()
    approvals_requested: tuple[ApprovalRecord, ...] = ()
    approvals_decided: tuple[ApprovalDecision, ...] = ()
    created: NewSession | None = None


class SessionStore(Protocol):
    """Sessions, their logs and what is stored with them. Reads take the org; another org's session is not found."""

    def append(self, append: Append) -> asyncio.Future[bool]:
        """Hand one append to the writer; call order is storage order.

        The future resolves once it is durable, with True where somebody has asked for the session's cancellation.
        It raises OwnershipLost where the fence no longer holds, StorageError where it could not be stored,
        StoreUnavailable after `close`.
        """
        ...

    def append_later(self, append: Append) -> None:
        """As `append`, with nobody waiting: a failure is that of the session's next append, with the same cause.

        Only for an append with events, since it is their absence that the next one meets. After `close` nothing is
        stored: that is logged, and the next append raises StoreUnavailable. Never raises itself.
        """
        ...

    def try_lock(self, session_id: str) -> bool:
        """Hold the right to drive the session until `unlock` or the death of this process; False: somebody holds it.

        Raises: StoreUnavailable after `close`.
        """
        ...

    def lock_holder(self, session_id: str) -> int | None:
        """The process that drives the session now; None where nobody does or it cannot be told.

        Raises: StoreUnavailable after `close`.
        """
        ...

    def unlock(self, session_id: str) -> None: ...

    async def claim(self, session_id: str, org_id: str, owner: str) -> SessionRecord:
        """Bump `owner_epoch`, so that every older writer is fenced off, and return the row as it is then.

        The caller holds the lock. Raises: SessionNotFound.
        """
        ...

    async def session(self, session_id: str, org_id: str) -> SessionRecord:
        """Raises: SessionNotFound."""
        ...

    async def sessions(
        self, org_id: str, *, status: SessionStatus | None = None, limit: int = 100
    ) -> list[SessionRecord]:
        """Newest first."""
        ...

    async def events(
        self, session_id: str, org_id: str, *, after_seq: int = 0, limit: int | None = None
    ) -> list[Event]:
        """In the order of `seq`. Raises: SessionNotFound."""
        ...

    async def delete_session(self, session_id: str, org_id: str, tombstone: AuditEntry) -> None:
        """Remove the session's row, log, approvals and tool executions; its audit rows stay, and `tombstone` is chained
        to the org's own chain in the same transaction. The caller holds the lock. Raises: SessionNotFound."""
        ...

    async def request_cancel(self, session_id: str, org_id: str) -> None:
        """Mark the session; whoever drives it learns of it with its next append. Raises: SessionNotFound."""
        ...

    async def cancel_requests(self) -> list[str]:
        """Sessions of any org that were marked and have not ended: what a process asks about those it drives."""
        ...

    async def approval(self, approval_id: str, org_id: str) -> ApprovalRecord:
        """Raises: ApprovalNotFound."""
        ...

    async def approvals(
        self, org_id: str, *, status: ApprovalStatus | None = None, session_id: str | None = None
    ) -> list[ApprovalRecord]:
        """Oldest first."""
        ...

    async def append_org_audit(
        self, org_id: str, entries: Sequence[AuditEntry], executions: Sequence[ToolExecutionRow] = ()
    ) -> None:
        """Chain entries that belong to no session to the org's own chain; returns once they are durable."""
        ...

    async def audit_rows(self, org_id: str, session_id: str | None) -> tuple[list[AuditRow], ChainHead]:
        """One chain in order, with the head that is stored apart from it. `session_id` None: the org's own chain."""
        ...

    async def tool_executions(self, org_id: str, session_id: str | None) -> list[ToolExecutionRow]:
        """Oldest first."""
        ...

    async def close(self) -> None:
        """Store what was handed over, then let go of files and threads."""
        ...


class HotState(Protocol):
    """Live signals and cached views, rebuildable from the store; JSON data only."""

    def publish(self, session_id: str, item: dict[str, Any]) -> None:
        """Hand `item` to whoever is subscribed to the session now; never waits: what must travel is queued.

        Raises: TypeError where somebody is subscribed and `item` is not JSON data.
        """
        ...

    def watched(self, session_id: str) -> bool:
        """Whether anybody may be subscribed: nobody need build items for nobody. Never waits; True where unknown."""
        ...

    def subscribe(self, session_id: str) -> AsyncIterator[dict[str, Any]]:
        """Items published from now on; a subscriber that falls 1,000 behind loses the oldest."""
        ...

    async def request_cancel(self, session_id: str) -> None: ...

    async def cancel_requested(self, session_id: str) -> bool: ...

    async def clear_cancel(self, session_id: str) -> None:
        """Forget the request, once it was honoured."""
        ...

    async def put_snapshot(self, session_id: str, view: dict[str, Any], *, ttl_s: float = 3600.0) -> None: ...

    async def snapshot(self, session_id: str) -> dict[str, Any] | None: ...

    async def close(self) -> None: ...
