"""Bounds the memory of a run where no control group can: by looking, twenty times a second.

Each process of it has bounds of its own; this one is for all of them together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

_PAUSE_S = 0.05


async def watch_memory(pid: int, memory_bytes: int, too_much: Callable[[], None]) -> None:
    """Look until cancelled, or until the process and all below it have more than that, which is then told once."""
    while True:
        if _used(descendants(pid), _quick) > memory_bytes and _used(descendants(pid), _exact) > memory_bytes:
            too_much()
            return
        await asyncio.sleep(_PAUSE_S)


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
