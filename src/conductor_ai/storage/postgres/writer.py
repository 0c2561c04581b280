"""The one task that writes: takes what waits, stores it as one statement, and finds its way back to the database."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg.errors import UniqueViolation

from conductor_ai.errors import CancelRequested, ConductorError, StorageError, StoreUnavailable
from conductor_ai.storage.base import Append
from conductor_ai.storage.postgres.address import Address
from conductor_ai.storage.postgres.append import Answers, Fence, Group, Handed, fenced_off, parameters, take
from conductor_ai.storage.postgres.append_sql import DRIVEN, FENCES, statement
from conductor_ai.storage.postgres.faults import passing, translated, undone
from conductor_ai.storage.postgres.link import Link

T = TypeVar("T")
Change = Callable[[Link, bool], Awaitable[Any]]

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0

_logger = logging.getLogger(__name__)


class _Changing(NamedTuple):
    change: Change
    future: asyncio.Future[Any] | None
    at: float


class Writer:
    """Owns the writing connection and closes it. Belongs to the running event loop.

    Args:
        worker_id: The owner of what is appended to.
        patience_s: How long after it was handed over a write is tried again while the database is away.
        reply_s: How long a statement may take before its connection is given up.
    """

    def __init__(self, link: Link, address: Address, *, worker_id: str, patience_s: float, reply_s: float) -> None:
        self._link: Link | None = link
        self._address = address
        self._worker_id = worker_id
        self._patience_s = patience_s
        self._reply_s = reply_s
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Handed | _Changing] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._closed = False
        # Sessions whose newest append could not be stored, and why: what follows it fails for the same reason.
        self._broken: dict[str, StorageError] = {}
        self.owned: dict[str, int] = {}
        """The `owner_epoch` of each session that this worker owns, as far as what was stored says."""
        self._task = self._loop.create_task(self._run(), name="conductor-store-writer")

    def append(self, append: Append) -> asyncio.Future[bool]:
        future: asyncio.Future[bool] = self._loop.create_future()
        self._hand(Handed(append, future, self._loop.time()), future)
        return future

    def append_later(self, append: Append) -> None:
        if self._closed:  # the next append is told; where none follows, the log is all there is
            named = ", ".join(f"{event.type} {event.seq}" for event in append.events)
            _logger.error("%s was closed: %s of session %s not stored", self._address.shown, named, append.session_id)
        else:
            self._hand(Handed(append, None, self._loop.time()), None)

    def change(self, change: Callable[[Link, bool], Awaitable[T]]) -> asyncio.Future[T]:
        """Run `change` after all that was handed over before, again after a lost connection.

        It is called with True where an earlier call may have been carried out.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._hand(_Changing(change, future, self._loop.time()), future)
        return future

    def change_later(self, change: Change) -> None:
        """As `change`, with nobody waiting: a failure is logged."""
        if not self._closed:
            self._hand(_Changing(change, None, self._loop.time()), None)

    async def close(self) -> None:
        """Store what was handed over; returns once the connection is closed."""
        self._closed = True
        self._rouse()
        await asyncio.shield(self._task)

    def _hand(self, work: Handed | _Changing, future: asyncio.Future[Any] | None) -> None:
        if self._closed and future is not None:
            future.set_exception(StoreUnavailable(f"{self._address.shown} was closed"))
            return
        self._queue.append(work)
        self._rouse()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _run(self) -> None:
        while self._queue or not self._closed:
            if not self._queue:
                self._wake = self._loop.create_future()
                await self._wake
                continue
            head = self._queue[0]
            if isinstance(head, _Changing):
                self._queue.popleft()
                await self._carry_out(head)
            else:
                # What arrives while this batch is stored is the next one: nobody waits for a window to fill.
                groups, refused = take(self._queue)
                for handed, error in refused:
                    _settle(handed.future, error)
                if groups:
                    await self._store(groups)
        if self._link is not None:
            await self._link.close()

    async def _store(self, groups: list[Group]) -> None:
        """One statement for all; where it fails, one for each append, so that a bad one harms nobody else."""
        batch = _Batch(groups, self._worker_id)
        try:
            await self._persistently(batch.store, groups[0].handed[0].at)
        except StoreUnavailable as exc:
            for group in batch.open:
                self._fail(group, exc)
        # Nobody else is there to tell: an error that is not answered here would leave every future hanging.
        except Exception as exc:  # noqa: BLE001
            alone = len(batch.open) == 1 and len(batch.open[0].handed) == 1
            # Another process used the same key meanwhile: what it was used for can be seen now.
            if alone and not (isinstance(exc, UniqueViolation) and exc.diag.table_name == "idempotency_keys"):
                error = translated(exc, self._address)
                error.__cause__ = exc
                self._fail(batch.open[0], error)
            else:
                batch.apart += batch.open
        self._answer(batch)
        for group in batch.apart:
            for handed in group.handed:
                await self._store([Group(handed)])

    def _answer(self, batch: _Batch) -> None:
        for group, cancel_requested in batch.stored:
            self._broken.pop(group.session_id, None)
            last = group.handed[-1].append
            if last.projection.status in DRIVEN:
                self.owned[group.session_id] = last.owner_epoch
            else:
                self.owned.pop(group.session_id, None)
            for handed in group.handed:
                _settle(handed.future, cancel_requested)
        for handed, reason, fence in batch.refused:
            broken = self._broken.get(handed.append.session_id)
            error = reason or fenced_off(handed.append, fence, broken)
            is_owner = self.owned.get(handed.append.session_id) == handed.append.owner_epoch
            if is_owner and not isinstance(error, CancelRequested):  # its owner still has to cancel it
                del self.owned[handed.append.session_id]
            _settle(handed.future, error)

    def _fail(self, group: Group, error: StorageError) -> None:
        self._broken[group.session_id] = error
        for handed in group.handed:
            _settle(handed.future, error)

    async def _carry_out(self, changing: _Changing) -> None:
        try:
            _settle(changing.future, await self._persistently(changing.change, changing.at))
        except ConductorError as exc:
            self._tell(changing, exc)
        except Exception as exc:  # noqa: BLE001  as in _store
            error = translated(exc, self._address)
            error.__cause__ = exc
            self._tell(changing, error)

    def _tell(self, changing: _Changing, error: ConductorError) -> None:
        if changing.future is None:
            _logger.warning("%s", error)
        _settle(changing.future, error)

    async def _persistently(self, work: Callable[[Link, bool], Awaitable[T]], handed_at: float) -> T:
        """Do `work` until the database has answered, and at least once; each time after the first it is told so.

        Raises: StoreUnavailable where the database stays away for `patience_s`.
        """
        pause, again, begun = _FIRST_PAUSE_S, False, False
        while True:
            try:
                link, begun = await self._linked(), True
                return await work(link, again)
            except (psycopg.Error, OSError) as exc:
                if not passing(exc):
                    raise
                again = again or (begun and not undone(exc))
                begun = False
                if not undone(exc):
                    await self._let_go()
                if self._loop.time() + pause > handed_at + self._patience_s:
                    raise translated(exc, self._address) from exc
            # Not all workers at once, when a server comes back.
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _linked(self) -> Link:
        if self._link is None:
            self._link = await Link.open(self._address, reply_s=self._reply_s)
        return self._link

    async def _let_go(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()


class _Batch:
    """Groups on their way into the database, and what became of each.

    `open` are those without an answer yet; `apart` those whose appends must be tried one by one, to see which it is;
    of `refused` ones either the reason is known or what the fence says now.
    """

    def __init__(self, groups: list[Group], worker_id: str) -> None:
        self.open = groups
        self.stored: list[tuple[Group, bool]] = []
        self.refused: list[tuple[Handed, ConductorError | None, Fence | None]] = []
        self.apart: list[Group] = []
        self._worker_id = worker_id

    async def store(self, link: Link, again: bool) -> None:
        if again:
            await self._find_stored(link)
        if not self.open:
            return
        named = parameters(self.open)
        query = statement(frozenset(named))
        answers = Answers(await link.run(query, {**named, "worker": self._worker_id}))
        kept_out = [group for group in self.open if group.session_id not in answers.let_in]
        self.stored += [
            (group, answers.let_in[group.session_id]) for group in self.open if group.session_id in answers.let_in
        ]
        self.open = kept_out
        if not kept_out:
            return
        fences = await self._find_stored(link) if again else await _fences(link, kept_out)
        for group in self.open:
            if len(group.handed) > 1:
                self.apart.append(group)
                continue
            reason = answers.refusal(group.session_id)
            self.refused.append((group.handed[0], reason, fences.get(group.session_id)))
        self.open = []

    async def _find_stored(self, link: Link) -> dict[str, Fence]:
        """After a lost answer: what was stored all the same."""
        fences = await _fences(link, self.open)
        found = [group for group in self.open if group.is_stored(fences.get(group.session_id))]
        self.stored += [(group, fences[group.session_id].cancel_requested) for group in found]
        self.open = [group for group in self.open if group not in found]
        return fences


async def _fences(link: Link, groups: Sequence[Group]) -> dict[str, Fence]:
    rows = await link.run(FENCES, ([group.session_id for group in groups],))
    return {row[0]: Fence(*row[1:]) for row in rows}


def _settle(future: asyncio.Future[Any] | None, outcome: Any) -> None:
    if future is None or future.done():  # whoever awaited it was cancelled
        return
    if isinstance(outcome, ConductorError):
        future.set_exception(outcome)
        future.exception()  # marks it as seen: an append that nobody awaits shows as the failure of the next
    else:
        future.set_result(outcome)
