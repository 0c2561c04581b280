"""Stores for the contract suites: every implementation of a port is one parameter."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psycopg
import pytest

from conductor_ai.storage.base import SessionStore, Store
from conductor_ai.storage.postgres import PostgresStore
from conductor_ai.storage.sqlite import SQLiteStore
from tests.service.contents import Contents, PostgresContents, SQLiteContents

OpenStore = Callable[[], Awaitable[Store]]
Tamper = Callable[[str], None]


def owner_in(store: SessionStore, asked: str) -> str:
    """Whom a row names as owner: on Postgres the store itself, under the name of its heartbeat."""
    return store.worker_id if isinstance(store, PostgresStore) else asked


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture(params=["sqlite", "postgres", pytest.param("pgbouncer", marks=pytest.mark.slow)])
def store_url(request: pytest.FixtureRequest) -> str | None:
    """Where the store of this test is: the address of a database that is migrated; None: SQLite in `home`."""
    if request.param == "sqlite":
        return None
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def open_store(store_url: str | None, home: Path) -> AsyncIterator[OpenStore]:
    """Opens one more store on the same data, as another process would."""
    stores: list[Store] = []

    async def open_another() -> Store:
        # To each of these stores the others are dead, so that one may take over from another without a wait.
        store: Store = (
            await SQLiteStore.open(home) if store_url is None else await PostgresStore.open(store_url, dead_after_s=0)
        )
        stores.append(store)
        return store

    yield open_another
    for store in stores:
        await store.close()


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    return await open_store()


@pytest.fixture
def contents(store_url: str | None, home: Path, request: pytest.FixtureRequest) -> Contents:
    """What the database holds, read past the store."""
    if store_url is None:
        return SQLiteContents(home / "conductor.db")
    return PostgresContents(request.getfixturevalue("postgres_url"))


@pytest.fixture
def tamper(store_url: str | None, home: Path, request: pytest.FixtureRequest) -> Tamper:
    """Runs a statement past the store, as somebody with access to the database would."""

    def run(statement: str) -> None:
        if store_url is None:
            connection = sqlite3.connect(home / "conductor.db", isolation_level=None)
            connection.execute(statement)
            connection.close()
            return
        with psycopg.connect(request.getfixturevalue("postgres_url"), autocommit=True) as postgres:
            postgres.execute(statement)

    return run
