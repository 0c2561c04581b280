"""A session as its one reader sees it: every event, and every piece of an answer as it comes."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from conductor_ai.agents.session_log import SessionLog

_PIECES_AHEAD = 64
_logger = logging.getLogger(__name__)


class Feed:
    """Between a session's driver and its reader. Events never wait for the reader; the next piece of an answer does."""

    def __init__(self) -> None:
        self._items: deque[dict[str, Any]] = deque()
        self._came = asyncio.Event()
        self._taken = asyncio.Event()
        self._closed = False

    def put(self, item: dict[str, Any]) -> None:
        self._items.append(item)
        self._came.set()

    async def room(self) -> None:
        """Return once the reader is no more than some pieces behind."""
        while len(self._items) >= _PIECES_AHEAD and not self._closed:
            self._taken.clear()
            await self._taken.wait()

    def close(self) -> None:
        self._closed = True
        self._came.set()
        self._taken.set()

    async def next(self) -> dict[str, Any] | None:
        """The next item; None once it is closed and empty."""
        while not self._items:
            if self._closed:
                return None
            self._came.clear()
            await self._came.wait()
        self._taken.set()
        return self._items.popleft()


async def follow(log: SessionLog, driving: Callable[[], Coroutine[Any, Any, object]]) -> AsyncGenerator[dict[str, Any]]:
    """What happens in the session of `log` while `driving` drives it, from the log's first event on.

    A reader that leaves early (`aclose`) interrupts the session: it is paused then. Raises: what `driving` raises.
    """
    feed, stored = Feed(), log.state.seq
    log.on_event, log.on_piece = feed.put, feed.room
    task = asyncio.create_task(driving())
    task.add_done_callback(lambda _: feed.close())
    try:
        await asyncio.sleep(0)  # the drive has begun before anybody can leave: so it can be interrupted, and pause
        for event in await log.stored(0, stored):
            yield event.to_dict()
        while (item := await feed.next()) is not None:
            yield item
        await task
    finally:
        feed.close()
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.debug("the drive of session %s ended: %s", log.session_id, error)
