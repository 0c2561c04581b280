"""The storage ports: the session log with its projections, and the hot state beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from conductor_ai.schemas.approvals import ApprovalRecord, ApprovalStatus
from conductor_ai.schemas.audit import AuditEntry, AuditRow, ChainHead, ToolExecutionRow
from conductor_ai.schemas.events import Event
from conductor_ai.schemas.orgs import KeyRecord, OrgRecord
from conductor_ai.schemas.session import PauseReason, SessionRecord, SessionStatus
from conductor_ai.schemas.usage import Usage, money_text
from conductor_ai.storage.files import FileStore


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


class ModelCallRow(NamedTuple):
    """One row of `model_calls`, the ledger that bills and budgets are made of: it outlives the session.

    `seq` is that of the event it tells of. `cost_usd` is None where nobody knows the price.
    """

    session_id: str
    seq: int
    org_id: str
    model: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_usd: Decimal | None
    created_at: str


class IdempotencyMark(NamedTuple):
    """What a caller's key stands for: SHA-256 in hex over the request that came with it."""

    key: str
    request_hash: str


class SessionFilter(NamedTuple):
    """Which sessions a list shows; None leaves a question open. Times are ISO 8601 UTC as stored."""

    status: SessionStatus | None = None
    agent: str | None = None
    created_from: str | None = None
    created_before: str | None = None


EVERY_SESSION = SessionFilter()


class Cursor(NamedTuple):
    """The last row that a reader of a list has seen: its time, and its id."""

    created_at: str
    row_id: str


class QueuedMessage(NamedTuple):
    """A message that waits until its session does not run any more. `payload` is JSON text, as of `message.added`."""

    message_id: str
    session_id: str
    org_id: str
    payload: str
    created_at: str


class UsageRow(NamedTuple):
    """One org's calls to one model on one UTC day. `cost_usd` is of the calls whose cost is known, `unpriced_calls` are
    the others."""

    day: str
    model: str
    calls: int
    usage: Usage
    cost_usd: Decimal
    unpriced_calls: int

    def to_dict(self) -> dict[str, Any]:
        """JSON data; money is a string."""
        return {**self._asdict(), "usage": self.usage.to_dict(), "cost_usd": money_text(self.cost_usd)}


class Runnable(NamedTuple):
    """A session that somebody should drive, as the store sees it."""

    org_id: str
    session_id: str
    status: SessionStatus


class Append(NamedTuple):
    """All that one append stores, in one transaction or not at all.

    It takes effect only while the session's `owner_epoch` and `last_seq` are those named here (the fence); `created`
    makes the row instead, with `owner_epoch` 1. Events continue at `last_seq` + 1. `idempotency` is a caller's key,
    which is used up by this append; `delivered` are queued messages that it takes out of the queue.
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
    model_calls: tuple[ModelCallRow, ...] = ()
    idempotency: IdempotencyMark | None = None
    delivered: tuple[str, ...] = ()


class SessionStore(Protocol):
    """Sessions, their logs and what is stored with them. Reads take the org; another org's session is not found."""

    def append(self, append: Append) -> asyncio.Future[bool]:
        """Hand one append to the writer; call order is storage order.

        The future resolves once it is durable, with True where somebody has asked for the session's cancellation.
        It raises OwnershipLost where the fence no longer holds, or a message that it delivers is no longer queued;
        CancelRequested where it ends the session otherwise than by that cancellation, and may be mended then;
        IdempotencyKeyUsed where its org has used the key already, whatever the fence; StorageError where it could not
        be stored, StoreUnavailable after `close`.
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

        A store that tells by a lease who is alive writes its own id in place of `owner`.

        The caller holds the lock. Raises: SessionNotFound; SessionBusy where a live process elsewhere drives it, which
        a store without locks of the system finds out here.
        """
        ...

    async def session(self, session_id: str, org_id: str) -> SessionRecord:
        """Raises: SessionNotFound."""
        ...

    async def sessions(
        self, org_id: str, chosen: SessionFilter = EVERY_SESSION, *, after: Cursor | None = None, limit: int = 100
    ) -> list[SessionRecord]:
        """Newest first; `after` goes on behind that row."""
        ...

    async def events(
        self, session_id: str, org_id: str, *, after_seq: int = 0, limit: int | None = None
    ) -> list[Event]:
        """In the order of `seq`. Raises: SessionNotFound."""
        ...

    async def delete_session(self, session_id: str, org_id: str, tombstone: AuditEntry) -> None:
        """Remove the session's row, log, files, approvals and tool executions; its audit rows stay, and `tombstone` is
        chained to the org's own chain in the same transaction. The caller holds the lock. Raises: SessionNotFound."""
        ...

    async def request_cancel(self, session_id: str, org_id: str, by: str) -> None:
        """Mark the session; whoever drives it learns of it with its next append. Of several who ask for it, the first
        one counts. Raises: SessionNotFound."""
        ...

    async def cancel_requests(self) -> list[tuple[str, str | None]]:
        """Sessions of any org that were marked and have not ended, each with who asked for it: what a process asks
        about those it drives."""
        ...

    async def approval(self, approval_id: str, org_id: str) -> ApprovalRecord:
        """Raises: ApprovalNotFound."""
        ...

    async def approvals(
        self,
        org_id: str,
        *,
        status: ApprovalStatus | None = None,
        session_id: str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[ApprovalRecord]:
        """Oldest first; `after` goes on behind the approval with that id. Raises: SessionNotFound; ApprovalNotFound for
        an `after` that is not there."""
        ...

    async def append_org_audit(
        self, org_id: str, entries: Sequence[AuditEntry], executions: Sequence[ToolExecutionRow] = ()
    ) -> None:
        """Chain entries that belong to no session to the org's own chain; returns once they are durable."""
        ...

    async def audit_rows(self, org_id: str, session_id: str | None) -> tuple[list[AuditRow], ChainHead]:
        """One chain in order, with the head that is stored apart from it. `session_id` None: the org's own chain."""
        ...

    async def audit_log(
        self, org_id: str, *, session_id: str | None = None, after: Cursor | None = None, limit: int = 100
    ) -> list[AuditRow]:
        """Of all chains of the org, or of one session's, deleted ones included: newest first."""
        ...

    async def idempotent(self, org_id: str, key: str) -> tuple[IdempotencyMark, str] | None:
        """What the key was used for, and the session it made or changed; None where it is new."""
        ...

    async def enqueue_message(self, message: QueuedMessage, idempotency: IdempotencyMark | None = None) -> None:
        """Raises: SessionNotFound, IdempotencyKeyUsed."""
        ...

    async def queued_messages(self, session_id: str, org_id: str) -> list[QueuedMessage]:
        """Oldest first. Raises: SessionNotFound."""
        ...

    async def discard_messages(
        self, session_id: str, org_id: str, entry: Callable[[int], AuditEntry], *, message_id: str | None = None
    ) -> None:
        """Forget what is queued for a session, or one message of it.

        What `entry` makes of the number of messages is chained to the org's own chain in the same transaction; where
        there were none, nothing is.
        """
        ...

    async def runnable(self, *, limit: int) -> list[Runnable]:
        """Sessions of any org that wait for a driver, oldest first: queued, running or cancelling ones without a live
        owner elsewhere, those waiting without an undecided approval, those marked for cancellation, and completed or
        failed ones with a queued message. What this process drives itself may be among them."""
        ...

    async def expired(self, default_days: int | None, *, limit: int) -> list[Runnable]:
        """Sessions of any org that do not run and were last changed before their org's retention, oldest first.

        Args:
            default_days: The retention of orgs that name none; None: they keep everything.
        """
        ...

    async def ping(self) -> None:
        """Ask the database for something. Raises: StorageError."""
        ...

    async def tool_executions(self, org_id: str, session_id: str | None) -> list[ToolExecutionRow]:
        """Oldest first."""
        ...

    async def close(self) -> None:
        """Store what was handed over, then let go of files and threads."""
        ...


class OrgStore(Protocol):
    """Orgs, their keys, their money. The stores of sessions are also this."""

    async def org(self, org_id: str) -> OrgRecord:
        """Any id is an org: one without a row has no limits."""
        ...

    async def orgs(self) -> list[OrgRecord]:
        """Those that have limits or keys of their own, by id. One whose limits cannot be read says so."""
        ...

    async def set_org_limits(self, org_id: str, changes: Mapping[str, Any], entry: AuditEntry) -> OrgRecord:
        """Replace the limits that `changes` names, None: take it away; two changes at once of different limits both
        hold. One that cannot be read is repaired by being replaced.

        `entry` is chained to the org's own chain in the same transaction, as in all that follow.
        Raises: InvalidInput; StoreCorrupt where a limit that stays cannot be read.
        """
        ...

    async def add_key(self, key: KeyRecord, digest: bytes, entry: AuditEntry) -> None: ...

    async def has_keys(self) -> bool:
        """Whether a key of any org was ever made, be it revoked or expired."""
        ...

    async def key(self, key_id: str) -> tuple[KeyRecord, bytes] | None:
        """Of any org: this is how a caller's org is found out."""
        ...

    async def keys(self, org_id: str) -> list[KeyRecord]:
        """Oldest first, revoked and expired ones included."""
        ...

    async def revoke_key(self, key_id: str, org_id: str, entry: AuditEntry) -> KeyRecord:
        """One that was revoked before stays as it is, and then `entry` is not stored. Raises: KeyNotFound."""
        ...

    async def expire_key(self, key_id: str, org_id: str, at: str, entry: AuditEntry) -> KeyRecord:
        """Let it end at `at`; one that ends sooner, or was revoked, stays as it is. Raises: KeyNotFound."""
        ...

    async def key_used(self, key_id: str, at: str) -> None: ...

    async def running_sessions(self, org_id: str) -> int:
        """How many are queued, running or being cancelled."""
        ...

    async def usage(self, org_id: str, *, day_from: str, day_before: str) -> list[UsageRow]:
        """By day, then by model. Days are ISO dates, UTC."""
        ...

    async def committed_usd(self, org_id: str, at: str) -> tuple[Decimal, Decimal]:
        """What is spent or reserved of the day and of the month of `at` (ISO 8601 UTC)."""
        ...

    async def reserve_usd(self, org_id: str, usd: Decimal, at: str) -> bool:
        """Set `usd` aside in the day and the month of `at`, over all processes at once; False where a limit of the org
        does not allow it, and then nothing is set aside."""
        ...

    async def settle_usd(self, org_id: str, reserved_usd: Decimal, spent_usd: Decimal, at: str) -> None:
        """Replace what was set aside at `at` by what was spent. `reserved_usd` 0: it was spent without asking.

        After the append with the call's ledger row: a period that nobody reserved in is counted from the ledger.
        """
        ...


class Store(SessionStore, OrgStore, FileStore, Protocol):
    """What a database is to us."""
