"""Names to addresses, by the system's resolver, in threads of our own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from concurrent.futures import Future

from conductor_ai.errors import ConductorError

_MAX_THREADS = 16


class LookupFailed(ConductorError, OSError):
    """A name has no address, or nobody could say. No refusal: the name may be mistyped, or the network away.

    An OSError too, as HTTP clients expect of a resolver: aiohttp raises its ClientConnectorDNSError from it.
    """

    code = "lookup_failed"
    retryable = True

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.strerror = message  # what aiohttp shows


class SystemLookups:
    """`getaddrinfo`, at most 16 at a time; further ones wait.

    A lookup cannot be interrupted, and a name server may stall it for half a minute. So it runs neither on the loop nor
    in the loop's executor, where it would hold up files and databases, but in daemon threads, which do not hold up the
    exit of the process. A thread lives as long as there is work.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = 0
        self._waiting: deque[tuple[str, Future[list[str]]]] = deque()

    async def addresses(self, host: str) -> list[str]:
        """Every address of the name. Raises: OSError where there is none."""
        found: Future[list[str]] = Future()
        with self._lock:
            self._waiting.append((host, found))
            if self._threads < _MAX_THREADS:
                threading.Thread(target=self._work, name="conductor-lookup", daemon=True).start()
                self._threads += 1
        return await asyncio.wrap_future(found)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            host, found = job
            if not found.set_running_or_notify_cancel():
                continue  # whoever asked has left
            try:
                found.set_result(_addresses(host))
            except (OSError, UnicodeError) as exc:
                found.set_exception(exc)

    def _next(self) -> tuple[str, Future[list[str]]] | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._threads -= 1
            return None


def _addresses(host: str) -> list[str]:
    # AI_ADDRCONFIG: no IPv6 addresses where this machine has no IPv6, nor the other way round.
    infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(sockaddr[0]) for _, _, _, _, sockaddr in infos]
