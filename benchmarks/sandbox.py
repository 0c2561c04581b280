"""What a sandbox costs, beside the floor: the same code run by the same interpreter without one.

    python benchmarks/sandbox.py [--quick] [--backend NAME]

Times are from the call of `run()` to its result, medians; the self test of each backend is timed apart. A cancel is
timed from the moment at which the code is known to run. Figures compare within one run only: another machine, or a busy
one, gives others.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import NamedTuple

from conductor_ai.tools.sandbox import backends
from conductor_ai.tools.sandbox.base import KilledBy, Language, RunLimits, RunSpec, SandboxBackend

AT_ONCE = 6
MEMORY_BYTES = 512 * 2**20
SCRIPTS = {Language.PYTHON: "print('hello')", Language.JAVASCRIPT: "console.log('hello')"}
LIBRARIES = "import numpy, pandas\nprint(pandas.DataFrame({'n': numpy.arange(10)}).n.sum())"
PLOT = "import matplotlib.pyplot as plot\nplot.plot([1, 2])\nplot.savefig('plot.png')"
FILE_BYTES = 4 * 2**20
COPY = "open('copy', 'wb').write(open('original', 'rb').read())"
_numbers = count(1)


class Row(NamedTuple):
    """`target_s` holds on two cores for bubblewrap; `floor` is the command that does the same without a sandbox."""

    name: str
    target_s: float | None
    language: Language
    code: str
    floor: bool = True
    files: dict[str, bytes] | None = None


ROWS = (
    Row("Python, one line", 0.1, Language.PYTHON, SCRIPTS[Language.PYTHON]),
    Row("Node.js, one line", 0.4, Language.JAVASCRIPT, SCRIPTS[Language.JAVASCRIPT]),
    Row("numpy and pandas", None, Language.PYTHON, LIBRARIES),
    Row("a plot", None, Language.PYTHON, PLOT, floor=False),
    Row("4 MiB in and out", None, Language.PYTHON, COPY, floor=False, files={"original": bytes(FILE_BYTES)}),
)


def spec(language: Language, code: str, files: dict[str, bytes] | None = None) -> RunSpec:
    limits = RunLimits(wall_s=60.0, memory_bytes=MEMORY_BYTES)
    return RunSpec(language, code, f"bench-{os.getpid()}-{next(_numbers)}", files=files or {}, limits=limits)


async def checked_run(backend: SandboxBackend, wanted: RunSpec) -> None:
    ended = await backend.run(wanted)
    if (ended.killed_by, ended.exit_code) != (KilledBy.NONE, 0):
        raise SystemExit(f"{backend.name} did not run the code: {ended}")


async def run_row(backend: SandboxBackend, row: Row) -> None:
    await checked_run(backend, spec(row.language, row.code, row.files))


async def floor_run(language: Language, code: str) -> None:
    command = (
        [sys.executable, "-c", code] if language is Language.PYTHON else [shutil.which("node") or "node", "-e", code]
    )
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    await process.communicate()


async def seconds(act: Callable[[], Awaitable[None]], times: int) -> float:
    """The median of so many times."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        await act()
        taken.append(time.perf_counter() - started)
    return median(taken)


async def at_once(backend: SandboxBackend) -> None:
    """Six runs, three of each language where both are there."""
    languages = (await backend.probe()).languages
    turns = [sorted(languages)[n % len(languages)] for n in range(AT_ONCE)]
    await asyncio.gather(*(checked_run(backend, spec(language, SCRIPTS[language])) for language in turns))


async def cancel_s(backend: SandboxBackend) -> float:
    """How long a task that waits for endless code takes to end, once that code is running."""
    mark = f"bench-cancel-{next(_numbers)}-{os.getpid()}"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time; time.sleep(1000)', {mark!r}])"
    task = asyncio.create_task(backend.run(spec(Language.PYTHON, code)))
    while not await asyncio.to_thread(is_running, mark):  # noqa: ASYNC110 - nobody tells of a process's start
        await asyncio.sleep(0.01)
    started = time.perf_counter()
    task.cancel()
    await asyncio.wait([task])
    return time.perf_counter() - started


def is_running(mark: str) -> bool:
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes():
                return True
        except OSError:
            continue  # it ended meanwhile
    return False


async def measure(name: str, backend: SandboxBackend, times: int) -> None:
    started = time.perf_counter()
    found = await backend.probe()
    taken = time.perf_counter() - started
    if not found.available:
        print(f"{name}: not here ({'; '.join(found.reasons)})\n")
        return
    print(f"{name}: {found.level}, memory by {found.memory}; its self test took {taken:.2f} s\n")
    print("| run | time | floor | target |")
    print("| --- | ---: | ---: | ---: |")
    for row in ROWS:
        if row.language not in found.languages:
            continue
        ours = await seconds(partial(run_row, backend, row), times)
        floor = await seconds(partial(floor_run, row.language, row.code), times) if row.floor else None
        print_row(row.name, ours, floor, row.target_s)
    print_row(f"{AT_ONCE} at a time", await seconds(partial(at_once, backend), times), None, 2.0)
    print_row("a cancel", median([await cancel_s(backend) for _ in range(times)]), None, 1.0)
    print()


def print_row(name: str, ours: float, floor: float | None, target: float | None) -> None:
    print(f"| {name} | {_ms(ours)} | {_ms(floor)} | {_ms(target)} |", flush=True)


def _ms(taken: float | None) -> str:
    return "" if taken is None else f"{taken * 1000:,.0f} ms"


def machine() -> str:
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.system()} {platform.release()}"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="each run once: shows that all of it runs")
    parser.add_argument("--backend", help="this one only")
    parser.add_argument("--times", type=int, default=15, help="how often each run is made")
    given = parser.parse_args()
    print(f"{machine()}, Python {platform.python_version()}\n")
    for name, backend in backends().items():
        if given.backend in (None, name):
            try:
                await measure(name, backend, 1 if given.quick else given.times)
            finally:
                await backend.close()


if __name__ == "__main__":
    asyncio.run(main())
