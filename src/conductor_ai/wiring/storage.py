"""Where everything is stored: Postgres where the settings name one, else the embedded database; hot state likewise."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from conductor_ai.errors import MissingExtra
from conductor_ai.settings import Settings
from conductor_ai.storage.hot_memory import MemoryHotState
from conductor_ai.storage.sqlite import SQLiteStore

if TYPE_CHECKING:
    from conductor_ai.storage.base import Store
    from conductor_ai.storage.hot_state import HotState


async def open_store(settings: Settings, stack: AsyncExitStack) -> Store:
    """The store that the settings name; `stack` closes it.

    In production a Postgres database is never changed by opening it: `conductor db migrate` does.
    Raises: StoreUnavailable, StoreCorrupt, MigrationError, MissingExtra.
    """
    url = settings.postgres_url
    store: Store
    if url is None:
        store = await SQLiteStore.open(settings.conductor_home)
    else:
        try:
            from conductor_ai.storage.postgres import PostgresStore
        except ModuleNotFoundError as exc:
            raise _missing("DATABASE_URL", "postgres", exc) from exc
        store = await PostgresStore.open(url.get_secret_value(), migrate_first=settings.app_env != "production")
    stack.push_async_callback(store.close)
    return store


async def open_hot(settings: Settings, stack: AsyncExitStack) -> HotState:
    """Redis where the settings name it, away or not; else this process. `stack` closes it. Raises: MissingExtra."""
    hot: HotState
    if settings.redis_url is None:
        hot = MemoryHotState()
    else:
        try:
            from conductor_ai.storage.hot_redis import RedisHotState
        except ModuleNotFoundError as exc:
            raise _missing("REDIS_URL", "redis", exc) from exc
        hot = await RedisHotState.open(settings.redis_url.get_secret_value())
    stack.push_async_callback(hot.close)
    return hot


def _missing(variable: str, extra: str, exc: ModuleNotFoundError) -> MissingExtra:
    return MissingExtra(f"{variable} needs {exc.name}", hint=f"pip install 'conductor-ai[{extra}]'")
