"""How fast one host is asked: a few requests at a time, and a pause between their starts."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

MAX_HOSTS = 1024
"""How many hosts' next starts are remembered; those asked longest ago go first, and mostly lie in the past."""


class Clock(Protocol):
    """Seconds that only grow, and a wait for some of them."""

    def now(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class MonotonicClock:
    """The machine's own."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(slots=True)
class _Gate:
    semaphore: asyncio.Semaphore
    users: int = 0


class Gates:
    """At most `width` holders per key. A tool outlives event loops, a semaphore does not: each loop has its own."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Gate]] = WeakKeyDictionary()

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Wait for a place, first come first served, and keep it for the body."""
        gates = self._loops.setdefault(asyncio.get_running_loop(), {})
        gate = gates.setdefault(key, _Gate(asyncio.Semaphore(self._width)))
        gate.users += 1
        try:
            async with gate.semaphore:
                yield
        finally:
            gate.users -= 1
            if not gate.users:
                del gates[key]


class OneByOne:
    """Lets one task begin per round of the event loop.

    To open a connection takes the loop half a millisecond; two hundred that begin in one round would silence it for a
    tenth of a second.
    """

    def __init__(self) -> None:
        self._gates = Gates(1)

    async def begin(self) -> None:
        async with self._gates.hold(""):
            await asyncio.sleep(0)


class HostPace:
    """At most `concurrency` requests to a host at once, their starts at least `interval_s` seconds apart."""

    def __init__(self, *, concurrency: int = 4, interval_s: float = 0.1, clock: Clock | None = None) -> None:
        self._gates = Gates(concurrency)
        self._interval_s = interval_s
        self._clock = clock or MonotonicClock()
        self._next_starts: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    @asynccontextmanager
    async def turn(self, host: str, *, interval_s: float = 0.0) -> AsyncIterator[None]:
        """Wait for a turn to ask `host`; the request is made in the body. A longer `interval_s` is the host's wish."""
        async with self._gates.hold(host):
            while (wait_s := self._take_start(host, max(interval_s, self._interval_s))) > 0:
                await self._clock.sleep(wait_s)
            yield

    def _take_start(self, host: str, interval_s: float) -> float:
        """Take the start that is now, or say how long it is until one may be: whoever leaves waiting has taken none."""
        now = self._clock.now()
        with self._lock:
            wait_s = self._next_starts.get(host, now) - now
            if wait_s > 0:
                return wait_s
            self._next_starts[host] = now + interval_s
            self._next_starts.move_to_end(host)
            while len(self._next_starts) > MAX_HOSTS:
                self._next_starts.popitem(last=False)
        return 0.0
