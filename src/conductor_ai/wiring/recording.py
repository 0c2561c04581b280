"""`--record`: the store and the providers of a runtime whose sessions are recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from conductor_ai.agents.exchange_recorder import DescribeModels, ExchangeRecorder
from conductor_ai.model_catalog import Catalog, ModelInfo
from conductor_ai.schemas import json_text
from conductor_ai.schemas.approvals import ApprovalRecord, ApprovalStatus
from conductor_ai.schemas.audit import AuditEntry, AuditRow, ChainHead, ToolExecutionRow
from conductor_ai.schemas.events import Event
from conductor_ai.schemas.session import SessionRecord, SessionStatus
from conductor_ai.storage.base import Append, EventRow, SessionStore

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def describe_models(catalog: Catalog) -> DescribeModels:
    """Tells what `catalog` knows of models, as JSON data that `models_of` reads back."""
    return lambda ids: models_data(catalog.get_model(model_id) for model_id in ids)


def models_data(models: Iterable[ModelInfo]) -> list[Any]:
    """All that is known of models, as JSON data."""
    return [_models().dump_python(model, mode="json") for model in models]


def models_of(data: dict[str, dict[str, Any]]) -> dict[str, ModelInfo]:
    """Recorded models by id. Raises: ValueError where one is not as it was written."""
    return {model_id: _models().validate_python(entry) for model_id, entry in data.items()}


def _models() -> TypeAdapter[ModelInfo]:
    from pydantic import TypeAdapter  # needed by recordings only

    return TypeAdapter(ModelInfo)


class RecordedStore:
    """The store `inner`, of whose sessions each event goes to the recording, too, as it is handed over.

    The append that stops a session is done once its recording is in its file.
    """

    def __init__(self, inner: SessionStore, recorder: ExchangeRecorder) -> None:
        self._inner = inner
        self._recorder = recorder

    def append(self, append: Append) -> asyncio.Future[bool]:
        stored = self._inner.append(append)
        if append.events:
            self._recorder.events(append.events)
        if append.projection.status is SessionStatus.RUNNING:
            return stored
        return asyncio.ensure_future(self._written(stored))

    def append_later(self, append: Append) -> None:
        self._inner.append_later(append)
        self._recorder.events(append.events)

    async def claim(self, session_id: str, org_id: str, owner: str) -> SessionRecord:
        record = await self._inner.claim(session_id, org_id, owner)
        events = await self._inner.events(session_id, org_id, limit=record.last_seq)
        # What this process, or the recording, has not seen: the recorder leaves out what it has.
        self._recorder.events([_row(event) for event in events])
        return record

    async def _written(self, stored: asyncio.Future[bool]) -> bool:
        asked_to_end = await stored
        await asyncio.to_thread(self._recorder.flush)
        return asked_to_end

    def try_lock(self, session_id: str) -> bool:
        return self._inner.try_lock(session_id)

    def lock_holder(self, session_id: str) -> int | None:
        return self._inner.lock_holder(session_id)

    def unlock(self, session_id: str) -> None:
        self._inner.unlock(session_id)

    async def session(self, session_id: str, org_id: str) -> SessionRecord:
        return await self._inner.session(session_id, org_id)

    async def sessions(
        self, org_id: str, *, status: SessionStatus | None = None, limit: int = 100
    ) -> list[SessionRecord]:
        return await self._inner.sessions(org_id, status=status, limit=limit)

    async def events(
        self, session_id: str, org_id: str, *, after_seq: int = 0, limit: int | None = None
    ) -> list[Event]:
        return await self._inner.events(session_id, org_id, after_seq=after_seq, limit=limit)

    async def delete_session(self, session_id: str, org_id: str, tombstone: AuditEntry) -> None:
        await self._inner.delete_session(session_id, org_id, tombstone)

    async def request_cancel(self, session_id: str, org_id: str) -> None:
        await self._inner.request_cancel(session_id, org_id)

    async def cancel_requests(self) -> list[str]:
        return await self._inner.cancel_requests()

    async def approval(self, approval_id: str, org_id: str) -> ApprovalRecord:
        return await self._inner.approval(approval_id, org_id)

    async def approvals(
        self, org_id: str, *, status: ApprovalStatus | None = None, session_id: str | None = None
    ) -> list[ApprovalRecord]:
        return await self._inner.approvals(org_id, status=status, session_id=session_id)

    async def append_org_audit(
        self, org_id: str, entries: Sequence[AuditEntry], executions: Sequence[ToolExecutionRow] = ()
    ) -> None:
        await self._inner.append_org_audit(org_id, entries, executions)

    async def audit_rows(self, org_id: str, session_id: str | None) -> tuple[list[AuditRow], ChainHead]:
        return await self._inner.audit_rows(org_id, session_id)

    async def tool_executions(self, org_id: str, session_id: str | None) -> list[ToolExecutionRow]:
        return await self._inner.tool_executions(org_id, session_id)

    async def close(self) -> None:
        await self._inner.close()


def _row(event: Event) -> EventRow:
    return EventRow(event.session_id, event.seq, event.type.value, json_text.dumps(event.payload), event.created_at)
