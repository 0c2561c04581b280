"""What waits for what while a file is stored in Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from conductor_ai.errors import SessionNotFound
from conductor_ai.storage.postgres import PostgresStore
from tests.conftest import fail_after
from tests.storage.postgres_database import Database
from tests.storage.session_log import ORG, SessionLog

SAME_FILES = "SELECT pg_advisory_xact_lock(hashtextextended('conductor session_files ' || %s, 0))"
WAITING = "SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()"


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(postgres_url)
    yield store
    await store.close()


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    opened = Database(postgres_url)
    yield opened
    opened.close()


@pytest.fixture
def watch(postgres_url: str) -> Iterator[Database]:
    opened = Database(postgres_url)
    yield opened
    opened.close()


@pytest.fixture
async def log(store: PostgresStore) -> SessionLog:
    log = SessionLog()
    await store.append(log.next())
    return log


async def test_logs_go_on_while_a_file_is_on_its_way(
    store: PostgresStore, database: Database, watch: Database, log: SessionLog
) -> None:
    async with fail_after(20):
        with database.transaction():
            database.run(SAME_FILES, log.session_id)  # as another process that stores one
            stored = asyncio.create_task(store.put_file(log.session_id, ORG, *log.file()))
            await watch.until(WAITING)
            for _ in range(3):
                await store.append(log.next())
            assert not stored.done()
        await stored
    assert [file.name for file in await store.files(log.session_id, ORG)] == ["plot.png"]


async def test_a_file_does_not_wait_for_an_append_of_its_session(
    store: PostgresStore, database: Database, log: SessionLog
) -> None:
    async with fail_after(20):
        with database.transaction():
            database.run("UPDATE sessions SET step_no = step_no + 1 WHERE session_id = %s", log.session_id)
            await store.put_file(log.session_id, ORG, *log.file())


async def test_a_file_waits_for_the_deletion_of_its_session_and_is_then_refused(
    store: PostgresStore, database: Database, watch: Database, log: SessionLog
) -> None:
    async with fail_after(20):
        with database.transaction():
            database.run("SELECT 1 FROM sessions WHERE session_id = %s FOR UPDATE", log.session_id)
            database.run("DELETE FROM session_files WHERE session_id = %s", log.session_id)
            stored = asyncio.create_task(store.put_file(log.session_id, ORG, *log.file()))
            await watch.until(WAITING)
            database.run("DELETE FROM sessions WHERE session_id = %s", log.session_id)
        with pytest.raises(SessionNotFound):
            await stored
    assert database.run("SELECT name FROM session_files") == []


async def test_a_file_is_stored_though_its_connection_was_lost(
    store: PostgresStore, database: Database, log: SessionLog
) -> None:
    async with fail_after(20):
        await store.put_file(log.session_id, ORG, *log.file())
        database.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        second = log.file("second.png")
        await store.put_file(log.session_id, ORG, *second)
        assert await store.file(log.session_id, ORG, "second.png") == second
