"""The migrations of a SQLite file, apart from opening it as a store. All of it blocks: call it in a worker thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from conductor_ai.bundled import bundled
from conductor_ai.storage.migrations import Applied, Migration, load, pending
from conductor_ai.storage.sqlite.database import FILE_NAME, LOCK_FILE_NAME, applied_on, open_for_writing, prepare_home
from conductor_ai.storage.sqlite.faults import faults
from conductor_ai.storage.sqlite.locks import FileLocks

_BUSY_TIMEOUT_S = 10.0


def files() -> list[Migration]:
    return load(bundled("sql") / "sqlite")


def applied(home: Path) -> Sequence[Applied]:
    """What the database in the folder `home` has; nothing where there is none. Raises: StorageError."""
    path = home / FILE_NAME
    with faults(path):
        if not path.exists():
            return []
        locator = f"file:{quote(str(path.absolute()))}?mode=ro"
        with closing(sqlite3.connect(locator, uri=True, timeout=_BUSY_TIMEOUT_S)) as connection:
            return applied_on(connection)


def migrate(home: Path) -> list[Migration]:
    """Make the database where there is none, bring it up to date, and say what that took. Raises: StorageError."""
    missing = pending(applied(home), files())
    path = home / FILE_NAME
    with faults(path):
        prepare_home(home)
        locks = FileLocks(home / LOCK_FILE_NAME)
        try:
            open_for_writing(path, locks, busy_timeout_s=_BUSY_TIMEOUT_S).close()
        finally:
            locks.close()
    return missing
