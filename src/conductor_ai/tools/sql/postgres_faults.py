"""Postgres's errors as a model may read them: what was wrong with the statement, never a password."""

from __future__ import annotations

import psycopg

from conductor_ai.tools.sql.address import PostgresAddress
from conductor_ai.tools.sql.answer import Caps
from conductor_ai.tools.sql.failures import QueryFailed, refused, too_slow

_CANCELED = frozenset({"57014", "25P03", "25P04"})
_TOO_LARGE = frozenset({"53100", "53200", "53400", "54000"})
_LOCKED = "55P03"
_READ_ONLY = "25006"
_FORBIDDEN = "42501"
_TOO_MANY = "53300"
_MOST_CHARS = 500


def told(exc: psycopg.Error | OSError, address: PostgresAddress, caps: Caps) -> QueryFailed:
    """What `exc` means for whoever asked."""
    code = exc.sqlstate if isinstance(exc, psycopg.Error) else None
    said = _said(exc, address)
    if code in _CANCELED:
        return too_slow(caps.timeout_s)
    if code in _TOO_LARGE:
        return QueryFailed(f"it is too much for the server ({said}): sort, join or build less at a time")
    if code == _LOCKED:
        return QueryFailed("a table is locked by somebody else: try again in a moment")
    if code in (_READ_ONLY, _FORBIDDEN):
        return refused(f"the database does not allow it ({said})")
    if code is None or code == _TOO_MANY or code[:2] in ("08", "28", "57", "58"):
        return QueryFailed(f"the database cannot be used now ({said}): try again later, or go on without it")
    return QueryFailed(f"the database refused it: {said}")


def _said(exc: psycopg.Error | OSError, address: PostgresAddress) -> str:
    if not isinstance(exc, psycopg.Error):
        return type(exc).__name__
    text = exc.diag.message_primary or (str(exc) or type(exc).__name__).splitlines()[0]
    if exc.diag.message_hint:
        text = f"{text}. {exc.diag.message_hint}"
    return address.without_password(text)[:_MOST_CHARS]
