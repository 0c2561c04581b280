"""How a driver learns that somebody else wants its session to end: one question a second for all sessions.

An append brings the answer too, but a session that waits for a model or a tool appends nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from conductor_ai.errors import StorageError
from conductor_ai.storage.base import SessionStore

INTERVAL_S = 1.0
SOMEBODY = "another process"
"""Who asked for an end, where the store does not say."""

_logger = logging.getLogger(__name__)


class CancelWatch:
    """Calls `stop` of each driven session whose cancellation was requested, with who asked for it. Asks only while
    something is driven."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._stops: dict[str, Callable[[str], None]] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, session_id: str, stop: Callable[[str], None]) -> None:
        self._stops[session_id] = stop
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._ask())

    def remove(self, session_id: str) -> None:
        self._stops.pop(session_id, None)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _ask(self) -> None:
        while self._stops:
            await asyncio.sleep(INTERVAL_S)
            try:
                wanted = await self._store.cancel_requests() if self._stops else []
            except StorageError as exc:  # whoever drives meets it with its next append
                _logger.warning("cancel requests could not be read: %s", exc)
                continue
            for session_id, by in wanted:
                stop = self._stops.get(session_id)
                if stop is not None:
                    stop(by or SOMEBODY)
