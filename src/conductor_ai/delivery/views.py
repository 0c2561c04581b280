"""What the API shows of a session, without reading a long log each time somebody asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.events import Event
from conductor_ai.schemas.session import ENDED, SessionRecord, SessionStatus
from conductor_ai.storage.base import SessionStore
from conductor_ai.storage.hot_state import HotState

# A shorter log is read faster than its snapshot.
_LONG_LOG_EVENTS = 32


class Views:
    """The session's row is read each time, under its org; what its log adds is kept in hot state."""

    def __init__(self, store: SessionStore, hot: HotState) -> None:
        self._store = store
        self._hot = hot

    async def view(self, session_id: str, org_id: str) -> dict[str, Any]:
        """`AgentSession.to_dict` with steps. Raises: SessionNotFound."""
        record = await self._store.session(session_id, org_id)
        is_long = record.last_seq >= _LONG_LOG_EVENTS
        if is_long:
            kept = await self._hot.snapshot(session_id)
            if kept is not None and kept.get("org_id") == org_id and kept.get("last_seq") == record.last_seq:
                return {**kept["view"], **shown(record).to_dict()}
        events = await self._store.events(session_id, org_id, limit=record.last_seq)
        view = shown(record, events).to_dict()
        if is_long:
            await self._hot.put_snapshot(session_id, {"org_id": org_id, "last_seq": record.last_seq, "view": view})
        return view

    async def forget(self, session_id: str) -> None:
        """The session was deleted."""
        await self._hot.put_snapshot(session_id, {}, ttl_s=1.0)


def shown(record: SessionRecord, log: Sequence[Event] | None = None) -> AgentSession:
    """A session as callers see it: one that was asked to end is `cancelling`, whether its driver knows yet or not."""
    if record.cancel_requested_at is not None and record.status not in ENDED:
        record = replace(record, status=SessionStatus.CANCELLING)
    return AgentSession.of(record, log)
