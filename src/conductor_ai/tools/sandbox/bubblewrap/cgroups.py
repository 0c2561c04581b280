"""Control groups of version 1 or 2: what bounds the memory and the processes of a run as a whole.

Each backend of a process keeps its runs in one group of its own, below the group that the process is in itself, so that
what bounds the server bounds its sandboxes too. That group is named after the process, so that another can tell when it
is dead, with a number for the backend.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from conductor_ai.tools.sandbox.base import RunLimits
from conductor_ai.tools.sandbox.bubblewrap.command import GUEST

_PREFIX = "conductor-sandbox-"
_MEMORY, _PIDS = "memory", "pids"
_NAME = re.compile(r"(?P<owner>\d+-\d+-\d+)-\d+")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_LABEL = 100
_REMOVAL_S = 2.0
_PAUSE_S = 0.01
_SHORT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where one controller, or both, are: the folder that this process may make groups in."""

    controllers: frozenset[str]
    own: Path
    version: int


def find(proc: Path = Path("/proc/self")) -> list[Hierarchy]:
    """The hierarchies that bound memory and processes and that this process may make groups in. Empty where there are
    none, or where one of the two is missing.

    Args:
        proc: Where the kernel tells of the process.
    Raises: OSError where it cannot be told, for want of file descriptors say.
    """
    try:
        own = _own_paths((proc / "cgroup").read_text(encoding="utf-8"))
        mounts = list(_mounts((proc / "mountinfo").read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []  # no /proc, or a kernel without control groups
    usable = [hierarchy for hierarchy in _hierarchies(own, mounts) if _writable(hierarchy)]
    covered = frozenset[str]().union(*(hierarchy.controllers for hierarchy in usable))
    return usable if covered == {_MEMORY, _PIDS} else []


def _hierarchies(own: Mapping[str, str], mounts: list[_Mount]) -> Iterator[Hierarchy]:
    for mount in mounts:
        controllers = frozenset({_MEMORY, _PIDS} & set(mount.options))
        if mount.kind == "cgroup" and controllers:
            path = next((path for names, path in own.items() if controllers <= set(names.split(","))), None)
            if path is not None:
                yield Hierarchy(controllers, mount.below(path), 1)
        elif mount.kind == "cgroup2" and "" in own and (folder := _version_2(mount.below(own[""]))) is not None:
            yield Hierarchy(frozenset({_MEMORY, _PIDS}), folder, 2)


def _version_2(own: Path) -> Path | None:
    """The folder to make groups in; None where there is none: a group that has processes passes no controller on."""
    for folder in (own, own.parent):
        if folder == own or _delegated(folder):
            try:
                _pass_on(folder)
            except OSError as exc:
                if exc.errno in _SHORT_OF_DESCRIPTORS:
                    raise
            else:
                return folder
    return None


def _pass_on(folder: Path) -> None:
    """Let the groups below this one be bounded. Raises: OSError."""
    passed = set((folder / "cgroup.subtree_control").read_text(encoding="ascii").split())
    if not {_MEMORY, _PIDS} <= passed:
        (folder / "cgroup.subtree_control").write_text("+memory +pids", encoding="ascii")


def _delegated(folder: Path) -> bool:
    """Whether systemd left this group to us (`Delegate=yes` with `DelegateSubgroup=`)."""
    for name in ("user.delegate", "trusted.delegate"):
        with suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _own_paths(text: str) -> dict[str, str]:
    """The groups of this process, by the controllers of their hierarchy; version 2 has none to name."""
    return {names: path for _, names, path in (line.split(":", 2) for line in text.splitlines())}


@dataclass(frozen=True, slots=True)
class _Mount:
    root: str
    point: Path
    kind: str
    options: tuple[str, ...]

    def below(self, path: str) -> Path:
        """Where the group is found. A container may see a part of the hierarchy only, as if it were all of it."""
        inner = Path(path)
        if self.root != "/" and inner.is_relative_to(self.root):
            inner = inner.relative_to(self.root)
        return self.point / str(inner).lstrip("/")


def _mounts(text: str) -> Iterator[_Mount]:
    for line in text.splitlines():
        here, _, there = line.partition(" - ")
        kind, _, options = there.split(" ", 2)
        yield _Mount(here.split()[3], Path(here.split()[4]), kind, tuple(options.split(",")))


def _writable(hierarchy: Hierarchy) -> bool:
    trial = hierarchy.own / f"{_PREFIX}trial-{os.getpid()}-{time.monotonic_ns()}"
    try:
        trial.mkdir()
    except OSError:
        return False
    try:
        return all((trial / name).exists() for name in _needed(hierarchy))
    finally:
        trial.rmdir()


def _needed(hierarchy: Hierarchy) -> list[str]:
    memory = "memory.limit_in_bytes" if hierarchy.version == 1 else "memory.max"
    names = {_MEMORY: memory, _PIDS: "pids.max"}
    return [name for controller, name in names.items() if controller in hierarchy.controllers]


class ProcessGroup:
    """The groups of one backend of this process, made with its first run."""

    def __init__(self, hierarchies: list[Hierarchy]) -> None:
        self._hierarchies = hierarchies
        self._name = f"{_PREFIX}{owner_name(os.getpid())}-{next(_numbers)}"
        self._runs = 0

    @property
    def folders(self) -> list[Path]:
        return [hierarchy.own / self._name for hierarchy in self._hierarchies]

    def make(self) -> None:
        """Raises: OSError."""
        for hierarchy, folder in zip(self._hierarchies, self.folders, strict=True):
            folder.mkdir(exist_ok=True)
            if hierarchy.version == 2:
                _pass_on(folder)

    def new_run(self, limits: RunLimits, label: str) -> RunGroup:
        """The bounds of one run, empty so far; the label is for people. Raises: OSError; then there is none."""
        self._runs += 1
        name = f"{self._runs}-{_NOT_IN_NAMES.sub('_', label)[:_LONGEST_LABEL]}"
        folders = {}
        try:
            for hierarchy, parent in zip(self._hierarchies, self.folders, strict=True):
                folder = parent / name
                folder.mkdir()
                folders[folder] = hierarchy
                _bound(folder, hierarchy, limits)
        except OSError:
            for folder in folders:
                folder.rmdir()
            raise
        return RunGroup(folders)

    def remove(self) -> None:
        for folder in self.folders:
            with suppress(OSError):  # not there, or still in use: then `remove_left_over` has it
                folder.rmdir()


def _bound(folder: Path, hierarchy: Hierarchy, limits: RunLimits) -> None:
    if _PIDS in hierarchy.controllers:
        _write(folder / "pids.max", limits.processes + GUEST)
    if _MEMORY not in hierarchy.controllers:
        return
    if hierarchy.version == 2:
        _write(folder / "memory.max", limits.memory_bytes)
        if (folder / "memory.swap.max").exists():
            _write(folder / "memory.swap.max", 0)
        return
    _write(folder / "memory.limit_in_bytes", limits.memory_bytes)
    if (folder / "memory.memsw.limit_in_bytes").exists():
        _write(folder / "memory.memsw.limit_in_bytes", limits.memory_bytes)


def _write(path: Path, value: int) -> None:
    path.write_text(str(value), encoding="ascii")


class RunGroup:
    """The bounds of one run, in each hierarchy."""

    def __init__(self, folders: Mapping[Path, Hierarchy]) -> None:
        self._folders = dict(folders)

    def add(self, pid: int) -> None:
        """Of a process that has ended already nothing is said here. Raises: OSError."""
        with suppress(ProcessLookupError):
            for folder in self._folders:
                _write(folder / "cgroup.procs", pid)

    def ran_out_of_memory(self) -> bool:
        return any(
            _count(folder / ("memory.events" if hierarchy.version == 2 else "memory.oom_control"), "oom_kill")
            for folder, hierarchy in self._folders.items()
            if _MEMORY in hierarchy.controllers
        )

    def peak_memory_bytes(self) -> int | None:
        for folder, hierarchy in self._folders.items():
            if _MEMORY in hierarchy.controllers:
                name = "memory.peak" if hierarchy.version == 2 else "memory.max_usage_in_bytes"
                with suppress(OSError):  # before Linux 5.19
                    return int((folder / name).read_text(encoding="ascii"))
        return None

    async def remove(self) -> None:
        """Kill what is in it, and remove it. Raises: OSError where it still has processes after two seconds."""
        until = time.monotonic() + _REMOVAL_S
        for folder in self._folders:
            while not _try_to_remove(folder):
                if time.monotonic() > until:
                    raise TimeoutError(f"{folder} still has processes")
                await asyncio.sleep(_PAUSE_S)  # the kernel says EBUSY for a moment after the last one is gone


def _count(path: Path, name: str) -> int:
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name} "):
            return int(line.split()[1])
    return 0


def _try_to_remove(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        for pid in _processes(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return False
    return True


def _processes(folder: Path) -> list[int]:
    try:
        return [int(line) for line in (folder / "cgroup.procs").read_text(encoding="ascii").split()]
    except OSError:
        return []


def owner_name(pid: int) -> str:
    """Names a process for as long as the machine is up: its pid is used again, its start is not. The number in front is
    that of the pid namespace: what another one means by a pid is not to be guessed."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return f"{_pid_namespace()}-{pid}-{fields[19]}"


def _pid_namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _owner_is_dead(owner: str) -> bool:
    space, pid, _ = owner.split("-")
    if int(space) != _pid_namespace():
        return False
    try:
        return owner_name(int(pid)) != owner
    except OSError:
        return True


def left_over(hierarchies: list[Hierarchy]) -> list[Path]:
    """The groups of dead processes: below the group of this process, and below those beside it, where a server that was
    started anew finds those of its predecessor."""
    found = []
    for hierarchy in hierarchies:
        for pattern, base in ((f"{_PREFIX}*", hierarchy.own), (f"*/{_PREFIX}*", hierarchy.own.parent)):
            for folder in base.glob(pattern):
                named = _NAME.fullmatch(folder.name.removeprefix(_PREFIX))
                if named is not None and folder.is_dir() and _owner_is_dead(named["owner"]):
                    found.append(folder)
    return list(dict.fromkeys(found))


async def remove_left_over(hierarchies: list[Hierarchy]) -> int:
    """Returns: how many runs were left over. What cannot be removed stays for the next time."""
    runs: set[tuple[str, str]] = set()
    for folder in left_over(hierarchies):
        with suppress(OSError):  # the dead process's janitor removes it at the same time
            inner = [child for child in folder.iterdir() if child.is_dir()]
            runs.update((folder.name, child.name) for child in inner)
            await RunGroup(dict.fromkeys([*inner, folder], hierarchies[0])).remove()
    return len(runs)
