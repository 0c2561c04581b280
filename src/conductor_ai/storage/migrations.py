"""Numbered SQL files, applied once and in order: what to apply is decided here, how is the database's own business."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from conductor_ai.errors import MigrationError

_FILE_NAME = re.compile(r"(\d{3})_\w+\.sql")


class Migration(NamedTuple):
    """One file. `checksum` is SHA-256 in hex over its text, whatever its line ends."""

    number: int
    name: str
    checksum: str
    sql: str


class Applied(NamedTuple):
    """One row of `schema_migrations`."""

    number: int
    name: str
    checksum: str


class Target(Protocol):
    """A database that migrations are applied to."""

    def applied(self) -> Sequence[Applied]:
        """In the order of `number`; empty for a new database. Called without the lock first: it must be cheap."""
        ...

    def lock(self) -> AbstractContextManager[None]:
        """Hold off every other process that migrates this database, until it dies or leaves."""
        ...

    def apply(self, migration: Migration) -> None:
        """Run the file and record it, together or not at all."""
        ...


def load(folder: Path) -> list[Migration]:
    """The migrations of a folder, by number. Raises: MigrationError for a gap, a twin, or no file at all."""
    migrations = [_read(path) for path in sorted(folder.glob("*.sql"))]
    if not migrations or [migration.number for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise MigrationError(f"the migrations in {folder} are not numbered 001, 002, ... without a gap")
    return migrations


def migrate(target: Target, migrations: Sequence[Migration]) -> list[Migration]:
    """Bring the database up to date and return what was applied; nearly free where nothing is.

    Raises: MigrationError where an applied file was edited since, or where the database is newer than `migrations`.
    """
    if not pending(target.applied(), migrations):
        return []
    with target.lock():
        missing = pending(target.applied(), migrations)  # another process may have been faster
        for migration in missing:
            target.apply(migration)
    return missing


def pending(applied: Sequence[Applied], migrations: Sequence[Migration]) -> list[Migration]:
    """Those that the database lacks. Raises: MigrationError, as `migrate`."""
    if len(applied) > len(migrations):
        newest = applied[-1]
        raise MigrationError(
            f"the database has migration {newest.name}, this version of conductor-ai ends at {migrations[-1].name}",
            hint="use the newer version that wrote it",
        )
    for row, migration in zip(applied, migrations, strict=False):
        if row != migration[:3]:
            raise MigrationError(
                f"migration {row.name} is not the file that was applied to this database",
                hint="an applied migration is never edited or renamed: restore the file and add a new one",
            )
    return list(migrations[len(applied) :])


def _read(path: Path) -> Migration:
    match = _FILE_NAME.fullmatch(path.name)
    if match is None:
        raise MigrationError(f"{path} is not named like 001_what_it_does.sql")
    sql = path.read_text(encoding="utf-8")
    return Migration(int(match[1]), path.stem, hashlib.sha256(sql.encode()).hexdigest(), sql)
