"""Following sessions: every event of a log once and in order, and live items between them, for any number of readers.

The log says what happened; hot state only says it sooner. What a signal leaves out is read from the log, at the latest
by the next look at it, so a reader needs no signal at all. All readers of one session share one subscription and one
look at the log, and the items that they are handed: they must not change them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, NamedTuple

from conductor_ai.errors import SessionNotFound, StorageError
from conductor_ai.schemas.events import EventType
from conductor_ai.schemas.session import ENDED, SessionStatus
from conductor_ai.storage.base import SessionStore
from conductor_ai.storage.hot_state import HotState

POLL_S = 1.0
_PAGE_EVENTS = 256
_KEPT_ITEMS = 512
_STOPPED = ENDED | {SessionStatus.PAUSED}
_STOPPING = frozenset(
    {
        EventType.SESSION_COMPLETED.value,
        EventType.SESSION_FAILED.value,
        EventType.SESSION_CANCELLED.value,
        EventType.SESSION_PAUSED.value,
    }
)

_logger = logging.getLogger(__name__)


class Follows:
    """All that is followed in this process.

    Args:
        poll_s: How long a log is left unread, at most, while nothing is told of its session.
    """

    def __init__(self, store: SessionStore, hot: HotState, *, poll_s: float = POLL_S) -> None:
        self._store = store
        self._hot = hot
        self._poll_s = poll_s
        self._watches: dict[tuple[str, str], _Watch] = {}
        self._readers: set[_Reader] = set()
        self._closed = False

    async def follow(self, session_id: str, org_id: str, *, after_seq: int = 0) -> AsyncGenerator[dict[str, Any]]:
        """Events of the session behind `after_seq` as `Event.to_dict`, and live items without `seq` between them.

        It ends after an event with which the session stops (completed, failed, cancelled, paused) and that is its
        newest; so it ends at once where the reader has seen that one. It goes on while an approval is waited for. An
        `after_seq` that is not there yet counts as the newest one.

        Raises: SessionNotFound, StorageError; before the first item only.
        """
        key = (org_id, session_id)
        watch = self._watches.get(key)
        if watch is None:
            watch = self._watches[key] = _Watch(self._store, self._hot, session_id, org_id, self._poll_s)
        reader = _Reader(watch, after_seq)
        reader.over = self._closed
        self._readers.add(reader)
        watch.readers += 1
        try:
            await watch.opened()
            if after_seq > watch.seq:  # further than is known here, or than there is
                reader.begin_after(min(after_seq, (await self._store.session(session_id, org_id)).last_seq))
            while (items := await reader.more()) is not None:
                for item in items:
                    yield item
        finally:
            self._readers.discard(reader)
            watch.readers -= 1
            if not watch.readers:
                if self._watches.get(key) is watch:
                    del self._watches[key]
                await watch.close()

    def close(self) -> None:
        """End everything that is read, and whatever anybody begins to read."""
        self._closed = True
        for reader in self._readers:
            reader.over = True
            reader.watch.wake()


class _Kept(NamedTuple):
    """An item as the readers take it: `seq` is that of an event, or of the newest one when a live item came."""

    seq: int
    is_event: bool
    item: dict[str, Any]


class _Watch:
    """One followed session: its newest items in order, without a gap from the first one on."""

    def __init__(self, store: SessionStore, hot: HotState, session_id: str, org_id: str, poll_s: float) -> None:
        self.readers = 0
        self.seq = 0
        """The newest event that is known."""
        self.stopped = False
        """Whether the session stopped with it."""
        self.gone = False
        """It was deleted."""
        self.end = 0
        """The place behind the newest item, counted from the first one that ever came."""
        self._store = store
        self._hot = hot
        self._session_id = session_id
        self._org_id = org_id
        self._poll_s = poll_s
        self._step_no = 0
        self._open_calls: set[str] | None = None
        self._kept: deque[_Kept] = deque(maxlen=_KEPT_ITEMS)
        self._news = asyncio.Event()
        self._heard_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._opening = asyncio.create_task(self._open())

    async def opened(self) -> None:
        """Raises: SessionNotFound, StorageError."""
        await asyncio.shield(self._opening)  # others wait for it too

    async def close(self) -> None:
        tasks = [self._opening, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def start(self) -> int:
        """The place of the oldest item that is kept."""
        return self.end - len(self._kept)

    def kept_from(self, place: int) -> list[_Kept]:
        return [self._kept[-back] for back in range(self.end - place, 0, -1)]

    def events_after(self, seq: int) -> list[dict[str, Any]] | None:
        """The events behind `seq`; None where not all of them are kept."""
        events = [kept for kept in self._kept if kept.is_event and kept.seq > seq]
        return [kept.item for kept in events] if seq >= self.seq or (events and events[0].seq == seq + 1) else None

    async def page(self, after_seq: int) -> list[dict[str, Any]]:
        """Events of the log, `_PAGE_EVENTS` of them unless it ends before. Raises: SessionNotFound, StorageError."""
        events = await self._store.events(self._session_id, self._org_id, after_seq=after_seq, limit=_PAGE_EVENTS)
        return [event.to_dict() for event in events]

    async def news(self) -> None:
        await self._news.wait()

    def wake(self) -> None:
        self._news.set()
        self._news.clear()  # whoever waited has been let go by `set`

    async def read_on(self) -> None:
        """Take in what the log has beyond what is known. A failure is left to the next look."""
        try:
            while True:
                events = await self.page(self.seq)
                for event in events:
                    if event["seq"] == self.seq + 1:  # somebody may have told of it meanwhile
                        self._take_event(event)
                if len(events) < _PAGE_EVENTS:
                    return
        except SessionNotFound:
            self.gone = True
            self.wake()
        except StorageError as exc:
            _logger.debug("the log of session %s could not be read: %s", self._session_id, exc)

    async def _open(self) -> None:
        subscription = self._hot.subscribe(self._session_id)  # first: so nothing falls between it and the log
        record = await self._store.session(self._session_id, self._org_id)
        self.seq, self._step_no, self.stopped = record.last_seq, record.step_no, record.status in _STOPPED
        self._tasks = [asyncio.create_task(self._listen(subscription)), asyncio.create_task(self._look())]
        for task in self._tasks:
            task.add_done_callback(_tell_failure)

    async def _listen(self, subscription: AsyncIterator[dict[str, Any]]) -> None:
        async for item in subscription:
            seq = item.get("seq")
            if seq is None:
                self._take_live(item)
            elif seq == self.seq + 1:
                self._heard_at = asyncio.get_running_loop().time()
                self._take_event(item)
            elif seq > self.seq:
                await self.read_on()

    async def _look(self) -> None:
        clock = asyncio.get_running_loop().time
        self._heard_at = clock()
        while True:
            await asyncio.sleep(self._heard_at + self._poll_s - clock())
            if clock() - self._heard_at >= self._poll_s:
                await self.read_on()
                self._heard_at = clock()

    def _take_event(self, item: dict[str, Any]) -> None:
        self.seq = item["seq"]
        kind, payload = item["type"], item["payload"]
        self.stopped = kind in _STOPPING
        if kind == EventType.MODEL_COMPLETED:
            self._step_no = payload["step_no"]
            self._open_calls = {call["call_id"] for call in payload["tool_calls"]}
        elif kind == EventType.TOOL_COMPLETED and self._open_calls is not None:
            self._open_calls.discard(payload["call_id"])
        self._keep(_Kept(self.seq, True, item))

    def _take_live(self, item: dict[str, Any]) -> None:
        """Live items may be overtaken by a look at the log: what is over already is told no more."""
        payload = item["payload"]
        if payload.get("step_no", self._step_no + 1) <= self._step_no:
            return
        call_id = payload.get("call_id")
        if call_id is None or self._open_calls is None or call_id in self._open_calls:
            self._keep(_Kept(self.seq, False, item))

    def _keep(self, kept: _Kept) -> None:
        self._kept.append(kept)
        self.end += 1
        self.wake()


class _Reader:
    """One reader's place: `_seq` is the newest event that it was given."""

    def __init__(self, watch: _Watch, after_seq: int) -> None:
        self.watch = watch
        self.over = False
        self._seq = after_seq
        self._place = -1
        self._reads_log = False
        self._stopped = False
        """Whether the newest event that it was given is one with which a session stops."""
        self._looked = False

    def begin_after(self, seq: int) -> None:
        self._seq = seq

    async def more(self) -> list[dict[str, Any]] | None:
        """What comes next, as soon as there is something; None where nothing does any more."""
        watch = self.watch
        while not (self.over or watch.gone):
            if items := await self._from_log() or self._from_watch():
                return items
            if self._at_the_end():
                if self._stopped or self._looked:
                    return None
                self._looked = True  # it came back to a session that had stopped: that may be yesterday's news
                await watch.read_on()
            elif self._place >= watch.start and not self._reads_log:
                await watch.news()
        return None

    def _at_the_end(self) -> bool:
        """Whether the newest event that anybody knows of has been given, and the session stopped with it."""
        if self._reads_log or self._seq < self.watch.seq:
            return False
        return self._stopped if self._seq > self.watch.seq else self.watch.stopped

    async def _from_log(self) -> list[dict[str, Any]]:
        """Where the reader has just come, or is too far behind: events of the log up to where the watch goes on."""
        watch = self.watch
        if self._place < watch.start:
            self._place = watch.end
            events = watch.events_after(self._seq)
            if events is not None:
                return self._given(events)
            self._reads_log = True
        if not self._reads_log:
            return []
        try:
            events = await watch.page(self._seq)
        except SessionNotFound:
            watch.gone = True
            return []
        except StorageError as exc:  # a stream outlives an outage
            _logger.debug("a reader waits for the log: %s", exc)
            await asyncio.sleep(POLL_S)
            return []
        self._reads_log = len(events) == _PAGE_EVENTS
        return self._given(events)

    def _from_watch(self) -> list[dict[str, Any]]:
        watch, items = self.watch, []
        if self._reads_log or self._place < watch.start:
            return []
        for kept in watch.kept_from(self._place):
            if kept.is_event and kept.seq > self._seq:
                self._given([kept.item])
                items.append(kept.item)
            elif not kept.is_event and kept.seq >= self._seq:  # else it is older than what the log has shown
                items.append(kept.item)
        self._place = watch.end
        return items

    def _given(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if events:
            self._seq = events[-1]["seq"]
            self._stopped = events[-1]["type"] in _STOPPING
        return events


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _logger.error("a session is followed without signals, or not at all", exc_info=error)
