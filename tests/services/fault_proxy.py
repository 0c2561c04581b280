"""A TCP proxy that breaks the way to a server on purpose: cuts, resets, delays, stalls, refuses, and heals.

It runs in a thread with an event loop of its own, so a test whose loop is busy, or blocked, does not slow it down. Its
methods may be called from any thread; when they return, it has happened.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tests.services.processes import HOST, free_port

T = TypeVar("T")
_CHUNK = 64 * 1024
_CALL_S = 30
_NO_LINGER = struct.pack("ii", 1, 0)  # closing sends a reset at once, and nothing that still waits


class FaultProxy:
    """Passes connections on to a server, until told otherwise. `heal` ends every fault; open connections live on."""

    def __init__(self, url: str) -> None:
        """`url` is the address of the server behind, such as a `postgresql://` or `redis://` one, with its port."""
        parts = urlsplit(url)
        assert parts.hostname is not None and parts.port is not None, "the address needs a host and a port"
        self._behind = (parts.hostname, parts.port)
        self._behind_url = parts
        self.port = free_port()
        self.accepted = 0
        """Connections that were passed on since the start."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._delay_s = 0.0
        self._reset_after: int | None = None
        self._flows = asyncio.Event()

    @property
    def url(self) -> str:
        """The address of the server, by way of this proxy."""
        credentials, at, _ = self._behind_url.netloc.rpartition("@")
        return self._behind_url._replace(netloc=f"{credentials}{at}{HOST}:{self.port}").geturl()

    @property
    def open(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    def start(self) -> None:
        """Begin to listen; `close` ends it."""
        self._thread.start()
        self.heal()

    def close(self) -> None:
        """Stop listening, end every connection and the thread."""
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_S)
        self._loop.close()

    def cut(self, *, reset: bool = False) -> int:
        """End every open connection on both sides, in order (FIN) or with a reset (RST); answers how many."""
        return self._call(self._cut(reset=reset))

    def refuse(self) -> int:
        """Let nobody in, and reset who is in; answers how many there were."""
        return self._call(self._refuse())

    def delay(self, seconds: float) -> None:
        """Hold back everything that passes, either way, for so long."""

        async def change() -> None:
            self._delay_s = seconds

        self._call(change())

    def stall(self) -> None:
        """Pass nothing on, either way, and close nothing: what a dead network looks like."""

        async def change() -> None:
            self._flows.clear()

        self._call(change())

    def reset_after(self, answered_bytes: int) -> None:
        """Reset each connection, open or new, after so many more bytes that the server answers on it."""

        async def change() -> None:
            self._reset_after = answered_bytes
            for connection in self._connections:
                connection.answers_left = answered_bytes

        self._call(change())

    def heal(self) -> None:
        """End every fault. What was held back goes on its way."""
        self._call(self._heal())

    async def _heal(self) -> None:
        self._delay_s, self._reset_after = 0.0, None
        for connection in self._connections:
            connection.answers_left = None
        self._flows.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def _refuse(self) -> int:
        if self._server is not None:
            # What was accepted is attached first: on Python 3.11 a server that was closed before leaks it.
            for listening in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listening.fileno())
            await asyncio.sleep(0)
            self._server.close()
            self._server = None
        return await self._cut(reset=True)

    async def _cut(self, *, reset: bool) -> int:
        ended = list(self._connections)
        for connection in ended:
            connection.reset = reset
            connection.task.cancel()
        await asyncio.gather(*(connection.task for connection in ended), return_exceptions=True)
        return len(ended)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer, self._pause, self._reset_after)
        self._connections.add(connection)
        self.accepted += 1
        connection.task = self._loop.create_task(connection.run(*self._behind))
        connection.task.add_done_callback(lambda _: self._ended(connection))

    def _ended(self, connection: _Connection) -> None:
        connection.end()
        self._connections.discard(connection)

    async def _pause(self) -> None:
        """What each chunk waits for on its way."""
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        await self._flows.wait()

    def _call(self, change: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(change, self._loop).result(_CALL_S)


class _Connection:
    """One connection: the client's half, the server's half, and what passes between them."""

    task: asyncio.Task[None]

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pause: Callable[[], Coroutine[Any, Any, None]],
        answers_left: int | None,
    ) -> None:
        self.reset = False
        self.answers_left = answers_left
        self._pause = pause
        self._reader = reader
        self._halves = [writer]

    async def run(self, host: str, port: int) -> None:
        try:
            behind, to_behind = await asyncio.open_connection(host, port)
            self._halves.append(to_behind)
            async with asyncio.TaskGroup() as both_ways:
                both_ways.create_task(self._pass(self._reader, to_behind, answers=False))
                both_ways.create_task(self._pass(behind, self._halves[0], answers=True))
            for half in self._halves:  # both sides have said all: it goes out before the end
                half.close()
                await half.wait_closed()
        except* OSError:  # the server is away, or one side ended with a reset: the other side sees the same
            self.reset = True

    def end(self) -> None:
        """End both sides at once, in the way that `reset` says."""
        for half in self._halves:
            end: socket.socket = half.get_extra_info("socket")
            if self.reset and end.fileno() != -1:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            half.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, answers: bool) -> None:
        while chunk := await source.read(_CHUNK):
            await self._pause()
            if answers and self.answers_left is not None:
                chunk, self.answers_left = chunk[: self.answers_left], self.answers_left - len(chunk)
            target.write(chunk)
            await target.drain()
            if answers and self.answers_left is not None and self.answers_left <= 0:
                raise ConnectionResetError
        await self._pause()
        target.write_eof()
