"""SQLite's errors in our words: translated once, where they enter."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conductor_ai.errors import StorageError, StoreCorrupt, StoreUnavailable

_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)


def translated(exc: Exception, path: Path, *, otherwise: str = "refused what was to be stored") -> StorageError:
    """What `exc` means for whoever uses the database at `path`; `otherwise` is what to say where no more is known."""
    code = _primary_code(exc)
    if code is None and isinstance(exc, sqlite3.OperationalError):
        # The binding met text that is no UTF-8, and its message holds all of it.
        return StoreCorrupt(f"{path} is damaged ({exc!s:.80}...)", hint="restore the database from a backup")
    if code in _CORRUPT:
        return StoreCorrupt(
            f"{path} is damaged or is not a database of conductor-ai ({exc}); it was left as it is",
            hint="restore a backup, or move the file aside to begin with an empty one",
        )
    if code in _BUSY:
        return StoreUnavailable(
            f"{path} is locked by another process ({exc})", hint="close what else has the file open, then try again"
        )
    if code in _UNAVAILABLE:
        return StoreUnavailable(
            f"{path} cannot be used ({exc})", hint="check free disk space and the permissions of the folder"
        )
    return StorageError(f"{path} {otherwise} ({type(exc).__name__}: {exc})")


def concerns_all(exc: Exception) -> bool:
    """Whether the database is the cause, so that a smaller batch would meet the same error."""
    code = _primary_code(exc)
    # A full disk is not among them: a smaller append may still fit.
    return code in _CORRUPT or code in _BUSY or (code in _UNAVAILABLE and code != sqlite3.SQLITE_FULL)


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """Translate SQLite's errors, and the file system's, while the database at `path` is opened or read."""
    try:
        yield
    except sqlite3.Error as exc:
        raise translated(exc, path, otherwise="could not be read") from exc
    except OSError as exc:
        raise StoreUnavailable(
            f"{path} cannot be used ({exc.strerror or exc})", hint="set CONDUCTOR_HOME to a folder you can write to"
        ) from exc


def _primary_code(exc: Exception) -> int | None:
    # Errors of the binding itself, not of the library, carry no code.
    code: int | None = getattr(exc, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
