"""The connections to one Redis, and whether it can be used now.

Whoever needs an answer waits at most `ANSWER_S`. After a failure nothing is asked for a moment, nor while the relay
(`redis_relay`) has no connection. What failed is told in our own words, since a server's text may quote the password
that it was sent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from redis import exceptions as failures
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from conductor_ai.errors import InvalidInput, StoreUnavailable

CONNECT_S = 1.0
ANSWER_S = 1.0

_REST_S = 1.0
_MAX_CONNECTIONS = 8
_NEVER_ASKED = "Redis was not reached yet"

_Answer = TypeVar("_Answer")
_logger = logging.getLogger(__name__)

FAILURES = (failures.RedisError, OSError, TimeoutError)
"""All that a call of the client raises where there is no answer, or a refusal."""

_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (failures.AuthenticationError, "Redis refuses the user name or the password"),
    (failures.AuthorizationError, "Redis refuses the user name or the password"),
    (failures.NoPermissionError, "Redis does not allow this user what is needed: keys and channels conductor:*"),
    (failures.BusyLoadingError, "Redis is loading its data"),
    (failures.ReadOnlyError, "Redis is a replica that takes no writes"),
    (failures.OutOfMemoryError, "Redis has used up its memory"),
    (failures.MaxConnectionsError, "Redis has no connection left for this process"),
    (failures.TimeoutError, "Redis does not answer in time"),
    (TimeoutError, "Redis does not answer in time"),
    (failures.ResponseError, "Redis refuses a command"),
)


class RedisLink:
    """Owns the connections; `close` lets go of them. `key` and `channel` names carry our prefix.

    Channels, unlike keys, belong to the whole server: the number of the database is a part of their names.
    """

    def __init__(self, url: str) -> None:
        """Raises: InvalidInput where `url` names no Redis, without quoting it."""
        self._answering = False
        self._rest_until = 0.0
        self._problem = _NEVER_ASKED
        try:
            options: dict[str, Any] = {**_UNLESS_IN_URL, **parse_url(url), **_ALWAYS}
            if "path" not in options:
                options.setdefault("socket_keepalive", True)
            self._channels = f"conductor:{int(options.get('db', 0))}:"
            self.pool = BlockingConnectionPool(**options)
            self.connection()  # says what the options are worth
        except (TypeError, ValueError, failures.RedisError):
            raise InvalidInput(  # the text of the cause may quote the password
                "the address of Redis cannot be used", hint="set REDIS_URL to the likes of redis://localhost:6379/0"
            ) from None
        self.client = Redis(connection_pool=self.pool)

    @property
    def usable(self) -> bool:
        return self._answering and asyncio.get_running_loop().time() >= self._rest_until

    def connection(self) -> AbstractConnection:
        """A new connection, not connected, that belongs to the caller."""
        made: AbstractConnection = self.pool.make_connection()  # type: ignore[no-untyped-call]
        return made

    def pipeline(self) -> Any:
        """Takes commands, and sends them all with its `execute`."""
        return self.client.pipeline(transaction=False)

    def key(self, kind: str, name: str) -> str:
        return f"conductor:{kind}:{name}"

    def channel(self, name: str) -> str:
        return self._channels + name

    async def ask(self, question: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Put one question, made with `client`.

        Raises: StoreUnavailable where there is no answer, at once where that is known.
        """
        if not self.usable:
            raise StoreUnavailable(self._problem)
        try:
            async with asyncio.timeout(ANSWER_S):
                return await question()
        except FAILURES as exc:
            await self._failed(exc)
            raise StoreUnavailable(in_words(exc)) from exc
        except AttributeError as exc:
            # What asyncio of Python 3.12 and 3.13 says of a write to a connection that was lost at that moment.
            if exc.name != "_add_writer":
                raise
            lost = ConnectionResetError("Connection lost")
            await self._failed(lost)
            raise StoreUnavailable(in_words(lost)) from exc

    async def _failed(self, exc: BaseException) -> None:
        if isinstance(exc, failures.ResponseError):
            self.refused(exc)
            return
        self._rest_until = asyncio.get_running_loop().time() + _REST_S
        self._tell(in_words(exc))
        await self._drop_idle()

    def refused(self, exc: failures.ResponseError) -> None:
        """Redis answers, but not with what was asked for: others may be let in."""
        self._tell(in_words(exc))

    async def found(self) -> None:
        """The relay has a connection: everybody may ask again, over new connections."""
        await self._drop_idle()
        if self._problem not in ("", _NEVER_ASKED):
            _logger.info("Redis is used again")
        self._answering = True
        self._rest_until = 0.0
        self._problem = ""

    def lost(self, exc: BaseException) -> None:
        """The relay has no connection: nobody need ask."""
        self._answering = False
        self._tell(in_words(exc))

    def _tell(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            _logger.warning("%s; until it works again each process has its own signals and counters", problem)

    async def problem(self) -> str | None:
        """Ask for something that writes; None where it is done."""
        if not self.usable:
            return self._problem
        try:
            await self.ask(lambda: self.client.set(self.key("health", "asked"), "1", px=10_000))
        except StoreUnavailable as exc:
            return str(exc)
        self._problem = ""
        return None

    async def close(self) -> None:
        self._answering = False
        self._problem = "the connections to Redis are closed"
        with suppress(*FAILURES):  # a farewell to a server that may be gone
            await self.client.aclose()
        with suppress(*FAILURES):
            await self.pool.aclose()

    async def _drop_idle(self) -> None:
        with suppress(*FAILURES):  # they are broken, which is why they go
            await self.pool.disconnect(inuse_connections=False)


_UNLESS_IN_URL: dict[str, Any] = {
    "max_connections": _MAX_CONNECTIONS,
    "timeout": ANSWER_S,
    "socket_connect_timeout": CONNECT_S,
}
_ALWAYS: dict[str, Any] = {
    "protocol": 2,  # what is read on a connection that listens are plain answers, in order
    "decode_responses": False,
    "retry": Retry(NoBackoff(), 0),  # retried by nobody: who asks can do without
    "retry_on_error": [],
    # Whoever asks has a timeout around the whole. The client's own would call `wait_for`, which on Python 3.11 may lose
    # the cancellation of its caller.
    "socket_timeout": None,
}


def in_words(exc: BaseException) -> str:
    """One line on what went wrong, without a word of the server's."""
    for kind, words in _WORDS:
        if isinstance(exc, kind):
            return words
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return "Redis cannot be reached: TLS fails, or its certificate is not trusted"
        if isinstance(cause, socket.gaierror):
            return "Redis cannot be reached: the name of its host is not found"
        if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
            return f"Redis cannot be reached: {os.strerror(cause.errno)}"
        cause = cause.__cause__ or cause.__context__
    return "Redis cannot be reached"
