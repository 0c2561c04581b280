"""The HTTP that all providers share: one session for the process, one small client per provider.

A call posts bytes that are ready, under headers and an address that are ready. Nothing is built per call: what looks
like a detail here is paid once per step of every session.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from conductor_ai.errors import InvalidInput, MalformedReply
from conductor_ai.providers.base import ModelRequest
from conductor_ai.providers.failures import Failures, Timeouts
from conductor_ai.schemas import json_text
from conductor_ai.schemas.messages import ModelResponse

MAX_CONNECTIONS = 1000
KEEPALIVE_S = 60.0
MAX_REPLY_BYTES = 64 * 2**20
_LARGE_BODY_BYTES = 2**20
"""aiohttp warns from here on about bytes that are sent in one piece, and sends a file in many."""

Reader = Callable[[dict[str, Any], Mapping[str, str], str], ModelResponse]
"""Turns a reply's JSON object, its headers and the model that was asked into our words."""

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


def _joined(request: ModelRequest) -> bytes:
    """The body, which every wire ends with its list of turns. One join: a second would copy the history again."""
    parts = [*request.turns]
    parts[0] = request.head + parts[0]
    parts[-1] += b"]}"
    return b",".join(parts)


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
        # Until the head is here, aiohttp's socket timeout is the wait for the first byte; `_body` then shortens it.
        self._limits = aiohttp.ClientTimeout(
            total=timeouts.total_s, sock_connect=timeouts.connect_s, sock_read=timeouts.first_byte_s
        )
        self._max_reply_bytes = max_reply_bytes

    async def ask(self, url: URL, request: ModelRequest, read: Reader) -> ModelResponse:
        """Post a request and read the whole reply. Raises: ProviderError."""
        model, body = request.model, _joined(request)
        answering = False
        try:
            # A redirect is not followed: it would carry the key to an address that nobody set.
            async with self._http.post(
                url,
                data=body if len(body) <= _LARGE_BODY_BYTES else io.BytesIO(body),
                headers=self._headers,
                timeout=self._limits,
                allow_redirects=False,
            ) as reply:
                answering = True
                headers = reply.headers
                if reply.status != 200:
                    raise self.failures.refusal(reply.status, await self._error_body(reply, model), headers, model)
                raw = await self._body(reply, model)
        except (aiohttp.ClientError, OSError) as exc:
            raise self.failures.transport(exc, model, self._timeouts, answering=answering) from exc
        try:
            data = json_text.loads(raw)
        except (ValueError, RecursionError) as exc:
            raise self.failures.malformed("the body is not JSON", model, 200) from exc
        if not isinstance(data, dict):
            raise self.failures.malformed("the body is not a JSON object", model, 200)
        try:
            return read(data, headers, model)
        except _UNREADABLE as exc:
            raise self.failures.malformed(f"a field is missing or wrong ({exc})", model, 200) from exc

    async def _body(self, reply: aiohttp.ClientResponse, model: str) -> bytes:
        connection = reply.connection
        if connection is not None and connection.protocol is not None:  # None: the body is here already
            connection.protocol.read_timeout = self._timeouts.idle_s
            connection.protocol.start_timeout()
        size, chunks = 0, []
        while chunk := await reply.content.readany():
            size += len(chunk)
            if size > self._max_reply_bytes:
                raise self.failures.malformed(f"it is larger than {self._max_reply_bytes:,} bytes", model, reply.status)
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _error_body(self, reply: aiohttp.ClientResponse, model: str) -> Any:
        """The JSON of a refusal, None where it has none: the status counts, even if its words were cut or endless."""
        try:
            return json_text.loads(await self._body(reply, model))
        except (aiohttp.ClientError, OSError, ValueError, RecursionError, MalformedReply):
            return None
