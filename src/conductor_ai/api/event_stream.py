"""A session's events as server-sent events (HTML standard, 9.2), for one reader.

Three tasks: one takes items from the service into a bounded buffer, one sends what is there, one hears whether the
reader is gone. A slow reader makes the first wait; what the service drops for it then are live items, never events.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from conductor_ai.api.errors import problem_of
from conductor_ai.api.open_streams import RECHECK_S
from conductor_ai.api.refusals import InternalError
from conductor_ai.errors import ConductorError, Unauthorized
from conductor_ai.schemas import json_text

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from conductor_ai.api.house import Call

HEARTBEAT_S = 15.0
RETRY_MS = 1000
_MOST_BUFFERED_BYTES = 256 * 1024
_LAST_WORD_S = 0.5
_FIRST_ITEM_S = 0.1
_HEARTBEAT = b":\n\n"

_logger = logging.getLogger(__name__)


async def begun(
    items: AsyncGenerator[dict[str, Any]], call: Call, require: Callable[[], Awaitable[object]]
) -> EventStream:
    """A stream of `items`, once it is known that there is something to stream.

    Args:
        require: Raises where there is nothing. Asked only where no item comes soon, as on a session that waits: for
            what is read for the first item tells as well.
    Raises: TooManyRequests; what `require`, or the first item, raises.
    """
    leave = call.house.streams.enter(call.caller)
    first = asyncio.ensure_future(anext(items, None))
    try:
        await asyncio.wait({first}, timeout=_FIRST_ITEM_S)
        if first.done():
            first.result()
        else:
            await require()
    except BaseException:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await items.aclose()
        leave()
        raise
    return EventStream(_joined(first, items), call, leave)


async def _joined(
    first: asyncio.Future[dict[str, Any] | None], items: AsyncGenerator[dict[str, Any]]
) -> AsyncGenerator[dict[str, Any]]:
    try:
        async with aclosing(items):
            item = await first
            while item is not None:
                yield item
                item = await anext(items, None)
    finally:
        first.cancel()


class EventStream(Response):
    """Ends after the item that the service ends with, when its key works no more, and when the server stops. `leave` is
    called at the end, however it comes."""

    media_type = "text/event-stream"

    def __init__(self, items: AsyncGenerator[dict[str, Any]], call: Call, leave: Callable[[], None]) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"content-type": "text/event-stream", "x-accel-buffering": "no"})
        self._items = items
        self._call = call
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        buffer = _Buffer()
        tasks: list[asyncio.Task[None]] = []
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            sending = asyncio.create_task(_send_all(buffer, send))
            gone = asyncio.create_task(_until_gone(receive))
            tasks += sending, gone, asyncio.create_task(self._fill(buffer))
            with self._call.house.streams.ended_by(buffer.end):
                await self._until_over(buffer, sending, gone)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._items.aclose()
            self._leave()

    async def _until_over(self, buffer: _Buffer, sending: asyncio.Task[None], gone: asyncio.Task[None]) -> None:
        call = self._call
        while True:
            done, _ = await asyncio.wait({sending, gone}, timeout=RECHECK_S, return_when=asyncio.FIRST_COMPLETED)
            if sending in done:
                sending.result()
            if done:
                return
            if not await call.house.streams.is_valid(call.caller, call.service.keys):
                buffer.end(instead=self._error(Unauthorized("the key of this stream works no more")))
                await asyncio.wait({sending}, timeout=_LAST_WORD_S)  # a reader may be one that takes nothing
                return

    async def _fill(self, buffer: _Buffer) -> None:
        try:
            async with aclosing(self._items) as items:
                async for item in items:
                    if (room := buffer.put(_frame(item))) is not None:
                        await room
        except ConductorError as exc:
            buffer.put(self._error(exc))
        except Exception:  # the edge: the answer has begun, so this is all that can be said
            _logger.exception("the event stream of request %s failed", self._call.request_id)
            buffer.put(self._error(InternalError("something went wrong here", hint="the log says what")))
        finally:
            buffer.end()

    def _error(self, error: ConductorError) -> bytes:
        problem = problem_of(error, self._call.request_id, self._call.house.redactor)
        return b"event: error\ndata: " + json_text.wire_dumps(problem) + b"\n\n"


class _Buffer:
    """Frames between the one who fills and the one who sends. One of each, so bare futures do."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._frames: list[bytes] = [b"retry: %d\n\n" % RETRY_MS]
        self._bytes = 0
        self._coming: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self.ended = False

    def put(self, frame: bytes) -> asyncio.Future[None] | None:
        """Returns: what to wait for before the next one, where the reader is far behind."""
        if self.ended:
            return None
        self._frames.append(frame)
        self._bytes += len(frame)
        _wake(self._coming)
        if self._bytes < _MOST_BUFFERED_BYTES:
            return None
        self._room = self._loop.create_future()
        return self._room

    def end(self, *, instead: bytes | None = None) -> None:
        """Nothing comes any more; what waits is not sent either where there is something to send `instead`."""
        self.ended = True
        if instead is not None:
            self._frames = [instead]
        _wake(self._coming)

    def take(self) -> bytes:
        """All that is there."""
        frames, self._frames, self._bytes = self._frames, [], 0
        _wake(self._room)
        return frames[0] if len(frames) == 1 else b"".join(frames)

    async def wait(self, timeout_s: float) -> None:
        """Until there is something, or nothing comes any more. Raises: TimeoutError."""
        if self._frames or self.ended:
            return
        self._coming = self._loop.create_future()
        async with asyncio.timeout(timeout_s):
            await self._coming


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


async def _send_all(buffer: _Buffer, send: Send) -> None:
    while True:
        try:
            await buffer.wait(HEARTBEAT_S)
            chunk = buffer.take()
        except TimeoutError:
            chunk = _HEARTBEAT
        ended = buffer.ended
        await send({"type": "http.response.body", "body": chunk, "more_body": not ended})
        if ended:
            return


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _frame(item: dict[str, Any]) -> bytes:
    kind, seq = item["type"], item.get("seq")
    data = json_text.wire_dumps(item)
    if seq is not None:
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (seq, kind.encode(), data)
    name = b"delta" if kind == "model.delta" else b"live"
    return b"event: %s\ndata: %s\n\n" % (name, data)
