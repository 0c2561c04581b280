"""A session's event stream, whole over any number of connections."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from conductor_ai.client.problems import error_of
from conductor_ai.client.results import StreamItem, reading
from conductor_ai.client.transport import Transport, TryAgain
from conductor_ai.errors import ConductorError, ServiceError, ServiceUnavailable
from conductor_ai.providers.sse import SSEParser, SSEvent
from conductor_ai.schemas import json_text

MAX_EVENT_BYTES = 64 * 2**20
ENDS = frozenset({"session.completed", "session.failed", "session.cancelled", "session.paused"})
"""After these the server ends the stream, where nothing comes after them in the log."""


class EventStream:
    """Reads the stream of one session from behind `after_seq` on.

    The log has no gap, so that its numbers alone say what is missing: an event that came is not given out again, and
    one that did not is asked for on the next connection. Live items stand where they came, and are not asked for.

    Args:
        stopped: Says whether the session has stopped, for a stream that ends without a word.
    """

    def __init__(self, transport: Transport, path: str, after_seq: int, stopped: Callable[[], Awaitable[bool]]) -> None:
        self._transport = transport
        self._path = path
        self._stopped = stopped
        self._last_seq = after_seq
        self._at_end = False

    async def items(self) -> AsyncGenerator[StreamItem]:
        """Until the session stops. Raises: ConductorError, once no attempt in a row brought anything new."""
        failures = 0
        while True:
            before, cut = self._last_seq, None
            try:
                async for item in self._one_connection():
                    yield item
            except TryAgain as failed:
                cut = failed
            if cut is None and await self._is_over(heard=self._last_seq > before):
                return
            failures = 0 if self._last_seq > before else failures + 1
            if failures >= self._transport.max_attempts:
                raise self._lost(cut)
            await asyncio.sleep(_wait_s(failures, cut))

    async def _one_connection(self) -> AsyncGenerator[StreamItem]:
        parser = SSEParser(MAX_EVENT_BYTES)
        async with self._transport.events(self._path, {"Last-Event-ID": str(self._last_seq)}) as chunks:
            async for chunk in chunks:
                for item in map(_item, _fed(parser, chunk)):
                    if item.seq is None:
                        yield item
                    elif item.seq > self._last_seq:
                        self._take(item, item.seq)
                        yield item

    def _take(self, item: StreamItem, seq: int) -> None:
        if seq != self._last_seq + 1:
            error = ServiceError(f"the stream left out what comes between {self._last_seq} and {seq}")
            raise TryAgain(error, sent=True)
        self._last_seq = seq
        self._at_end = item.type in ENDS

    async def _is_over(self, *, heard: bool) -> bool:
        """Whether a stream that the server has ended in good order is the end of it."""
        if self._at_end:
            return True
        return not heard and await self._stopped()

    def _lost(self, cut: TryAgain | None) -> ConductorError:
        if cut is not None:
            return cut.error
        return ServiceUnavailable(f"{self._transport.base_url} ends the stream before the session has stopped")


def _fed(parser: SSEParser, chunk: bytes) -> list[SSEvent]:
    try:
        return parser.feed(chunk)
    except ValueError as exc:
        raise ServiceError(f"the stream cannot be read: {exc}") from exc


def _item(event: SSEvent) -> StreamItem:
    """Raises: ServiceError; for an error that the server ends its stream with, that error, or TryAgain."""
    with reading("an event"):
        data: dict[str, Any] = json_text.loads(event.data)
        if event.name != b"error":
            return StreamItem(data["type"], data.get("seq"), data["payload"], data.get("created_at"))
    error = error_of(int(data.get("status") or 500), {}, event.data)
    raise TryAgain(error, sent=True) if error.retryable else error


def _wait_s(failures: int, cut: TryAgain | None) -> float:
    """None after a connection that brought something; after others as long as the server asks for, or ever longer."""
    if cut is not None and cut.wait_s is not None:
        return min(cut.wait_s, 60.0)
    spread = 1 + random.random()  # noqa: S311 - so that readers who were cut off together do not come back together
    return min(10.0, 0.2 * 2 ** (failures - 1)) * spread if failures else 0.0
