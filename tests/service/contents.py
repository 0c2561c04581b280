"""Everything that a database holds, read past the product."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg

Rows = dict[str, list[tuple[Any, ...]]]


class Contents(Protocol):
    def rows(self, sql: str) -> list[tuple[Any, ...]]: ...

    def columns(self) -> dict[str, list[str]]:
        """By table."""
        ...

    def whole(self) -> bytes:
        """All that somebody who stole it would have."""
        ...


class SQLiteContents:
    def __init__(self, database: Path) -> None:
        self._database = database

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()

    def columns(self) -> dict[str, list[str]]:
        tables = [row[0] for row in self.rows("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {table: [row[1] for row in self.rows(f"PRAGMA table_info({table})")] for table in tables}

    def whole(self) -> bytes:
        files = sorted(self._database.parent.glob(f"{self._database.name}*"))
        return b"".join(file.read_bytes() for file in files)


class PostgresContents:
    """`url` is that of the owner of all tables, whom row-level security does not bind."""

    def __init__(self, url: str) -> None:
        self._url = url

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self._connected() as connection:
            return connection.execute(sql.encode()).fetchall()

    def columns(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for table, column in self.rows(
            "SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables"
            " USING (table_schema, table_name) WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
            " AND table_type = 'BASE TABLE' ORDER BY 1, ordinal_position"
        ):
            found.setdefault(table, []).append(column)
        return found

    def whole(self) -> bytes:
        texts = (row[0] for table in self.columns() for row in self.rows(f'SELECT t::text FROM "{table}" t'))
        return "\n".join(texts).encode()

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        with psycopg.connect(self._url, autocommit=True) as connection:
            yield connection


def of_org(contents: Contents, org_id: str) -> Rows:
    """Every row that belongs to an org, or to a session of it, in an order of its own."""
    found: Rows = {}
    for table, columns in contents.columns().items():
        if "org_id" in columns:
            chosen = f"org_id = '{org_id}'"
        elif "session_id" in columns:
            chosen = f"session_id IN (SELECT session_id FROM sessions WHERE org_id = '{org_id}')"
        else:
            continue
        found[table] = sorted(contents.rows(f'SELECT * FROM "{table}" WHERE {chosen}'), key=repr)
    return found
