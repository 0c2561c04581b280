"""All commands, put together: the one place where Typer meets them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from conductor_ai.cli.answer_stream import keeping_standard_output
from conductor_ai.cli.commands import agents, approvals, db, keys, models, orgs, plugins, sessions, tools
from conductor_ai.cli.commands.demo import demo
from conductor_ai.cli.commands.doctor import doctor
from conductor_ai.cli.commands.resume import cancel, resume
from conductor_ai.cli.commands.run import run
from conductor_ai.cli.commands.serve import serve

_HELP = """Run LLM agents that survive, are audited and priced.

`conductor "task"` is short for `conductor run "task"`."""

_EPILOG = """\b
Exit codes:
  0    completed
  1    failed; also refused by the provider, or the provider is away
  2    usage: wrong arguments, no key, an unknown or refused model, tool,
       agent, session or approval, or a session that another process drives
  3    waiting for approval
  4    paused by a limit
  130  interrupted or cancelled

\b
--debug, anywhere, shows the trace behind an error.
--server URL asks a server instead of what is stored here."""


@dataclass(frozen=True, slots=True)
class RootCommand:
    """The whole command line. `commands` maps each command to its subcommands, none for a plain one; `value_options`
    are the options of `run` that take a value."""

    commands: dict[str, list[str]]
    value_options: frozenset[str]
    command: Any  # Typer's own command class, which it keeps private

    def invoke(self, arguments: Sequence[str]) -> int:
        """Raises: typer.TyperException for arguments that Typer refuses, and whatever the command raises."""
        return int(self.command.main(args=list(arguments), prog_name="conductor", standalone_mode=False) or 0)


def root_command() -> RootCommand:
    command: Any = typer.main.get_command(_app())
    commands: dict[str, list[str]] = {
        name: list(getattr(child, "commands", ())) for name, child in command.commands.items()
    }
    taking_values = (option.opts for option in command.commands["run"].params if not getattr(option, "is_flag", False))
    return RootCommand(commands, frozenset(name for names in taking_values for name in names), command)


def _app() -> typer.Typer:
    # Without a markup mode Typer formats help by itself: Rich would double the time `--help` takes.
    app = _group(_HELP, epilog=_EPILOG)
    app.callback()(_root)
    for function in (run, demo, resume, cancel, serve, doctor):
        app.command(function.__name__)(keeping_standard_output(function))
    for name, about, commands in (
        ("approvals", "Decide what agents wait for.", approvals.COMMANDS),
        ("sessions", "Look at sessions.", sessions.COMMANDS),
        ("tools", "List tools, or call one.", tools.COMMANDS),
        ("models", "List models with their prices, or test them.", models.COMMANDS),
        ("agents", "List agents in files, or show one.", agents.COMMANDS),
        ("plugins", "List plugins, or begin one.", plugins.COMMANDS),
        ("keys", "Make, list, rotate and revoke keys of the API.", keys.COMMANDS),
        ("orgs", "Set what orgs may use, and see what they used.", orgs.COMMANDS),
        ("db", "Look after the schema of the database.", db.COMMANDS),
    ):
        group = _group(about)
        for subcommand, function in commands.items():
            group.command(subcommand)(keeping_standard_output(function))
        app.add_typer(group, name=name)
    return app


def _group(about: str, epilog: str | None = None) -> typer.Typer:
    return typer.Typer(
        help=about,
        epilog=epilog,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        from conductor_ai.cli.output import say

        say(f"conductor-ai {version('conductor-ai')}")
        raise typer.Exit()


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass
