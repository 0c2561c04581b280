from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.services import report
from tests.services.processes import HOST, Kept, RunFolder, keep, on_a_free_port, ordinary_user, wait_until
from tests.sql.shop import Shop, opened

if TYPE_CHECKING:
    from tests.services.postgres import PostgresServer


@pytest.fixture(scope="module")
def _shop_of_the_module(postgres_server: PostgresServer) -> Iterator[Shop]:
    name = postgres_server.create(empty=True)
    with opened(postgres_server.url(name)) as shop:
        yield shop
    postgres_server.drop(name)


@pytest.fixture
def shop(request: pytest.FixtureRequest, postgres_server: PostgresServer, _shop_of_the_module: Shop) -> Shop:
    """For tests that only read, or put back what they change."""
    report.used(request, postgres_server.name)
    return _shop_of_the_module


@pytest.fixture
def own_shop(empty_postgres_url: str) -> Iterator[Shop]:
    """For tests that change it."""
    with opened(empty_postgres_url) as shop:
        yield shop


@pytest.fixture
def pooled_url(request: pytest.FixtureRequest, shop: Shop, run_folder: RunFolder, tmp_path: Path) -> Iterator[str]:
    """The shop by way of a PgBouncer in transaction mode, with two connections to the server for everybody."""
    request.getfixturevalue("pgbouncer_url")  # it says in the closing lines whether there is one
    from tests.services import pgbouncer

    program = pgbouncer.program()
    assert program is not None, "the fixture skips the test otherwise"
    kept, url = on_a_free_port(lambda port: _start_pooler(program, shop, run_folder, port))
    yield url
    kept.end()


def _start_pooler(program: Path, shop: Shop, run: RunFolder, port: int) -> tuple[Kept, str]:
    user = ordinary_user()
    folder = user.owns(run.folder(f"pgbouncer-{shop.role.name}"))
    behind = urlsplit(shop.url)
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(f"""[databases]
* = host={behind.hostname} port={behind.port} user={shop.role.name} password={shop.role.password}

[pgbouncer]
listen_addr = {HOST}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
""")
    user.owns(configuration)
    kept = keep([program, configuration], folder, ending=signal.SIGINT, user=user)
    url = behind._replace(netloc=f"{behind.username}:{behind.password}@{HOST}:{port}", query="pgbouncer=true").geturl()
    try:
        wait_until(lambda: _answers(url.removesuffix("?pgbouncer=true")), folder, "PgBouncer")
    except BaseException:
        kept.end()
        raise
    return kept, url


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=10).close()
    except psycopg.OperationalError:
        return False
    return True
