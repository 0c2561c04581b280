"""Stores for the contract suites: every implementation of a port is one parameter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from conductor_ai.storage.base import SessionStore
from conductor_ai.storage.sqlite import SQLiteStore

OpenStore = Callable[[], Awaitable[SessionStore]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture(params=["sqlite"])
async def open_store(request: pytest.FixtureRequest, home: Path) -> AsyncIterator[OpenStore]:
    """Opens one more store on the same data, as another process would."""
    stores: list[SessionStore] = []

    async def open_another() -> SessionStore:
        store = await SQLiteStore.open(home)
        stores.append(store)
        return store

    yield open_another
    for store in stores:
        await store.close()


@pytest.fixture
async def store(open_store: OpenStore) -> SessionStore:
    return await open_store()
