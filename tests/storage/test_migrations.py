"""Migrations: applied once, in order, never edited; run on real SQLite files."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from conductor_ai.bundled import bundled
from conductor_ai.errors import MigrationError
from conductor_ai.storage.migrations import load, migrate
from conductor_ai.storage.sqlite import SQLiteStore
from conductor_ai.storage.sqlite.database import SQLiteTarget, connect
from conductor_ai.storage.sqlite.locks import FileLocks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "sql"
    path.mkdir()
    (path / "001_first.sql").write_text("CREATE TABLE one (id INTEGER);\n")
    (path / "002_second.sql").write_text("CREATE TABLE two (id INTEGER);\nINSERT INTO one VALUES (2);\n")
    return path


class Database:
    def __init__(self, path: Path) -> None:
        self.connection = connect(path, busy_timeout_s=10, cache_kib=1024)
        self.locks = FileLocks(path.with_suffix(".lock"))
        self.target = SQLiteTarget(self.connection, self.locks, path)

    def tables(self) -> list[str]:
        rows = self.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return [row[0] for row in rows if row[0] != "schema_migrations"]

    def close(self) -> None:
        self.connection.close()
        self.locks.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "test.db")
    yield opened
    opened.close()


def test_migrations_are_applied_in_order_and_once(database: Database, folder: Path) -> None:
    assert [migration.name for migration in migrate(database.target, load(folder))] == ["001_first", "002_second"]
    assert migrate(database.target, load(folder)) == []
    (folder / "003_third.sql").write_text("CREATE TABLE three (id INTEGER);")
    assert [migration.name for migration in migrate(database.target, load(folder))] == ["003_third"]
    assert database.tables() == ["one", "three", "two"]
    assert database.connection.execute("SELECT count(*) FROM one").fetchone() == (1,)


@pytest.mark.parametrize("change", ["edited", "renamed"])
def test_an_applied_migration_that_changed_is_refused(database: Database, folder: Path, change: str) -> None:
    migrate(database.target, load(folder))
    if change == "edited":
        (folder / "001_first.sql").write_text("CREATE TABLE one (id INTEGER, name TEXT);\n")
    else:
        (folder / "001_first.sql").rename(folder / "001_primary.sql")
    with pytest.raises(MigrationError, match="001_first is not the file that was applied"):
        migrate(database.target, load(folder))


def test_other_line_ends_are_no_edit(database: Database, folder: Path) -> None:
    migrate(database.target, load(folder))
    first = folder / "001_first.sql"
    first.write_bytes(first.read_bytes().replace(b"\n", b"\r\n"))
    assert migrate(database.target, load(folder)) == []


def test_a_database_newer_than_the_code_is_refused(database: Database, folder: Path) -> None:
    migrate(database.target, load(folder))
    (folder / "002_second.sql").unlink()
    with pytest.raises(MigrationError, match=r"has migration 002_second, this version .* ends at 001_first"):
        migrate(database.target, load(folder))


def test_a_migration_that_fails_leaves_nothing_behind(database: Database, folder: Path) -> None:
    (folder / "002_second.sql").write_text("CREATE TABLE two (id INTEGER);\nINSERT INTO nowhere VALUES (1);\n")
    with pytest.raises(MigrationError, match=r"002_second failed on .*: no such table: nowhere"):
        migrate(database.target, load(folder))
    assert database.tables() == ["one"]
    (folder / "002_second.sql").write_text("CREATE TABLE two (id INTEGER);\n")
    assert [migration.name for migration in migrate(database.target, load(folder))] == ["002_second"]


@pytest.mark.parametrize("name", ["004_late.sql", "002_twin.sql", "third.sql"])
def test_files_that_are_not_numbered_without_a_gap_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("SELECT 1;")
    with pytest.raises(MigrationError):
        load(folder)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MigrationError):
        load(tmp_path)


def test_two_that_migrate_at_once_apply_each_file_once(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "test.db"
    databases = [Database(path) for _ in range(4)]
    applied: list[str] = []
    together = threading.Barrier(len(databases))

    def run(database: Database) -> None:
        together.wait(timeout=30)
        applied.extend(migration.name for migration in migrate(database.target, load(folder)))

    threads = [threading.Thread(target=run, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for database in databases:
        database.close()
    assert sorted(applied) == ["001_first", "002_second"]


async def test_an_approval_from_before_actions_is_one_of_a_whole_call(tmp_path: Path) -> None:
    database = Database(tmp_path / "conductor.db")
    migrate(database.target, load(bundled("sql") / "sqlite")[:3])
    database.connection.execute(
        "INSERT INTO approvals (approval_id, session_id, org_id, step_no, call_id, tool_name, arguments,"
        " arguments_hash, status, requested_at) VALUES ('a', 's', 'acme', 1, 'c', 'send', '{}', 'h', 'pending', 'now')"
    )
    database.close()

    store = await SQLiteStore.open(tmp_path)
    record = await store.approval("a", "acme")
    await store.close()

    assert (record.tool_name, record.action) == ("send", None)


async def test_a_store_whose_migrations_were_edited_does_not_open(home: Path) -> None:
    await (await SQLiteStore.open(home)).close()
    connection = sqlite3.connect(home / "conductor.db", isolation_level=None)
    connection.execute("UPDATE schema_migrations SET checksum = 'another' WHERE number = 2")
    connection.close()
    with pytest.raises(MigrationError, match="002_sessions"):
        await SQLiteStore.open(home)


async def test_a_store_newer_than_the_code_does_not_open(home: Path) -> None:
    await (await SQLiteStore.open(home)).close()
    after = len(load(bundled("sql") / "sqlite")) + 1
    connection = sqlite3.connect(home / "conductor.db", isolation_level=None)
    connection.execute("INSERT INTO schema_migrations VALUES (?, 'future', '', '')", (after,))
    connection.close()
    with pytest.raises(MigrationError, match="future") as caught:
        await SQLiteStore.open(home)
    assert caught.value.hint == "use the newer version that wrote it"
