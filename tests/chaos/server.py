"""A real `conductor serve`: a process of its own, over whatever its environment names."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import fail_after
from tests.crash.processes import SCRIPT

_WAIT_S = 60.0


@dataclass(frozen=True)
class Server:
    """`key` is one of all scopes. `log` is what it wrote on standard error."""

    url: str
    key: str
    log: Path


@asynccontextmanager
async def serving(folder: Path, variables: Mapping[str, str]) -> AsyncIterator[Server]:
    """Stopped as an operator does it, and killed where that is not enough."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **kept, **variables}
    log = folder / "server.log"
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *(SCRIPT, "serve", "--port", "0", "--json", "--first-key", "--grace-s", "2"),
            cwd=folder,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        async with fail_after(_WAIT_S):
            assert process.stdout is not None
            told = await process.stdout.readline()
        assert told, log.read_text()
        said = json.loads(told)
        yield Server(said["url"], said["key"], log)
        assert process.returncode is None, f"it ended by itself:\n{log.read_text()[-4000:]}"
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with fail_after(_WAIT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
