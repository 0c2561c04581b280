"""Which event streams are open: at most so many per key, each ended when its key works no more or the server stops."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any

from conductor_ai.errors import StorageError, TooManyRequests

if TYPE_CHECKING:
    from prometheus_client import Gauge

    from conductor_ai.conductor.keys import Keys
    from conductor_ai.schemas.orgs import Caller

MAX_PER_KEY = 20
RECHECK_S = 2.0

_logger = logging.getLogger(__name__)


class OpenStreams:
    """Without a key, an org's streams count as those of one."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._counts: Counter[tuple[str, str | None]] = Counter()
        self._ends: set[Callable[[], None]] = set()
        self._checked: dict[str | None, tuple[float, bool]] = {}
        self.closing = False

    def enter(self, caller: Caller) -> Callable[[], None]:
        """Take a place; what is returned gives it back. Raises: TooManyRequests."""
        who = (caller.org_id, caller.key_id)
        if self._counts[who] >= MAX_PER_KEY:
            raise TooManyRequests(
                f"this key has {MAX_PER_KEY} event streams open already", retry_after_s=5.0, hint="close some"
            )
        self._counts[who] += 1
        self._gauge.inc()

        def leave() -> None:
            self._counts[who] -= 1
            if not self._counts[who]:
                del self._counts[who]
            self._gauge.dec()

        return leave

    @contextmanager
    def ended_by(self, end: Callable[[], None]) -> Iterator[None]:
        """`end` is called where the server stops meanwhile."""
        self._ends.add(end)
        if self.closing:
            end()
        try:
            yield
        finally:
            self._ends.discard(end)

    def close(self) -> None:
        """End all, now and from now on: a server waits for its connections before it stops."""
        self.closing = True
        for end in tuple(self._ends):
            end()

    async def is_valid(self, caller: Caller, keys: Keys) -> bool:
        """Whether who reads an open stream would be let in still. Asked once in `RECHECK_S` seconds for each key."""
        key_id = caller.key_id
        until, valid = self._checked.get(key_id, (0.0, True))
        if until > monotonic():
            return valid
        try:
            valid = await keys.admits(caller)
        except StorageError as exc:
            # Nothing can be read now, so nothing leaks; what cannot be told is told by the next look.
            _logger.warning("the key of an open event stream could not be looked up: %s", exc)
            return True
        self._checked = {key: kept for key, kept in self._checked.items() if kept[0] > monotonic()}
        self._checked[key_id] = (monotonic() + RECHECK_S / 2, valid)
        return valid


@contextmanager
def closed_by_signals(close: Callable[[], None]) -> Iterator[None]:
    """Call `close` in this loop as soon as the process is asked to stop, before whoever else handles the signal.

    A server tells its app of its end only after the last connection, and an event stream does not end by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    former: dict[signal.Signals, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if callable(handler):
            former[number] = handler
            signal.signal(number, _first(lambda: loop.call_soon_threadsafe(close), handler))
    ours = {number: signal.getsignal(number) for number in former}
    try:
        yield
    finally:
        for number, handler in former.items():
            if signal.getsignal(number) is ours[number]:
                signal.signal(number, handler)


def _first(act: Callable[[], object], handler: Callable[[int, FrameType | None], Any]) -> Callable[..., Any]:
    def handle(number: int, frame: FrameType | None) -> Any:
        act()
        return handler(number, frame)

    return handle
