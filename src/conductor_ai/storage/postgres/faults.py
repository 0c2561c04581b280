"""Postgres's errors in our words: translated once, where they enter. Never the URL, nor what a row held."""

from __future__ import annotations

import psycopg

from conductor_ai.errors import MigrationError, StorageError, StoreCorrupt, StoreUnavailable
from conductor_ai.storage.postgres.address import Address

_CUT_OFF = frozenset({"57P01", "57P02", "57P03", "57P04", "57P05", "53300", "25P03", "25P04", "25006"})
_ROLLED_BACK = frozenset({"40001", "40P01", "55P03"})
_STALE_PREPARED = frozenset({"26000", "42P05"})
_UNMIGRATED = frozenset({"42P01", "42703", "42704"})
_FORBIDDEN = "42501"
_MOST_CHARS = 200


def passing(exc: Exception) -> bool:
    """Whether the same statement may succeed in a moment, on this connection or on another."""
    if isinstance(exc, OSError):
        return True
    if not isinstance(exc, psycopg.Error):
        return False
    code = exc.sqlstate
    if code is None:  # from the client's side: the connection was refused, is gone or is out of order
        return isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError)
    return code[:2] == "08" or code in _CUT_OFF or code in _ROLLED_BACK


def undone(exc: Exception) -> bool:
    """Whether the database says that nothing of the statement took effect."""
    return isinstance(exc, psycopg.Error) and exc.sqlstate in _ROLLED_BACK


def translated(exc: Exception, address: Address, *, otherwise: str = "refused what was to be stored") -> StorageError:
    """What `exc` means for whoever uses the database; `otherwise` is what to say where no more is known."""
    code = exc.sqlstate if isinstance(exc, psycopg.Error) else None
    said = _said(exc, address)
    if code in _STALE_PREPARED:
        return StoreUnavailable(
            f"{address.shown} is behind a pooler that changes sessions ({said})",
            hint="add ?pgbouncer=true to DATABASE_URL",
        )
    if code in _UNMIGRATED:
        return MigrationError(f"{address.shown} lacks tables ({said})", hint="run `conductor db migrate`")
    if code == _FORBIDDEN:
        return StorageError(
            f"{address.shown} does not allow it ({said})", hint="use the user that ran `conductor db migrate`"
        )
    if code is not None and code[:2] == "XX":
        return StoreCorrupt(f"{address.shown} is damaged ({said})", hint="restore the database from a backup")
    if code is not None and code[:2] in ("53", "57", "58"):
        return StoreUnavailable(
            f"{address.shown} cannot do it now ({said})", hint="check the server's disk, memory and log"
        )
    if passing(exc):
        return StoreUnavailable(
            f"{address.shown} cannot be reached ({said})", hint="check DATABASE_URL, and that the server is up"
        )
    return StorageError(f"{address.shown} {otherwise} ({type(exc).__name__}: {said})")


def _said(exc: Exception, address: Address) -> str:
    """The first line only: the others may hold the row."""
    message = exc.diag.message_primary if isinstance(exc, psycopg.Error) else None
    lines = (message or str(exc) or type(exc).__name__).splitlines()
    return address.without_password(lines[0])[:_MOST_CHARS]
