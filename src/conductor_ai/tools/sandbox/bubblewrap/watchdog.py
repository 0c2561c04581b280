"""Bounds the memory of a run where no control group can: by looking, twenty times a second.

Each process of it has bounds of its own; this one is for all of them together. It looks at two things: what the
processes hold, and what the machine lost that is not held by any process. The second is how a run is caught that keeps
memory where nothing is mapped: in shared pages that were let go, in the queues of sockets, in the names of empty files.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from conductor_ai.tools.sandbox.base import MIB

MEMINFO = Path("/proc/meminfo")
MARGIN_BYTES = 256 * MIB
"""What the rest of the machine may take meanwhile that no process holds, before a run is blamed for it."""
_PAUSE_S = 0.05
_NOT_HIDDEN = ("MemAvailable:", "AnonPages:")


class Machine:
    """The memory of the machine that is free, or a process's own. Whose the rest is cannot be told, so all runs of this
    process together may take what their limits add up to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._together_bytes = 0

    @contextmanager
    def run(self, memory_bytes: int) -> Iterator[Callable[[], bool]]:
        """One run, from here on. Yields: what tells whether too much is gone since then."""
        with self._lock:
            self._together_bytes += memory_bytes
        most = _not_hidden()

        def too_much() -> bool:
            nonlocal most
            now = _not_hidden()
            most = max(most, now)
            return most - now > self._together_bytes + MARGIN_BYTES

        try:
            yield too_much
        finally:
            with self._lock:
                self._together_bytes -= memory_bytes


MACHINE = Machine()


async def watch_memory(pid: int, memory_bytes: int, too_much: Callable[[], None]) -> None:
    """Look until cancelled, or until the process and all below it have more than that, which is then told once."""
    with MACHINE.run(memory_bytes) as lost_too_much:
        while not (lost_too_much() or _holds_more(pid, memory_bytes)):  # noqa: ASYNC110 - the kernel tells of neither
            await asyncio.sleep(_PAUSE_S)
    too_much()


def _not_hidden() -> int:
    """In bytes. What processes take of their own counts as if it were free: `_used` sees it, or it is no run's.
    Raises: OSError."""
    lines = MEMINFO.read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(_NOT_HIDDEN))


def _holds_more(pid: int, memory_bytes: int) -> bool:
    return _used(descendants(pid), _quick) > memory_bytes and _used(descendants(pid), _exact) > memory_bytes


def descendants(pid: int) -> list[int]:
    """The process and all below it. Those of a sandbox never leave: their process 1 adopts every orphan."""
    found = [pid]
    for parent in found:  # grows while it is walked
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in children.read_text(encoding="ascii").split()]
            except OSError:
                continue  # it has just ended
    return found


def _used(pids: list[int], measure: Callable[[int], int]) -> int:
    return sum(map(measure, pids))


def _quick(pid: int) -> int:
    """What it holds that is not a file's; pages that it shares with its children count for each of them."""
    return _kib(pid, "status", ("RssAnon:", "RssShmem:"))


def _exact(pid: int) -> int:
    """The same with shared pages counted once. A process may refuse to be looked into; then it counts as `_quick`."""
    return _kib(pid, "smaps_rollup", ("Pss_Anon:", "Pss_Shmem:")) or _quick(pid)


def _kib(pid: int, name: str, fields: tuple[str, ...]) -> int:
    try:
        lines = Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(fields))
