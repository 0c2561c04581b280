"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from conductor_ai.errors import UsageError

AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON only on standard output.")]
PluginsDir = Annotated[
    Path | None,
    typer.Option("--plugins-dir", help="Folder of plugins [default: $CONDUCTOR_PLUGINS_DIR, else plugins/]."),
]
AgentsDir = Annotated[
    Path | None,
    typer.Option("--agents-dir", help="Folder of agents in files [default: $CONDUCTOR_AGENTS_DIR, else agents/]."),
]
MaxCost = Annotated[
    str | None, typer.Option("--max-cost", metavar="USD", help="Pause before the session costs more than this.")
]
MaxSteps = Annotated[
    int | None, typer.Option("--max-steps", metavar="N", help="Pause after so many steps since the last message.")
]


def _named_folder(given: str) -> Path:
    if not given:  # a variable that is not set: as a path this would be the folder that we are in
        raise typer.BadParameter("it names no folder")
    return Path(given)


RecordDir = Annotated[
    Path | None,
    typer.Option(
        "--record", metavar="DIR", parser=_named_folder, help="Record all model calls into DIR, without secrets."
    ),
]
SessionId = Annotated[str, typer.Argument(metavar="ID", help="Session id, or six or more characters of its end.")]
Server = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL", help="Ask this server, with the key in CONDUCTOR_API_KEY, not what is stored here."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def refuse_with_server(server: str | None, **given: Any) -> None:
    """Options, by their names in Python, that say something of this machine. Raises: UsageError for the first that was
    given beside --server."""
    unfit = [name for name, value in given.items() if value]
    if server is not None and unfit:
        raise UsageError(
            f"--{unfit[0].replace('_', '-')} does not go with --server: it is about this machine",
            hint="tools, agents and recordings of a server are on its own side",
        )


def limits_from(max_cost: str | None, max_steps: int | None) -> dict[str, Any] | None:
    """The limits that were given; None where none was."""
    given = {"max_cost_usd": max_cost, "max_steps": max_steps}
    return {name: value for name, value in given.items() if value is not None} or None
