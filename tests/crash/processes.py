"""Real `conductor` processes: started, watched, stopped and killed by the id they were started with."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import fail_after

SCRIPT = str(Path(sys.executable).parent / "conductor")
ROOT = Path(__file__).parents[2]
_WAIT_S = 60.0
_POLL_S = 0.02
_QUIET_POLLS = 10


@dataclass(frozen=True)
class Outcome:
    pid: int
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON value and nothing else."""
        return json.loads(self.out)


class Started:
    """A running process. What it writes is collected; `said` waits for it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self._process = process
        self._err: list[str] = []
        self._more = asyncio.Condition()
        self._out = asyncio.create_task(_all_of(process.stdout))
        self._reading = asyncio.create_task(self._read_err())

    async def said(self, text: str) -> str:
        """The first line on standard error with `text` in it."""
        async with fail_after(_WAIT_S), self._more:
            while True:
                for line in self._err:
                    if text in line:
                        return line
                assert not self._reading.done(), f"it never said {text!r}:\n{''.join(self._err)}"
                await self._more.wait()

    def has_open(self, file: Path) -> bool:
        """On Linux only."""
        return any(_target(entry) == file for entry in Path(f"/proc/{self.pid}/fd").iterdir())

    async def settles(self) -> None:
        """Returns once the process has used no CPU time for a while: it waits for something that does not come."""
        used, quiet = -1, 0
        async with fail_after(_WAIT_S):
            while quiet < _QUIET_POLLS:
                now = self._ticks()
                used, quiet = now, quiet + 1 if now == used else 0
                await asyncio.sleep(_POLL_S)

    def _ticks(self) -> int:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL; returns once the process is gone. One that has ended already may be killed too."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self.ended()

    async def ended(self) -> Outcome:
        async with fail_after(_WAIT_S):
            code = await self._process.wait()
            out = await self._out
            await self._reading
        return Outcome(self.pid, code, out, "".join(self._err))

    async def _read_err(self) -> None:
        if self._process.stderr is None:
            return
        async for line in self._process.stderr:
            await self._tell(line.decode())
        await self._tell("")

    async def _tell(self, line: str) -> None:
        async with self._more:
            self._err.append(line)
            self._more.notify_all()


class Processes:
    """Starts processes in `folder`, with no variable set but those in `env`; `close` kills what is left of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Started] = []
        self._pipes: list[int] = []
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
        }

    async def start(self, *command: str, blocked: str = "", env: Mapping[str, str] | None = None) -> Started:
        """`blocked` "stdout" or "stderr": the process stops where it first writes there."""
        pipe = self._full_pipe() if blocked else -1
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self._folder,
            env=self.env | dict(env or {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe if blocked == "stdout" else asyncio.subprocess.PIPE,
            stderr=pipe if blocked == "stderr" else asyncio.subprocess.PIPE,
        )
        started = Started(process)
        self._started.append(started)
        return started

    async def close(self) -> None:
        for started in self._started:
            await started.kill()
        for pipe in self._pipes:
            os.close(pipe)

    def _full_pipe(self) -> int:
        """The writing end of a pipe without room for one byte more."""
        reading, writing = os.pipe()
        self._pipes += [reading, writing]
        os.set_blocking(writing, False)
        for size in (65536, 1):
            with suppress(BlockingIOError):
                while True:
                    os.write(writing, bytes(size))
        os.set_blocking(writing, True)
        return writing


async def _all_of(stream: asyncio.StreamReader | None) -> str:
    return "" if stream is None else (await stream.read()).decode()


def _target(entry: Path) -> Path | None:
    try:
        return entry.readlink()
    except FileNotFoundError:  # closed since it was listed
        return None
