"""StateManager and SessionLog: how the loop reads and writes a session's log."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from conductor_ai.agents import recording
from conductor_ai.agents.cancel_watch import CancelWatch
from conductor_ai.agents.prompt import EncodeTurn
from conductor_ai.agents.session_state import SessionConfig, SessionState
from conductor_ai.errors import ConductorError, SessionBusy, StoreCorrupt
from conductor_ai.observability.audit import AuditLogger
from conductor_ai.observability.redaction import Redactor
from conductor_ai.schemas import json_text
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.approvals import ApprovalRecord
from conductor_ai.schemas.audit import AuditEntry, AuditRow, ChainHead, ToolExecutionRow
from conductor_ai.schemas.events import Event, EventType
from conductor_ai.schemas.ids import new_id, utc_now
from conductor_ai.schemas.messages import Message
from conductor_ai.schemas.session import SessionRecord
from conductor_ai.storage.base import (
    Append,
    ApprovalDecision,
    EventRow,
    HotState,
    NewSession,
    Projection,
    SessionStore,
)

OnEvent = Callable[[dict[str, Any]], None]
_logger = logging.getLogger(__name__)

_TITLE_CHARS = 80
_KEPT_CHARS = 32_768


class SessionLog:
    """The writing end of one session: facts are staged, folded into `state`, and committed together.

    Everything staged goes to the store as one append, in call order: `commit` does not wait for it, `durable` does.
    `on_event` sees each committed event as `Event.to_dict`.
    """

    def __init__(
        self,
        session_id: str,
        state: SessionState,
        manager: StateManager,
        *,
        owner_epoch: int,
        last_seq: int,
        chain: ChainHead,
        title: str,
        created_at: str,
        created: NewSession | None = None,
    ) -> None:
        self.session_id = session_id
        self.title = title
        self.created_at = self.updated_at = created_at
        self.state = state
        self.on_event: OnEvent | None = None
        self.cancel_requested = False
        self._manager = manager
        self._owner_epoch = owner_epoch
        self._committed_seq = self._staged_seq = last_seq
        self._chain = chain
        self._created = created
        # A log that this process began, and that is short, needs no reading when it ends.
        self._kept: list[EventRow] | None = [] if created is not None else None
        self._kept_chars = 0
        self._clear()

    def _clear(self) -> None:
        self._events: list[EventRow] = []
        self._audit: list[AuditRow] = []
        self._executions: list[ToolExecutionRow] = []
        self._requested: list[ApprovalRecord] = []
        self._decided: list[ApprovalDecision] = []

    @property
    def redactor(self) -> Redactor:
        return self._manager.redactor

    def stage(self, event_type: EventType, payload: Any) -> None:
        """Add one event to the next commit. What is stored, folded and sent to the model is free of secrets.

        Raises: InvalidTransition where the session's status forbids it; nothing is staged then.
        """
        if not self._events:
            self.updated_at = utc_now()  # what is committed together happened together
        now, state, audit = self.updated_at, self.state, self._manager.audit
        text = json_text.dumps(payload)
        cleaned = self.redactor.clean_json(text)
        if cleaned is not text:
            text, payload = cleaned, json_text.loads(cleaned)
        seq = self._staged_seq + 1
        entry = recording.audit_entry(audit, event_type, seq, payload, text)
        execution = None
        if event_type is EventType.TOOL_COMPLETED:
            execution = recording.tool_execution(audit, state, self.session_id, payload, now)
        state.apply(event_type, payload)
        self._staged_seq = seq
        self._events.append(EventRow(self.session_id, seq, event_type.value, text, now))
        if entry is not None:
            self._audit.append(self._extend_chain(entry, now))
        if execution is not None:
            self._executions.append(execution)
        elif event_type is EventType.APPROVAL_REQUESTED:
            request = recording.approval_request(self.session_id, state.config.org_id, payload, now)
            self._requested.append(request)
        elif event_type is EventType.APPROVAL_DECIDED:
            decision = recording.approval_decision(payload, now)
            if decision is not None:
                self._decided.append(decision)

    def commit(self) -> None:
        """Hand over what is staged, as one transaction, and do not wait: a failure shows in the next `durable`."""
        append = self._take()
        if self._watched():
            stored = self._manager.store.append(append)
            stored.add_done_callback(partial(self._tell_stored, append.events))
        else:
            self._manager.store.append_later(append)

    async def durable(self) -> None:
        """Commit, and return once it is stored. Raises: OwnershipLost, StorageError."""
        append = self._take()
        if await self._manager.store.append(append):
            self.cancel_requested = True
        self._tell(append.events)

    def _take(self) -> Append:
        """What is staged, as one append."""
        state, chain = self.state, self._chain
        events = tuple(self._events)
        append = Append(
            self.session_id,
            self._owner_epoch,
            self._committed_seq,
            events,
            Projection(
                state.status,
                state.pause_reason,
                state.error,
                state.step_no,
                state.segment_no,
                state.usage,
                state.cost_usd,
                chain.seq,
                chain.hash,
                self.updated_at,
            ),
            tuple(self._audit),
            tuple(self._executions),
            tuple(self._requested),
            tuple(self._decided),
            self._created,
        )
        self._committed_seq, self._created = self._staged_seq, None
        self._keep(events)
        self._clear()
        return append

    def _keep(self, events: tuple[EventRow, ...]) -> None:
        if self._kept is not None:
            self._kept_chars += sum(len(row.payload) for row in events)
            if self._kept_chars <= _KEPT_CHARS:
                self._kept += events
            else:
                self._kept = None

    async def events(self) -> Sequence[Event] | Callable[[], Sequence[Event]]:
        """The whole log, as `AgentSession.log` takes it."""
        kept = self._kept
        if kept is not None:
            return lambda: [_event(row) for row in kept]
        return await self._manager.store.events(self.session_id, self.state.config.org_id)

    async def stored(self, after_seq: int, limit: int) -> list[Event]:
        """A part of the log as the store has it: of the results, all but those of the step under way."""
        return await self._manager.store.events(
            self.session_id, self.state.config.org_id, after_seq=after_seq, limit=limit
        )

    async def record(self, entries: list[AuditEntry], executions: list[ToolExecutionRow]) -> None:
        """Audit rows without an event, for code that a tool calls; returns once they are durable."""
        now = utc_now()
        self._audit.extend(self._extend_chain(entry, now) for entry in entries)
        self._executions.extend(executions)
        await self.durable()

    def _extend_chain(self, entry: AuditEntry, now: str) -> AuditRow:
        return self._chain.extend(entry, org_id=self.state.config.org_id, session_id=self.session_id, created_at=now)

    def _watched(self) -> bool:
        return self.on_event is not None or self._manager.hot.watched(self.session_id)

    def _tell_stored(self, events: Sequence[EventRow], stored: asyncio.Future[bool]) -> None:
        if not stored.cancelled() and stored.exception() is None:
            self._tell(events)

    def _tell(self, events: Sequence[EventRow]) -> None:
        """Only once they are stored: what was told stays true, and a watcher that hangs keeps nothing from the disk."""
        if self._watched():
            for row in events:
                self._send(_event(row).to_dict())

    def tell_live(self, kind: str, payload: dict[str, Any]) -> None:
        """Tell whoever watches something that is not stored."""
        if self._watched():
            text = self.redactor.clean_json(json_text.dumps(payload))
            self._send({"type": kind, "session_id": self.session_id, "payload": json_text.loads(text)})

    def _send(self, item: dict[str, Any]) -> None:
        self._manager.hot.publish(self.session_id, item)
        if self.on_event is None:
            return
        try:
            self.on_event(item)
        except Exception:  # foreign code: who cannot watch any more must not end what is watched
            self.on_event = None
            _logger.exception("the watcher of session %s failed and is told no more", self.session_id)

    def release(self) -> None:
        """Let others drive the session."""
        self._manager.cancels.remove(self.session_id)
        self._manager.store.unlock(self.session_id)


class StateManager:
    """Creates, claims and reads sessions; the store is the truth, hot state carries live signals beside it."""

    def __init__(self, store: SessionStore, hot: HotState, audit: AuditLogger, redactor: Redactor) -> None:
        self.store = store
        self.hot = hot
        self.audit = audit
        self.redactor = redactor
        self.cancels = CancelWatch(store)
        self._owner = f"{os.getpid()}@{socket.gethostname()}"

    async def create(self, config: SessionConfig, messages: list[Message], encode_turn: EncodeTurn) -> SessionLog:
        """A new session, durable, locked and owned by this process."""
        session_id = new_id()
        title = self.redactor.clean(messages[-1].content)[:_TITLE_CHARS]
        # Cleaned before the state is made of it: the model must read the same before and after a resume.
        text = json_text.dumps(config.to_payload())
        cleaned = self.redactor.clean_json(text)
        if cleaned is not text:
            config = SessionConfig.from_payload(json_text.loads(cleaned))
        log = SessionLog(
            session_id,
            SessionState(config, encode_turn),
            self,
            owner_epoch=1,
            last_seq=0,
            chain=ChainHead(),
            title=title,
            created_at=utc_now(),
            created=NewSession(config.org_id, config.agent, config.model, title, self._owner),
        )
        self.store.try_lock(session_id)
        log.stage(EventType.SESSION_CREATED, config.to_payload())
        for message in messages:
            log.stage(EventType.MESSAGE_ADDED, {"role": message.role.value, "content": message.content})
        try:
            await log.durable()
        except BaseException:
            self.store.unlock(session_id)
            raise
        return log

    async def config(self, session_id: str, org_id: str) -> SessionConfig:
        """How the session was set up. Raises: SessionNotFound."""
        record = await self.store.session(session_id, org_id)
        events = await self.store.events(session_id, org_id, limit=1)
        return _folded(record, events, None, whole=False).config

    async def claim(self, session_id: str, org_id: str, encode_turn: EncodeTurn | None) -> SessionLog:
        """Take over a session that nobody drives. Raises: SessionBusy, SessionNotFound."""
        await self._lock(session_id, org_id)
        try:
            record = await self.store.claim(session_id, org_id, self._owner)
            return await self._fold(record, encode_turn)
        except BaseException:
            self.store.unlock(session_id)
            raise

    async def open(self, session_id: str, org_id: str) -> SessionLog:
        """The log of a session that nobody drives, to add a person's decision; the fence settles who was first."""
        return await self._fold(await self.store.session(session_id, org_id), None)

    async def delete(self, session_id: str, org_id: str, by: str) -> None:
        """Remove a session that nobody drives; its audit rows stay. Raises: SessionBusy, SessionNotFound."""
        await self._lock(session_id, org_id)
        try:
            facts = {"session_id": session_id, "by": by}
            await self.store.delete_session(session_id, org_id, self.audit.entry("session", "session.deleted", facts))
        finally:
            self.store.unlock(session_id)

    async def view(self, session_id: str, org_id: str) -> AgentSession:
        """A session with its steps. Raises: SessionNotFound."""
        record = await self.store.session(session_id, org_id)
        return AgentSession.of(record, await self.store.events(session_id, org_id))

    async def _lock(self, session_id: str, org_id: str) -> None:
        if self.store.try_lock(session_id):
            return
        await self.store.session(session_id, org_id)  # a session of another org is not found
        pid = self.store.lock_holder(session_id)
        raise SessionBusy(
            f"session {session_id} is driven by pid {pid}" if pid else f"session {session_id} is being driven",
            pid=pid,
            hint="wait for it, or stop that process first",
        )

    async def _fold(self, record: SessionRecord, encode_turn: EncodeTurn | None) -> SessionLog:
        events = await self.store.events(record.session_id, record.org_id, limit=record.last_seq)
        state = _folded(record, events, encode_turn)
        log = SessionLog(
            record.session_id,
            state,
            self,
            owner_epoch=record.owner_epoch,
            last_seq=record.last_seq,
            chain=ChainHead(record.audit_seq, record.audit_head),
            title=record.title,
            created_at=record.created_at,
        )
        log.updated_at = record.updated_at
        log.cancel_requested = record.cancel_requested_at is not None
        return log


def _event(row: EventRow) -> Event:
    return Event(row.session_id, row.seq, EventType(row.type), json_text.loads(row.payload), row.created_at)


def _folded(
    record: SessionRecord, events: Sequence[Event], encode_turn: EncodeTurn | None, *, whole: bool = True
) -> SessionState:
    """The state that a log leads to. Raises: StoreCorrupt where it is not the log that was written."""
    seen = [event.seq for event in events]
    if not events or seen != list(range(1, len(events) + 1)) or (whole and len(events) != record.last_seq):
        raise _damaged(record, f"it has events {seen[:1]} to {seen[-1:]} of {record.last_seq}, {len(seen)} in all")
    seq = 1
    try:
        state = SessionState(SessionConfig.from_payload(events[0].payload), encode_turn)
        for event in events:
            seq = event.seq
            state.apply(event.type, event.payload)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, ConductorError) as exc:
        raise _damaged(record, f"event {seq} cannot be read") from exc
    return state


def _damaged(record: SessionRecord, what: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"the log of session {record.session_id} is damaged: {what}", hint="restore the database from a backup"
    )
