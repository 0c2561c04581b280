"""Requests to a conductor server: to its address only, within a bound of attempts, every failure as a typed error."""

from __future__ import annotations

import asyncio
import io
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

import aiohttp
from yarl import URL

from conductor_ai.client.problems import BUSY_STATUSES, error_of, retry_after_s
from conductor_ai.errors import ConductorError, InvalidInput, ServiceError, ServiceUnavailable, UsageError
from conductor_ai.schemas import json_text

if TYPE_CHECKING:
    from pydantic import SecretStr
    from tenacity import RetryCallState

T = TypeVar("T")

SILENCE_S = 45.0
"""A stream on which nothing has come for so long is dead: the server sends a comment every 15 s at least."""

_LONGEST_WAIT_S = 60.0
"""A server that asks for a longer wait is not waited for: the caller is told, and knows better what to do meanwhile."""

_KEPT_ALIVE_S = 4.0
"""Less than the 5 s after which uvicorn closes what is idle: nothing is sent on a connection that is about to go."""

_LARGE_BODY_BYTES = 2**19
_FIRST_WAIT_S = 0.2
_WAIT_AT_MOST_S = 10.0
_ID = re.compile(r"[0-9A-Za-z_-]{1,100}")
_HEADER_TEXT = re.compile(r"[\x21-\x7e]{1,1000}")


class TryAgain(Exception):
    """An attempt that failed in a way that may pass, with the error that its caller gets where it does not.

    `sent` is False where the request never left this process or was refused unread; `wait_s` is what the server asks
    for. Never leaves this package.
    """

    def __init__(self, error: ConductorError, *, sent: bool, wait_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.sent = sent
        self.wait_s = wait_s


@dataclass(slots=True)
class _Sent:
    """How often a request went out: aiohttp repeats some by itself on another connection, and does not say so."""

    times: int = 0


class Call(NamedTuple):
    """One request. `repeatable`: sent twice it does no more than once. `settled_by` are errors which mean, after an
    attempt whose reply was lost, that this attempt had done its work. `answers` are statuses beyond 299 that answer it.
    """

    method: str
    path: str
    body: Any = None
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    repeatable: bool = True
    settled_by: type[ConductorError] | tuple[type[ConductorError], ...] = ()
    answers: tuple[int, ...] = ()


class Transport:
    """Opened by `open`, in the event loop that then uses it.

    Args:
        timeout_s: For one attempt, its connection included; for a stream, to connect and to hear the first of it.
        max_attempts: How often one thing is asked at most.
    Raises: InvalidInput.
    """

    def __init__(
        self, base_url: str, org_id: str | None, api_key: SecretStr | None, *, timeout_s: float, max_attempts: int
    ) -> None:
        self.base_url = _checked_base(base_url)
        if not 0 < timeout_s < float("inf"):
            raise InvalidInput(f"timeout_s must be a number of seconds above zero, got {timeout_s!r}")
        if max_attempts < 1:
            raise InvalidInput(f"max_attempts must be at least 1, got {max_attempts!r}")
        if org_id is not None and not _HEADER_TEXT.fullmatch(org_id):
            raise InvalidInput("org_id must be plain text without spaces")
        if api_key is not None and not _HEADER_TEXT.fullmatch(api_key.get_secret_value()):
            raise InvalidInput("the API key is none: it must be plain text without spaces")
        self.timeout_s = timeout_s
        self.max_attempts = max_attempts
        self._org_id = org_id
        self._api_key = api_key
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Raises: UsageError where it is open already."""
        if self._http is not None:
            raise UsageError("the client is open already: each `async with` needs one of its own")
        headers = {"Accept": "application/json"}
        if self._org_id is not None:
            headers["X-Org-ID"] = self._org_id
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key.get_secret_value()}"
        # No proxy and no .netrc of the environment: the key goes to the address that was given, and nowhere else.
        told = aiohttp.TraceConfig()
        told.on_request_headers_sent.append(_count)
        self._http = aiohttp.ClientSession(
            trace_configs=[told],
            headers=headers,
            connector=aiohttp.TCPConnector(keepalive_timeout=_KEPT_ALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def call(self, call: Call) -> Any:
        """The JSON data of the reply, None where it has none. Raises: ConductorError."""
        body = _encoded(call.body)
        lost = False

        async def attempt() -> Any:
            nonlocal lost
            sent = _Sent()
            try:
                return await self._attempt(call, body, sent)
            except TryAgain as failed:
                lost = lost or failed.sent
                if failed.sent and not call.repeatable:
                    raise failed.error from failed.__cause__
                raise
            except ConductorError as error:
                if (lost or sent.times > 1) and isinstance(error, call.settled_by):
                    return None
                raise

        return await self.retrying(attempt)

    async def retrying(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Await `attempt` until it raises no TryAgain, or the attempts are spent. Raises: what it raises, and the error
        of the last TryAgain."""
        try:
            return await attempt()
        except TryAgain as failed:
            if self.max_attempts == 1 or not _worth_waiting(failed):
                raise failed.error from failed.__cause__
            first = failed
        return await self._again(first, attempt)

    async def _again(self, first: TryAgain, attempt: Callable[[], Awaitable[T]]) -> T:
        """The further attempts; most calls need none, and do not load tenacity."""
        from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

        backoff = wait_exponential_jitter(_FIRST_WAIT_S, _WAIT_AT_MOST_S, jitter=_FIRST_WAIT_S)
        pending: TryAgain | None = first

        async def once() -> T:
            nonlocal pending
            if pending is not None:  # the first attempt, as it went
                failed, pending = pending, None
                raise failed
            return await attempt()

        def wait_s(state: RetryCallState) -> float:
            error = None if state.outcome is None else state.outcome.exception()
            named_s = error.wait_s if isinstance(error, TryAgain) else None
            return backoff(state) if named_s is None else named_s

        repeat = AsyncRetrying(
            retry=retry_if_exception(_worth_waiting),
            wait=wait_s,
            stop=stop_after_attempt(self.max_attempts),
            reraise=True,
            sleep=asyncio.sleep,
        )
        try:
            return await repeat(once)
        except TryAgain as failed:
            raise failed.error from failed.__cause__

    async def _attempt(self, call: Call, body: bytes | None, sent: _Sent) -> Any:
        headers = dict(call.headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        timeout = aiohttp.ClientTimeout(total=self.timeout_s)
        async with self._request(call, body, headers, timeout, sent) as reply:
            data = await reply.read()
            # A proxy in between may answer with such a status, too, but not with JSON.
            if reply.status not in call.answers or reply.content_type != "application/json":
                _raise_for_status(reply, data)
        if not data:
            return None
        try:
            return json_text.loads(data)
        except (ValueError, RecursionError) as exc:
            raise ServiceError(f"{self.base_url} answered with no JSON", status=reply.status) from exc

    async def content(self, path: str) -> bytes:
        """What is at this path, as it is: it may be large, so that a pause is what ends an attempt. Raises:
        ConductorError."""
        call = Call("GET", path)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.timeout_s, sock_read=self.timeout_s)

        async def attempt() -> bytes:
            async with self._request(call, None, {"Accept": "*/*"}, timeout) as reply:
                data = await reply.read()
                _raise_for_status(reply, data)
                return data

        return await self.retrying(attempt)

    @asynccontextmanager
    async def events(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """An event stream as bytes. Raises: TryAgain, also out of the iteration; ConductorError."""
        call = Call("GET", path)
        asked = {"Accept": "text/event-stream", "Cache-Control": "no-store", **headers}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.timeout_s, sock_read=SILENCE_S)
        async with self._request(call, None, asked, timeout) as reply:
            if reply.status != 200:
                _raise_for_status(reply, await reply.read())
            if reply.content_type != "text/event-stream":
                raise ServiceError(f"{self.base_url} answered with no event stream", status=reply.status)
            yield reply.content.iter_any()

    @asynccontextmanager
    async def _request(
        self,
        call: Call,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        sent: _Sent | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One exchange, its failures told apart by whether the server can have acted. Raises: TryAgain, ServiceError;
        UsageError outside `async with`."""
        if self._http is None:
            raise UsageError("the client is not open", hint="async with ConductorClient(...) as client:")
        not_http = None
        try:
            async with self._http.request(
                call.method,
                self._url(call),
                # aiohttp warns of large bodies in one piece; from a file it sends them in many.
                data=body if body is None or len(body) < _LARGE_BODY_BYTES else io.BytesIO(body),
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                trace_request_ctx=sent,
            ) as reply:
                yield reply
        except aiohttp.ClientSSLError as exc:  # the same certificate will be refused again
            raise self._away("cannot be trusted: its certificate or TLS does not hold") from exc
        except aiohttp.ClientConnectorError as exc:
            error = self._away(f"cannot be reached: {_reason(exc)}")
            raise TryAgain(error, sent=False) from exc
        except aiohttp.ConnectionTimeoutError as exc:
            raise TryAgain(self._away("cannot be reached: no connection in time"), sent=False) from exc
        except aiohttp.ClientResponseError as exc:
            not_http = exc.message
        except (aiohttp.ClientError, OSError) as exc:  # a TimeoutError is an OSError
            what = "did not answer in time" if isinstance(exc, TimeoutError) else "went away before it had answered"
            raise TryAgain(self._away(what), sent=True) from exc
        if not_http is not None:  # raised here, not chained: that error holds the request's headers, and so the key
            raise ServiceError(f"{self.base_url} does not speak HTTP as it should: {not_http}")

    def _url(self, call: Call) -> URL:
        query = f"?{urlencode(call.query, errors='replace')}" if call.query else ""
        return URL(f"{self.base_url}{call.path}{query}", encoded=True)

    def _away(self, what: str) -> ServiceUnavailable:
        return ServiceUnavailable(f"{self.base_url} {what}", hint="see that the server runs: conductor serve")


def _reason(error: aiohttp.ClientConnectorError) -> str:
    """In the system's words, as `Connection refused`; asyncio's own name the addresses, which may be many."""
    number = error.os_error.errno
    return os.strerror(number) if number is not None and number > 0 else "no such host"


async def _count(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    if isinstance(context.trace_request_ctx, _Sent):
        context.trace_request_ctx.times += 1


def segment(given: str, error: type[ConductorError], noun: str) -> str:
    """`given` as a part of a path. Raises: `error` where no such thing can be: nothing else than an id leaves here."""
    if not _ID.fullmatch(given):
        raise error(f"no {noun} {given!r:.120}")
    return given


def _worth_waiting(error: BaseException) -> bool:
    return isinstance(error, TryAgain) and (error.wait_s is None or error.wait_s <= _LONGEST_WAIT_S)


def _raise_for_status(reply: aiohttp.ClientResponse, body: bytes) -> None:
    if 200 <= reply.status < 300:
        return
    error = error_of(reply.status, reply.headers, body)
    if reply.status == 429:
        raise TryAgain(error, sent=False, wait_s=retry_after_s(reply.headers))
    if reply.status in BUSY_STATUSES:
        raise TryAgain(error, sent=True, wait_s=retry_after_s(reply.headers))
    raise error


def _encoded(body: Any) -> bytes | None:
    if body is None:
        return None
    try:
        return json_text.dumps(body).encode()
    except (TypeError, ValueError) as exc:
        raise InvalidInput(f"the request is not JSON data: {exc}") from exc


def _checked_base(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and base_url.isprintable() and " " not in base_url
        address = str(URL(base_url))
    except (AttributeError, TypeError, ValueError):
        usable = False
    if not usable:  # not shown: it may have a password in it
        raise InvalidInput("base_url must be an address such as http://localhost:8000")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise InvalidInput("base_url must be a plain address: no user name, no password, nothing after ? or #")
    return address.rstrip("/")
