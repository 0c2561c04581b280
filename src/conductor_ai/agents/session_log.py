"""The writing end of one session: what happens is folded, stored and told, in this order for whoever may rely on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from conductor_ai.agents import recording
from conductor_ai.agents.cancel_watch import SOMEBODY
from conductor_ai.agents.org_money import OrgMoney
from conductor_ai.agents.prompt import EncodeTurn
from conductor_ai.agents.session_state import NO_MODEL, SessionConfig, SessionState
from conductor_ai.errors import CancelRequested
from conductor_ai.observability.redaction import Redactor
from conductor_ai.schemas import json_text
from conductor_ai.schemas.approvals import ApprovalRecord
from conductor_ai.schemas.audit import AuditEntry, AuditRow, ChainHead, ToolExecutionRow
from conductor_ai.schemas.events import Event, EventType
from conductor_ai.schemas.ids import utc_now
from conductor_ai.storage.base import (
    Append,
    ApprovalDecision,
    EventRow,
    IdempotencyMark,
    ModelCallRow,
    NewSession,
    Projection,
)
from conductor_ai.storage.files import FileStore

if TYPE_CHECKING:
    from conductor_ai.agents.state import StateManager

OnEvent = Callable[[dict[str, Any]], None]
_logger = logging.getLogger(__name__)

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
        idempotency: IdempotencyMark | None = None,
    ) -> None:
        self.session_id = session_id
        self.title = title
        self.created_at = self.updated_at = created_at
        self.state = state
        self.on_event: OnEvent | None = None
        self.on_piece: Callable[[], Awaitable[None] | None] | None = None
        """Called after each piece of an answer; what it returns is waited for before the next."""
        self.watchers_due = False
        """Somebody may come to watch the next answer while it comes: it is streamed, whether anybody does yet."""
        self.cancel_requested = False
        self._manager = manager
        self._owner_epoch = owner_epoch
        self._committed_seq = self._staged_seq = last_seq
        self._chain = chain
        self._created = created
        self._idempotency = idempotency
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
        self._model_calls: list[ModelCallRow] = []
        self._delivered: tuple[str, ...] = ()

    @property
    def money(self) -> OrgMoney:
        return self._manager.money

    @property
    def redactor(self) -> Redactor:
        return self._manager.redactor

    @property
    def files(self) -> FileStore:
        return self._manager.store

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
        elif event_type is EventType.MODEL_COMPLETED:
            self._model_calls.append(recording.model_call(self.session_id, state.config.org_id, seq, payload, now))
        elif event_type is EventType.APPROVAL_REQUESTED:
            request = recording.approval_request(self.session_id, state.config.org_id, payload, now)
            self._requested.append(request)
        elif event_type is EventType.APPROVAL_DECIDED:
            decision = recording.approval_decision(payload, now)
            if decision is not None:
                self._decided.append(decision)

    def answers_for(self, idempotency: IdempotencyMark | None, delivered: tuple[str, ...]) -> None:
        """The next commit uses up a caller's key, and takes messages out of the queue."""
        self._idempotency, self._delivered = idempotency, delivered

    def commit(self) -> None:
        """Hand over what is staged, as one transaction, and do not wait: a failure shows in the next `durable`."""
        append = self._take()
        if self.watched:
            stored = self._manager.store.append(append)
            stored.add_done_callback(partial(self._tell_stored, append.events))
        else:
            self._manager.store.append_later(append)

    async def durable(self) -> None:
        """Commit, and return once it is stored.

        Raises: OwnershipLost, StorageError; CancelRequested where the session cannot end as it was about to: all but
            that end is staged again then.
        """
        append = self._take()
        try:
            self.cancel_requested |= await self._manager.store.append(append)
        except CancelRequested:
            await self._take_back(append)
            raise
        self._tell(append.events)

    async def _take_back(self, append: Append) -> None:
        """Go back to before an append that was refused, and stage it anew without its last event."""
        before = await self._manager.open(self.session_id, self.state.config.org_id)
        self.state, self._chain, self.cancel_requested = before.state, before._chain, True
        self._committed_seq = self._staged_seq = before._committed_seq
        self._kept = None  # it has what was not stored
        for row in append.events[:-1]:
            self.stage(EventType(row.type), json_text.loads(row.payload))

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
                state.model,
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
            tuple(self._model_calls),
            self._idempotency,
            self._delivered,
        )
        self._committed_seq, self._created, self._idempotency = self._staged_seq, None, None
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
            return lambda: [event_of(row) for row in kept]
        return await self._manager.store.events(self.session_id, self.state.config.org_id)

    async def stored(self, after_seq: int, limit: int) -> list[Event]:
        """A part of the log as the store has it: of the results, all but those of the step under way."""
        return await self._manager.store.events(
            self.session_id, self.state.config.org_id, after_seq=after_seq, limit=limit
        )

    async def who_cancels(self) -> str:
        """Who has asked for the session's end, as the store knows."""
        record = await self._manager.store.session(self.session_id, self.state.config.org_id)
        return (record.cancel_requested_at and record.cancel_requested_by) or SOMEBODY

    async def retell(self, encode_turn: EncodeTurn, model: str, *, signed: bool = True) -> None:
        """Build the prompt anew, for `model`. What is staged is stored first.

        Args:
            signed: Keep what the model itself signed in earlier turns.
        """
        await self.durable()
        events = await self._manager.store.events(self.session_id, self.state.config.org_id)
        first = SessionConfig.from_payload(events[0].payload)
        state = SessionState(first, encode_turn, own_turns_of=model if signed else NO_MODEL)
        for event in events:
            state.apply(event.type, event.payload)
        state.prompt.forget_bills()
        self.state.take_prompt_of(state, model)

    async def record(self, entries: list[AuditEntry], executions: list[ToolExecutionRow]) -> None:
        """Audit rows without an event, for code that a tool calls; returns once they are durable."""
        now = utc_now()
        self._audit.extend(self._extend_chain(entry, now) for entry in entries)
        self._executions.extend(executions)
        await self.durable()

    def _extend_chain(self, entry: AuditEntry, now: str) -> AuditRow:
        return self._chain.extend(entry, org_id=self.state.config.org_id, session_id=self.session_id, created_at=now)

    @property
    def watched(self) -> bool:
        """Whether anybody is told what happens."""
        return self.on_event is not None or self._manager.hot.watched(self.session_id)

    def _tell_stored(self, events: Sequence[EventRow], stored: asyncio.Future[bool]) -> None:
        if not stored.cancelled() and stored.exception() is None:
            self._tell(events)

    def _tell(self, events: Sequence[EventRow]) -> None:
        """Only once they are stored: what was told stays true, and a watcher that hangs keeps nothing from the disk."""
        if self.watched:
            for row in events:
                self._send(event_of(row).to_dict())

    def tell_live(self, kind: str, payload: dict[str, Any]) -> None:
        """Tell whoever watches something that is not stored."""
        if self.watched:
            text = self.redactor.clean_json(json_text.dumps(payload))
            self.tell_clean(kind, json_text.loads(text))

    def tell_clean(self, kind: str, payload: dict[str, Any]) -> None:
        """As `tell_live`, for a payload that is plain JSON data, free of secrets, and the watchers' own from now on."""
        self._send({"type": kind, "session_id": self.session_id, "payload": payload})

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


def event_of(row: EventRow) -> Event:
    return Event(row.session_id, row.seq, EventType(row.type), json_text.loads(row.payload), row.created_at)
