"""How often a key was used lately: what rates per organisation are held by.

The counting is that of the library `limits`, imported on first use: a sliding window made of two counters, where the
uses of the window before count by the share of it that still lies within the last `window_s` seconds. Its exact window
keeps a time per use, and in one process costs a hop to a thread per key with every use: 10 ms CPU at 100 keys, against
0.04 ms. In Redis it would also trust the clocks of all machines; this one goes by the server's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from conductor_ai.errors import MissingExtra

if TYPE_CHECKING:
    from limits.aio.storage import MemoryStorage, RedisStorage
    from limits.aio.strategies import SlidingWindowCounterRateLimiter
    from redis.asyncio import ConnectionPool

_PREFIX = "conductor:uses"
_MARGIN_S = 0.01
"""Redis counts in milliseconds, and a window has ended only after its last one."""


class Counters:
    """Counters in one place: this process, or a Redis that several processes share."""

    def __init__(self, storage: MemoryStorage | RedisStorage, limiter: SlidingWindowCounterRateLimiter) -> None:
        self._storage = storage
        self._limiter = limiter

    @classmethod
    def in_process(cls) -> Counters:
        """Raises: MissingExtra."""
        try:
            from limits.aio.storage import MemoryStorage
            from limits.aio.strategies import SlidingWindowCounterRateLimiter
        except ModuleNotFoundError as exc:
            raise _missing() from exc
        storage = MemoryStorage()
        return cls(storage, SlidingWindowCounterRateLimiter(storage))

    @classmethod
    def in_redis(cls, pool: ConnectionPool) -> Counters:
        """Connections are those of `pool`, whose owner closes them. Raises: MissingExtra."""
        try:
            from limits.aio.storage import RedisStorage
            from limits.aio.strategies import SlidingWindowCounterRateLimiter
        except ModuleNotFoundError as exc:
            raise _missing() from exc
        # The address is in the pool; of what is written here the library reads the kind of server only.
        storage = RedisStorage(
            "async+redis://", implementation="redispy", key_prefix=_PREFIX, connection_pool=cast("Any", pool)
        )
        return cls(storage, SlidingWindowCounterRateLimiter(storage))

    async def take(self, key: str, *, limit: int, window_s: int) -> float | None:
        """As `HotState.take`. Raises: what the Redis client raises."""
        from limits import RateLimitItemPerSecond

        if limit < 1:
            return float(window_s)
        item = RateLimitItemPerSecond(limit, window_s)
        if await self._limiter.hit(item, key):
            return None
        before, before_ttl_s, now, now_ttl_s = await self._storage.get_sliding_window(item.key_for(key), window_s)
        # A window's counter is kept for two windows. The library's own answer would be 0 in a window's first moment.
        to_wait_s = now_ttl_s - window_s if now >= limit else before_ttl_s - (limit - now) * window_s / max(1, before)
        return min(float(window_s), max(0.0, to_wait_s) + _MARGIN_S)

    async def close(self) -> None:
        """Wait for the library's own task, which forgets expired keys."""
        timer: asyncio.Task[None] | None = getattr(self._storage, "timer", None)
        if timer is not None:
            await asyncio.gather(timer, return_exceptions=True)


def _missing() -> MissingExtra:
    return MissingExtra("limits per organisation need the library limits", hint='pip install "conductor-ai[server]"')
