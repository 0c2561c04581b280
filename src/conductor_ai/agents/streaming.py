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

    # One of each, so bare futures do: an asyncio.Event, which serves many, costs more for every piece.

    def __init__(self) -> None:
        self._items: deque[dict[str, Any]] = deque()
        self._loop = asyncio.get_running_loop()
        self._reader: asyncio.Future[None] | None = None
        self._driver: asyncio.Future[None] | None = None
        self._closed = False

    def put(self, item: dict[str, Any]) -> None:
        self._items.append(item)
        _wake(self._reader)

    def room(self) -> asyncio.Future[None] | None:
        """What to wait for before the next piece, where the reader is many behind: that it takes one."""
        if len(self._items) < _PIECES_AHEAD or self._closed:
            return None
        self._driver = self._loop.create_future()
        return self._driver

    def close(self) -> None:
        self._closed = True
        _wake(self._reader)
        _wake(self._driver)

    def take(self) -> dict[str, Any] | None:
        """The next item; None where none waits: see `coming`."""
        if not self._items:
            return None
        _wake(self._driver)
        return self._items.popleft()

    def coming(self) -> asyncio.Future[None] | None:
        """What to wait for before the next `take`, once that gave none; None where nothing comes any more."""
        if self._closed:
            return None
        self._reader = self._loop.create_future()
        return self._reader


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


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
        while True:
            item = feed.take()
            if item is not None:
                yield item
            elif (coming := feed.coming()) is not None:
                await coming
            else:
                break
        await task
    finally:
        feed.close()
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.debug("the drive of session %s ended: %s", log.session_id, error)
