"""StateManager: how sessions are made, claimed and read."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from conductor_ai.agents.cancel_watch import CancelWatch
from conductor_ai.agents.org_money import OrgMoney
from conductor_ai.agents.prompt import EncodeTurn
from conductor_ai.agents.session_log import SessionLog
from conductor_ai.agents.session_state import SessionConfig, SessionState, message_added
from conductor_ai.errors import ConductorError, SessionBusy, StoreCorrupt
from conductor_ai.observability.audit import AuditLogger
from conductor_ai.observability.redaction import Redactor
from conductor_ai.schemas import json_text
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.audit import AuditEntry, ChainHead
from conductor_ai.schemas.events import Event, EventType
from conductor_ai.schemas.ids import new_id, utc_now
from conductor_ai.schemas.messages import Message
from conductor_ai.schemas.session import SessionRecord
from conductor_ai.storage.base import IdempotencyMark, NewSession, Store
from conductor_ai.storage.hot_state import HotState

_TITLE_CHARS = 80


class StateManager:
    """Creates, claims and reads sessions; the store is the truth, hot state carries live signals beside it."""

    def __init__(self, store: Store, hot: HotState, audit: AuditLogger, redactor: Redactor) -> None:
        self.store = store
        self.hot = hot
        self.audit = audit
        self.redactor = redactor
        self.cancels = CancelWatch(store)
        self.money = OrgMoney(store)
        self._owner = f"{os.getpid()}@{socket.gethostname()}"

    async def create(
        self,
        config: SessionConfig,
        messages: list[Message],
        encode_turn: EncodeTurn,
        idempotency: IdempotencyMark | None = None,
    ) -> SessionLog:
        """A new session, durable, locked and owned by this process. Raises: IdempotencyKeyUsed, StorageError."""
        session_id = new_id()
        title = self.redactor.clean(messages[-1].content)[:_TITLE_CHARS] or "(an image)"
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
            idempotency=idempotency,
        )
        self.store.try_lock(session_id)
        log.stage(EventType.SESSION_CREATED, config.to_payload())
        for message in messages:
            log.stage(EventType.MESSAGE_ADDED, message_added(message))
        try:
            await log.durable()
        except BaseException:
            self.store.unlock(session_id)
            raise
        return log

    async def config(self, session_id: str, org_id: str) -> tuple[SessionConfig, str]:
        """How the session was set up, and the model in use. Raises: SessionNotFound."""
        record = await self.store.session(session_id, org_id)
        events = await self.store.events(session_id, org_id, limit=1)
        return _folded(record, events, None, whole=False).config, record.model

    async def claim(
        self, session_id: str, org_id: str, encode_turn: EncodeTurn | None, model: str | None = None
    ) -> SessionLog:
        """Take over a session that nobody drives, its prompt as `model` will read it.

        Raises: SessionBusy, SessionNotFound.
        """
        await self._lock(session_id, org_id)
        try:
            record = await self.store.claim(session_id, org_id, self._owner)
            return await self._fold(record, encode_turn, model)
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

    async def discard_messages(
        self, session_id: str, org_id: str, by: str, reason: str, message_id: str | None = None
    ) -> None:
        """Forget what waits for a session, or one message of it; the audit says how many, by whom and why."""
        facts = {"session_id": session_id, "by": by, "reason": reason}

        def entry(count: int) -> AuditEntry:
            return self.audit.entry("session", "messages.discarded", facts | {"messages": count})

        await self.store.discard_messages(session_id, org_id, entry, message_id=message_id)

    async def close(self) -> None:
        """End what watches and settles on the side; the store is its opener's to close."""
        await self.cancels.close()
        await self.money.close()

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

    async def _fold(
        self, record: SessionRecord, encode_turn: EncodeTurn | None, model: str | None = None
    ) -> SessionLog:
        events = await self.store.events(record.session_id, record.org_id, limit=record.last_seq)
        state = _folded(record, events, encode_turn, model)
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


def _folded(
    record: SessionRecord,
    events: Sequence[Event],
    encode_turn: EncodeTurn | None,
    model: str | None = None,
    *,
    whole: bool = True,
) -> SessionState:
    """The state that a log leads to. Raises: StoreCorrupt where it is not the log that was written."""
    seen = [event.seq for event in events]
    if not events or seen != list(range(1, len(events) + 1)) or (whole and len(events) != record.last_seq):
        raise _damaged(record, f"it has events {seen[:1]} to {seen[-1:]} of {record.last_seq}, {len(seen)} in all")
    seq = 1
    try:
        state = SessionState(SessionConfig.from_payload(events[0].payload), encode_turn, model)
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
