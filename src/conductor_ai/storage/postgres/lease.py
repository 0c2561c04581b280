"""Who drives: a table within this process, and between processes a lease that a heartbeat renews."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict

from conductor_ai.errors import StorageError, StoreUnavailable
from conductor_ai.storage.postgres.readers import Readers

HEARTBEAT_S = 3.0
DEAD_AFTER_S = 15.0

# A row that nobody renews is left for a while: a clock that jumps must not bury the living.
_BEAT = b"""
WITH buried AS (DELETE FROM workers WHERE heartbeat_at < now() - interval '1 day' AND worker_id <> %(worker)s)
INSERT INTO workers (worker_id, heartbeat_at) VALUES (%(worker)s, now())
ON CONFLICT (worker_id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at
"""
_LEAVE = b"DELETE FROM workers WHERE worker_id = %(worker)s"

_logger = logging.getLogger(__name__)

# By database: stores of one process exclude each other without asking anybody.
_held: defaultdict[str, set[str]] = defaultdict(set)


class Locks:
    """Rights to drive, within this process; they belong to the store that took them."""

    def __init__(self, database: str, shown: str) -> None:
        self._held = _held[database]
        self._mine: set[str] = set()
        self._shown = shown
        self.closed = False

    def try_lock(self, session_id: str) -> bool:
        """Raises: StoreUnavailable after `close`."""
        self.require_open()
        if session_id in self._held:
            return False
        self._held.add(session_id)
        self._mine.add(session_id)
        return True

    def unlock(self, session_id: str) -> None:
        """Nothing happens where this object does not hold it."""
        if session_id in self._mine:
            self._mine.discard(session_id)
            self._held.discard(session_id)

    def require_open(self) -> None:
        if self.closed:
            raise StoreUnavailable(f"{self._shown} was closed")

    def close(self) -> None:
        self.closed = True
        self._held -= self._mine
        self._mine.clear()


class Lease:
    """Says every HEARTBEAT_S that this worker lives, in the time of the database.

    Args:
        link: One connection that is the lease's own, to the end: behind slow reads the living would look dead.
    """

    def __init__(self, link: Readers, worker_id: str) -> None:
        self._link = link
        self._worker = {"worker": worker_id}
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Raises: StorageError."""
        await self._link.ask(_BEAT, self._worker)
        self._task = asyncio.get_running_loop().create_task(self._beat(), name="conductor-store-heartbeat")

    async def end(self) -> None:
        """What this worker still owned may be claimed by others at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        try:
            await self._link.once(_LEAVE, self._worker)
        except StorageError as exc:
            _logger.warning("this worker's lease has to run out by itself: %s", exc)
        await self._link.close()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                await self._link.ask(_BEAT, self._worker)
            except StorageError as exc:
                _logger.warning("a heartbeat was not stored: %s", exc)
