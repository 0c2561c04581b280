"""Reads HTML as Markdown, in processes of its own that can be killed.

Measured with lxml 6.1, trafilatura 2.3 and html-to-markdown 3.21: an ordinary page of 100 kB takes 20 to 180 ms,
one of 5 MB takes seconds, and 2 MB of attributes on one element keep the parser busy for more than 20 s. None of them
can be interrupted: on the loop or in a thread each would hold up, or end, the whole server.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
import os
import socket
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

from conductor_ai.errors import ConductorError, MissingExtra
from conductor_ai.tools.web.page_model import Link, Page
from conductor_ai.tools.web.page_worker import LENGTH

__all__ = ["Link", "Page", "PageReader", "PageUnreadable"]

_MAX_WORKERS = 2
_MAX_REPLY = 64 << 20
_CHUNK = 256 << 10
_NEEDED = ("html_to_markdown", "lxml", "trafilatura")

# The same code as here, found where it is found here, but never in the current folder; and the user's own __main__ is
# not run again, as `multiprocessing` would.
_START = """
import sys
sys.path[:] = sys.argv[1:]
from conductor_ai.tools.web.page_worker import main
main()
"""
# Where an interpreter finds its own libraries, on systems that need to be told.
_PASSED_ON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class PageUnreadable(ConductorError):
    """A page that took too long, or on which the process that reads pages died. Other pages are not affected."""

    code = "page_unreadable"


class _WorkerDied(Exception):
    pass


class PageReader:
    """Reads pages, at most `max_workers` at a time; more of them wait within their own time.

    Processes start on first use. One that died, was killed or has grown large is replaced by the next read. The reader
    belongs to no event loop: it may serve several, one after another. It owns its processes and ends them when it is
    closed, is collected, or when the interpreter exits.
    """

    def __init__(self, *, max_workers: int = _MAX_WORKERS) -> None:
        self._max_workers = max_workers
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._slots: tuple[weakref.ref[asyncio.AbstractEventLoop], asyncio.Semaphore] | None = None
        self._end = weakref.finalize(self, _end_all, self._workers)

    async def read(self, body: bytes, *, url: str, charset: str | None, timeout_s: float) -> Page:
        """Read an HTML page.

        Args:
            body: The decoded body. Any bytes are a page.
            url: Its address, which relative links are relative to.
            charset: What the HTTP header says, None where it says nothing.
            timeout_s: For all of it, waiting for a free process included.
        Raises: PageUnreadable, and MissingExtra where the `web` extra is not installed.
        """
        is_our_turn = False
        try:
            async with asyncio.timeout(timeout_s) as within, self._slot():
                is_our_turn = True
                return await self._read(body, {"url": url, "charset": charset, "cpu_s": math.ceil(timeout_s)})
        except TimeoutError:
            if not within.expired():
                raise
            if not is_our_turn:
                raise PageUnreadable(f"other pages were being read for {timeout_s:.3g} s: try once more") from None
            raise PageUnreadable(
                f"it is too hard to read within {timeout_s:.3g} s: use another page or another source"
            ) from None

    def close(self) -> None:
        """End the processes, at once. A page being read is unreadable then, and so is every later one."""
        self._idle.clear()
        self._end()

    def _slot(self) -> asyncio.Semaphore:
        """A semaphore belongs to the loop it was first waited for in; the next loop gets a new one."""
        loop = asyncio.get_running_loop()
        if self._slots is None or self._slots[0]() is not loop:
            self._slots = (weakref.ref(loop), asyncio.Semaphore(self._max_workers))
        return self._slots[1]

    async def _read(self, body: bytes, request: dict[str, Any]) -> Page:
        worker = self._free_worker()
        if worker is not None:
            try:
                return await self._ask(worker, body, request)
            except _WorkerDied:
                pass  # perhaps it was dead before it was asked: this page gets a process of its own to die on
        try:
            return await self._ask(self._new_worker(), body, request)
        except _WorkerDied as exc:
            raise PageUnreadable("the process that reads pages died on it") from exc

    async def _ask(self, worker: _Worker, body: bytes, request: dict[str, Any]) -> Page:
        import orjson

        try:
            reply = orjson.loads(await worker.ask(orjson.dumps(request), body))
        except BaseException:  # a cancelled or late answer would be taken for the next one's
            worker.discard()
            raise
        if reply["worn"] or not self._end.alive:
            worker.discard()
        else:
            self._idle.append(worker)
        links = tuple(Link(text=text, url=url) for text, url in reply["links"])
        return Page(title=reply["title"], content=reply["content"], links=links)

    def _free_worker(self) -> _Worker | None:
        for worker in [worker for worker in self._workers if worker.is_gone()]:
            self._workers.discard(worker)
            if worker in self._idle:
                self._idle.remove(worker)
            worker.connection.close()
        return self._idle.pop() if self._idle else None

    def _new_worker(self) -> _Worker:
        if not self._end.alive:
            raise PageUnreadable("the reader of pages is closed")
        missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            raise MissingExtra(f"reading web pages needs {', '.join(missing)}", hint='pip install "conductor-ai[web]"')
        try:
            worker = _Worker()
        except OSError as exc:
            raise PageUnreadable(f"no process could be started to read it ({exc})") from exc
        self._workers.add(worker)
        return worker


class _Worker:
    """One process and the socket to it. It ends by itself when the socket is closed, if it is not reading."""

    def __init__(self) -> None:
        self._is_asked = False
        self.connection, theirs = socket.socketpair()
        self.connection.setblocking(False)
        with theirs:
            try:
                # A fork and exec of some milliseconds, the one thing here that the loop waits for.
                self._process = subprocess.Popen(  # noqa: S603  our own interpreter and our own code
                    [sys.executable, "-I", "-c", _START, *(path for path in sys.path if Path(path).is_absolute())],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                )
            except BaseException:
                self.connection.close()
                raise

    async def ask(self, request: bytes, body: bytes) -> bytearray:
        loop = asyncio.get_running_loop()
        self._is_asked = True
        try:
            await loop.sock_sendall(self.connection, LENGTH.pack(len(request)) + request + LENGTH.pack(len(body)))
            await loop.sock_sendall(self.connection, body)
            (size,) = LENGTH.unpack(await self._receive(LENGTH.size))
            if size > _MAX_REPLY:
                raise _WorkerDied("its answer is longer than any page")
            return await self._receive(size)
        except OSError as exc:
            raise _WorkerDied(str(exc)) from exc
        finally:
            self._is_asked = False

    async def _receive(self, size: int) -> bytearray:
        loop = asyncio.get_running_loop()
        message = bytearray()
        while len(message) < size:
            chunk = await loop.sock_recv(self.connection, min(_CHUNK, size - len(message)))
            if not chunk:
                raise _WorkerDied("it ended without an answer")
            message += chunk
        return message

    def is_gone(self) -> bool:
        """Whether it ended; reaps it. After a fork the child has no such process: its parent's counts as gone."""
        return self._process.poll() is not None

    def discard(self) -> None:
        """End it without waiting for the end: `is_gone` tells, and reaps it."""
        self.connection.close()
        self._process.kill()

    def end(self) -> None:
        """End it, and wait for the end. While an answer is awaited the socket stays open: the wait ends by it."""
        self._process.kill()
        self._process.wait()
        if not self._is_asked:
            self.connection.close()


def _end_all(workers: set[_Worker]) -> None:
    for worker in workers:
        worker.end()
