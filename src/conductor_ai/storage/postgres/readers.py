"""A few connections that read. What is read for a caller is read as a role that sees one org only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import psycopg

from conductor_ai.errors import StoreUnavailable
from conductor_ai.storage.postgres.address import Address
from conductor_ai.storage.postgres.faults import passing, translated
from conductor_ai.storage.postgres.link import Link, Row
from conductor_ai.storage.rows import storable

T = TypeVar("T")

CONNECTIONS = 4
_MOST_PATIENCE_S = 5.0  # somebody waits for the answer
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0

# Both end with the transaction, which is one round trip, so a pooler may stand between.
AS_ORG = b"SELECT set_config('role', 'conductor_api', true), set_config('conductor.org_id', %(reader_org)s, true);"


class Readers:
    """Connections are opened when first needed and closed by `close`. Belongs to the running event loop."""

    def __init__(self, address: Address, *, patience_s: float, reply_s: float, connections: int = CONNECTIONS) -> None:
        self._patience_s = min(patience_s, _MOST_PATIENCE_S)
        self._writers_patience_s = patience_s
        self._reply_s = reply_s
        self._address = address
        self._idle: list[Link] = []
        self._connections = connections
        self._free = asyncio.Semaphore(connections)
        self._closed = False

    async def read(
        self, org_id: str, query: bytes, parameters: Mapping[str, Any], *, extra_s: float = 0.0
    ) -> list[Row]:
        """One statement under the role that sees the rows of `org_id` only; `extra_s` as `Link.run` takes it.

        Raises: StorageError.
        """
        bound = {**parameters, "reader_org": storable(org_id)}
        return await self._patiently(lambda link: link.run_last(AS_ORG + query, bound, extra_s=extra_s))

    async def change(self, change: Callable[[Link], Awaitable[T]]) -> T:
        """Something that sees all orgs, and that may be done twice; it need not wait its turn among the appends.

        Raises: StorageError, and what `change` raises.
        """
        return await self._patiently(change, patience_s=self._writers_patience_s)

    async def ask(self, query: bytes, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """One statement that sees all orgs, and may be repeated. Raises: StorageError."""
        return await self._patiently(lambda link: link.run(query, parameters or {}))

    async def once(self, query: bytes, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """As `ask`, with no second try. Raises: StorageError."""
        return await self._patiently(lambda link: link.run(query, parameters or {}), patience_s=0)

    async def close(self) -> None:
        """Let what is being read end, then close the connections."""
        self._closed = True
        for _ in range(self._connections):
            await self._free.acquire()
        await self._discard_idle()

    async def _patiently(self, read: Callable[[Link], Awaitable[T]], patience_s: float | None = None) -> T:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + (self._patience_s if patience_s is None else patience_s)
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return await self._with_link(read)
            except (psycopg.Error, OSError) as exc:
                if not passing(exc) or loop.time() + pause > give_up_at:
                    raise translated(exc, self._address, otherwise="could not be read") from exc
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _with_link(self, read: Callable[[Link], Awaitable[T]]) -> T:
        if self._closed:
            raise StoreUnavailable(f"{self._address.shown} was closed")
        async with self._free:
            link = self._idle.pop() if self._idle else await Link.open(self._address, reply_s=self._reply_s)
            try:
                return await read(link)
            finally:
                if link.usable and not self._closed:
                    self._idle.append(link)
                else:
                    await link.close()
                    await self._discard_idle()  # what broke one has most likely broken all

    async def _discard_idle(self) -> None:
        while self._idle:
            await self._idle.pop().close()
