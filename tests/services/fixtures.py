"""What a test may ask for: Postgres, Redis, PgBouncer, a proxy that breaks the way to them, and a container engine.

A server starts when the first test asks for it, and ends with the run, also where the run is killed. A run without such
a test starts none. `$DATABASE_URL` and `$REDIS_URL`, as they are when the run begins, replace Postgres and Redis: the
role of the first makes a database for each test and drops it, the database of the second must be empty and is emptied.
A server that cannot be had fails its tests; only PgBouncer and the container engine may be missing, and the closing
lines of the run say so. `$DOCKER_HOST` and `$CONDUCTOR_SANDBOX_IMAGE` together replace Podman as the engine.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import pytest

from tests.services import report
from tests.services.fault_proxy import FaultProxy
from tests.services.processes import RunFolder, ServiceFailed

if TYPE_CHECKING:  # these load drivers, which only the tests that need them pay for
    from tests.services.pgbouncer import PgBouncer
    from tests.services.podman import ContainerEngine
    from tests.services.postgres import PostgresServer
    from tests.services.redis import RedisServer

_RUN = pytest.StashKey[RunFolder]()
_OUTSIDE = pytest.StashKey[dict[str, str]]()
_REPLACING = ("DATABASE_URL", "REDIS_URL", "DOCKER_HOST", "CONDUCTOR_SANDBOX_IMAGE", "CONDUCTOR_TESTS_SANDBOX")
_FROM_LEADER = "services_folder"
NO_PGBOUNCER = "CONDUCTOR_TESTS_WITHOUT_PGBOUNCER"
"""Variable with the reason why continuous integration runs without PgBouncer."""


def pytest_configure(config: pytest.Config) -> None:
    # Now, as each test forgets the settings of the person who runs it.
    config.stash[_OUTSIDE] = {name: os.environ.get(name, "").strip() for name in _REPLACING}
    config.pluginmanager.register(report.ServiceReport(), "service-report")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """In the process that leads a run of several, before it starts one more."""
    node.workerinput[_FROM_LEADER] = str(_run(node.config).path)


def pytest_unconfigure(config: pytest.Config) -> None:
    run = config.stash.get(_RUN, None)
    if run is not None and run.leads:
        from tests.services import postgres

        try:
            postgres.leave_clean(run)
        finally:
            run.close()


def _run(config: pytest.Config) -> RunFolder:
    if _RUN not in config.stash:
        told: dict[str, str] = getattr(config, "workerinput", {})
        config.stash[_RUN] = RunFolder.join(Path(told[_FROM_LEADER])) if told else RunFolder.make()
    return config.stash[_RUN]


@contextmanager
def _failing_in_one_line() -> Iterator[None]:
    try:
        yield
    except ServiceFailed as exc:
        raise pytest.fail.Exception(str(exc), pytrace=False) from None


@pytest.fixture(scope="session")
def run_folder(request: pytest.FixtureRequest) -> RunFolder:
    """What the processes of this run share."""
    return _run(request.config)


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest, run_folder: RunFolder) -> PostgresServer:
    """The Postgres of this run. Tests ask for `postgres_url`."""
    from conductor_ai.storage.postgres import migrate
    from tests.services import postgres

    outside = request.config.stash[_OUTSIDE]["DATABASE_URL"] or None
    with _failing_in_one_line():
        return postgres.shared(run_folder, outside, migrate)


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> Iterator[str]:
    """A database of this test alone, with all tables and no rows; gone afterwards, whoever is still connected.

    Its role is no superuser: it owns the database, and may make others and roles.
    """
    yield from _database(request, postgres_server, empty=False)


@pytest.fixture
def empty_postgres_url(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> Iterator[str]:
    """The same without any table: for what migrates."""
    yield from _database(request, postgres_server, empty=True)


def _database(request: pytest.FixtureRequest, server: PostgresServer, *, empty: bool) -> Iterator[str]:
    report.used(request, server.name)
    name = server.create(empty=empty)
    yield server.url(name)
    server.drop(name)


@pytest.fixture(scope="session")
def pgbouncer_server(request: pytest.FixtureRequest, run_folder: RunFolder) -> PgBouncer | None:
    """The PgBouncer of this run, in transaction mode; None where the program is not installed."""
    from tests.services import pgbouncer

    program = pgbouncer.program()
    if program is None:
        return None
    postgres_server: PostgresServer = request.getfixturevalue("postgres_server")
    with _failing_in_one_line():
        return pgbouncer.shared(run_folder, program, postgres_server)


@pytest.fixture
def pgbouncer_url(request: pytest.FixtureRequest, pgbouncer_server: PgBouncer | None) -> str:
    """The database of `postgres_url` by way of PgBouncer. Skipped where it is missing, which the closing lines tell."""
    if pgbouncer_server is None:
        _without_pgbouncer(request)
    postgres_url: str = request.getfixturevalue("postgres_url")
    report.used(request, pgbouncer_server.name)
    return pgbouncer_server.url(urlsplit(postgres_url).path.removeprefix("/"))


def _without_pgbouncer(request: pytest.FixtureRequest) -> NoReturn:
    excuse = os.environ.get(NO_PGBOUNCER, "").strip()
    if os.environ.get("CI") == "true" and not excuse:
        pytest.fail(
            f"PgBouncer is not installed, and {NO_PGBOUNCER} gives no reason: .ci/run sees to both", pytrace=False
        )
    reason = f"PgBouncer is not installed ({excuse or 'on Debian and Ubuntu: apt-get install pgbouncer'})"
    report.missed(request, reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def _redis_of_this_process(run_folder: RunFolder) -> Iterator[RedisServer]:
    server = _own_redis(run_folder)
    yield server
    server.stop()


@pytest.fixture
def redis_url(request: pytest.FixtureRequest, run_folder: RunFolder) -> Iterator[str]:
    """An empty Redis that no other test uses meanwhile."""
    from tests.services import redis

    outside = request.config.stash[_OUTSIDE]["REDIS_URL"]
    if not outside:
        server: RedisServer = request.getfixturevalue("_redis_of_this_process")
        report.used(request, server.name)
        redis.empty(server.url)
        yield server.url
        return
    with run_folder.alone("redis"), _failing_in_one_line():
        report.used(request, f"Redis {redis.outside(outside)} ($REDIS_URL)")
        yield outside
        redis.empty(outside)


@pytest.fixture
def redis_server(request: pytest.FixtureRequest, run_folder: RunFolder) -> Iterator[RedisServer]:
    """A Redis of this test alone, which may stop, kill and start it. It is the wheel's, also beside `$REDIS_URL`."""
    server = _own_redis(run_folder)
    report.used(request, server.name)
    yield server
    server.stop()


def _own_redis(run_folder: RunFolder) -> RedisServer:
    from tests.services import redis

    with _failing_in_one_line():
        return redis.own(run_folder.path / f"redis-{secrets.token_hex(4)}")


@pytest.fixture(scope="session")
def image_store(request: pytest.FixtureRequest) -> str:
    """The folder that `scripts/sandbox-image` filled; empty where there is none."""
    return request.config.stash[_OUTSIDE]["CONDUCTOR_TESTS_SANDBOX"]


@pytest.fixture(scope="session")
def container_engine(request: pytest.FixtureRequest, run_folder: RunFolder, image_store: str) -> ContainerEngine | str:
    """The container engine of this run, or the reason why there is none. Tests ask for `docker_engine`."""
    from tests.services import podman

    outside = request.config.stash[_OUTSIDE]
    if outside["DOCKER_HOST"] and outside["CONDUCTOR_SANDBOX_IMAGE"]:
        return podman.outside(outside["DOCKER_HOST"], outside["CONDUCTOR_SANDBOX_IMAGE"])
    try:
        return podman.shared(run_folder, image_store)
    except ServiceFailed as exc:
        return " ".join(str(exc).split())


@pytest.fixture
def docker_engine(
    request: pytest.FixtureRequest, container_engine: ContainerEngine | str, monkeypatch: pytest.MonkeyPatch
) -> ContainerEngine:
    """An engine that the environment of this test names. Skipped where there is none, which the closing lines tell."""
    if isinstance(container_engine, str):
        reason = f"no container engine: {container_engine}"
        report.missed(request, reason)
        pytest.skip(reason)
    report.used(request, container_engine.name)
    monkeypatch.setenv("DOCKER_HOST", container_engine.url)
    monkeypatch.setenv("CONDUCTOR_SANDBOX_IMAGE", container_engine.image)
    return container_engine


@pytest.fixture
def fault_proxy() -> Iterator[Callable[[str], FaultProxy]]:
    """Makes a proxy before the server of an address; `proxy.url` is the same address by way of it."""
    with ExitStack() as proxies:

        def make(url: str) -> FaultProxy:
            proxy = FaultProxy(url)
            proxy.start()
            proxies.callback(proxy.close)
            return proxy

        yield make
