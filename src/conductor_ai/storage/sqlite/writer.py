"""The one thread that writes: takes what waits, commits it as one transaction, tells the loop once."""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from conductor_ai.errors import ConductorError, StorageError, StoreUnavailable
from conductor_ai.storage.base import Append
from conductor_ai.storage.sqlite.append import store_appends
from conductor_ai.storage.sqlite.database import transaction
from conductor_ai.storage.sqlite.faults import concerns_all, translated

T = TypeVar("T")
Change = Callable[[sqlite3.Connection], Any]
_Handed = tuple[Append | Change, "asyncio.Future[Any] | None"]

_MAX_BATCH = 256

_logger = logging.getLogger(__name__)


class Writer:
    """Owns the writing connection and closes it.

    The thread is a daemon: a process that forgets to close still ends, and loses only what it never awaited.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._path = path
        self._loop = loop
        self._queue: queue.SimpleQueue[_Handed | None] = queue.SimpleQueue()
        self._closed = False
        # Sessions whose newest append could not be stored, and why: what follows it fails for the same reason.
        self._broken: dict[str, StorageError] = {}
        self._thread = threading.Thread(target=self._run, name="conductor-store-writer", daemon=True)
        self._thread.start()

    def append(self, append: Append) -> asyncio.Future[bool]:
        return self._hand(append)

    def append_later(self, append: Append) -> None:
        """Without an answer the loop is not woken: at one session that is a third of what a commit costs."""
        if self._closed:  # the next append is told; where none follows, the log is all there is
            _logger.error("%s was closed: %s of session %s not stored", self._path, _named(append), append.session_id)
        else:
            self._queue.put((append, None))

    def change(self, change: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Run `change` in a transaction of its own, after all that was handed over before."""
        return self._hand(change)

    def _hand(self, work: Append | Change) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._closed:
            future.set_exception(StoreUnavailable(f"{self._path} was closed"))
        else:
            self._queue.put((work, future))
        return future

    def stop(self) -> None:
        """Take nothing more. On the loop's thread, as `append` and `change`: nothing may slip in behind the mark."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)

    def join(self) -> None:
        """Return once everything handed over is stored and the file is closed. Blocks: call it in a worker thread."""
        self._thread.join()

    def _run(self) -> None:
        last = False
        while not last:
            # What arrives while this batch commits is the next batch: nobody waits for a window to fill.
            handed = [self._queue.get()]
            handed += [self._queue.get() for _ in range(min(self._queue.qsize(), _MAX_BATCH - 1))]
            last = handed[-1] is None
            work = [item for item in handed if item is not None]
            outcomes = self._outcomes([item[0] for item in work])
            answers = [(one[1], outcome) for one, outcome in zip(work, outcomes, strict=True) if one[1] is not None]
            if answers:
                self._tell(answers)
        self._connection.close()

    def _outcomes(self, work: list[Append | Change]) -> list[Any]:
        outcomes: list[Any] = []
        waiting: list[Append] = []
        for item in work:
            if isinstance(item, Append):
                waiting.append(item)
                continue
            outcomes += self._stored(waiting)
            waiting = []
            outcomes.append(self._changed(item))
        return outcomes + self._stored(waiting)

    def _stored(self, appends: list[Append]) -> list[bool | ConductorError]:
        """One transaction for all; where it fails, one for each, so that a bad append harms nobody else."""
        if not appends:
            return []
        try:
            with transaction(self._connection):
                outcomes = store_appends(self._connection, appends, self._broken)
        # A thread has no caller to raise to: an error that is not answered here would leave every future hanging.
        except Exception as exc:  # noqa: BLE001
            if len(appends) == 1 or concerns_all(exc):
                return [self._failure(append, exc) for append in appends]
        else:
            if self._broken:
                self._mend(appends, outcomes)
            return outcomes
        return [outcome for append in appends for outcome in self._stored([append])]

    def _failure(self, append: Append, exc: Exception) -> StorageError:
        error = translated(exc, self._path)
        error.__cause__ = exc
        self._broken[append.session_id] = error
        return error

    def _mend(self, appends: list[Append], outcomes: list[bool | ConductorError]) -> None:
        for append, outcome in zip(appends, outcomes, strict=True):
            if isinstance(outcome, bool):
                self._broken.pop(append.session_id, None)

    def _changed(self, change: Change) -> Any:
        try:
            with transaction(self._connection):
                return change(self._connection)
        except ConductorError as exc:
            return exc
        except Exception as exc:  # noqa: BLE001  as in _stored
            error = translated(exc, self._path)
            error.__cause__ = exc
            return error

    def _tell(self, outcomes: list[tuple[asyncio.Future[Any], Any]]) -> None:
        try:
            self._loop.call_soon_threadsafe(_settle, outcomes)
        except RuntimeError:
            # The loop is closed: everything is stored, and nobody is left to be told.
            return


def _named(append: Append) -> str:
    return ", ".join(f"{event.type} {event.seq}" for event in append.events)


def _settle(outcomes: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, outcome in outcomes:
        if future.done():  # whoever awaited it was cancelled
            continue
        if isinstance(outcome, ConductorError):
            future.set_exception(outcome)
            future.exception()  # marks it as seen: an append that nobody awaits shows as the failure of the next
        else:
            future.set_result(outcome)
