"""How long a streamed answer is waited for: for its next bytes, and for it to get on."""

from __future__ import annotations

import asyncio

import aiohttp


class StreamClock:
    """Reads a reply and bounds the waits in between. Time counts only while `read` waits for the service: a reader who
    takes his time uses none of it up.

    Two limits share one timer, which is not moved when bytes come: that would cost more than reading them. It looks,
    when it goes off, how far the limits have moved meanwhile.

    Args:
        idle_s: How long no byte may come.
        progress_s: How long the answer may not get on, whatever bytes come; see `got_on`.
    """

    __slots__ = ("_content", "_idle_s", "_left_s", "_loop", "_progress_s", "_since", "_timer", "size", "stalled_s")

    def __init__(self, content: aiohttp.StreamReader, idle_s: float, progress_s: float) -> None:
        self.size = 0
        """The bytes read so far."""
        self.stalled_s = 0.0
        """The limit that ended the wait, once one has."""
        self._content = content
        self._idle_s = idle_s
        self._progress_s = self._left_s = progress_s
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def read(self) -> bytes:
        """What has come, at least a byte; b"" at the end. Raises: SocketTimeoutError at a limit, else as aiohttp."""
        now = self._loop.time
        since = self._since = now()
        if self._timer is None:
            self._timer = self._loop.call_at(since + min(self._idle_s, self._left_s), self._look)
        chunk = await self._content.readany()
        self._since = None
        self._left_s -= now() - since
        self.size += len(chunk)
        return chunk

    def got_on(self) -> None:
        """A piece of the answer has come."""
        self._left_s = self._progress_s

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        content = self._content
        if self._since is None or content.total_bytes > self.size or content.is_eof():
            return  # nobody waits, or what came is about to be read: the next wait sets the timer
        limit_s = min(self._idle_s, self._left_s)
        if self._loop.time() < self._since + limit_s:
            self._timer = self._loop.call_at(self._since + limit_s, self._look)
            return
        self.stalled_s = self._idle_s if self._idle_s <= self._left_s else self._progress_s
        content.set_exception(aiohttp.SocketTimeoutError())
