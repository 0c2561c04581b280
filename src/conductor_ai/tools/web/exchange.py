"""One page's requests: the guard, the pace and the caps at every hop, and redirects followed by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from conductor_ai.errors import SSRFError
from conductor_ai.sdk.security import SSRFChecker, WebURL
from conductor_ai.tools.web.decoding import ACCEPT_ENCODING, PIECE_BYTES, decoder_for
from conductor_ai.tools.web.failures import FetchFailed, TooManyRedirects, of_network, refused
from conductor_ai.tools.web.pace import HostPace, OneByOne

if TYPE_CHECKING:
    # Loaded with the first request: listing tools needs no HTTP client.
    import aiohttp
    from aiohttp.typedefs import LooseHeaders

MAX_REDIRECTS = 5
MAX_HEADER_BYTES = 64 * 2**10
_MAX_FIELD_BYTES = 16 * 2**10
_MAX_SHOWN_LOCATION = 2000
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_BECOME_GET = frozenset((301, 302, 303))  # of a POST, as browsers do it: RFC 9110, 15.4


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask for. `headers` are the model's, checked; `body` is JSON and belongs to a POST."""

    method: str
    url: WebURL
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(slots=True)
class Hop:
    """One request as it went out. `address` is None where nothing was connected to, `status` where nothing came."""

    url: str
    status: int | None = None
    address: str | None = None


@dataclass(slots=True)
class Trail:
    """Where a fetch has been, for its audit row and for the words of a timeout. Filled while it runs."""

    hops: list[Hop] = field(default_factory=list)
    robots: list[Hop] = field(default_factory=list)
    body_bytes: int = 0
    stage: str = "before anything was asked"
    from_memory: str | None = None
    """The URL of the page that was read on in, where nothing was fetched."""

    @property
    def reached(self) -> bool:
        """Whether a request may have arrived somewhere."""
        return any(hop.address is not None for hop in self.hops)

    def facts(self, *, asked: str, method: str) -> dict[str, Any]:
        """JSON data. Never a header's value: what a session sends along is not for everybody who reads the audit."""
        facts: dict[str, Any] = {
            "method": method,
            "final_url": self.from_memory or (self.hops[-1].url if self.hops else asked),
            "hops": [asdict(hop) for hop in self.hops],
            "address": self.hops[-1].address if self.hops else None,
            "bytes": self.body_bytes,
        }
        if self.from_memory is not None:
            facts["from_memory"] = True
        if self.robots:
            facts["robots"] = [asdict(hop) for hop in self.robots]
        return facts


@dataclass(frozen=True, slots=True)
class Body:
    """Decoded bytes, in whole or cut at the cap."""

    data: bytes
    cut: bool


class Exchange:
    """Sends requests, each on a connection of its own: one lookup a hop, and no address that is older than its hop."""

    def __init__(
        self,
        checker: SSRFChecker,
        *,
        pace: HostPace,
        user_agent: str,
        socket_factory: aiohttp.SocketFactoryType | None = None,
    ) -> None:
        self._checker = checker
        self._pace = pace
        self._user_agent = user_agent
        self._socket_factory = socket_factory
        self._one_by_one = OneByOne()

    @asynccontextmanager
    async def follow(
        self, request: Request, trail: Trail, hops: list[Hop], admit: Callable[[WebURL], Awaitable[float]]
    ) -> AsyncIterator[tuple[WebURL, aiohttp.ClientResponse]]:
        """The answer that is no redirect, its body unread, and the URL it came from.

        `admit` is asked before every hop, raises where the hop is not to be, and says the seconds that the host wants
        between two requests. Each hop is added to `hops`, one that was refused too. Raises: FetchFailed, SSRFError.
        """
        for _ in range(MAX_REDIRECTS + 1):
            hop = Hop(request.url.text)
            hops.append(hop)
            self._checker.parse_url(request.url.text)
            interval_s = await admit(request.url)
            trail.stage = f"waiting for a turn at {request.url.host}"
            async with self._pace.turn(request.url.host, interval_s=interval_s):
                trail.stage = f"waiting for the answer of {request.url.host}"
                async with self._send(request, hop) as reply:
                    location = reply.headers.get("Location")
                    if reply.status not in _REDIRECTS or location is None:
                        yield request.url, reply
                        return
                    status = reply.status
            request = _redirected(request, status, location, hops)
        raise TooManyRedirects(
            f"more than {MAX_REDIRECTS} redirects, the last one to {request.url.text[:200]}: use another URL"
        )

    @asynccontextmanager
    async def _send(self, request: Request, hop: Hop) -> AsyncIterator[aiohttp.ClientResponse]:
        await self._one_by_one.begin()
        import aiohttp
        from yarl import URL

        from conductor_ai.sdk.security.guarded_http import guarded_connector, no_second_try

        tried: list[str] = []
        connector = guarded_connector(
            self._checker,
            socket_factory=self._socket_factory,
            on_connect=lambda address, port: tried.append(address),
        )
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                    # The fetch has one deadline, around all of it; a limit per read is what a slow server never trips.
                    timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
                    max_line_size=_MAX_FIELD_BYTES,
                    max_field_size=_MAX_FIELD_BYTES,
                    trust_env=False,
                    middlewares=(no_second_try,),
                ) as http,
                http.request(
                    request.method,
                    URL(request.url.text, encoded=True),
                    headers=self._headers(request),
                    data=request.body,
                    allow_redirects=False,
                ) as reply,
            ):
                hop.status = reply.status
                hop.address = _peer(reply, tried)
                try:
                    _check_head(reply, request.url.host)
                    yield reply
                finally:
                    reply.close()  # what is left unread is never read to free the connection
        except (aiohttp.ClientError, OSError) as exc:
            raise of_network(exc, request.url.host, port=request.url.port) from exc
        finally:
            if hop.address is None and tried:
                hop.address = tried[-1]

    def _headers(self, request: Request) -> LooseHeaders:
        from multidict import CIMultiDict

        headers = CIMultiDict(Accept="text/html, application/json, text/*;q=0.9, */*;q=0.5")
        headers.update(request.headers)
        headers["Accept-Encoding"] = ACCEPT_ENCODING
        headers["User-Agent"] = self._user_agent
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        return headers


async def read_body(reply: aiohttp.ClientResponse, *, max_bytes: int, trail: Trail | None = None) -> Body:
    """The decoded body up to `max_bytes`. Raises: FetchFailed, aiohttp.ClientError."""
    decoder = decoder_for(reply.headers.get("Content-Encoding", ""))
    body, wire_bytes = bytearray(), 0
    while chunk := await reply.content.readany():
        wire_bytes += len(chunk)
        for piece in decoder.feed(chunk):
            room = max_bytes - len(body)
            body += piece[:room]
            if trail is not None:
                trail.body_bytes = len(body)
            if len(piece) > room:
                return Body(bytes(body), cut=True)
        # Compressed data that gives nothing has no end of its own.
        if wire_bytes > max_bytes + PIECE_BYTES:
            return Body(bytes(body), cut=True)
        await asyncio.sleep(0)  # a fast server is no reason to keep others waiting
    if not decoder.complete:
        raise FetchFailed("the compressed answer broke off before its end: try once more, or use another source")
    return Body(bytes(body), cut=False)


def _redirected(request: Request, status: int, location: str, hops: list[Hop]) -> Request:
    try:
        target = request.url.join(location)
    except SSRFError:
        hops.append(Hop(location[:_MAX_SHOWN_LOCATION]))
        raise
    if request.method != "POST":
        return replace(request, url=target)
    if status in _BECOME_GET:
        return replace(request, method="GET", url=target, body=None)
    if target.origin != request.url.origin:
        raise refused(f"a POST is not sent on to another site ({request.url.origin} redirects it to {target.origin})")
    return replace(request, url=target)


def _check_head(reply: aiohttp.ClientResponse, host: str) -> None:
    if sum(len(name) + len(value) + 4 for name, value in reply.raw_headers) > MAX_HEADER_BYTES:
        raise FetchFailed(f"{host} sent more than {MAX_HEADER_BYTES // 2**10} KiB of headers: use another source")


def _peer(reply: aiohttp.ClientResponse, tried: list[str]) -> str | None:
    """Of the addresses that were tried, the one that answered."""
    transport = reply.connection.transport if reply.connection is not None else None
    peer = transport.get_extra_info("peername") if transport is not None else None
    return peer[0] if peer and peer[0] in tried else tried[-1] if tried else None
