"""HTTP that connects only to what the checker has vetted: a connector, and a session for plugin authors."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import SimpleNamespace

import aiohttp
from aiohttp import AddrInfoType, SocketFactoryType
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from conductor_ai.errors import SSRFError
from conductor_ai.sdk.security.ssrf import SSRFChecker
from conductor_ai.sdk.security.urls import parse_web_url

MAX_REDIRECTS = 5
# For any site: they say what is asked for, not who asks.
_HEADERS_FOR_ALL = frozenset(
    "accept accept-charset accept-encoding accept-language cache-control connection dnt host if-modified-since"  # noqa: SIM905
    " if-none-match keep-alive pragma range upgrade-insecure-requests user-agent".split()
)


def guarded_connector(
    checker: SSRFChecker,
    *,
    socket_factory: SocketFactoryType | None = None,
    on_connect: Callable[[str, int], None] | None = None,
) -> aiohttp.TCPConnector:
    """A connector for `aiohttp.ClientSession` that reaches vetted addresses only, whatever the session asks of it.

    Each request's URL is read strictly, redirects included, in the form that aiohttp gives it: some malformed URLs have
    been mended by then, white space and full-width letters say. What is judged is what is connected to. Who wants the
    text itself judged, asks `SSRFChecker.parse_url` first. A name is looked up once per connection and every answer
    vetted; every socket's address is vetted again before the socket is made, which covers addresses in URLs: aiohttp
    asks no resolver about those. Certificates are still checked against the name. Proxies are refused.

    Args:
        socket_factory: Makes the sockets, after the check; aiohttp's interface.
        on_connect: Told address and port of each socket that is made.
    Raises, when used: SSRFError for a refusal; aiohttp's ClientConnectorDNSError where a name has no address.
    """
    return _GuardedConnector(checker, socket_factory or _plain_socket, on_connect)


def guarded_session(
    checker: SSRFChecker | None = None,
    *,
    socket_factory: SocketFactoryType | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 30.0,
) -> aiohttp.ClientSession:
    """An HTTP session for tools: every request, and every redirect of it, goes through the guard.

    No proxies and passwords from the environment, no cookies; `timeout_s` is for a request as a whole, its redirects
    and its body included. At most five redirects are followed. Those from https to http, to `//host` and with user info
    are refused. So are those to another origin where the request carries a body, or a header that may be for one site
    alone: `X-Api-Key`, `Authorization`, any but a few such as `Accept` and `User-Agent`. Close it as any session. It
    guards against reaching inside, not against large answers: read bodies in pieces, up to a limit.

    Raises, when used: SSRFError for a refusal, else aiohttp's own errors.
    """
    checker = checker or SSRFChecker()
    return aiohttp.ClientSession(
        connector=guarded_connector(checker, socket_factory=socket_factory),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        trust_env=False,
        trace_configs=[_strict_hops()],
        middlewares=(no_second_try,),
    )


async def no_second_try(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """A client middleware: one hop makes one lookup and reaches a server once.

    aiohttp silently repeats a GET whose connection broke before the answer. That is meant for a connection which had
    idled for too long, and stays so; a new one that broke is reported, as ClientConnectionError.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # never repeated
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as exc:
        if not _attempt.get().is_new_connection:
            raise
        raise aiohttp.ClientConnectionError(f"{request.url.host} closed the connection before it answered") from exc


@dataclass(slots=True)
class _Attempt:
    """One call of `connect`: what its lookup allowed, and what its sockets were refused."""

    granted: bool | None = None
    """Whether the name that was looked up is granted; None without a lookup, for a URL with an address in it."""
    refusals: list[SSRFError] = field(default_factory=list)
    is_new_connection: bool = False


# aiohttp hands a socket factory nothing but the address, and makes sockets of one request in several tasks. The value
# stays behind in the task that sent the request, for `no_second_try`, until its next one.
_attempt: ContextVar[_Attempt] = ContextVar("conductor_ai_connection_attempt")


class _GuardedResolver(AbstractResolver):
    def __init__(self, checker: SSRFChecker) -> None:
        self._checker = checker

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        answers = await self._checker.resolve(host, port)
        _attempt.get().granted = self._checker.is_granted(host, port)
        return answers

    async def close(self) -> None:
        """Nothing is open: the checker's resolver belongs to whoever made it."""


class _GuardedConnector(aiohttp.TCPConnector):
    def __init__(
        self,
        checker: SSRFChecker,
        make_socket: SocketFactoryType,
        on_connect: Callable[[str, int], None] | None,
    ) -> None:
        self._checker = checker
        self._make_socket = make_socket
        self._on_connect = on_connect
        super().__init__(resolver=_GuardedResolver(checker), use_dns_cache=False, socket_factory=self._vetted_socket)

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        if req.proxy is not None:
            raise SSRFError("a proxy connects to addresses that this process cannot check")
        self._checker.parse_url(str(req.url))
        attempt = _Attempt()
        _attempt.set(attempt)
        try:
            connection = await super().connect(req, traces, timeout)
        except Exception as exc:
            # Where several addresses are tried at once, the refusal of one is lost on the way up.
            if attempt.refusals:
                raise attempt.refusals[0] from exc
            raise
        if attempt.refusals:
            connection.close()
            raise attempt.refusals[0]
        return connection

    def _vetted_socket(self, info: AddrInfoType) -> socket.socket:
        address, port = str(info[4][0]), int(info[4][1])
        attempt = _attempt.get()
        try:
            self._checker.vet_address(address, port, granted=attempt.granted)
        except SSRFError as refusal:
            attempt.refusals.append(refusal)
            raise
        attempt.is_new_connection = True
        made = self._make_socket(info)
        if self._on_connect is not None:
            self._on_connect(address, port)
        return made


def _plain_socket(info: AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = info
    return socket.socket(family, kind, protocol)


def _strict_hops() -> aiohttp.TraceConfig:
    """Reads what the connector does not get to see: user info, which aiohttp turns into a header, and redirects."""
    hops = aiohttp.TraceConfig()
    hops.on_request_start.append(_check_start)
    hops.on_request_redirect.append(_check_redirect)
    return hops


async def _check_start(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestStartParams
) -> None:
    context.redirects = 0
    parse_web_url(str(params.url))


async def _check_redirect(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
) -> None:
    location = params.response.headers.get("Location") or params.response.headers.get("URI")
    if location is None:
        return
    here = parse_web_url(str(params.url))
    there = here.join(location)
    context.redirects += 1
    if context.redirects > MAX_REDIRECTS:
        raise aiohttp.TooManyRedirects(params.response.request_info, (params.response,))
    if there.origin != here.origin:
        _refuse_to_tell_others(params.response.request_info, f"{here.origin} redirects it to {there.origin}")


def _refuse_to_tell_others(request: aiohttp.RequestInfo, what_happened: str) -> None:
    names = {name.lower() for name in request.headers} - _HEADERS_FOR_ALL
    if request.headers.get("Content-Length") == "0":
        names -= {"content-length", "content-type"}
    if told := sorted(names):
        raise SSRFError(
            f"a request with {', '.join(told)[:200]} is not sent on to another site ({what_happened})",
            hint="Ask that site yourself, with allow_redirects=False here, if it may have them.",
        )
