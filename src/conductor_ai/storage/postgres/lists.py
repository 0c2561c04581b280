"""The lists of `storage/listings*.py`, read from Postgres. Importing this module imports SQLAlchemy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection, QueuePool, and_, create_engine, exists, func, literal, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ColumnElement

from conductor_ai.storage.postgres.address import Address
from conductor_ai.storage.postgres.changes import Worker
from conductor_ai.storage.postgres.faults import passing, translated
from conductor_ai.storage.postgres.link import cut, register
from conductor_ai.storage.tables import sessions, workers

T = TypeVar("T")

_THREADS = 2
_REPLY_S = 60.0  # an export may be long
_PAUSES_S = (0.05, 0.2, 0.8, 2.0)
_AS_ORG = text("SELECT set_config('role', 'conductor_api', true), set_config('conductor.org_id', :org_id, true)")


class Lists:
    """A few threads, each with a connection while it reads. Belongs to the running event loop."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="conductor-store-lists")
        self._engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=_THREADS,
            max_overflow=0,
            use_native_hstore=False,
            isolation_level="REPEATABLE READ",
        )

    async def read(self, org_id: str | None, read: Callable[[Connection], T]) -> T:
        """Under the role that sees the rows of `org_id` only; None: of all orgs. Raises: StorageError."""
        for pause in (*_PAUSES_S, None):
            try:
                return await self._bounded(org_id, read)
            except (psycopg.Error, OSError) as exc:
                if pause is None or not passing(exc):
                    raise translated(exc, self._address, otherwise="could not be read") from exc
                await asyncio.sleep(pause)
        raise AssertionError

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        self._engine.dispose()

    async def _bounded(self, org_id: str | None, read: Callable[[Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        in_use: list[int] = []

        def work() -> T:
            with self._snapshot(org_id, in_use) as connection:
                return read(connection)

        def end() -> None:
            for fd in in_use:
                cut(fd)

        timer = loop.call_later(_REPLY_S, end)
        try:
            return await loop.run_in_executor(self._threads, work)
        finally:
            timer.cancel()

    @contextmanager
    def _snapshot(self, org_id: str | None, in_use: list[int]) -> Iterator[Connection]:
        """A connection whose statements all see one state: a head must not be newer than the rows it closes."""
        try:
            with self._engine.connect() as connection:
                driver: Any = connection.connection.driver_connection
                in_use.append(driver.fileno())
                if org_id is not None:
                    connection.execute(_AS_ORG, {"org_id": org_id})
                yield connection  # leaving it rolls back
        except DBAPIError as exc:
            raise exc.orig or exc from exc
        finally:
            in_use.clear()

    def _connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(
            self._address.conninfo, prepare_threshold=None if self._address.transaction_pooler else 5
        )
        register(connection.adapters)
        return connection


def driven_elsewhere(worker: Worker) -> ColumnElement[bool]:
    """Of a row of `sessions`: whether another live worker owns it."""
    beaten_since = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, literal(worker.dead_after_s))
    alive = exists().where(workers.c.worker_id == sessions.c.owner, workers.c.heartbeat_at > beaten_since)
    # Never NULL: without an owner nobody drives it.
    return and_(func.coalesce(sessions.c.owner, worker.worker) != worker.worker, alive)
