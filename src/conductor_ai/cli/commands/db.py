"""`conductor db`: the schema of the database, and the role that `sql_query` logs in with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conductor_ai.cli.options import AsJSON
from conductor_ai.errors import UsageError

if TYPE_CHECKING:
    from conductor_ai.settings import Settings


def migrate(as_json: AsJSON = False) -> int:
    """Bring the database up to date, under a lock: DATABASE_URL, else the one under CONDUCTOR_HOME."""
    from conductor_ai.cli.output import say, say_json
    from conductor_ai.settings import Settings
    from conductor_ai.wiring.migrations import bring_up_to_date

    applied = bring_up_to_date(Settings.load())
    if as_json:
        say_json({"applied": applied})
        return 0
    for name in applied:
        say(f"{name} applied")
    if not applied:
        say("up to date")
    return 0


def status(as_json: AsJSON = False) -> int:
    """Say what the database has and lacks; changes nothing. Exit code 1 where a migration is pending."""
    from dataclasses import asdict

    from conductor_ai.cli.exit_codes import ExitCode
    from conductor_ai.cli.output import say, say_json
    from conductor_ai.settings import Settings
    from conductor_ai.wiring.migrations import schema_status

    found = schema_status(Settings.load())
    if as_json:
        say_json(asdict(found))
    else:
        say(f"database  {found.database}")
        for state, names in (("applied", found.applied), ("pending", found.pending)):
            for name in names:
                say(f"{state}   {name}")
    return ExitCode.FAILED if found.pending else ExitCode.COMPLETED


def sandbox_role(
    tables: Annotated[
        str | None,
        typer.Option("--tables", metavar="A,B", help="What it may read [default: $CONDUCTOR_SQL_TABLES]."),
    ] = None,
    org_column: Annotated[
        str | None,
        typer.Option(
            "--org-column",
            metavar="NAME",
            help="The column with the org's id: of each table, an org reads its own rows.",
        ),
    ] = None,
    shared: Annotated[
        str, typer.Option("--shared", metavar="C,D", help="Tables beside --tables that every org reads in whole.")
    ] = "",
    name: Annotated[str, typer.Option("--name", metavar="ROLE", help="The role.")] = "conductor_sql",
    run: Annotated[
        bool, typer.Option("--run", help="Run the statements on DATABASE_URL; else they are printed.")
    ] = False,
    as_json: AsJSON = False,
) -> int:
    """Print or run the statements that make the role for sql_query. Its URL is shown this once: it has a password."""
    from conductor_ai.cli.output import note, say, say_json
    from conductor_ai.settings import Settings
    from conductor_ai.tools.sql.role import SandboxRole, make

    settings = Settings.load()
    role = SandboxRole(
        _names(settings.conductor_sql_tables if tables is None else tables), _names(shared), org_column, name
    )
    admin_url = _admin_url(settings)
    if run:
        if admin_url is None:
            raise UsageError("DATABASE_URL is not set, so there is no database to run it on", hint="leave out --run")
        for revoke in make(role, admin_url):
            note(f"it may call a function that takes rows or acts as its owner; to take it away: {revoke}")
    url = role.url(admin_url)
    if as_json:
        say_json({"role": role.name, "url": url, "ran": run, "statements": role.statements()})
        return 0
    if not run:
        say(role.script())
        note("not run: give it to psql as the owner of the tables, or use --run")
    (say if run else note)(f"CONDUCTOR_SQL_URL={url}")
    return 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _admin_url(settings: Settings) -> str | None:
    return None if settings.postgres_url is None else settings.postgres_url.get_secret_value()


COMMANDS: dict[str, Callable[..., Any]] = {"migrate": migrate, "status": status, "sandbox-role": sandbox_role}
