"""Service: what the API may ask for. Each call is a caller's, and sees that caller's org only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Literal, TypeVar

from conductor_ai.conductor import Conductor, StartRequest
from conductor_ai.conductor.follow import Follows
from conductor_ai.conductor.keys import Keys
from conductor_ai.conductor.orgs import Orgs
from conductor_ai.delivery.engine import Engine
from conductor_ai.delivery.queue import queued_message
from conductor_ai.delivery.views import Views, shown
from conductor_ai.errors import (
    ApprovalAlreadyDecided,
    ApprovalVoid,
    Forbidden,
    IdempotencyConflict,
    IdempotencyKeyUsed,
    InvalidTransition,
    LimitReached,
    SessionBusy,
    SessionError,
    StorageError,
    UsageError,
)
from conductor_ai.observability.redaction import Redactor
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.approvals import ApprovalRecord, ApprovalStatus
from conductor_ai.schemas.audit import AuditRow
from conductor_ai.schemas.events import EventType
from conductor_ai.schemas.orgs import Caller, Scope
from conductor_ai.schemas.session import ENDED, SessionRecord, SessionStatus
from conductor_ai.sdk.context import SessionFile
from conductor_ai.storage.base import EVERY_SESSION, Cursor, IdempotencyMark, SessionFilter, Store, UsageRow
from conductor_ai.storage.hot_state import HotState
from conductor_ai.tools.sandbox import Sandbox

T = TypeVar("T")
WhenRunning = Literal["reject", "enqueue"]
_logger = logging.getLogger(__name__)
_RUNS = frozenset({SessionStatus.QUEUED, SessionStatus.RUNNING})
_SENT_ON = frozenset({EventType.SESSION_CREATED, EventType.SESSION_RESUMED})
_PING_S = 5.0


class Service:
    """Sessions that are durable and handed to an engine when a call returns; none waits for a session to get anywhere.

    `open` before anything else, `close` at the end. What it is made of, its maker closes.
    """

    def __init__(
        self,
        conductor: Conductor,
        engine: Engine,
        *,
        keys: Keys,
        orgs: Orgs,
        store: Store,
        hot: HotState,
        views: Views,
        redactor: Redactor,
        sandbox: Sandbox,
    ) -> None:
        self.conductor = conductor
        self.engine = engine
        self.keys = keys
        self.orgs = orgs
        self.store = store
        self.hot = hot
        self._views = views
        self._redactor = redactor
        self.sandbox = sandbox
        self._follows = Follows(store, hot)
        self._under_way: set[asyncio.Future[Any]] = set()

    async def open(self) -> None:
        """Take up what the last process left."""
        await self.engine.open()

    async def close(self, grace_s: float = 10.0) -> None:
        """End what is read and driven; steps under way have `grace_s` to end. Closing twice is harmless."""
        self._follows.close()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=grace_s)
        await self.engine.close(grace_s)

    async def start(
        self, request: StartRequest, *, caller: Caller, idempotency: IdempotencyMark | None = None
    ) -> AgentSession:
        """A new session, or the one that the same request made before under the same idempotency key.

        Raises: UsageError, TooManySessions, BudgetSpent, IdempotencyConflict, StorageError.
        """
        return await self._to_its_end(self._start(request, caller, idempotency))

    async def send(
        self,
        session_id: str,
        message: Mapping[str, Any],
        *,
        caller: Caller,
        when_running: WhenRunning = "reject",
        limits: dict[str, Any] | None = None,
        idempotency: IdempotencyMark | None = None,
    ) -> AgentSession:
        """Go on with a session that does not run; with `enqueue` one that runs gets the message once it has completed
        or failed. `limits` replaces some of its limits, and cannot wait in a queue.

        Raises: SessionNotFound, SessionBusy, InvalidTransition, InvalidInput, TooManySessions, BudgetSpent,
            IdempotencyConflict, StorageError.
        """
        return await self._to_its_end(self._send(session_id, message, caller, when_running, limits, idempotency))

    async def resume(self, session_id: str, *, caller: Caller, limits: dict[str, Any] | None = None) -> AgentSession:
        """Go on with a session that was paused, or that failed and may be resumed. One that waits for an approval is
        returned as it is; one that should run, but could not be driven here, is tried again.

        Raises: SessionNotFound, SessionBusy, UsageError, TooManySessions, BudgetSpent; InvalidTransition, also where it
            is completed or cancelled.
        """
        return await self._to_its_end(self._resume(session_id, caller, limits))

    async def cancel(self, session_id: str, *, caller: Caller) -> AgentSession:
        """End a session for good: `cancelled`, or `cancelling` until it is proven that it has stopped. Messages that
        wait for it are discarded. Harmless where it is being cancelled already.

        Raises: SessionNotFound, InvalidTransition where it has ended.
        """
        org_id = caller.org_id
        await self._to_its_end(self.engine.stop(org_id, session_id, by=caller.name))
        record = await self.store.session(session_id, org_id)
        if record.status in ENDED and record.status is not SessionStatus.CANCELLED:
            raise InvalidTransition(f"session {session_id} is {record.status} already")  # it was faster
        return shown(record)

    async def delete(self, session_id: str, *, caller: Caller) -> None:
        """Remove a session that does not run; its audit rows stay. Raises: SessionNotFound, SessionBusy."""
        record = await self.store.session(session_id, caller.org_id)
        if record.status in _RUNS or record.status is SessionStatus.CANCELLING:
            raise _busy(record, hint="cancel it first")
        await self.engine.settled(caller.org_id, session_id)
        await self.conductor.delete(session_id, org_id=caller.org_id, by=caller.name)
        await self._views.forget(session_id)

    async def decide(
        self,
        approval_id: str,
        decision: Literal["approved", "denied"],
        *,
        caller: Caller,
        reason: str | None = None,
    ) -> ApprovalRecord:
        """Decide an approval; its session goes on by itself once nothing is undecided. The same decision again changes
        nothing.

        A key that started a session, or sent it on, does not approve what that session asks for, nor does one that was
        rotated from it or to it, unless it has the scope `admin`, with which it could make itself another key. Any key
        that may decide at all may deny.
        Raises: ApprovalNotFound, ApprovalAlreadyDecided, ApprovalVoid, Forbidden.
        """
        return await self._to_its_end(self._decide(approval_id, decision, caller, reason))

    async def session(self, session_id: str, *, caller: Caller) -> dict[str, Any]:
        """As `AgentSession.to_dict`, with steps. Raises: SessionNotFound."""
        return await self._views.view(session_id, caller.org_id)

    async def files(self, session_id: str, *, caller: Caller) -> list[SessionFile]:
        """By name. Raises: SessionNotFound."""
        return await self.store.files(session_id, caller.org_id)

    async def file(self, session_id: str, name: str, *, caller: Caller) -> tuple[SessionFile, bytes]:
        """Raises: SessionNotFound, FileNotStored."""
        return await self.store.file(session_id, caller.org_id, name)

    async def sessions(
        self,
        chosen: SessionFilter = EVERY_SESSION,
        *,
        caller: Caller,
        after: Cursor | None = None,
        limit: int = 100,
    ) -> list[AgentSession]:
        """Newest first, without steps."""
        records = await self.store.sessions(caller.org_id, chosen, after=after, limit=limit)
        return [shown(record) for record in records]

    async def approvals(
        self,
        *,
        caller: Caller,
        status: ApprovalStatus | None = ApprovalStatus.PENDING,
        session_id: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[ApprovalRecord]:
        """Oldest first. Raises: SessionNotFound."""
        return await self.store.approvals(caller.org_id, status=status, session_id=session_id, after=after, limit=limit)

    async def audit_log(
        self, *, caller: Caller, session_id: str | None = None, after: Cursor | None = None, limit: int = 100
    ) -> list[AuditRow]:
        """Newest first, of deleted sessions too."""
        return await self.store.audit_log(caller.org_id, session_id=session_id, after=after, limit=limit)

    async def usage(self, *, caller: Caller, day_from: str, day_before: str) -> Sequence[UsageRow]:
        """By day, then by model. Days are ISO dates, UTC."""
        return await self.orgs.usage(caller.org_id, day_from, day_before)

    def follow(self, session_id: str, *, caller: Caller, after_seq: int = 0) -> AsyncGenerator[dict[str, Any]]:
        """What happens in a session: see `Follows.follow`. The items are shared: they must not be changed."""
        return self._follows.follow(session_id, caller.org_id, after_seq=after_seq)

    async def health(self) -> dict[str, Any]:
        """Whether each part works; `status` is `ok`, `degraded` where it goes on without one, or `down`."""
        database: dict[str, Any] = {"ok": True}
        try:
            async with asyncio.timeout(_PING_S):
                await self.store.ping()
        except StorageError as exc:
            database = {"ok": False, "error": self._redactor.clean_log(str(exc))}
        except TimeoutError:
            database = {"ok": False, "error": f"no answer within {_PING_S:g} s"}
        problem = await self.hot.problem()
        hot = {"ok": True} if problem is None else {"ok": False, "error": self._redactor.clean_log(problem)}
        worker = self.engine.state()
        status = "ok"
        if not database["ok"]:
            status = "down"
        elif not (hot["ok"] and worker["ok"]):
            status = "degraded"
        # Without a sandbox its tool is not offered, and everything else works.
        parts = {"database": database, "hot_state": hot, "worker": worker, "sandbox": self.sandbox.state()}
        return {"status": status, "version": version("conductor-ai"), **parts}

    async def _start(self, request: StartRequest, caller: Caller, idempotency: IdempotencyMark | None) -> AgentSession:
        org_id = caller.org_id
        if (earlier := await self._made_before(org_id, idempotency)) is not None:
            return earlier
        try:
            async with self.orgs.starting(org_id):
                session = await self.conductor.start(request, org_id=org_id, by=caller.name, idempotency=idempotency)
        except (IdempotencyKeyUsed, LimitReached):
            # The same request may have been made, and counted, at the same time.
            if (earlier := await self._made_before(org_id, idempotency)) is None:
                raise
            return earlier
        self.engine.start(org_id, session.session_id)
        return session

    async def _send(
        self,
        session_id: str,
        message: Mapping[str, Any],
        caller: Caller,
        when_running: WhenRunning,
        limits: dict[str, Any] | None,
        idempotency: IdempotencyMark | None,
    ) -> AgentSession:
        org_id = caller.org_id
        if (earlier := await self._made_before(org_id, idempotency)) is not None:
            return earlier
        record = await self.store.session(session_id, org_id)
        status = shown(record).status
        if status is SessionStatus.CANCELLING:
            raise _being_cancelled(record)
        try:
            if status in _RUNS or status is SessionStatus.WAITING_APPROVAL:
                if when_running == "enqueue":
                    return await self._enqueue(record, message, caller, limits, idempotency)
                raise _busy(record)
            await self.engine.settled(org_id, session_id)
            async with self.orgs.starting(org_id):
                session = await self.conductor.add_message(
                    session_id, message, limits=limits, org_id=org_id, by=caller.name, idempotency=idempotency
                )
        except (IdempotencyKeyUsed, LimitReached, SessionBusy) as refused:
            if (earlier := await self._made_before(org_id, idempotency)) is not None:
                return earlier
            if isinstance(refused, SessionBusy) and when_running == "enqueue":  # it runs since a moment ago
                return await self._enqueue(record, message, caller, limits, idempotency)
            raise
        self.engine.start(org_id, session_id)
        return session

    async def _enqueue(
        self,
        record: SessionRecord,
        message: Mapping[str, Any],
        caller: Caller,
        limits: dict[str, Any] | None,
        idempotency: IdempotencyMark | None,
    ) -> AgentSession:
        if limits:
            raise InvalidTransition(
                f"session {record.session_id} is {record.status}: its limits cannot change now",
                hint="send the message without limits, or wait",
            )
        queued = queued_message(message, record, self.conductor, self._redactor, by=caller.name)
        await self.store.enqueue_message(queued, idempotency)
        self.engine.wake(record.org_id, record.session_id)
        return shown(record)

    async def _resume(self, session_id: str, caller: Caller, limits: dict[str, Any] | None) -> AgentSession:
        org_id = caller.org_id
        record = await self.store.session(session_id, org_id)
        if shown(record).status is SessionStatus.CANCELLING:
            raise _being_cancelled(record)
        if record.status in (SessionStatus.COMPLETED, SessionStatus.CANCELLED):
            hint = "send it a message instead" if record.status is SessionStatus.COMPLETED else None
            raise InvalidTransition(f"session {session_id} is {record.status} already", hint=hint)
        if record.status in _RUNS and not self.engine.holds_back(org_id, session_id):
            raise _busy(record)
        if record.status is SessionStatus.WAITING_APPROVAL:
            return await self.conductor.session(session_id, org_id=org_id)
        await self.engine.settled(org_id, session_id)
        async with self.orgs.starting(org_id):
            session = await self.conductor.reopen(session_id, limits=limits, org_id=org_id, by=caller.name)
        if session.status is SessionStatus.RUNNING:
            self.engine.start(org_id, session_id)
        return session

    async def _decide(
        self, approval_id: str, decision: Literal["approved", "denied"], caller: Caller, reason: str | None
    ) -> ApprovalRecord:
        org_id = caller.org_id
        if decision == "approved":
            await self._require_another_key(approval_id, caller)
        try:
            decided = await self.conductor.decide(approval_id, decision, by=caller.name, reason=reason, org_id=org_id)
        except ApprovalAlreadyDecided:
            decided = await self.store.approval(approval_id, org_id)
            if decided.status.value != decision:
                raise
        except ApprovalVoid:
            approval = await self.store.approval(approval_id, org_id)
            self.engine.wake(org_id, approval.session_id)  # it asks anew, with the true arguments
            raise
        await self._go_on(org_id, decided.session_id)
        return decided

    async def _go_on(self, org_id: str, session_id: str) -> None:
        """Let a session that nothing is undecided of run on before its decider hears of it: who looks then must not
        find it waiting still. What cannot be done here is left to the engine."""
        try:
            if not await self.store.approvals(org_id, status=ApprovalStatus.PENDING, session_id=session_id, limit=1):
                await self.engine.settled(org_id, session_id)
                session = await self.conductor.reopen(session_id, org_id=org_id)
                if session.status is SessionStatus.RUNNING:
                    self.engine.start(org_id, session_id)
                    return
        except (SessionError, UsageError, StorageError) as exc:
            _logger.debug("session %s does not run on at once: %s", session_id, exc)
        self.engine.wake(org_id, session_id)

    async def _require_another_key(self, approval_id: str, caller: Caller) -> None:
        """Raises: Forbidden, ApprovalNotFound."""
        if caller.key_id is None or Scope.ADMIN in caller.scopes:
            return
        approval = await self.store.approval(approval_id, caller.org_id)
        # All of the log: what was said to a session long ago may be why it asks now.
        log = await self.store.events(approval.session_id, caller.org_id)
        asked = {event.payload.get("by") for event in log if event.type in _SENT_ON}
        holder = await self.keys.same_holder(caller.key_id, caller.org_id)
        if any(Caller(caller.org_id, key_id=key_id).name in asked for key_id in holder):
            raise Forbidden(
                "the key that started a session or sent it on may not approve what it asks for",
                hint="approve with another key of the org; this one may deny",
            )

    async def _made_before(self, org_id: str, idempotency: IdempotencyMark | None) -> AgentSession | None:
        """The session that an earlier request with this key made or changed. Raises: IdempotencyConflict."""
        if idempotency is None:
            return None
        used = await self.store.idempotent(org_id, idempotency.key)
        if used is None:
            return None
        mark, session_id = used
        if mark.request_hash != idempotency.request_hash:
            raise IdempotencyConflict(
                "this idempotency key was used for another request",
                session_id=session_id,
                request_hash=mark.request_hash,
                hint="use a new key for each request",
            )
        return await self.conductor.session(session_id, org_id=org_id)

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which goes on where the caller does not wait for it: a session that was made durable
        is handed to the engine in any case."""
        task = asyncio.ensure_future(work)
        self._under_way.add(task)
        task.add_done_callback(self._over)
        return await asyncio.shield(task)

    def _over(self, task: asyncio.Future[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # it is the caller's, who may have left


def _busy(record: SessionRecord, hint: str | None = None) -> SessionBusy | InvalidTransition:
    if record.status is SessionStatus.WAITING_APPROVAL:
        return InvalidTransition(f"session {record.session_id} waits for an approval", hint="approve or deny it first")
    return SessionBusy(
        f"session {record.session_id} is {record.status}", pid=None, hint=hint or "wait until it does not run"
    )


def _being_cancelled(record: SessionRecord) -> InvalidTransition:
    return InvalidTransition(f"session {record.session_id} is being cancelled")
