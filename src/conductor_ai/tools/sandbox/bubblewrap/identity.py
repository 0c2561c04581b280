"""Whose rights the sandbox has on the machine: never root's.

What a sandbox calls uid 65534 is some user of the machine, and to the kernel it is that one: a sandbox that root starts
could write to /proc/sys. So root starts each run as a user that owns nothing, another one for each run at a time.
Anybody else is that user already.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypedDict

AT_ONCE = 32
"""Runs at a time within one process; more wait for a place."""
_NOBODYS = 1_900_000_000
"""Here begin the ids that no distribution, container engine or systemd hands out, up to 2**31."""
_MOST_PIDS = 2**22
_SMALL_MAP = 1024


class Popen(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Identity:
    """`uid` is the user and the group on the machine; `given_up` says that a root server has to become it first."""

    uid: int
    given_up: bool

    def popen(self) -> Popen:
        return {"user": self.uid, "group": self.uid, "extra_groups": []} if self.given_up else {}


class Identities:
    """The users of this process's runs, for all its threads and event loops: `shared`. `missing` says why there is none
    to be had."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._lock = threading.Lock()
        self._free = list(reversed(range(at_once)))
        self._waiting: deque[Future[int]] = deque()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Identity]:
        """A user that no other run of this machine has at this time."""
        place = await self._take()
        try:
            yield identity(place)
        finally:
            self._give_back(place)

    async def _take(self) -> int:
        with self._lock:
            if self._free:
                return self._free.pop()
            turn: Future[int] = Future()
            self._waiting.append(turn)
        try:
            return await asyncio.wrap_future(turn)
        except asyncio.CancelledError:
            if not turn.cancel():  # it had just come
                self._give_back(turn.result())
            raise

    def _give_back(self, place: int) -> None:
        with self._lock:
            while self._waiting:
                turn = self._waiting.popleft()
                if turn.set_running_or_notify_cancel():
                    turn.set_result(place)
                    return
            self._free.append(place)


@cache
def shared() -> Identities:
    """Two backends of a process have the same users to give."""
    return Identities()


def missing() -> str | None:
    if os.geteuid() == 0 and first_uid() is None:
        return "it would run as root: this user namespace has no other user to run the code as"
    return None


def identity(place: int) -> Identity:
    """The user of the run at this place of the process."""
    if (own := os.geteuid()) != 0:
        return Identity(own, given_up=False)
    first = first_uid()
    if first is None:
        raise PermissionError(missing())
    return Identity(first + place, given_up=True)


def first_uid() -> int | None:
    """The first of `AT_ONCE` ids for the runs of this process; they are users and groups alike. None where the user
    namespace of this process has too few ids."""
    end = min(end_of_map(Path(f"/proc/self/{kind}_map").read_text(encoding="ascii")) for kind in ("uid", "gid"))
    return first_of(end, os.getpid())


def first_of(end: int, pid: int) -> int | None:
    """As `first_uid`, of a process in a user namespace whose ids go up to `end`."""
    if end >= _NOBODYS + _MOST_PIDS * AT_ONCE:
        return _NOBODYS + pid * AT_ONCE
    if end >= 2 * _SMALL_MAP:  # a container with a few ids of its own: those at the end are the least likely taken
        return end - _SMALL_MAP + pid % (_SMALL_MAP // AT_ONCE - 1) * AT_ONCE
    return None


def end_of_map(text: str) -> int:
    """One beyond the last id of a `uid_map` or `gid_map`, where the stretch that ends there is long enough."""
    stretches = [(int(first), int(count)) for first, _, count in (line.split() for line in text.splitlines())]
    return max((first + count for first, count in stretches if count >= _SMALL_MAP), default=0)
