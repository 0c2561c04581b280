"""What runs could leave on the machine: processes, mounts, cgroups, files."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
SHARED_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/run")
DEEPEST = 3


def processes_with(mark: str) -> list[int]:
    """Every process of the machine whose command line holds the mark; a zombie has none."""
    others = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and int(entry.name) != os.getpid())
    return [int(entry.name) for entry in others if mark.encode() in _read(entry / "cmdline")]


async def process_with(mark: str) -> int:
    """Wait for such a process."""
    while not (found := processes_with(mark)):  # noqa: ASYNC110 - nobody tells of another process's start
        await asyncio.sleep(0.01)
    return found[0]


async def no_process_with(mark: str) -> None:
    """Wait until there is none."""
    while processes_with(mark):  # noqa: ASYNC110 - nor of its end
        await asyncio.sleep(0.01)


def children_of(pid: int) -> set[int]:
    """Processes below one, zombies too."""
    below: set[int] = set()
    for entry in Path("/proc").iterdir():
        fields = _read(entry / "stat").rpartition(b")")[2].split() if entry.name.isdigit() else []
        if len(fields) > 1 and int(fields[1]) == pid:
            below |= {int(entry.name)} | children_of(int(entry.name))
    return below


def mounts() -> set[str]:
    """Where this process sees a file system that a sandbox is made of; an engine's own storage is its business."""
    kinds = {"tmpfs", "proc", "devpts", "mqueue"}
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    seen = {line.split()[4] for line in lines if line.partition(" - ")[2].split()[0] in kinds}
    return {point for point in seen if "containers" not in point and "/storage/" not in point}


def cgroups_of(pid: int) -> list[Path]:
    """The folders of the control groups that a process is in and this one is not."""
    own, its = (_read(Path("/proc") / who / "cgroup").decode().splitlines() for who in ("self", str(pid)))
    found = []
    for line in set(its) - set(own):
        _, controllers, path = line.split(":", 2)
        for mount in (CGROUPS / controllers, CGROUPS / controllers.removeprefix("name="), CGROUPS / "unified"):
            if (mount / path.lstrip("/")).is_dir():
                found.append(mount / path.lstrip("/"))
                break
    return found


def entries_of(name: str) -> list[Path]:
    """Files and folders in shared places whose name holds `name`."""
    places = {*SHARED_FOLDERS, tempfile.gettempdir()}
    return [path for place in places for path in _entries(Path(place), DEEPEST) if name in path.name]


def _entries(folder: Path, depth: int) -> Iterator[Path]:
    try:
        inside = list(os.scandir(folder))
    except OSError:
        return
    for entry in inside:
        yield Path(entry.path)
        if depth and entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path), depth - 1)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it ended meanwhile, or is not for us
