"""Whole test runs of their own: who shares a server, what ends it, what the closing lines say."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PREAMBLE = """
import os, threading
from pathlib import Path
import psycopg, pytest
"""


class Inner:
    """A folder with tests of its own, and how to run them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pytest.ini").write_text(
            "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"
        )
        (folder / "conftest.py").write_text('pytest_plugins = ["tests.services.fixtures"]\n')

    def start(self, tests: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        (self.folder / "test_inner.py").write_text(PREAMBLE + tests)
        outer = ("CI", "PYTEST_", "COV", "DATABASE_URL", "REDIS_URL", "CONDUCTOR_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments],
            cwd=self.folder,
            env=environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])} | variables,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, tests: str, *arguments: str, **variables: str) -> tuple[int, str]:
        """The exit code and all that was printed."""
        process = self.start(tests, *arguments, **variables)
        printed, _ = process.communicate(timeout=100)
        return process.returncode, printed


@pytest.fixture
def inner(tmp_path: Path) -> Inner:
    return Inner(tmp_path)


def test_the_processes_of_a_run_share_one_postgres_which_ends_with_it(inner: Inner) -> None:
    code, printed = inner.run(
        """
@pytest.mark.parametrize("n", [1, 2])
def test_seen(n, postgres_url, redis_url, run_folder):
    with psycopg.connect(postgres_url) as connection:
        seen = connection.execute("SELECT pg_postmaster_start_time()::text, current_database()").fetchone()
    Path(f"seen{n}").write_text(" | ".join([*seen, redis_url, str(run_folder.path), str(os.getpid())]))
""",
        *("-n", "2"),
    )
    assert code == 0, printed
    one, other = ((inner.folder / f"seen{n}").read_text().split(" | ") for n in (1, 2))
    assert one[4] != other[4], "both ran in one process"
    assert one[0] == other[0] and one[1] != other[1] and one[2] != other[2]
    assert one[3] == other[3] and not Path(one[3]).exists()
    assert "Postgres 18" in printed and printed.count("(wheel): 2 tests\n") == 2


def test_a_run_that_is_killed_takes_its_servers_along(inner: Inner) -> None:
    run = inner.start(
        """
def test_waiting(postgres_url, redis_url, run_folder):
    print("ready", postgres_url, redis_url, run_folder.path, flush=True)
    threading.Event().wait()
""",
        "-s",
    )
    with run:
        assert run.stdout is not None
        ready = next((line.split() for line in run.stdout if line.startswith("ready ")), None)
        assert ready is not None, "the test never ran"
        folder = Path(ready[3])
        ends = [alive.open("ab") for alive in folder.glob("*.alive")]
        assert len(ends) == 2
        connections = [socket.create_connection((parts.hostname, parts.port)) for parts in map(urlsplit, ready[1:3])]
        run.send_signal(signal.SIGKILL)
    for connection in connections:
        with connection:
            connection.settimeout(60)
            assert connection.recv(1) == b""
    for alive in ends:
        with alive:
            fcntl.flock(alive, fcntl.LOCK_EX)
    assert not folder.exists()


def test_servers_of_the_one_who_runs_it_are_used_and_left_as_they_were(
    inner: Inner, postgres_server: PostgresServer, redis_server: RedisServer
) -> None:
    code, printed = inner.run(
        """
def test_seen(postgres_url, postgres_server, redis_url):
    import redis
    with psycopg.connect(postgres_url) as connection:
        database = connection.info.dbname
        connection.execute("CREATE TABLE mine (n int)")
    with redis.Redis.from_url(redis_url) as client:
        client.set("left", "behind")
    Path("seen").write_text(" ".join([postgres_server.template, database, redis_url]))
""",
        DATABASE_URL=postgres_server.admin_url,
        REDIS_URL=redis_server.url,
    )
    assert code == 0, printed
    assert "($DATABASE_URL): 1 test\n" in printed and "($REDIS_URL): 1 test\n" in printed
    template, database, redis_url = (inner.folder / "seen").read_text().split()
    assert redis_url == redis_server.url
    with psycopg.connect(postgres_server.admin_url) as connection:
        left = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
    assert left & {template, database} == set() and template != postgres_server.template
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


TWO_TESTS = """
def test_postgres(postgres_url): ...
def test_redis(redis_url): ...
"""


def test_servers_that_are_named_but_away_fail_their_tests(inner: Inner) -> None:
    code, printed = inner.run(
        TWO_TESTS, DATABASE_URL="postgresql://me:hunter2@127.0.0.1:1/x", REDIS_URL="redis://:hunter2@127.0.0.1:1/0"
    )
    assert code == 1 and "2 errors" in printed and "skipped" not in printed
    assert "Postgres of $DATABASE_URL cannot be used" in printed and "Redis of $REDIS_URL cannot be used" in printed
    assert "hunter2" not in printed


def test_a_redis_with_something_in_it_is_left_alone(inner: Inner, redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.set("somebody's", "data")
        code, printed = inner.run("def test_redis(redis_url): ...", REDIS_URL=redis_server.url)
        assert code == 1 and "the database of $REDIS_URL is not empty" in printed
        assert client.get("somebody's") == b"data"


@pytest.mark.parametrize(
    ("variables", "code", "said"),
    [
        ({}, 0, "PgBouncer is not installed (on Debian and Ubuntu: apt-get install pgbouncer): 1 test skipped"),
        ({"CI": "true"}, 1, "PgBouncer is not installed, and CONDUCTOR_TESTS_WITHOUT_PGBOUNCER gives no reason"),
        (
            {"CI": "true", "CONDUCTOR_TESTS_WITHOUT_PGBOUNCER": "no apt-get"},
            0,
            "PgBouncer is not installed (no apt-get): 1 test skipped",
        ),
    ],
    ids=["at home", "in CI", "in CI with a reason"],
)
def test_a_missing_pgbouncer_is_told(inner: Inner, variables: dict[str, str], code: int, said: str) -> None:
    ended = inner.run(
        """
@pytest.fixture(scope="session")
def pgbouncer_server():
    return None

def test_pooled(pgbouncer_url): ...
""",
        **variables,
    )
    assert ended[0] == code and said in ended[1]
    assert "Postgres" not in ended[1]


def test_a_run_without_such_tests_starts_nothing_and_says_nothing(inner: Inner) -> None:
    code, printed = inner.run("def test_other(run_folder): Path('seen').write_text(str(run_folder.path))", "-n", "1")
    assert code == 0 and "servers" not in printed
    assert not Path((inner.folder / "seen").read_text()).exists()
