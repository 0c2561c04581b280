"""Waiting until a session on a server stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

from conductor_ai.client.results import RemoteSession, StreamItem
from conductor_ai.client.streaming import ENDS
from conductor_ai.errors import ConductorError

_WITH_STREAM_S = 15.0
"""Between looks while the stream is heard: it tells by itself, but a proxy may hold it back."""
_WITHOUT_STREAM_S = 1.0
_TELLING = ENDS | {"approval.requested"}


async def until_stopped(
    ask: Callable[[], Awaitable[RemoteSession]], stream: Callable[[], AsyncGenerator[StreamItem]]
) -> RemoteSession:
    """The session once it has stopped, by what the server itself says of it: the stream only says when to ask."""
    session = await ask()
    if session.stopped:
        return session
    news = asyncio.Event()
    listening = asyncio.create_task(_listen(stream, news))
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WITHOUT_STREAM_S if listening.done() else _WITH_STREAM_S):
                    await news.wait()
            news.clear()
            if listening.done():
                listening.result()  # where it fell over itself, that is raised here
            session = await ask()
            if session.stopped:
                return session
    finally:
        listening.cancel()
        await asyncio.wait([listening])


async def _listen(stream: Callable[[], AsyncGenerator[StreamItem]], news: asyncio.Event) -> None:
    """Tell of what may have stopped the session, and of the stream's own end; from then on, asking has to do."""
    try:
        async with contextlib.aclosing(stream()) as items:
            async for item in items:
                if item.type in _TELLING:
                    news.set()
    except ConductorError:
        return  # whoever asks will learn what is wrong, and where nothing is, goes on without the stream
    finally:
        news.set()
