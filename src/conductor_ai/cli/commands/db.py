"""`conductor db`: the schema of the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conductor_ai.cli.options import AsJSON


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


COMMANDS: dict[str, Callable[..., Any]] = {"migrate": migrate, "status": status}
