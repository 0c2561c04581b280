"""A proxy between a client and a real server that fails as it is told to: one fault for each connection, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Cut:
    """The reply breaks off after so many bytes of it, head included: the connection is reset."""

    after_bytes: int


@dataclass(frozen=True, slots=True)
class Say:
    """The proxy answers by itself; the server hears nothing."""

    status: int
    headers: tuple[str, ...] = ()
    body: bytes = b""


class LoseReply:
    """The server gets the request and does it; its reply goes nowhere."""


class Silence:
    """The proxy takes the request, and that is all."""


Fault = Cut | Say | LoseReply | Silence


class FaultProxy:
    """`faults` are used up one by one by new connections, None passes one on, and so does their
    end. `requests` holds the head of each request that came first on its connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.faults: deque[Fault | None] = deque()
        self.requests: list[str] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = self.faults.popleft() if self.faults else None
        try:
            if isinstance(fault, Say):
                await self._say(fault, reader, writer)
            elif isinstance(fault, Silence):
                await reader.read()
            else:
                await self._pass_on(fault, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # one of the two has gone, which is what happens here
        finally:
            writer.close()

    async def _say(self, fault: Say, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._head(reader)
        headers = [f"Content-Length: {len(fault.body)}", "Connection: close", *fault.headers]
        head = "\r\n".join([f"HTTP/1.1 {fault.status} Said", *headers])
        writer.write(head.encode() + _HEAD_END + fault.body)
        await writer.drain()

    async def _pass_on(
        self, fault: Cut | LoseReply | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = await self._head(reader)
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        server_writer.write(head)
        sending = asyncio.create_task(_pump(reader, server_writer))
        try:
            if isinstance(fault, LoseReply):
                await server_reader.read(1)
            else:
                await _reply(server_reader, writer, fault.after_bytes if fault else None)
        finally:
            sending.cancel()
            await asyncio.wait([sending])
            server_writer.close()
            if fault is not None:
                writer.transport.abort()

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(_HEAD_END)
        self.requests.append(head.decode("latin-1"))
        return head


async def _reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, at_most: int | None) -> None:
    left = at_most
    while left is None or left > 0:
        piece = await reader.read(4096 if left is None else min(left, 4096))
        if not piece:
            return
        writer.write(piece)
        await writer.drain()
        left = None if left is None else left - len(piece)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(4096):
        writer.write(piece)
        await writer.drain()


@asynccontextmanager
async def fault_proxy(port: int) -> AsyncIterator[FaultProxy]:
    """Before the server on this port of loopback."""
    proxy = FaultProxy(port)
    connections: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await proxy.serve(reader, writer)
        except asyncio.CancelledError:
            return  # at the end of the test; what asyncio itself started here it expects to end quietly
        finally:
            connections.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
