"""LocalEngine: drives sessions as tasks of this process. The store says what is to be driven; its locks say by whom."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from conductor_ai.agents.cancel_watch import SOMEBODY
from conductor_ai.conductor import Conductor
from conductor_ai.delivery.failures import Failures, spread
from conductor_ai.delivery.queue import deliver_next
from conductor_ai.delivery.retention import Retention
from conductor_ai.errors import ConductorError, StorageError
from conductor_ai.schemas.approvals import ApprovalStatus
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.storage.base import Store
from conductor_ai.storage.hot_state import HotState

SWEEP_S = 2.0
RETENTION_S = 3600.0
_BEGIN_AT_ONCE = 8
_SWEPT_SESSIONS = 100
_STOP_WAIT_S = 0.25
_SETTLE_WAIT_S = 1.0
_CUT_OFF_WAIT_S = 5.0
_RUN_ON = (SessionStatus.QUEUED, SessionStatus.RUNNING, SessionStatus.WAITING_APPROVAL)

_logger = logging.getLogger(__name__)

_Key = tuple[str, str]


class LocalEngine:
    """The engine of one process. `start` and `wake` make one task for each session at most.

    Args:
        retention: Deletes old sessions, once an hour.
        sweep_s: How long between two looks for sessions without a driver.
    """

    def __init__(
        self,
        conductor: Conductor,
        store: Store,
        hot: HotState,
        *,
        retention: Retention | None = None,
        sweep_s: float = SWEEP_S,
    ) -> None:
        self._conductor = conductor
        self._store = store
        self._hot = hot
        self._retention = retention
        self._sweep_s = sweep_s
        self._tasks: dict[_Key, asyncio.Task[None]] = {}
        self._stops: dict[_Key, asyncio.Task[object]] = {}
        self._started: set[_Key] = set()
        self._woken: set[_Key] = set()
        self._failures = Failures()
        # What a dead process or an outage left is taken up a few at a time; what has begun does not count any more.
        self._beginning = asyncio.Semaphore(_BEGIN_AT_ONCE)
        self._watching: list[asyncio.Task[None]] = []
        self._leaving = False

    async def open(self) -> None:
        self._hot.on_cancel(self._hear_of_cancel)
        self._watching = [asyncio.create_task(self._each(self._sweep_s, self.sweep))]
        if self._retention is not None:
            self._watching.append(asyncio.create_task(self._each(RETENTION_S, self._retention.delete_expired)))
        for task in self._watching:
            task.add_done_callback(self._tell_death)

    def start(self, org_id: str, session_id: str) -> None:
        self._started.add((org_id, session_id))
        self._begin_work((org_id, session_id))

    def wake(self, org_id: str, session_id: str) -> None:
        self._woken.add((org_id, session_id))
        self._begin_work((org_id, session_id))

    async def stop(self, org_id: str, session_id: str, *, by: str) -> None:
        task = self._end(org_id, session_id, by)
        # What runs here has nearly always ended by then; what has not is put down, so that it ends in any case.
        await asyncio.wait({task}, timeout=_STOP_WAIT_S)
        if task.done():
            task.result()
        else:
            await self._store.request_cancel(session_id, org_id, by)

    def holds_back(self, org_id: str, session_id: str) -> bool:
        return self._failures.holds_back((org_id, session_id))

    async def settled(self, org_id: str, session_id: str) -> None:
        ending = [self._tasks.get((org_id, session_id)), self._stops.get((org_id, session_id))]
        if waited_for := [task for task in ending if task is not None]:
            await asyncio.wait(waited_for, timeout=_SETTLE_WAIT_S)

    async def sweep(self) -> None:
        found = await self._store.runnable(limit=_SWEPT_SESSIONS + len(self._tasks) + len(self._failures))
        for org_id, session_id, _ in found:
            key = (org_id, session_id)
            if key in self._tasks or self._failures.holds_back(key):
                continue
            if self._store.lock_holder(session_id) is None:  # else a process drives it, or is about to
                self.wake(org_id, session_id)

    def state(self) -> dict[str, Any]:
        return {
            "running": len(self._tasks),
            "held_back": len(self._failures),
            "ok": not self._leaving and not any(task.done() for task in self._watching),
        }

    async def close(self, grace_s: float) -> None:
        self._leaving = True
        self._conductor.leave()
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=grace_s)
        if cut_off := [*self._tasks.values(), *self._stops.values()]:
            _logger.warning("%d drives did not end in %g s and are cut off", len(cut_off), grace_s)
            for left in cut_off:
                left.cancel()
            await asyncio.wait(cut_off, timeout=_CUT_OFF_WAIT_S)  # a tool may refuse to end

    def _begin_work(self, key: _Key) -> None:
        if not self._leaving and key not in self._tasks:
            task = self._tasks[key] = asyncio.create_task(self._work(key))
            task.add_done_callback(lambda ended: self._over(key, ended))

    async def _work(self, key: _Key) -> None:
        """Drive the session while there is something to drive it for."""
        org_id, session_id = key
        while not self._is_leaving():
            if key in self._started:
                self._started.discard(key)
            elif key in self._woken:
                self._woken.discard(key)
                async with self._beginning:
                    if not await self._take_up(org_id, session_id):
                        continue
            else:
                return
            if not self._is_leaving():
                # Whoever made it run learns of it only now, and may want to watch.
                await self._conductor.run(session_id, org_id=org_id, watchers_due=True)

    def _is_leaving(self) -> bool:
        """A method: it changes while others wait, which a type checker that has seen it once does not expect."""
        return self._leaving

    async def _take_up(self, org_id: str, session_id: str) -> bool:
        """Do what the session's row asks for. Returns: whether it runs now, claimed by this process."""
        record = await self._store.session(session_id, org_id)
        status = record.status
        ended = status in (SessionStatus.COMPLETED, SessionStatus.FAILED)
        if not ended and (status is SessionStatus.CANCELLING or record.cancel_requested_at is not None):
            await self._conductor.cancel(session_id, org_id=org_id, by=record.cancel_requested_by or SOMEBODY)
            return False
        if ended:
            queued = await self._store.queued_messages(session_id, org_id)
            if len(queued) > 1:
                self._woken.add((org_id, session_id))
            return bool(queued) and await deliver_next(self._conductor, queued[0])
        if status not in _RUN_ON:
            return False
        if status is SessionStatus.WAITING_APPROVAL and await self._store.approvals(
            org_id, status=ApprovalStatus.PENDING, session_id=session_id, limit=1
        ):
            return False
        session = await self._conductor.reopen(session_id, org_id=org_id)
        return session.status is SessionStatus.RUNNING

    def _over(self, key: _Key, task: asyncio.Task[None]) -> None:
        del self._tasks[key]
        error = None if task.cancelled() else task.exception()
        if error is None:
            self._failures.forget(key)
        else:
            self._failures.tell(key, error)
        if key in self._started or (key in self._woken and error is None):
            self._begin_work(key)  # it came too late for the task
        else:
            self._woken.discard(key)  # the sweep will find what is still to be done

    def _end(self, org_id: str, session_id: str, by: str | None) -> asyncio.Task[object]:
        """The task that ends a session; one, however often it is asked for. `by` None: the store knows."""
        key = (org_id, session_id)
        task = self._stops.get(key)
        if task is None:
            task = self._stops[key] = asyncio.create_task(self._cancel(org_id, session_id, by))
            task.add_done_callback(lambda ended: self._stopped(key, ended))
        return task

    async def _cancel(self, org_id: str, session_id: str, by: str | None) -> None:
        if by is None:
            by = (await self._store.session(session_id, org_id)).cancel_requested_by or SOMEBODY
        session = await self._conductor.cancel(session_id, org_id=org_id, by=by)
        if session.ended:
            await self._hot.clear_cancel(session_id)
        else:  # another process drives it: its mark in the store would be seen within a second
            await self._hot.request_cancel(session_id)
        await self._conductor.discard_messages(session_id, reason="the session was cancelled", org_id=org_id, by=by)

    def _stopped(self, key: _Key, task: asyncio.Task[object]) -> None:
        del self._stops[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            level = logging.DEBUG if isinstance(error, ConductorError) else logging.ERROR
            _logger.log(level, "session %s was not cancelled: %s", key[1], error)

    def _hear_of_cancel(self, session_id: str) -> None:
        """Another process was asked for it."""
        for key in [key for key in self._tasks if key[1] == session_id and key not in self._stops]:
            _ = self._end(*key, None)

    async def _each(self, seconds: float, look: Callable[[], Coroutine[Any, Any, None]]) -> None:
        is_away = False
        while True:
            try:
                await look()
                is_away = False
            except StorageError as exc:
                if not is_away:
                    _logger.warning("the store is away, and is asked again: %s", exc)
                is_away = True
            # Several processes over one store do not all ask it at the same moment.
            await asyncio.sleep((min(seconds, SWEEP_S) if is_away else seconds) * spread())

    def _tell_death(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("a part of the engine has ended; sessions of other processes may wait", exc_info=error)
