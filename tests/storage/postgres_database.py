"""A look at a Postgres past the store, and a hand in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.conftest import fail_after


class Database:
    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def run(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(sql.encode(), values)
        return cursor.fetchall() if cursor.description else []

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._connection.transaction():
            yield

    async def until(self, sql: str, *values: object) -> None:
        """Return once the query finds something."""
        async with fail_after(30):
            while not await asyncio.to_thread(self.run, sql, *values):
                pass

    def close(self) -> None:
        self._connection.close()
