"""One connection that never keeps anybody waiting for ever, and what its columns come back as."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.pq import TransactionStatus
from psycopg.types.string import TextLoader

from conductor_ai.storage.postgres.address import Address

Row = tuple[Any, ...]
Parameters = Mapping[str, Any] | Sequence[Any]

REPLY_S = 10.0
"""How long a statement may take. Nothing here takes a tenth of it while server and network are well."""

IDLE_S = 5
_LET_GO = b"SELECT set_config('idle_in_transaction_session_timeout', %s, true)"
_WHOLE = len("2026-11-23 11:19:20.123456+00")


class _Moment(Loader):
    """A time as it was written: ISO 8601 UTC with microseconds. Hashes cover that text."""

    def load(self, data: Buffer) -> str:
        text = bytes(data).decode()
        if text.endswith("+00") and text[10:11] == " " and len(text) <= _WHOLE:
            time = text[:-3].replace(" ", "T")
            # Postgres leaves away zeros at the end.
            return f"{time if '.' in time else f'{time}.':0<26}+00:00"
        try:  # the session has another time zone
            return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="microseconds")
        except (ValueError, OverflowError):
            return text


def register(adapters: AdaptersMap) -> None:
    """Let every column come back as the text that was written: a driver would parse it."""
    for name in ("json", "numeric", "uuid"):
        adapters.register_loader(name, TextLoader)
    adapters.register_loader("timestamptz", _Moment)


class Link:
    """One connection. A statement that gets no reply within `reply_s` ends it."""

    def __init__(self, connection: psycopg.AsyncConnection[Row], reply_s: float) -> None:
        self._connection = connection
        self._reply_s = reply_s
        self._loop = asyncio.get_running_loop()
        self._several = psycopg.AsyncClientCursor(connection)

    @classmethod
    async def open(cls, address: Address, *, reply_s: float = REPLY_S) -> Link:
        """Raises: psycopg.Error."""
        # Prepared at once: every statement here comes again.
        threshold = None if address.transaction_pooler else 0
        connection = await psycopg.AsyncConnection.connect(
            address.conninfo, autocommit=True, prepare_threshold=threshold
        )
        register(connection.adapters)
        return cls(connection, reply_s)

    @property
    def usable(self) -> bool:
        """Whether the next statement may be given to it."""
        connection = self._connection
        return not connection.closed and connection.info.transaction_status == TransactionStatus.IDLE

    async def run(self, query: bytes, parameters: Parameters = (), *, extra_s: float = 0.0) -> list[Row]:
        """One statement, a transaction of its own. `extra_s` is what something large may take beyond `reply_s`.

        Raises: psycopg.Error.
        """
        with self._bounded(extra_s):
            cursor = await self._connection.execute(query, parameters)
            return await cursor.fetchall() if cursor.description is not None else []

    async def run_last(self, query: bytes, parameters: Parameters, *, extra_s: float = 0.0) -> list[Row]:
        """Several statements in one transaction and one round trip; the rows of the last. Raises: psycopg.Error."""
        cursor = self._several
        with self._bounded(extra_s):
            await cursor.execute(query, parameters)
            while cursor.nextset():
                pass
            return await cursor.fetchall()

    def parameter(self, name: str) -> str:
        """What the server says of itself and of this session."""
        return self._connection.info.parameter_status(name) or ""

    @asynccontextmanager
    async def transaction(self, *, extra_s: float = 0.0) -> AsyncIterator[None]:
        """Several statements, all or nothing. A worker that is stopped within holds its rows for IDLE_S at most."""
        with self._bounded(extra_s):
            async with self._connection.transaction():
                await self._connection.execute(_LET_GO, (f"{IDLE_S}s",))
                yield

    async def close(self) -> None:
        await self._connection.close()

    @contextmanager
    def _bounded(self, extra_s: float = 0.0) -> Iterator[None]:
        if self._connection.closed:
            raise psycopg.OperationalError("the connection is closed")
        timer = self._loop.call_later(self._reply_s + extra_s, cut, self._connection.fileno())
        try:
            yield
        finally:
            timer.cancel()


def cut(fd: int) -> None:
    """End what is said over a socket: whoever waits for it reads its end. The descriptor stays its owner's."""
    try:
        with socket.socket(fileno=os.dup(fd)) as twin:
            twin.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended already
