"""The HTTP that all providers share: one session for the process, one small client per provider.

A call posts bytes that are ready, under headers and an address that are ready. Nothing is built per call: what looks
like a detail here is paid once per step of every session.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from conductor_ai.errors import InvalidInput, MalformedReply, ProviderError
from conductor_ai.providers.assembly import Assembly, AssemblyMaker, deltas_of
from conductor_ai.providers.base import ModelRequest
from conductor_ai.providers.failures import Failures, Timeouts
from conductor_ai.providers.sse import SSEParser
from conductor_ai.providers.stream_clock import StreamClock
from conductor_ai.schemas import json_text
from conductor_ai.schemas.deltas import Delta, ReasoningDelta, TextDelta, ToolArguments, ToolCallStart
from conductor_ai.schemas.messages import ModelResponse

MAX_CONNECTIONS = 1000
KEEPALIVE_S = 60.0
MAX_REPLY_BYTES = 64 * 2**20
_LARGE_BODY_BYTES = 2**20
"""aiohttp warns from here on about bytes that are sent in one piece, and sends a file in many."""
_STREAM_BUFFER_BYTES = 2**16
"""aiohttp stops reading the socket of a stream once twice as much waits for whoever consumes it."""
_LAST_BYTES_S = 0.25
"""How long a whole answer waits for the end of its reply, which comes with it: the connection then serves again."""
END = b"]}"
STREAMED_END = b'],"stream":true}'

Reader = Callable[[dict[str, Any], Mapping[str, str], str], ModelResponse]
"""Turns a reply's JSON object, its headers and the model that was asked into our words."""

_PARTS_OF_AN_ANSWER = ("choices", "candidates", "content", "usage", "usageMetadata")
"""Where one of these stands beside an error, a model had begun: what it did is billed."""

_WORDS = (TextDelta, ReasoningDelta, ToolArguments, ToolCallStart)
"""The last field of each is the provider's own text."""

_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RecursionError)
"""What reading JSON of another shape than promised ends in: a missing field, or one of another kind."""


def open_http() -> aiohttp.ClientSession:
    """The session that all providers of a process share; who opens it closes it. Needs a running event loop."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_S),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def base_address(url: str, variable: str) -> URL:
    """The address that `variable` may override, without a closing slash. Raises: InvalidInput."""
    try:
        parsed = URL(url.strip().rstrip("/"))
    except ValueError:
        parsed = URL()
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.user or parsed.query_string:
        raise InvalidInput(
            f"{variable} is not a base URL", hint=f"{variable} looks like https://host/path, without a login or a query"
        )
    return parsed


def key_of(api_key: str | None, variable: str) -> str:
    """The key without the line end that a file or a shell left on it. Raises: InvalidInput, never showing the key."""
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InvalidInput(f"{variable} is not a key: it has characters that no HTTP header can carry")
    return key


def _joined(request: ModelRequest, end: bytes) -> bytes:
    """The body, which every wire closes with its list of turns and `end`. One join: a second would copy the history
    again."""
    parts = [*request.turns]
    parts[0] = request.head + parts[0]
    parts[-1] += end
    return b",".join(parts)


@dataclass(slots=True)
class _Stream:
    """A streamed reply while it is read. `begun`: an event has come."""

    reply: aiohttp.ClientResponse
    model: str
    assembly: Assembly
    clock: StreamClock
    parser: SSEParser = field(default_factory=SSEParser)
    begun: bool = False


class ProviderHTTP:
    """One provider's way to its service. `headers` carry the key; `max_reply_bytes` bounds one reply."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        headers: Mapping[str, str],
        failures: Failures,
        timeouts: Timeouts,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        self.failures = failures
        self._http = http
        self._headers = CIMultiDict({"Content-Type": "application/json", "User-Agent": "conductor-ai", **headers})
        self._timeouts = timeouts
        # Until the head is here, aiohttp's socket timeout is the wait for it; `_bound_silence` then shortens it.
        self._limits = aiohttp.ClientTimeout(
            total=timeouts.total_s, sock_connect=timeouts.connect_s, sock_read=timeouts.first_byte_s
        )
        self._stream_limits = aiohttp.ClientTimeout(
            total=None, sock_connect=timeouts.connect_s, sock_read=timeouts.first_byte_s
        )
        self._max_reply_bytes = max_reply_bytes

    async def ask(self, url: URL, request: ModelRequest, read: Reader) -> ModelResponse:
        """Post a request and read the whole reply. Raises: ProviderError."""
        model = request.model
        async with self._replying(url, _joined(request, END), self._limits, model) as reply:
            headers = reply.headers
            raw = await self._body(reply, model)
        return self._read(raw, headers, model, read)

    async def stream(
        self, url: URL, request: ModelRequest, read: Reader, assemble: AssemblyMaker, *, end: bytes = STREAMED_END
    ) -> AsyncGenerator[Delta | ModelResponse]:
        """Post a request and give the answer as it comes, the whole of it last. Raises: ProviderError.

        `end` closes the body and asks for a stream; `read` is for a service that answers in one piece all the same.
        Two clocks run while we wait for the service, and only then: one for bytes, one for the answer to get on.
        """
        model = request.model
        async with self._replying(url, _joined(request, end), self._stream_limits, model) as reply:
            headers = reply.headers.copy()
            headers.popall("retry-after", None)  # of an ordinary answer: no word on an error that comes later
            if reply.content_type == "application/json":
                async with asyncio.timeout(self._timeouts.total_s):
                    raw = await self._body(reply, model)
                response, at_once = self._read(raw, headers, model, read), True
            else:
                _bound_silence(reply, None)  # the clock bounds it
                assembly = assemble(headers, model)
                clock = StreamClock(reply.content, self._timeouts.idle_s, self._timeouts.progress_s)
                stream = _Stream(reply, model, assembly, clock)
                try:
                    while not assembly.ended and (chunk := await clock.read()):
                        for delta in self._deltas(stream, chunk):
                            yield delta
                except aiohttp.SocketTimeoutError as exc:
                    waited = replace(self._timeouts, idle_s=clock.stalled_s)
                    raise self.failures.transport(exc, model, waited, answering=True) from exc
                except ProviderError as error:
                    error.answering = error.answering or stream.begun
                    raise
                finally:
                    clock.close()
                await _read_to_the_end(reply)
                response, at_once = self._whole(stream, headers, read), not stream.begun
        if at_once:
            for delta in deltas_of(response):
                yield delta
        yield response

    @asynccontextmanager
    async def _replying(
        self, url: URL, body: bytes, limits: aiohttp.ClientTimeout, model: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A reply of status 200 whose body is still to be read. What breaks until the end is one of our errors."""
        answering = False
        try:
            async with asyncio.timeout(self._timeouts.total_s):  # a free connection and the upload have no other limit
                reply = await self._http.post(
                    url,
                    data=body if len(body) <= _LARGE_BODY_BYTES else io.BytesIO(body),
                    headers=self._headers,
                    timeout=limits,
                    # A redirect is not followed: it would carry the key to an address that nobody set.
                    allow_redirects=False,
                    read_bufsize=_STREAM_BUFFER_BYTES if limits is self._stream_limits else None,
                )
            async with reply:
                answering = True
                if reply.status != 200:
                    said = await self._error_body(reply, model)
                    raise self.failures.refusal(reply.status, said, reply.headers, model)
                yield reply
        except (aiohttp.ClientError, OSError) as exc:
            raise self.failures.transport(exc, model, self._timeouts, answering=answering) from exc

    def _read(self, raw: bytes, headers: Mapping[str, str], model: str, read: Reader) -> ModelResponse:
        try:
            data = json_text.loads(raw)
        except (ValueError, RecursionError) as exc:
            raise self.failures.malformed("the body is not JSON", model, 200) from exc
        if not isinstance(data, dict):
            raise self.failures.malformed("the body is not a JSON object", model, 200)
        try:
            return read(data, headers, model)
        except ProviderError as error:
            error.answering = error.answering or any(data.get(name) for name in _PARTS_OF_AN_ANSWER)
            raise
        except _UNREADABLE as exc:
            raise self._unreadable(exc, model) from exc

    def _deltas(self, stream: _Stream, chunk: bytes) -> Iterator[Delta]:
        if stream.clock.size > self._max_reply_bytes:
            raise self._too_large(stream.reply, stream.model)
        assembly = stream.assembly
        try:
            for event in stream.parser.feed(chunk):
                stream.begun = True
                deltas = assembly.add(event)
                if deltas is not None:
                    stream.clock.got_on()
                    for delta in deltas:
                        if isinstance(delta, _WORDS) and not isinstance(delta[-1], str):
                            raise TypeError("a piece of the answer is no text")
                        yield delta
                if assembly.ended:
                    return
        except _UNREADABLE as exc:
            raise self._unreadable(exc, stream.model) from exc

    def _whole(self, stream: _Stream, headers: Mapping[str, str], read: Reader) -> ModelResponse:
        try:
            response = stream.assembly.whole()
        except _UNREADABLE as exc:
            raise self._unreadable(exc, stream.model) from exc
        if response is not None:
            return response
        if stray := stream.parser.stray.strip():
            # No stream, or one that broke off: the answer, or the error that ended it, may stand there as plain JSON.
            try:
                response = self._read(stray, headers, stream.model, read)
            except MalformedReply:
                if not stream.begun:
                    raise
            if response is not None and not stream.begun:
                return response
        cut = aiohttp.ClientPayloadError("no terminal mark")
        raise self.failures.transport(cut, stream.model, self._timeouts, answering=True)

    async def _body(self, reply: aiohttp.ClientResponse, model: str) -> bytes:
        _bound_silence(reply, self._timeouts.idle_s)
        size, chunks = 0, []
        while chunk := await reply.content.readany():
            size += len(chunk)
            if size > self._max_reply_bytes:
                raise self._too_large(reply, model)
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _error_body(self, reply: aiohttp.ClientResponse, model: str) -> Any:
        """The JSON of a refusal, None where it has none: the status counts, even if its words were cut or endless."""
        try:
            async with asyncio.timeout(self._timeouts.total_s):
                return json_text.loads(await self._body(reply, model))
        except (aiohttp.ClientError, OSError, ValueError, RecursionError, MalformedReply):
            return None

    def _too_large(self, reply: aiohttp.ClientResponse, model: str) -> MalformedReply:
        return self.failures.malformed(f"it is larger than {self._max_reply_bytes:,} bytes", model, reply.status)

    def _unreadable(self, exc: Exception, model: str) -> MalformedReply:
        return self.failures.malformed(f"a field is missing or wrong ({exc})", model, 200)


def _bound_silence(reply: aiohttp.ClientResponse, idle_s: float | None) -> None:
    """From now on aiohttp itself bounds the wait for the next bytes; where `idle_s` is None, it bounds it no more."""
    connection = reply.connection
    if connection is not None and connection.protocol is not None:  # None: the body is here already
        connection.protocol.read_timeout = idle_s
        connection.protocol.start_timeout()


async def _read_to_the_end(reply: aiohttp.ClientResponse) -> None:
    """Read what follows the terminal event. What breaks here takes nothing from the answer, which is whole."""
    try:
        async with asyncio.timeout(_LAST_BYTES_S):
            while await reply.content.readany():
                pass
    except (aiohttp.ClientError, OSError):
        reply.close()
