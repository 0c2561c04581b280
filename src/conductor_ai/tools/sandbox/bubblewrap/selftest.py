"""The self test: whether the walls of this backend hold on this machine, tried by code that runs behind them."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib import resources
from tempfile import TemporaryDirectory

from conductor_ai.tools.sandbox.base import MIB, KilledBy, Language, RunLimits, RunResult, RunSpec
from conductor_ai.tools.sandbox.bubblewrap.command import SHM_BYTES
from conductor_ai.tools.sandbox.probing import Watched

_Run = Callable[[RunSpec], Awaitable[RunResult]]

_LIMITS = RunLimits(wall_s=10.0, memory_bytes=96 * MIB, processes=16, work_bytes=2 * MIB, tmp_bytes=2 * MIB)

_FORKS = """
import os, signal
count = 0
try:
    while count < 40:
        if os.fork() == 0:
            signal.pause()
        count += 1
except OSError:
    pass
print(count)
"""
_MEMORY_TOGETHER = """
import os, signal, time
signal.signal(signal.SIGCHLD, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
ready, done = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        held = bytearray(b"x") * (48 * 2**20)
        os.write(done, b"x")
        signal.pause()
for _ in range(4):
    os.read(ready, 1)
time.sleep(1)  # long enough for a watchdog to look
os._exit(0)
"""
_ENDLESS = """
import os, signal
for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(ignored, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
while True:
    pass
"""
_SPEAK = """
while True:
    print("x" * 4000)
"""
_JAVASCRIPT = """
const { Worker } = require("node:worker_threads");
const inner = "require('node:worker_threads').parentPort.postMessage(41)";
new Worker(inner, { eval: true }).on("message", (n) => console.log(n + 1));
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`failures` say what did not hold, each in one line. `languages` are those that work. Python has to: the walls are
    tried in it. `sure` is False where a try told nothing: then another one may end better."""

    failures: tuple[str, ...]
    languages: frozenset[Language]
    sure: bool


async def verdict(start: _Run, languages: frozenset[Language]) -> Verdict:
    """Try every wall, side by side."""
    run = Watched(start, slow_s=_LIMITS.wall_s)
    found, javascript = await asyncio.gather(
        asyncio.gather(walls(run), processes(run), memory(run), _time(run), _output(run)),
        _javascript(run, languages),
    )
    works = languages if javascript else languages - {Language.JAVASCRIPT}
    return Verdict(tuple(line for lines in found for line in lines), works, run.sure)


def _spec(code: str, *, stdin: str = "", limits: RunLimits = _LIMITS, language: Language = Language.PYTHON) -> RunSpec:
    return RunSpec(language=language, code=code, run_id=f"self-test-{uuid.uuid4().hex}", stdin=stdin, limits=limits)


async def walls(run: _Run) -> list[str]:
    """Returns: those of `walls.py` that did not hold, each in one line."""
    async with _bait() as asked:
        sizes = {"/tmp": _LIMITS.tmp_bytes, "/work": _LIMITS.work_bytes, "/dev/shm": SHM_BYTES}  # noqa: S108
        code = resources.files(__package__).joinpath("walls.py").read_text(encoding="utf-8")
        found = await run(_spec(code, stdin=json.dumps({**asked, "sizes": sizes})))
    if found.killed_by is not KilledBy.NONE or found.exit_code != 0:
        return [_told(found)]
    try:
        return [str(line) for line in json.loads(found.stdout)]
    except ValueError:
        return [f"the self test said {found.stdout[:200]!r}"]


@asynccontextmanager
async def _bait() -> AsyncIterator[dict[str, object]]:
    """What must be out of reach: a server, a socket by a name, and a folder."""
    abstract = f"conductor-{uuid.uuid4().hex}"
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind("\0" + abstract)
        listening.listen()
        server = await asyncio.start_server(_hang_up, "127.0.0.1", 0)
        async with server:
            with TemporaryDirectory() as folder:
                yield {"tcp": server.sockets[0].getsockname(), "abstract": abstract, "folder": folder}
    finally:
        listening.close()


def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def processes(run: _Run) -> list[str]:
    found = await run(_spec(_FORKS))
    if found.killed_by is KilledBy.NONE and found.stdout.strip().isdigit():
        return [] if int(found.stdout) <= _LIMITS.processes else ["it starts more processes than it may"]
    return [_told(found)]


async def memory(run: _Run) -> list[str]:
    found = await run(_spec(_MEMORY_TOGETHER))
    if found.killed_by is KilledBy.MEMORY:
        return []
    return [f"its processes take more memory than they may: {_told(found)}"]


async def _time(run: _Run) -> list[str]:
    found = await run(_spec(_ENDLESS, limits=replace(_LIMITS, wall_s=0.5)))
    return [] if found.killed_by is KilledBy.TIME else [f"it does not end with its time: {_told(found)}"]


async def _output(run: _Run) -> list[str]:
    found = await run(_spec(_SPEAK))
    return [] if found.killed_by is KilledBy.OUTPUT else [f"it writes more than it may: {_told(found)}"]


async def _javascript(run: _Run, languages: frozenset[Language]) -> bool:
    if Language.JAVASCRIPT not in languages:
        return False
    found = await run(_spec(_JAVASCRIPT, language=Language.JAVASCRIPT, limits=replace(RunLimits(), wall_s=10.0)))
    return found.killed_by is KilledBy.NONE and found.stdout == "42\n"


def _told(found: RunResult) -> str:
    last = (found.stderr.strip().splitlines() or [""])[-1]
    return found.detail or f"exit {found.exit_code}, killed by {found.killed_by}, {last[:200]}"
