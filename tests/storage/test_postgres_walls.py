"""The walls around a Postgres: who may see what, what must be migrated first, what stands before the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest

from conductor_ai.bundled import bundled
from conductor_ai.errors import InvalidInput, MigrationError, SessionNotFound, StorageError, StoreUnavailable
from conductor_ai.schemas.audit import AuditEntry, first_break
from conductor_ai.storage.base import IdempotencyMark, Runnable
from conductor_ai.storage.migrations import load
from conductor_ai.storage.postgres import PostgresStore, migrate
from conductor_ai.storage.postgres.address import parse
from tests.conftest import fail_after
from tests.storage.postgres_database import Database
from tests.storage.session_log import ORG, SessionLog

ENTRY = AuditEntry("org", "org.limits_set", "{}")
MIGRATIONS = len(load(bundled("sql")))
Open = Callable[..., Awaitable[PostgresStore]]


@pytest.fixture
async def open_at() -> AsyncIterator[Open]:
    stores: list[PostgresStore] = []

    async def open_one(url: str, **options: Any) -> PostgresStore:
        store = await PostgresStore.open(url, **options)
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        await store.close()


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    opened = Database(postgres_url)
    yield opened
    opened.close()


async def fill(store: PostgresStore, database: Database) -> None:
    for org in ("mine", "other"):
        log = SessionLog(org_id=org)
        mark = IdempotencyMark("key", "a" * 64)
        await store.append(
            log.next(executions=[log.execution()], requested=[log.approval()], calls=[Decimal(1)], idempotency=mark)
        )
        await store.enqueue_message(log.message())
        await store.put_file(log.session_id, org, *log.file())
        await store.set_org_limits(org, {"max_usd_per_day": 9}, ENTRY)
        await store.reserve_usd(org, Decimal(1), "2026-11-23T10:00:00+00:00")
        database.run("INSERT INTO leads (org_id, company) VALUES (%s, 'c')", org)
        database.run(
            "INSERT INTO api_keys (key_id, org_id, name, scopes, digest, created_at, created_by)"
            " VALUES (%s, %s, '', '', '', now(), '')",
            org,
            org,
        )


def orgs_seen(database: Database, table: str) -> set[str]:
    """Whose rows a reader for the org `mine` gets without asking for an org: by itself, or by its session."""
    org = "(SELECT s.org_id FROM all_sessions s WHERE s.session_id = t.session_id)"
    asked = org if table == "session_events" else "t.org_id"
    with database.transaction():
        database.run("CREATE TEMP TABLE all_sessions ON COMMIT DROP AS SELECT session_id, org_id FROM sessions")
        database.run("GRANT SELECT ON all_sessions TO conductor_api")
        database.run("SELECT set_config('role', 'conductor_api', true), set_config('conductor.org_id', 'mine', true)")
        return {row[0] for row in database.run(f"SELECT {asked} FROM {table} t")}


async def test_readers_see_their_org_only_even_where_a_query_forgets_to_ask(
    postgres_url: str, database: Database, open_at: Open
) -> None:
    await fill(await open_at(postgres_url), database)
    found = database.run("SELECT table_name FROM information_schema.columns WHERE column_name = 'org_id'")
    tables = sorted({name for (name,) in found} | {"session_events"})
    assert len(tables) == 14

    assert {table: orgs_seen(database, table) for table in tables} == {table: {"mine"} for table in tables}
    for table in tables:  # and it is the wall that does it
        database.run(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
        assert orgs_seen(database, table) == {"mine", "other"}


READS: dict[str, Callable[[PostgresStore, str], Awaitable[object]]] = {
    "sessions": lambda store, _: store.sessions(ORG),
    "approvals": lambda store, _: store.approvals(ORG),
    "session_events": lambda store, session_id: store.events(session_id, ORG),
    "tool_executions": lambda store, session_id: store.tool_executions(ORG, session_id),
    "audit_logs": lambda store, _: store.audit_log(ORG),
    "queued_messages": lambda store, session_id: store.queued_messages(session_id, ORG),
    "session_files": lambda store, session_id: store.files(session_id, ORG),
    "model_calls": lambda store, _: store.usage(ORG, day_from="2000-01-01", day_before="3000-01-01"),
}


@pytest.mark.parametrize("table", READS)
async def test_what_is_read_for_a_caller_is_read_behind_the_wall(
    postgres_url: str, database: Database, open_at: Open, table: str
) -> None:
    store, log = await open_at(postgres_url), SessionLog()
    await store.append(log.next(requested=[log.approval()], executions=[log.execution()], calls=[None]))
    await store.enqueue_message(log.message())
    await store.put_file(log.session_id, ORG, *log.file())
    assert await READS[table](store, log.session_id)

    database.run(f"DROP POLICY conductor_org ON {table}")  # without one, nobody but the owner sees a row

    assert await READS[table](store, log.session_id) == []
    await store.append(log.next())
    assert len(await store.runnable(limit=9)) == 1


async def test_another_orgs_session_is_not_found_through_a_pool_of_used_connections(
    postgres_url: str, open_at: Open
) -> None:
    store, logs = await open_at(postgres_url), [SessionLog(org_id=f"org{n}") for n in range(8)]
    await asyncio.gather(*[store.append(log.next()) for log in logs])

    async def read(log: SessionLog, reader: SessionLog) -> bool:
        try:
            return (await store.session(log.session_id, reader.org_id)).org_id == reader.org_id
        except SessionNotFound:
            return False

    found = await asyncio.gather(*[read(log, reader) for log in logs for reader in logs])
    assert found == [log is reader for log in logs for reader in logs]


# Migrations


async def test_a_database_that_lacks_migrations_is_not_opened_unless_asked(
    empty_postgres_url: str, open_at: Open
) -> None:
    with pytest.raises(MigrationError, match=r"lacks .* migrations, the first is 001_audit_and_leads") as caught:
        await open_at(empty_postgres_url)
    assert caught.value.hint == "run `conductor db migrate`"

    store = await open_at(empty_postgres_url, migrate_first=True)
    assert await store.sessions(ORG) == []
    assert migrate(empty_postgres_url) == []


async def test_many_that_migrate_at_once_apply_each_file_once(empty_postgres_url: str) -> None:
    applied = await asyncio.gather(*[asyncio.to_thread(migrate, empty_postgres_url) for _ in range(4)])
    assert sorted(map(len, applied)) == [0, 0, 0, MIGRATIONS]


async def test_a_migration_that_was_edited_is_refused(postgres_url: str, database: Database, open_at: Open) -> None:
    database.run("UPDATE schema_migrations SET checksum = 'x' WHERE number = 2")
    with pytest.raises(MigrationError, match="002_sessions is not the file that was applied"):
        await open_at(postgres_url)
    with pytest.raises(MigrationError, match="002_sessions is not the file that was applied"):
        migrate(postgres_url)


@pytest.fixture
def plain_user(postgres_url: str, database: Database) -> Iterator[str]:
    """The address of the database for a user who may make tables, but no roles."""
    name = f"plain_{urlsplit(postgres_url).path[-8:]}"
    database.run(f"CREATE ROLE {name} LOGIN PASSWORD 'pass word'")
    database.run(f"GRANT {name} TO CURRENT_USER")
    parts = urlsplit(postgres_url)
    yield parts._replace(netloc=f"{name}:pass%20word@{parts.hostname}:{parts.port}").geturl()
    database.run(f"DROP OWNED BY {name} CASCADE")
    database.run(f"DROP ROLE {name}")


async def test_a_user_who_may_not_act_as_the_reader_is_told_what_an_administrator_must_run(
    database: Database, plain_user: str, open_at: Open
) -> None:
    name = urlsplit(plain_user).username
    database.run(f"CREATE SCHEMA fresh AUTHORIZATION {name}")
    database.run(f"ALTER ROLE {name} SET search_path = fresh")
    with pytest.raises(MigrationError, match="006_row_level_security failed") as caught:
        migrate(plain_user)
    assert caught.value.hint is not None
    assert f'GRANT conductor_api TO "{name}"' in caught.value.hint

    database.run(f"GRANT conductor_api TO {name}")
    assert len(migrate(plain_user)) == MIGRATIONS
    store, log = await open_at(plain_user), SessionLog()
    await store.append(log.next())
    assert (await store.session(log.session_id, ORG)).session_id == log.session_id


async def test_a_user_who_does_not_own_the_tables_is_refused(
    database: Database, plain_user: str, open_at: Open
) -> None:
    name = urlsplit(plain_user).username
    database.run(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}")
    with pytest.raises(StoreUnavailable, match="may not write all rows") as caught:
        await open_at(plain_user)
    assert "conductor db migrate" in str(caught.value.hint)


# Addresses and poolers


@pytest.mark.parametrize(
    ("url", "is_transaction_pooler"),
    [
        ("postgresql://u:p@db.example.com:5432/x", False),
        ("postgresql://u:p@aws-0.pooler.supabase.com:5432/x", False),
        ("postgresql://u:p@aws-0.pooler.supabase.com:6543/x", True),
        ("postgres://u:p@db.example.com:6543/x?sslmode=require", True),
        ("postgresql://u:p@db.example.com/x?pgbouncer=true&sslmode=require", True),
        ("postgresql://u:p@db.example.com:6543/x?pgbouncer=false", False),
    ],
)
def test_a_transaction_pooler_is_known_by_its_address(url: str, is_transaction_pooler: bool) -> None:
    address = parse(url)
    assert address.transaction_pooler is is_transaction_pooler
    assert "pgbouncer" not in address.conninfo
    assert ("sslmode=require" in address.conninfo) == ("sslmode" in url)
    assert "password=p" not in repr(address)


@pytest.mark.parametrize(
    "url", ["postgresql://u:hunter2@h:port/x", "postgresql://u:hunter2@h/x?what=1", "postgresql://u:hunter2@[h/x"]
)
def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(url)
    assert "hunter2" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"


async def test_a_refused_password_is_not_repeated(postgres_url: str, open_at: Open) -> None:
    parts = urlsplit(postgres_url)
    url = parts._replace(netloc=f"{parts.username}:hunter2@{parts.hostname}:{parts.port}").geturl()
    with pytest.raises(StoreUnavailable, match="password authentication failed") as caught:
        await open_at(url)
    with pytest.raises(StorageError):
        migrate(url)
    assert "hunter2" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"


async def test_all_of_it_works_behind_a_pooler_that_changes_sessions(pgbouncer_url: str, open_at: Open) -> None:
    assert migrate(pgbouncer_url) == []
    stores = [await open_at(pgbouncer_url, dead_after_s=0) for _ in range(3)]
    logs = [SessionLog(org_id=f"org{n % 3}") for n in range(12)]

    async def run(n: int, log: SessionLog) -> None:
        store = stores[n % 3]
        for _ in range(10):
            store.append_later(log.next(calls=[Decimal(1)]))
            await store.append(log.next())
            assert len(await store.events(log.session_id, log.org_id)) == log.last_seq
            await store.append_org_audit(log.org_id, [ENTRY])
            with pytest.raises(SessionNotFound):
                await store.session(log.session_id, f"org{(n + 1) % 3}")

    async with fail_after(60):
        await asyncio.gather(*[run(n, log) for n, log in enumerate(logs)])
        for log in logs:
            rows, head = await stores[0].audit_rows(log.org_id, log.session_id)
            assert (len(rows), first_break(rows, head)) == (40, None)
        for org in ("org0", "org1", "org2"):
            rows, head = await stores[0].audit_rows(org, None)
            assert (len(rows), first_break(rows, head)) == (40, None)
            assert len(await stores[0].sessions(org)) == 4
        free: list[Runnable] = await stores[0].runnable(limit=20)
    assert {one.session_id for one in free} == {log.session_id for log in logs}
