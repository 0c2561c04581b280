"""`HotState` that several processes share through Redis.

Subscribers of this process are served from its own memory, and so is everything else while Redis is away: then each
process has its own signals and counters, and no snapshots. Nothing is raised and nothing is waited for longer than a
second; a Redis that comes back is used again within two.

Keys: `conductor:cancel:<session>` and `conductor:snapshot:<session>` for an hour, `conductor:uses:...` for two windows.
Channels: `conductor:<database>:control` and `conductor:<database>:live:<session>` (`redis_relay`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from conductor_ai.errors import MissingExtra, StoreUnavailable
from conductor_ai.schemas import json_text
from conductor_ai.storage.counters import Counters
from conductor_ai.storage.hot_memory import MAX_SNAPSHOT_CHARS, MemoryHotState

if TYPE_CHECKING:
    from conductor_ai.storage.redis_link import RedisLink
    from conductor_ai.storage.redis_relay import RedisRelay

_CANCEL_TTL_S = 3600

_Answer = TypeVar("_Answer")


class RedisHotState:
    """Made by `open`; `close` ends its tasks and connections."""

    def __init__(self, link: RedisLink, relay: RedisRelay, local: MemoryHotState) -> None:
        self._link = link
        self._relay = relay
        self._local = local
        self._counters: Counters | None = None
        self._to_clear: set[str] = set()

    @classmethod
    async def open(cls, url: str) -> RedisHotState:
        """Connect within two seconds, or go on without Redis until it is there.

        Raises: MissingExtra; InvalidInput where `url` names no Redis.
        """
        try:
            from conductor_ai.storage.redis_link import RedisLink
            from conductor_ai.storage.redis_relay import RedisRelay
        except ModuleNotFoundError as exc:
            if exc.name != "redis":
                raise
            raise MissingExtra("REDIS_URL needs the library redis", hint='pip install "conductor-ai[redis]"') from exc
        link, local = RedisLink(url), MemoryHotState()
        relay = RedisRelay(link, local)
        await relay.start()
        return cls(link, relay, local)

    def publish(self, session_id: str, item: dict[str, Any]) -> None:
        here, elsewhere = self._local.watched(session_id), self._relay.heard_elsewhere(session_id)
        if here or elsewhere:
            text = json_text.dumps(item)
            self._local.publish_text(session_id, text)
            if elsewhere:
                self._relay.send(session_id, text, lasting="seq" in item)

    def watched(self, session_id: str) -> bool:
        return self._local.watched(session_id) or self._relay.heard_elsewhere(session_id)

    def subscribe(self, session_id: str) -> AsyncIterator[dict[str, Any]]:
        """As in memory; items of other processes come from a moment later on, one trip to Redis."""
        subscription = self._local.subscribe(session_id)
        self._relay.listen(session_id)
        return subscription

    async def request_cancel(self, session_id: str) -> None:
        await self._local.request_cancel(session_id)
        self._to_clear.discard(session_id)
        pipeline = self._link.pipeline()
        pipeline.set(self._cancel_key(session_id), "1", ex=_CANCEL_TTL_S)
        pipeline.publish(*self._relay.cancel_message(session_id))
        if await self._try(pipeline.execute) is not None:
            await self._local.clear_cancel(session_id)  # it is in Redis, where everybody may clear it

    async def cancel_requested(self, session_id: str) -> bool:
        if await self._local.cancel_requested(session_id):
            return True
        if session_id in self._to_clear:
            return False
        return bool(await self._try(lambda: self._link.client.exists(self._cancel_key(session_id))))

    async def clear_cancel(self, session_id: str) -> None:
        await self._local.clear_cancel(session_id)
        self._to_clear.add(session_id)
        cleared = list(self._to_clear)  # what could not be cleared before goes along
        keys = [self._cancel_key(one) for one in cleared]
        if await self._try(lambda: self._link.client.delete(*keys)) is not None:
            self._to_clear.difference_update(cleared)

    def on_cancel(self, told: Callable[[str], None]) -> None:
        self._local.on_cancel(told)

    async def put_snapshot(self, session_id: str, view: dict[str, Any], *, ttl_s: float = 3600.0) -> None:
        text, key = json_text.dumps(view), self._link.key("snapshot", session_id)
        if len(text) > MAX_SNAPSHOT_CHARS:
            await self._try(lambda: self._link.client.delete(key))
        else:
            await self._try(lambda: self._link.client.set(key, text, px=max(1, round(ttl_s * 1000))))

    async def snapshot(self, session_id: str) -> dict[str, Any] | None:
        text = await self._try(lambda: self._link.client.get(self._link.key("snapshot", session_id)))
        if text is None:
            return None
        try:
            view = json_text.loads(text)
        except ValueError:  # written by somebody else: the log has it all
            return None
        return view if isinstance(view, dict) else None

    async def take(self, key: str, *, limit: int, window_s: int) -> float | None:
        """Raises: MissingExtra."""
        if self._counters is None:
            self._counters = Counters.in_redis(self._link.pool)
        counters = self._counters
        try:
            return await self._link.ask(lambda: counters.take(key, limit=limit, window_s=window_s))
        except StoreUnavailable:
            return await self._local.take(key, limit=limit, window_s=window_s)

    async def problem(self) -> str | None:
        """Never the address, nor a word of the server's."""
        return await self._link.problem()

    async def close(self) -> None:
        """Subscribers get what waits for them; what waits to be sent has a second. Then nothing is left open."""
        await self._local.close()
        await self._relay.close()
        await self._link.close()

    def _cancel_key(self, session_id: str) -> str:
        return self._link.key("cancel", session_id)

    async def _try(self, question: Callable[[], Awaitable[_Answer]]) -> _Answer | None:
        """None where Redis cannot be asked: whoever asks does without."""
        try:
            return await self._link.ask(question)
        except StoreUnavailable:
            return None
