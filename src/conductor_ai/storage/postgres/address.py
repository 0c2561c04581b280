"""Where a Postgres is and what stands before it: read from a URL as hosts of databases show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from conductor_ai.errors import InvalidInput

_TRANSACTION_POOLER_PORT = "6543"
_POOLER_FLAG = "pgbouncer"
_CONNECT_TIMEOUT_S = 5
# A peer that vanished is noticed, although nobody speaks.
_SETTINGS = {
    "application_name": "conductor-ai",
    "client_encoding": "UTF8",
    "connect_timeout": _CONNECT_TIMEOUT_S,
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


@dataclass(frozen=True, slots=True)
class Address:
    """`conninfo` is a secret: it holds the password. `transaction_pooler`: a session is ours for one transaction only,
    so nothing may be prepared or set in it."""

    conninfo: str = field(repr=False)
    transaction_pooler: bool
    shown: str
    """As a message may name it: host, port and database."""

    def without_password(self, text: str) -> str:
        password = conninfo_to_dict(self.conninfo).get("password")
        return text.replace(str(password), "********") if password else text


def parse(url: str) -> Address:
    """Raises: InvalidInput, which does not repeat the URL."""
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
        # libpq refuses what it does not know; other drivers are told of a pooler in this way.
        flags = [value for name, value in query if name == _POOLER_FLAG]
        rest = urlencode([pair for pair in query if pair[0] != _POOLER_FLAG])
        given: dict[str, Any] = conninfo_to_dict(parts._replace(query=rest).geturl())
        host, port = str(given.get("host") or "localhost"), str(given.get("port") or "5432")
        if not port.replace(",", "").isdigit():
            raise ValueError
        conninfo = make_conninfo(**{**_SETTINGS, **given})
    except (ValueError, psycopg.Error):
        raise InvalidInput(
            "DATABASE_URL is no address of a Postgres", hint="such as postgresql://user:password@host:5432/name"
        ) from None
    flagged = any(flag.lower() in ("true", "1", "yes", "") for flag in flags)
    refused = flags and not flagged
    pooler = flagged or (_TRANSACTION_POOLER_PORT in port.split(",") and not refused)
    return Address(conninfo, pooler, f"Postgres at {host}:{port}/{given.get('dbname') or ''}")
