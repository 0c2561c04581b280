"""PgBouncer for the tests, in transaction mode before the Postgres of the run: the program of the system, where it is.

No wheel has it. `.ci/run` installs it where it may; on Debian and Ubuntu that is `apt-get install pgbouncer`.
"""

from __future__ import annotations

import shutil
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg

from tests.services.postgres import PostgresServer
from tests.services.processes import HOST, RunFolder, launch, on_a_free_port, ordinary_user, wait_until


@dataclass(frozen=True, slots=True)
class PgBouncer:
    """A pooler that runs: the databases of the Postgres behind it have the same names and the same user here."""

    version: str
    base_url: str

    @property
    def name(self) -> str:
        """As people call it in a report."""
        return f"PgBouncer {self.version} (transaction mode)"

    def url(self, database: str) -> str:
        """The address of a database of that Postgres, marked as people mark it for their driver."""
        return urlsplit(self.base_url)._replace(path=f"/{database}", query="pgbouncer=true").geturl()


def program() -> Path | None:
    """The installed program; None where there is none. Debian has it where only root looks."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")
    return None if found is None else Path(found)


def shared(run: RunFolder, pgbouncer: Path, postgres: PostgresServer) -> PgBouncer:
    """The pooler of this run, started or looked up by whichever process needs it first. Raises: ServiceFailed."""

    def make() -> dict[str, Any]:
        return asdict(on_a_free_port(lambda port: _start(run, pgbouncer, postgres, port)))

    return PgBouncer(**run.once("pgbouncer", make))


def _start(run: RunFolder, pgbouncer: Path, postgres: PostgresServer, port: int) -> PgBouncer:
    user = ordinary_user()
    folder = user.owns(run.folder("pgbouncer"))
    configuration, users = folder / "pgbouncer.ini", folder / "users"
    behind = urlsplit(postgres.admin_url)
    users.write_text(f'"{unquote(behind.username or "")}" "{unquote(behind.password or "")}"\n')
    configuration.write_text(_configuration(behind.hostname or HOST, behind.port or 5432, port, users))
    for file in (users, configuration):
        user.owns(file)
    with run.lifeline() as lifeline:
        launch([pgbouncer, configuration], folder, ending=signal.SIGINT, user=user, lifeline=lifeline)
    credentials = behind.netloc.rpartition("@")[0]
    version = user.run(pgbouncer, "--version").split()[1]
    started = PgBouncer(version, f"postgresql://{credentials}@{HOST}:{port}")
    database = behind.path.removeprefix("/")
    wait_until(lambda: _answers(started.base_url + f"/{database}"), folder, "PgBouncer")
    return started


def _configuration(host: str, postgres_port: int, port: int, users: Path) -> str:
    """What a hosted pooler has, but smaller pools: a program that keeps state in a connection is found out soon.

    `server_reset_query_always` stays off, as it is by default: what one transaction sets for the session, others see.
    """
    return f"""[databases]
* = host={host} port={postgres_port}

[pgbouncer]
listen_addr = {HOST}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = 5
max_client_conn = 500
autodb_idle_timeout = 30
server_idle_timeout = 10
log_connections = 0
log_disconnections = 0
stats_period = 3600
"""


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=10).close()
    except psycopg.OperationalError:
        return False
    return True
