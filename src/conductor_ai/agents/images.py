"""Images that a message names by URL: fetched through the guard of the open web, before a session starts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING

from conductor_ai.errors import ConductorError, InvalidInput, SSRFError
from conductor_ai.schemas.image_header import media_type_of
from conductor_ai.schemas.images import MAX_IMAGE_BYTES, Image, check_together, public_url
from conductor_ai.schemas.messages import Message

if TYPE_CHECKING:
    # Loaded with the first image that has to be fetched: most sessions have none.
    import aiohttp
    from aiohttp.abc import AbstractResolver

    from conductor_ai.sdk.security import WebURL
    from conductor_ai.tools.web.exchange import Exchange, Trail

DEADLINE_S = 30.0
MAX_AT_ONCE = 4
_SHOWN_CHARS = 200
# Servers that convert for the asker must not answer with what models do not read, AVIF say.
_ACCEPT = "image/png, image/jpeg, image/webp, image/gif"


async def fetched(
    conversation: list[Message],
    grants: Iterable[str] | None = None,
    *,
    timeout_s: float = DEADLINE_S,
    resolver: AbstractResolver | None = None,
    socket_factory: aiohttp.SocketFactoryType | None = None,
) -> list[Message]:
    """The conversation with the data of every image; a URL that stands in it twice is fetched once.

    The guard judges every hop: http and https, public addresses, the usual ports, five redirects at most. The `url`
    of an image that was fetched keeps scheme, host and path: a query may hold a token, and the log keeps what it gets.

    Args:
        grants: `host:port` pairs exempt from the guard; None: those of `CONDUCTOR_FETCH_GRANTS` in the environment.
        timeout_s: For all images together.
        resolver: Looks names up; aiohttp's interface. The default asks the system.
        socket_factory: Makes the sockets, after the guard's check; aiohttp's interface.
    Raises: InvalidInput that names the image which failed first, by its URL without the query.
    """
    waiting = [image.url for message in conversation for image in message.images if image.url and not image.is_fetched]
    if not waiting:
        return conversation
    from conductor_ai.sdk.security import SSRFChecker
    from conductor_ai.tools.web.exchange import Exchange
    from conductor_ai.tools.web.pace import HostPace

    exchange = Exchange(
        SSRFChecker(resolver, grants=grants),
        pace=HostPace(concurrency=MAX_AT_ONCE, interval_s=0.0),
        user_agent=f"conductor-ai/{version('conductor-ai')}",
        socket_factory=socket_factory,
    )
    got = await _fetch_all(exchange, waiting, timeout_s)
    return [_completed(message, got) for message in conversation]


def _completed(message: Message, got: dict[str, Image]) -> Message:
    if all(image.is_fetched for image in message.images):
        return message
    images = tuple(got[image.url] if image.url and not image.is_fetched else image for image in message.images)
    check_together(images)
    return message._replace(images=images)


async def _fetch_all(exchange: Exchange, urls: list[str], timeout_s: float) -> dict[str, Image]:
    deadline = asyncio.get_running_loop().time() + timeout_s
    gate = asyncio.Semaphore(MAX_AT_ONCE)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = {url: group.create_task(_fetch(exchange, url, gate, deadline)) for url in dict.fromkeys(urls)}
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return {url: task.result() for url, task in tasks.items()}


async def _fetch(exchange: Exchange, url: str, gate: asyncio.Semaphore, deadline: float) -> Image:
    """Raises: InvalidInput."""
    from conductor_ai.sdk.security.urls import parse_web_url
    from conductor_ai.tools.web.exchange import Trail
    from conductor_ai.tools.web.failures import FetchFailed

    shown, trail, hint = public_url(url), Trail(), None
    try:
        async with asyncio.timeout_at(deadline), gate:
            data = await _read(exchange, parse_web_url(url), trail)
        return Image.of_bytes(data)._replace(url=shown)
    except TimeoutError:
        reason = f"it did not come in time ({trail.stage})"
    except (FetchFailed, SSRFError, InvalidInput) as exc:
        reason, hint = _told(exc, trail), exc.hint
    # Not in the handler: what was caught may hold the whole URL, and would be printed with the error.
    raise InvalidInput(f"the image {shown[:_SHOWN_CHARS]} cannot be had: {reason}", hint=hint)


async def _read(exchange: Exchange, url: WebURL, trail: Trail) -> bytes:
    """Raises: FetchFailed, SSRFError."""
    from conductor_ai.tools.web.content import ContentType
    from conductor_ai.tools.web.exchange import Request, read_body
    from conductor_ai.tools.web.failures import FetchFailed

    async with exchange.follow(Request("GET", url, {"Accept": _ACCEPT}), trail, trail.hops, _admit) as (final, reply):
        if reply.status != 200:
            raise FetchFailed(f"{final.host} answered with status {reply.status}")
        trail.stage = f"reading the answer of {final.host}"
        body = await read_body(reply, max_bytes=MAX_IMAGE_BYTES, trail=trail)
        called = ContentType.of(reply.headers.get("Content-Type", "")).essence
    if media_type_of(body.data) is None:
        raise FetchFailed(f"it is no PNG, JPEG, GIF or WebP image ({final.host} calls it {called or 'nothing'})")
    if body.cut:
        raise FetchFailed(f"it is larger than {MAX_IMAGE_BYTES:,} bytes, the most that all models take")
    return body.data


async def _admit(url: WebURL) -> float:
    """No pause between two requests, and no robots.txt: a person named this URL."""
    return 0.0


def _told(exc: ConductorError, trail: Trail) -> str:
    """What went wrong, without what a server said: a redirect's target may be signed, a broken header a cookie."""
    import aiohttp

    from conductor_ai.sdk.security.urls import parse_web_url
    from conductor_ai.tools.web.failures import TooManyRedirects

    if isinstance(exc, TooManyRedirects):
        return "it is redirected too often"
    if isinstance(exc.__cause__, aiohttp.ClientResponseError):
        return "the server's answer is not proper HTTP, or its headers are too large"
    if not isinstance(exc, SSRFError) or len(trail.hops) < 2:
        return str(exc)
    try:
        parse_web_url(trail.hops[-1].url)
    except SSRFError:
        return "refused: it is redirected to what is no plain http or https URL"
    return f"{exc} (it is redirected there)"
