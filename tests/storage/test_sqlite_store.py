"""What only a file on a disk can show: other processes, kill -9, damage, refusal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from conductor_ai.errors import StoreCorrupt, StoreUnavailable
from conductor_ai.schemas.audit import AuditEntry
from conductor_ai.schemas.ids import new_id
from conductor_ai.storage.base import IdempotencyMark
from conductor_ai.storage.sqlite import SQLiteStore
from tests.storage.session_log import ORG, SessionLog

ROOT = Path(__file__).parents[2]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
async def store(home: Path) -> AsyncIterator[SQLiteStore]:
    opened = await SQLiteStore.open(home)
    yield opened
    await opened.close()


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts commands of `other_process`; what still runs at the end of the test is killed."""
    processes: list[subprocess.Popen[str]] = []

    def run(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.storage.other_process", *map(str, arguments)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate(timeout=30)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def open_and_close(home: Path) -> None:
    async def live() -> None:
        await (await SQLiteStore.open(home)).close()

    asyncio.run(live())


def finish(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert errors == ""
    return output.strip()


async def test_an_awaited_append_survives_kill_9(home: Path, start: Start) -> None:
    process = start("append_and_wait", home)
    session_id = line(process)
    process.kill()
    process.wait(timeout=30)

    store = await SQLiteStore.open(home)
    log = SessionLog(session_id=session_id)
    resumed = log.resumed(await store.claim(session_id, ORG, "2@test"))
    await store.append(resumed.next())
    events = await store.events(session_id, ORG)
    await store.close()

    assert [event.seq for event in events] == list(range(1, 9))


def test_two_processes_write_at_once(home: Path, start: Start) -> None:
    writers = [start("write", home, 20) for _ in range(2)]
    session_ids = [session_id for writer in writers for session_id in finish(writer).split()]
    with sqlite3.connect(home / "conductor.db") as connection:
        rows = connection.execute("SELECT session_id, count(*), max(seq) FROM session_events GROUP BY 1").fetchall()
    connection.close()
    assert sorted(rows) == sorted((session_id, 10, 10) for session_id in session_ids)


def test_processes_that_open_a_new_home_at_once_all_succeed(home: Path, start: Start) -> None:
    assert [finish(process) for process in [start("open_store", home) for _ in range(4)]] == ["opened"] * 4


async def test_a_lock_excludes_other_processes_until_its_holder_is_killed(
    store: SQLiteStore, home: Path, start: Start
) -> None:
    session_id = new_id()
    holder = start("lock_and_wait", home, session_id)
    assert line(holder) == "True"
    assert store.try_lock(session_id) is False
    assert store.try_lock(new_id()) is True

    holder.kill()
    holder.wait(timeout=30)
    assert store.try_lock(session_id) is True
    assert line(start("lock_and_wait", home, session_id)) == "False"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says who holds a lock")
async def test_the_holder_of_a_lock_is_the_process_that_drives_until_it_dies(
    store: SQLiteStore, home: Path, start: Start
) -> None:
    session_id = new_id()
    driver = start("lock_and_wait", home, session_id)
    assert line(driver) == "True"
    assert store.lock_holder(session_id) == driver.pid
    assert store.lock_holder(new_id()) is None

    driver.kill()
    driver.wait(timeout=30)
    assert store.lock_holder(session_id) is None
    assert store.try_lock(session_id) is True
    assert store.lock_holder(session_id) == os.getpid()


async def test_closing_one_store_leaves_another_of_the_process_its_locks(
    store: SQLiteStore, home: Path, start: Start
) -> None:
    session_id = new_id()
    other = await SQLiteStore.open(home)
    assert store.try_lock(session_id) is True
    await other.close()
    assert line(start("lock_and_wait", home, session_id)) == "False"


def test_a_process_that_forgets_to_close_still_ends(home: Path, start: Start) -> None:
    assert finish(start("forget_to_close", home)) != ""


async def test_a_full_disk_fails_the_append_and_loses_nothing(home: Path, start: Start) -> None:
    code, session_id = finish(start("fill_the_disk", home)).split()
    store = await SQLiteStore.open(home)
    events = await store.events(session_id, ORG)
    await store.close()
    assert code == "store_unavailable"
    assert [event.seq for event in events] == [1, 2, 3, 4]


async def test_a_database_locked_for_too_long_is_unavailable(home: Path) -> None:
    store = await SQLiteStore.open(home, busy_timeout_s=0.05)
    log, other = SessionLog(), SessionLog()
    await store.append(log.next())
    blocker = sqlite3.connect(home / "conductor.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match=r"conductor\.db is locked") as caught:
        await store.append(other.next())
    assert caught.value.hint
    assert len(await store.events(log.session_id, ORG)) == 2  # reads go on

    blocker.close()
    await store.append(log.next())
    assert len(await store.events(log.session_id, ORG)) == 4
    await store.close()


async def test_a_deleted_session_leaves_its_audit_and_its_ledger_only(store: SQLiteStore, home: Path) -> None:
    log = SessionLog()
    mark = IdempotencyMark("key", "a" * 64)
    execution, approval = log.execution(), log.approval()
    await store.append(log.next(executions=[execution], requested=[approval], calls=[None], idempotency=mark))
    await store.enqueue_message(log.message())
    assert rows_of(log.session_id, home) == ALL_TABLES

    await store.delete_session(log.session_id, ORG, AuditEntry("session", "deleted", "{}"))

    assert rows_of(log.session_id, home) == {"audit_heads", "audit_logs", "model_calls"}


ALL_TABLES = {
    "approvals",
    "audit_logs",
    "idempotency_keys",
    "model_calls",
    "queued_messages",
    "session_events",
    "sessions",
    "tool_executions",
}


def rows_of(session_id: str, home: Path) -> set[str]:
    """The tables with anything about the session."""
    with contextlib.closing(sqlite3.connect(home / "conductor.db")) as connection:
        tables = connection.execute(
            "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
            " AND c.name = 'session_id'"
        ).fetchall()
        return {
            name
            for (name,) in tables
            if connection.execute(f"SELECT 1 FROM {name} WHERE session_id = ?", (session_id,)).fetchone()
        }


def test_files_are_for_their_owner_only(home: Path, start: Start) -> None:
    process = start("append_and_wait", home)
    line(process)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()}
    assert modes == dict.fromkeys(("conductor.db", "conductor.db-shm", "conductor.db-wal", "drivers.lock"), 0o600)


@pytest.mark.parametrize("content", [b"garbage", b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 5000], ids=len)
def test_a_file_that_is_no_database_is_reported_and_left_alone(home: Path, content: bytes) -> None:
    home.mkdir()
    path = home / "conductor.db"
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt) as caught:
        open_and_close(home)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert path.read_bytes() == content
    assert sorted(entry.name for entry in home.iterdir()) == ["conductor.db", "drivers.lock"]


async def test_a_damaged_page_is_reported_where_it_is_met(home: Path) -> None:
    store = await SQLiteStore.open(home)
    log = SessionLog()
    for _ in range(50):
        await store.append(log.next())
    await store.close()
    path = home / "conductor.db"
    with sqlite3.connect(path) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'session_events'").fetchone()
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    content = bytearray(path.read_bytes())
    content[(page - 1) * page_size : page * page_size] = b"\xaa" * page_size
    path.write_bytes(content)

    store = await SQLiteStore.open(home)
    with pytest.raises(StoreCorrupt, match=r"conductor\.db"):
        await store.events(log.session_id, ORG)
    with pytest.raises(StoreCorrupt, match=r"conductor\.db"):
        await store.append(log.next())
    await store.close()


async def test_an_edited_event_is_reported_as_damage(store: SQLiteStore, home: Path) -> None:
    log = SessionLog()
    await store.append(log.next())
    with sqlite3.connect(home / "conductor.db") as connection:
        connection.execute("UPDATE session_events SET payload = '{' WHERE seq = 2")
    connection.close()
    with pytest.raises(StoreCorrupt, match="event 2 of session"):
        await store.events(log.session_id, ORG)


@pytest.mark.parametrize("existing", [False, True])
def test_a_home_that_cannot_be_written_is_unavailable(start: Start, existing: bool) -> None:
    parent = Path(tempfile.mkdtemp())  # not under pytest's folder, which other users cannot enter
    try:
        home = parent / "home"
        if existing:
            open_and_close(home)
            (home / "conductor.db").chmod(0o644)
            home.chmod(0o555)
        parent.chmod(0o555)
        assert finish(start("open_as_nobody", home)) == (
            f"store_unavailable: {home / 'conductor.db'} cannot be used (Permission denied)"
        )
    finally:
        parent.chmod(0o755)
        if existing:
            home.chmod(0o755)
        shutil.rmtree(parent)


def test_a_home_that_is_a_file_is_unavailable(home: Path) -> None:
    home.write_text("")
    with pytest.raises(StoreUnavailable, match="File exists") as caught:
        open_and_close(home)
    assert caught.value.hint == "set CONDUCTOR_HOME to a folder you can write to"


async def test_a_second_loop_may_open_what_the_first_left(home: Path) -> None:
    def whole_life(log: SessionLog) -> int:
        async def live() -> int:
            store = await SQLiteStore.open(home)
            await store.append(log.next())
            length = len(await store.events(log.session_id, ORG))
            await store.close()
            return length

        return asyncio.run(live())

    lengths = [await asyncio.to_thread(whole_life, SessionLog()) for _ in range(2)]
    assert lengths == [2, 2]


def test_what_a_loop_left_unawaited_is_stored_by_closing_on_the_next(home: Path) -> None:
    log = SessionLog()

    async def leave() -> SQLiteStore:
        store = await SQLiteStore.open(home)
        handed_over = [store.append(log.next()) for _ in range(100)]
        assert not handed_over[-1].done()
        return store

    async def find() -> int:
        store = await SQLiteStore.open(home)
        length = len(await store.events(log.session_id, ORG))
        await store.close()
        return length

    asyncio.run(asyncio.run(leave()).close())
    assert asyncio.run(find()) == 200


def test_opening_appending_and_resuming_do_not_import_sqlalchemy(home: Path) -> None:
    script = """
import asyncio, json, sys
from pathlib import Path
from conductor_ai.storage.sqlite import SQLiteStore
from tests.storage.session_log import ORG, SessionLog

async def main():
    store = await SQLiteStore.open(Path(sys.argv[1]))
    log = SessionLog()
    await store.append(log.next())
    await store.claim(log.session_id, ORG, "1@test")
    await store.events(log.session_id, ORG)
    await store.approvals(ORG, session_id=log.session_id)
    await store.close()

asyncio.run(main())
print(json.dumps("sqlalchemy" in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(home)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert json.loads(done.stdout) is False
