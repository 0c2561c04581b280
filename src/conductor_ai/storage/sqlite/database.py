"""The file under `$CONDUCTOR_HOME`: made, opened, brought up to date."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

from conductor_ai.bundled import bundled
from conductor_ai.errors import MigrationError, StoreUnavailable
from conductor_ai.schemas.ids import utc_now
from conductor_ai.storage.migrations import Applied, Migration, load, migrate
from conductor_ai.storage.sqlite.locks import SETUP, FileLocks

FILE_NAME = "conductor.db"
LOCK_FILE_NAME = "drivers.lock"

_OLDEST_SQLITE = (3, 38, 0)  # UPDATE ... FROM, and JSON without an extension
_SETUP_WAIT_S = 30.0
_SETUP_POLL_S = 0.01
_WRITER_CACHE_KIB = 8192
_STATEMENTS = 128
_EXACT = Context(prec=60)  # wide enough that no sum of money is rounded

_MIGRATIONS_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TEXT NOT NULL
);
"""


def prepare_home(home: Path) -> Path:
    """Make the folder (0700) and the file (0600) where they are missing. Returns the file's path. Raises: OSError."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = home / FILE_NAME
    try:
        # Only ever a new file: closing a descriptor of one that SQLite has open would drop SQLite's locks on it.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if not os.access(path, os.R_OK | os.W_OK) or not os.access(home, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
    return path


def connect(path: Path, *, busy_timeout_s: float, cache_kib: int) -> sqlite3.Connection:
    """A connection that may wander between threads, one at a time. No implicit transactions. The caller closes it."""
    connection = sqlite3.connect(
        path,
        timeout=busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS,
    )
    try:
        # FULL: a committed intent survives a power cut. Spill areas in memory: cheaper, and nothing secret in /tmp.
        connection.executescript(
            f"PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -{cache_kib};"
        )
        connection.create_aggregate("exact_sum", 1, _ExactSum)
    except BaseException:
        connection.close()
        raise
    return connection


def open_for_writing(path: Path, locks: FileLocks, *, busy_timeout_s: float) -> sqlite3.Connection:
    """The one connection that writes, on a database that is up to date. Raises: sqlite3.Error, StorageError."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        oldest = ".".join(map(str, _OLDEST_SQLITE))
        raise StoreUnavailable(
            f"this Python has SQLite {sqlite3.sqlite_version}, {oldest} or newer is needed",
            hint="use a Python that brings a newer SQLite",
        )
    connection = connect(path, busy_timeout_s=busy_timeout_s, cache_kib=_WRITER_CACHE_KIB)
    try:
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            # SQLite answers "locked" at once, without waiting, where two processes switch a file at the same time.
            with _setup_lock(locks, path):
                connection.execute("PRAGMA journal_mode = WAL")
        migrate(SQLiteTarget(connection, locks, path), load(bundled("sql") / "sqlite"))
    except BaseException:
        connection.close()
        raise
    return connection


class _ExactSum:
    """Adds up money, which is text here: SQLite itself would add it up as floats."""

    def __init__(self) -> None:
        self._sum: Decimal | None = None

    def step(self, usd: Any, /) -> None:
        if usd is not None:
            self._sum = _EXACT.add(self._sum or Decimal(0), Decimal(usd))

    def finalize(self) -> Any:
        return None if self._sum is None else str(self._sum)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. The write lock is taken at the start: nothing that was read inside can change until its end."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself rolls back on a full disk
            connection.execute("ROLLBACK")
        raise


def applied_on(connection: sqlite3.Connection) -> Sequence[Applied]:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_migrations'").fetchone()
    if known is None:
        return []
    rows = connection.execute("SELECT number, name, checksum FROM schema_migrations ORDER BY number")
    return [Applied(*row) for row in rows]


class SQLiteTarget:
    """`migrations.Target` over the connection to the database at `path`."""

    def __init__(self, connection: sqlite3.Connection, locks: FileLocks, path: Path) -> None:
        self._connection = connection
        self._locks = locks
        self._path = path

    def applied(self) -> Sequence[Applied]:
        return applied_on(self._connection)

    @contextmanager
    def lock(self) -> Iterator[None]:
        with _setup_lock(self._locks, self._path):
            yield

    def apply(self, migration: Migration) -> None:
        try:
            self._connection.executescript(f"BEGIN IMMEDIATE;\n{_MIGRATIONS_TABLE}\n{migration.sql}")
            self._connection.execute("INSERT INTO schema_migrations VALUES (?, ?, ?, ?)", (*migration[:3], utc_now()))
            self._connection.execute("COMMIT")
        except sqlite3.Error as exc:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise MigrationError(f"migration {migration.name} failed on {self._path}: {exc}") from exc


@contextmanager
def _setup_lock(locks: FileLocks, path: Path) -> Iterator[None]:
    give_up_at = time.monotonic() + _SETUP_WAIT_S
    while not locks.try_lock(SETUP):
        if time.monotonic() > give_up_at:
            raise StoreUnavailable(
                f"another process has been setting up {path} for {_SETUP_WAIT_S:.0f} s",
                hint="end that process, then try again",
            )
        time.sleep(_SETUP_POLL_S)  # in a worker thread: opening never runs on the loop
    try:
        yield
    finally:
        locks.unlock(SETUP)
