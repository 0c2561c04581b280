"""Pipes of a run, read and written by the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress

_PIECE = 65536


async def until_readable(fd: int) -> None:
    """Of a pidfd: until its process has ended."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def read(fd: int) -> AsyncIterator[bytes]:
    """What comes out of a pipe that does not block, piece by piece, up to its end."""
    while True:
        try:
            piece = os.read(fd, _PIECE)
        except BlockingIOError:
            await until_readable(fd)
            continue
        if not piece:
            return
        yield piece


async def write_all(fd: int, content: bytes) -> None:
    """Write to a pipe that does not block, and close it; what nobody reads any more is dropped."""
    try:
        rest = memoryview(content)
        with suppress(BrokenPipeError):
            while rest:
                try:
                    rest = rest[os.write(fd, rest) :]
                except BlockingIOError:
                    await _until_writable(fd)
    finally:
        os.close(fd)


async def _until_writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def holding(content: bytes) -> int:
    """The end of a pipe from which the content, of at most a pipe's size, can be read. The caller closes it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        if os.write(writing, content) != len(content):
            raise BlockingIOError(f"{len(content)} bytes do not fit into a pipe")
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return reading


class Opened:
    """File descriptors that are closed together, each once."""

    def __init__(self) -> None:
        self._fds: set[int] = set()

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self._fds.update(ends)
        return ends

    def keep(self, fd: int) -> int:
        self._fds.add(fd)
        return fd

    def release(self, fd: int) -> int:
        """From here on somebody else closes it."""
        self._fds.remove(fd)
        return fd

    def close(self, *fds: int) -> None:
        """Close these, or all."""
        for fd in fds or tuple(self._fds):
            self._fds.remove(fd)
            os.close(fd)
