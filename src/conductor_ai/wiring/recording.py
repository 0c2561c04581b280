"""`--record`: the store and the providers of a runtime whose sessions are recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from conductor_ai.agents.exchange_recorder import DescribeModels, ExchangeRecorder
from conductor_ai.model_catalog import Catalog, ModelInfo
from conductor_ai.schemas import json_text
from conductor_ai.schemas.events import Event
from conductor_ai.schemas.session import SessionRecord, SessionStatus
from conductor_ai.storage.base import Append, EventRow, Store

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

    The append that stops a session is done once its recording is in its file. All else is the inner store's.
    """

    def __init__(self, inner: Store, recorder: ExchangeRecorder) -> None:
        self._inner = inner
        self._recorder = recorder

    @classmethod
    def over(cls, inner: Store, recorder: ExchangeRecorder) -> Store:
        """What takes the place of `inner`."""
        return cast("Store", cls(inner, recorder))  # `__getattr__` gives what no type checker sees

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

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


def _row(event: Event) -> EventRow:
    return EventRow(event.session_id, event.seq, event.type.value, json_text.dumps(event.payload), event.created_at)
