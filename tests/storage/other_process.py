"""What another process does to a store: `python -m tests.storage.other_process COMMAND HOME [ARGUMENT]`.

Each command prints one line when it has done its work; `wait` holds it until its standard input ends.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from pathlib import Path

from conductor_ai.errors import ConductorError
from conductor_ai.storage.sqlite import SQLiteStore
from tests.storage.session_log import SessionLog

NOBODY = 65534


def wait() -> None:
    sys.stdin.read()


async def open_store(home: Path, _: str) -> None:
    try:
        store = await SQLiteStore.open(home)
    except ConductorError as exc:
        print(f"{exc.code}: {exc}", flush=True)
        return
    await store.close()
    print("opened", flush=True)


async def open_as_nobody(home: Path, _: str) -> None:
    """Root may write anywhere, so it steps down for as long as it takes."""
    as_root = os.getuid() == 0
    if as_root:
        os.setresuid(NOBODY, NOBODY, 0)
    await open_store(home, "")
    if as_root:
        os.setresuid(0, 0, 0)


async def append_and_wait(home: Path, _: str) -> None:
    store = await SQLiteStore.open(home)
    log = SessionLog()
    for _n in range(3):
        await store.append(log.next())
    print(log.session_id, flush=True)
    wait()


async def lock_and_wait(home: Path, session_id: str) -> None:
    store = await SQLiteStore.open(home)
    print(store.try_lock(session_id), flush=True)
    wait()
    await store.close()


async def write(home: Path, count: str) -> None:
    store = await SQLiteStore.open(home)
    logs = [SessionLog() for _ in range(int(count))]
    for _n in range(5):
        await asyncio.gather(*[store.append(log.next()) for log in logs])
    await store.close()
    print(" ".join(log.session_id for log in logs), flush=True)


async def forget_to_close(home: Path, _: str) -> None:
    store = await SQLiteStore.open(home)
    log = SessionLog()
    await store.append(log.next())
    await store.session(log.session_id, log.org_id)
    await store.sessions(log.org_id)
    print(log.session_id, flush=True)


async def fill_the_disk(home: Path, _: str) -> None:
    """No file may grow beyond the limit: to SQLite a disk without room."""
    store = await SQLiteStore.open(home)
    log = SessionLog()
    await store.append(log.next())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        await store.append(log.next([{"result": "x" * 5_000_000}]))
    except ConductorError as exc:
        print(f"{exc.code} {log.session_id}", flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    resumed = log.resumed(await store.claim(log.session_id, log.org_id, "1@test"))
    await store.append(resumed.next())
    await store.close()


COMMANDS = {
    function.__name__: function
    for function in (
        open_store,
        open_as_nobody,
        append_and_wait,
        lock_and_wait,
        write,
        forget_to_close,
        fill_the_disk,
    )
}

if __name__ == "__main__":
    asyncio.run(COMMANDS[sys.argv[1]](Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""))
