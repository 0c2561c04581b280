"""`HotState` within one process."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from conductor_ai.schemas import json_text
from conductor_ai.storage.counters import Counters

MAX_BEHIND = 1000
MAX_SNAPSHOT_CHARS = 1_000_000
"""A session whose view is longer is read from its log."""

_MAX_SNAPSHOTS_CHARS = 64_000_000
_CANCEL_TTL_S = 3600.0
_PURGE_FROM = 64


class MemoryHotState:
    """Items and snapshots are kept as JSON text, so that nobody shares an object with anybody.

    `clock` counts seconds, monotonic; the counters go by the clock of the system.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._closed = False
        self._audiences: WeakValueDictionary[str, _Audience] = WeakValueDictionary()
        self._cancelled: dict[str, float] = {}
        self._told_of_cancel: list[Callable[[str], None]] = []
        self._snapshots: dict[str, tuple[float, str]] = {}
        self._snapshots_chars = 0
        self._purge_at = _PURGE_FROM
        self._counters: Counters | None = None

    def publish(self, session_id: str, item: dict[str, Any]) -> None:
        if self.watched(session_id):
            self.publish_text(session_id, json_text.dumps(item))

    def publish_text(self, session_id: str, text: str) -> None:
        """As `publish`, for an item that is JSON text already."""
        audience = self._audiences.get(session_id)
        if audience is not None and not self._closed:
            for subscription in audience.subscriptions:
                subscription.put(text)

    def watched(self, session_id: str) -> bool:
        return session_id in self._audiences and not self._closed

    def subscribe(self, session_id: str) -> AsyncIterator[dict[str, Any]]:
        """It is subscribed as soon as this returns, and no longer once the iterator is dropped."""
        audience = self._audiences.get(session_id)
        if audience is None:
            audience = self._audiences[session_id] = _Audience()
        return _Subscription(audience, closed=self._closed)

    async def request_cancel(self, session_id: str) -> None:
        now = self._clock()
        self._cancelled = {key: until for key, until in self._cancelled.items() if until > now}
        self._cancelled[session_id] = now + _CANCEL_TTL_S
        self.tell_of_cancel(session_id)

    async def cancel_requested(self, session_id: str) -> bool:
        return self._cancelled.get(session_id, 0.0) > self._clock()

    async def clear_cancel(self, session_id: str) -> None:
        self._cancelled.pop(session_id, None)

    def on_cancel(self, told: Callable[[str], None]) -> None:
        self._told_of_cancel.append(told)

    def tell_of_cancel(self, session_id: str) -> None:
        """Call whoever registered with `on_cancel`, without remembering the request."""
        for told in self._told_of_cancel:
            told(session_id)

    def forget_cancels(self) -> None:
        """Forget every request."""
        self._cancelled.clear()

    async def put_snapshot(self, session_id: str, view: dict[str, Any], *, ttl_s: float = 3600.0) -> None:
        text = json_text.dumps(view)
        self._drop_snapshot(session_id)
        if len(text) > MAX_SNAPSHOT_CHARS:
            return
        now = self._clock()
        self._snapshots[session_id] = (now + ttl_s, text)
        self._snapshots_chars += len(text)
        if len(self._snapshots) >= self._purge_at:
            for key in [key for key, (expires_at, _) in self._snapshots.items() if expires_at <= now]:
                self._drop_snapshot(key)
            self._purge_at = max(_PURGE_FROM, 2 * len(self._snapshots))
        while self._snapshots_chars > _MAX_SNAPSHOTS_CHARS:
            self._drop_snapshot(next(iter(self._snapshots)))  # the one that was put first

    async def snapshot(self, session_id: str) -> dict[str, Any] | None:
        expires_at, text = self._snapshots.get(session_id, (0.0, ""))
        if not text or expires_at <= self._clock():
            self._drop_snapshot(session_id)
            return None
        view: dict[str, Any] = json_text.loads(text)
        return view

    def _drop_snapshot(self, session_id: str) -> None:
        _, text = self._snapshots.pop(session_id, (0.0, ""))
        self._snapshots_chars -= len(text)

    async def take(self, key: str, *, limit: int, window_s: int) -> float | None:
        """Raises: MissingExtra."""
        if self._counters is None:
            self._counters = Counters.in_process()
        return await self._counters.take(key, limit=limit, window_s=window_s)

    async def problem(self) -> str | None:
        return None

    async def close(self) -> None:
        """Subscribers get what waits for them, then their iteration ends."""
        self._closed = True
        for audience in list(self._audiences.values()):
            for subscription in audience.subscriptions:
                subscription.end()
        if self._counters is not None:
            await self._counters.close()


class _Audience:
    """The subscriptions to one session. They hold it, so that it goes with the last of them."""

    def __init__(self) -> None:
        self.subscriptions: WeakSet[_Subscription] = WeakSet()


class _Subscription(AsyncIterator[dict[str, Any]]):
    def __init__(self, audience: _Audience, *, closed: bool) -> None:
        self._audience = audience
        self._waiting: deque[str] = deque(maxlen=MAX_BEHIND)  # drops the oldest by itself
        self._closed = closed
        self._changed = asyncio.Event()
        audience.subscriptions.add(self)

    def put(self, text: str) -> None:
        self._waiting.append(text)
        self._changed.set()

    def end(self) -> None:
        self._closed = True
        self._changed.set()

    async def __anext__(self) -> dict[str, Any]:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        item: dict[str, Any] = json_text.loads(self._waiting.popleft())
        return item
