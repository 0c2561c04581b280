"""What a sandbox is: where code that nobody vouches for runs, what it may use, and how its end is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

MIB = 2**20


class Language(StrEnum):
    PYTHON = "python"
    JAVASCRIPT = "javascript"


class IsolationLevel(StrEnum):
    """What stands between the code and the machine, weakest first: `NAMESPACES` share the machine's kernel, `KERNEL`
    has one of its own (gVisor)."""

    NAMESPACES = "namespaces"
    KERNEL = "kernel"

    def reaches(self, wanted: IsolationLevel) -> bool:
        levels = list(IsolationLevel)
        return levels.index(self) >= levels.index(wanted)


class KilledBy(StrEnum):
    """Who ended a run. `INFRA`: the sandbox itself failed, so nothing is known of the code. Another try may work where
    the code had not started; where it had, it may be what made the sandbox fail."""

    NONE = "none"
    TIME = "time"
    MEMORY = "memory"
    OUTPUT = "output"
    CANCELLED = "cancelled"
    INFRA = "infra"


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What one run may use. `output_bytes` holds for stdout and for stderr, each; `files_bytes` for all files that come
    back together."""

    wall_s: float = 30.0
    memory_bytes: int = 256 * MIB
    processes: int = 64
    work_bytes: int = 64 * MIB
    tmp_bytes: int = 64 * MIB
    output_bytes: int = 64 * 1024
    files_bytes: int = 16 * MIB
    files: int = 100


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One piece of code to run, once.

    `files` are there when it starts, by their names within its working folder: relative, no `..`, `/` between folders.
    `run_id` is unique among runs; org, session and step label what the backend starts.
    """

    language: Language
    code: str
    run_id: str
    stdin: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    limits: RunLimits = field(default_factory=RunLimits)
    org_id: str = ""
    session_id: str = ""
    step_no: int = 0


@dataclass(frozen=True, slots=True)
class RunUsage:
    """`None` where the backend cannot tell."""

    wall_s: float
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended. `exit_code` is negative for a signal, None where the code did not end by itself. Of `stdout` and
    `stderr` what is not UTF-8 is replaced. `files` are those that are new or changed, `left_out` those beyond the
    limits or that are no plain files. `detail` says what failed where `killed_by` is `INFRA`, and `started` whether the
    code may have run before that."""

    killed_by: KilledBy
    exit_code: int | None
    stdout: str = ""
    stderr: str = ""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    files: Mapping[str, bytes] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    usage: RunUsage = RunUsage(0.0)
    detail: str | None = None
    started: bool = False


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do here, as its self test found out. Where `available` is False, `reasons` say why, each in
    one line, and `hint` is the line that mends it. `memory` names what bounds it, such as `cgroup` or `rlimit`."""

    available: bool
    level: IsolationLevel
    languages: frozenset[Language] = frozenset()
    memory: str = ""
    network_off: bool = False
    reasons: tuple[str, ...] = ()
    hint: str | None = None


class SandboxBackend(Protocol):
    """One way to run code. Making one starts nothing; an instance serves concurrent runs of one event loop."""

    @property
    def name(self) -> str: ...

    def missing(self) -> str | None:
        """What keeps it from starting, as far as can be told within milliseconds; None where nothing is seen. Raises
        nothing, and may block for those milliseconds."""
        ...

    async def probe(self) -> Capabilities:
        """Start it and test its walls, once: later calls return the same. Raises nothing but cancellation."""
        ...

    async def run(self, spec: RunSpec) -> RunResult:
        """Run code that was never run before, and return once nothing of it is left. Raises: InvalidInput for files
        that cannot be put into a run.

        Whatever fails on the backend's side is a result with `KilledBy.INFRA`; another backend never steps in.
        Cancelling the task ends the run within a second, and then passes through.
        """
        ...

    async def cancel(self, run_id: str) -> None:
        """End a run that is under way, which then returns `KilledBy.CANCELLED`; unknown ones are ignored."""
        ...

    async def reap(self) -> int:
        """Remove what runs of dead processes left behind. Returns: how many."""
        ...

    async def close(self) -> None: ...
