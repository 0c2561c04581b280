"""A few threads that read, each with a connection while it does."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from conductor_ai.errors import StoreUnavailable
from conductor_ai.storage.sqlite.database import connect
from conductor_ai.storage.sqlite.faults import faults

if TYPE_CHECKING:
    from conductor_ai.storage.sqlite.lists import Lists

T = TypeVar("T")

_THREADS = 4
_CACHE_KIB = 1024


class Readers:
    """Connections are opened when first needed and closed by `close`."""

    def __init__(self, path: Path, *, busy_timeout_s: float) -> None:
        self._path = path
        self._closed = False
        self._busy_timeout_s = busy_timeout_s
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="conductor-store-reader")
        self._idle: deque[sqlite3.Connection] = deque()
        self._lists: Lists | None = None
        self._lists_guard = threading.Lock()

    async def run(self, work: Callable[[], T]) -> T:
        """Do blocking work in one of the threads. Raises: StorageError for what SQLite or the file system raise,
        StoreUnavailable after `close`."""
        if self._closed:
            raise StoreUnavailable(f"{self._path} was closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._translated, work)

    async def read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        return await self.run(lambda: self._with_connection(read))

    async def list(self, read: Callable[[Lists], T]) -> T:
        return await self.run(lambda: read(self._open_lists()))

    async def close(self) -> None:
        """Finish what is being read, then let go of connections and threads."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        while self._idle:
            self._idle.pop().close()
        if self._lists is not None:
            self._lists.close()

    def _translated(self, work: Callable[[], T]) -> T:
        with faults(self._path):
            return work()

    def _with_connection(self, read: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            return read(connection)
        finally:
            self._idle.append(connection)

    def _connect(self) -> sqlite3.Connection:
        return connect(self._path, busy_timeout_s=self._busy_timeout_s, cache_kib=_CACHE_KIB)

    def _open_lists(self) -> Lists:
        with self._lists_guard:
            if self._lists is None:
                # Half a second of CPU on a slow machine, which a run or a resume never pays.
                from conductor_ai.storage.sqlite.lists import Lists

                self._lists = Lists(self._connect, size=_THREADS)
            return self._lists
