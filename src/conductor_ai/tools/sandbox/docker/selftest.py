"""Whether the walls of a container stand here: code of our own tries them from inside, before anybody else's runs."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from importlib import resources

from conductor_ai.tools.sandbox.base import MIB, KilledBy, Language, RunLimits, RunResult, RunSpec

Run = Callable[[RunSpec], Awaitable[RunResult]]
_LIMITS = RunLimits(
    wall_s=20.0, memory_bytes=96 * MIB, processes=24, work_bytes=8 * MIB, tmp_bytes=8 * MIB, output_bytes=16 * 1024
)
_HOG = f"hoard = []\nwhile len(hoard) < {4 * _LIMITS.memory_bytes // MIB}:\n    hoard.append(b'x' * {MIB})\n"
_NODE = RunLimits(wall_s=20.0, output_bytes=1024)
_KERNEL = "print(open('/proc/sys/kernel/osrelease').read().strip())\n"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`failures` keep the engine from being used; `warnings` say what it lacks."""

    failures: tuple[str, ...]
    warnings: tuple[str, ...]
    languages: frozenset[Language]


async def run(start: Run, *, own_kernel: bool) -> Verdict:
    """Try the walls, all at once. Raises nothing of its own."""
    told = {
        "tmp_bytes": _LIMITS.tmp_bytes,
        "work_bytes": _LIMITS.work_bytes,
        "processes": _LIMITS.processes,
        "own_kernel": own_kernel,
    }
    walls = resources.files(__package__).joinpath("walls.py").read_text(encoding="utf-8")
    inside, memory, node = await asyncio.gather(
        start(replace(_spec(walls), stdin=json.dumps(told))),
        start(_spec(_HOG)),
        start(replace(_spec("console.log(6 * 7)"), language=Language.JAVASCRIPT, limits=_NODE)),
    )
    failures = [*_gaps(inside)]
    if memory.killed_by is not KilledBy.MEMORY:
        failures.append(memory.detail or "the memory of a run is not limited")
    has_node = node.stdout.strip() == "42"
    return Verdict(
        failures=tuple(dict.fromkeys(failures)),
        warnings=() if has_node else (f"no JavaScript: {_complaint(node)}",),
        languages=frozenset(Language) if has_node else frozenset({Language.PYTHON}),
    )


async def shares_kernel(start: Run, kernel: str) -> str | None:
    """Why this runtime gives the code no kernel of its own; None where it does."""
    seen = await start(_spec(_KERNEL))
    if seen.killed_by is not KilledBy.NONE or seen.exit_code != 0:
        return _complaint(seen)
    return "the code sees the kernel of the engine's machine" if seen.stdout.strip() == kernel else None


def _gaps(inside: RunResult) -> list[str]:
    if inside.killed_by is not KilledBy.NONE or inside.exit_code != 0:
        return [f"the self test did not run: {_complaint(inside)}"]
    return inside.stdout.splitlines()


def _complaint(result: RunResult) -> str:
    said = result.stderr.strip().splitlines()
    return result.detail or (said[-1] if said else f"it ended by {result.killed_by}, exit code {result.exit_code}")


def _spec(code: str) -> RunSpec:
    return RunSpec(Language.PYTHON, code, f"selftest-{secrets.token_hex(8)}", limits=_LIMITS)
