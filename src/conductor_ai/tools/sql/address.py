"""Where the database that a model may query is: read from one URL, told without its password."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from conductor_ai.errors import InvalidInput

VARIABLE = "CONDUCTOR_SQL_URL"
_POOLER_FLAG = "pgbouncer"
_HOW = "such as postgresql://role:password@host:5432/name, or sqlite:///file.db"
_CONNECT_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """`conninfo` and `password` are secrets; `shown` names server and database as a result or a message may."""

    conninfo: str = field(repr=False)
    password: str = field(repr=False)
    shown: str

    def without_password(self, text: str) -> str:
        return text.replace(self.password, "********") if self.password else text


@dataclass(frozen=True, slots=True)
class SQLiteAddress:
    """A file. It is not made where it is missing."""

    path: Path

    @property
    def shown(self) -> str:
        return f"sqlite:///{self.path.name}"


Address = PostgresAddress | SQLiteAddress


def parse(url: str) -> Address:
    """Raises: InvalidInput, which does not repeat the URL; ModuleNotFoundError without a driver for Postgres."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _unusable() from None
    if parts.scheme == "sqlite":
        # As SQLAlchemy has it: three slashes and a path from here, four slashes and a path from the root.
        path = unquote(parts.path.removeprefix("/"))
        if parts.netloc or not path or parts.query or parts.fragment:
            raise _unusable()
        return SQLiteAddress(Path(path))
    if parts.scheme not in ("postgres", "postgresql"):
        raise _unusable()
    return _postgres(url)


def _postgres(url: str) -> PostgresAddress:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    parts = urlsplit(url)
    try:
        # Other drivers are told of a pooler in this way, and libpq refuses what it does not know. Here it changes
        # nothing: every call is one transaction, and prepares nothing.
        rest = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != _POOLER_FLAG]
        given: dict[str, Any] = conninfo_to_dict(parts._replace(query=urlencode(rest)).geturl())
        # Not what the URL says: how a text is read, and which role acts, must be as the walls expect it.
        given = {name: value for name, value in given.items() if name not in ("options", "client_encoding")}
        settings = {"application_name": "conductor-ai sql", "connect_timeout": _CONNECT_TIMEOUT_S, **given}
        conninfo = make_conninfo(**settings, client_encoding="UTF8")
    except (ValueError, psycopg.Error):
        raise _unusable() from None
    host, port = str(given.get("host") or "localhost"), str(given.get("port") or "5432")
    if not port.replace(",", "").isdigit():
        raise _unusable()
    shown = f"postgresql://{host}:{port}/{given.get('dbname') or ''}"
    return PostgresAddress(conninfo, str(given.get("password") or ""), shown)


def _unusable() -> InvalidInput:
    return InvalidInput(f"{VARIABLE} is no address of a database", hint=_HOW)
