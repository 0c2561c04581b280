"""`HotState` within one process."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any
from weakref import WeakSet

from conductor_ai.schemas import json_text

MAX_BEHIND = 1000

_PURGE_FROM = 64


class MemoryHotState:
    """Items and snapshots are kept as JSON text, so that nobody shares an object with anybody.

    `clock` counts seconds, monotonic.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._closed = False
        self._subscriptions: dict[str, WeakSet[_Subscription]] = {}
        self._cancelled: set[str] = set()
        self._snapshots: dict[str, tuple[float, str]] = {}
        self._purge_at = _PURGE_FROM

    def publish(self, session_id: str, item: dict[str, Any]) -> None:
        if self.watched(session_id):
            text = json_text.dumps(item)
            for subscription in self._subscriptions[session_id]:
                subscription.put(text)

    def watched(self, session_id: str) -> bool:
        subscriptions = self._subscriptions.get(session_id)
        if subscriptions:
            return not self._closed
        if subscriptions is not None:  # the last one was dropped without being closed
            del self._subscriptions[session_id]
        return False

    def subscribe(self, session_id: str) -> AsyncIterator[dict[str, Any]]:
        """It is subscribed as soon as this returns, and no longer once the iterator is dropped."""
        subscription = _Subscription(closed=self._closed)
        self._subscriptions.setdefault(session_id, WeakSet()).add(subscription)
        return subscription

    async def request_cancel(self, session_id: str) -> None:
        self._cancelled.add(session_id)

    async def cancel_requested(self, session_id: str) -> bool:
        return session_id in self._cancelled

    async def clear_cancel(self, session_id: str) -> None:
        self._cancelled.discard(session_id)

    async def put_snapshot(self, session_id: str, view: dict[str, Any], *, ttl_s: float = 3600.0) -> None:
        now = self._clock()
        self._snapshots[session_id] = (now + ttl_s, json_text.dumps(view))
        if len(self._snapshots) >= self._purge_at:
            self._snapshots = {key: kept for key, kept in self._snapshots.items() if kept[0] > now}
            self._purge_at = max(_PURGE_FROM, 2 * len(self._snapshots))

    async def snapshot(self, session_id: str) -> dict[str, Any] | None:
        expires_at, text = self._snapshots.get(session_id, (0.0, ""))
        if not text or expires_at <= self._clock():
            self._snapshots.pop(session_id, None)
            return None
        view: dict[str, Any] = json_text.loads(text)
        return view

    async def close(self) -> None:
        """Subscribers get what waits for them, then their iteration ends."""
        self._closed = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.end()


class _Subscription(AsyncIterator[dict[str, Any]]):
    def __init__(self, *, closed: bool) -> None:
        self._waiting: deque[str] = deque(maxlen=MAX_BEHIND)  # drops the oldest by itself
        self._closed = closed
        self._changed = asyncio.Event()

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
