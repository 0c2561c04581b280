"""The database itself: whether it is fit for us, and how it is brought up to date."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from conductor_ai.bundled import bundled
from conductor_ai.errors import MigrationError, StoreUnavailable
from conductor_ai.schemas.ids import utc_now
from conductor_ai.storage import migrations
from conductor_ai.storage.migrations import Applied, Migration
from conductor_ai.storage.postgres import address as addresses
from conductor_ai.storage.postgres.address import Address
from conductor_ai.storage.postgres.faults import translated
from conductor_ai.storage.postgres.link import Link

READER_ROLE = "conductor_api"

_ROLE = f'CREATE ROLE {READER_ROLE} NOLOGIN; GRANT {READER_ROLE} TO "{{user}}";'
_LOCK = 0x636F6E64756374  # of this database, for as long as a migration runs
_LOCK_TIMEOUT = "60s"
_BEGIN = b"SELECT current_user::text, set_config('lock_timeout', %s, true)"
_APPLIED = b"SELECT number, name, checksum FROM schema_migrations ORDER BY number"
# Asked of the catalog itself: a function would answer from what this session saw before it waited for the lock.
_IS_KNOWN = b"SELECT 1 FROM pg_class WHERE relname = 'schema_migrations' AND pg_table_is_visible(oid)"
_MIGRATIONS_TABLE = b"""
CREATE TABLE IF NOT EXISTS schema_migrations (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL
)
"""
_WRITES_ALL = b"SELECT NOT row_security_active('sessions')"
_ACT_AS_READER = b"SELECT set_config('role', 'conductor_api', true)"


def migrate(url: str) -> list[Migration]:
    """Bring the database up to date under a lock, and return what was applied. Blocks: call it in a worker thread.

    Raises: MigrationError, StoreUnavailable; InvalidInput for a URL that is none.
    """
    address = addresses.parse(url)
    try:
        with psycopg.connect(address.conninfo, autocommit=True, prepare_threshold=None) as connection:
            return migrations.migrate(_Target(connection, address), _files())
    except (psycopg.Error, OSError) as exc:
        raise translated(exc, address, otherwise="could not be migrated") from exc


def applied(url: str) -> tuple[str, Sequence[Applied]]:
    """Which database it is, without a password, and what it has; changes nothing. Blocks. Raises: as `migrate`."""
    address = addresses.parse(url)
    try:
        with psycopg.connect(address.conninfo, autocommit=True, prepare_threshold=None) as connection:
            return address.shown, _Target(connection, address).applied()
    except (psycopg.Error, OSError) as exc:
        raise translated(exc, address, otherwise="could not be read") from exc


async def require_fit(link: Link, address: Address) -> None:
    """Raises: MigrationError where migrations are pending or edited; StoreUnavailable where we cannot work with it."""
    if link.parameter("server_encoding") != "UTF8" or not link.parameter("DateStyle").startswith("ISO"):
        raise StoreUnavailable(
            f"{address.shown} must have the encoding UTF8 and the DateStyle ISO",
            hint="CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
        )
    try:
        pending = migrations.pending(await _applied(link), _files())
        ((may,),) = [(False,)] if pending else await link.run(_WRITES_ALL)
        if may:
            await link.run(_ACT_AS_READER)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidParameterValue):
        pending, may = [], False
    if pending:
        raise MigrationError(
            f"{address.shown} lacks {len(pending)} migration{'s' if len(pending) > 1 else ''},"
            f" the first is {pending[0].name}",
            hint="run `conductor db migrate`",
        )
    if not may:
        raise StoreUnavailable(
            f"the user that {address.shown} is used with may not write all rows, or may not act as {READER_ROLE}",
            hint="use the user that ran `conductor db migrate`, or one that was granted its role",
        )


async def _applied(link: Link) -> list[Applied]:
    try:
        return [Applied(*row) for row in await link.run(_APPLIED)]
    except psycopg.errors.UndefinedTable:
        return []


def _files() -> list[Migration]:
    return migrations.load(bundled("sql"))


class _Target:
    """`migrations.Target` over one connection. All that holds the lock is one transaction, so that it may go through a
    pooler that changes sessions between transactions."""

    def __init__(self, connection: psycopg.Connection[Any], address: Address) -> None:
        self._connection = connection
        self._address = address
        self._user = ""

    def applied(self) -> Sequence[Applied]:
        if self._connection.execute(_IS_KNOWN).fetchone() is None:
            return []
        return [Applied(*row) for row in self._connection.execute(_APPLIED)]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Until the end of one transaction, in which all that is pending is applied: together or not at all."""
        with self._connection.transaction():
            user = self._connection.execute(_BEGIN, (_LOCK_TIMEOUT,)).fetchone()
            self._user = user[0] if user else ""
            try:
                self._connection.execute(b"SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            except psycopg.errors.LockNotAvailable as exc:
                raise StoreUnavailable(
                    f"another process has been migrating {self._address.shown} for {_LOCK_TIMEOUT}",
                    hint="end that process, then try again",
                ) from exc
            yield

    def apply(self, migration: Migration) -> None:
        try:
            with self._connection.transaction():
                self._connection.execute(_MIGRATIONS_TABLE)
                self._connection.execute(migration.sql.encode())
                self._connection.execute(
                    b"INSERT INTO schema_migrations VALUES (%s, %s, %s, %s)", (*migration[:3], utc_now())
                )
        except psycopg.OperationalError:
            raise
        except psycopg.Error as exc:
            message = exc.diag.message_primary or type(exc).__name__
            missing = isinstance(exc, psycopg.errors.InsufficientPrivilege)
            raise MigrationError(
                f"migration {migration.name} failed on {self._address.shown}: {message}",
                hint=f"an administrator has to run: {_ROLE.format(user=self._user)}" if missing else None,
            ) from exc
