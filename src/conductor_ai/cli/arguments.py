"""The command line before Typer reads it: `conductor "task"` is `conductor run "task"`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from conductor_ai.errors import UsageError

_ROOT_OPTIONS = ("--help", "-h", "--version")


def has_flag(arguments: Sequence[str], flag: str) -> bool:
    """Whether `flag` stands before a `--`."""
    return flag in _before_terminator(arguments)


def without_flag(arguments: Sequence[str], flag: str) -> list[str]:
    """`arguments` without `flag`, wherever it stands before a `--`."""
    options = _before_terminator(arguments)
    return [argument for argument in options if argument != flag] + list(arguments[len(options) :])


def with_command(
    arguments: Sequence[str], *, commands: Mapping[str, Collection[str]], value_options: Collection[str]
) -> list[str]:
    """`arguments` beginning with the command they mean.

    Args:
        commands: Every command with its subcommands, none for a plain command.
        value_options: Options that take the next argument as their value.
    Raises: UsageError where the task is one word that looks like a mistyped command.
    """
    if not arguments or arguments[0] in commands or arguments[0] in _ROOT_OPTIONS:
        return list(arguments)
    at = _first_positional(arguments, value_options)
    if at is None or arguments[at - 1 : at] == ["--"]:
        return ["run", *arguments]
    word, options, rest = arguments[at], list(arguments[:at]), list(arguments[at + 1 :])
    if word not in commands:
        _refuse_mistyped(word, commands)
        return ["run", *arguments]
    if commands[word] and rest:
        return [word, rest[0], *options, *rest[1:]]
    return [word, *options, *rest]


def _before_terminator(arguments: Sequence[str]) -> list[str]:
    return list(arguments[: arguments.index("--")] if "--" in arguments else arguments)


def _first_positional(arguments: Sequence[str], value_options: Collection[str]) -> int | None:
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        if argument == "--":
            return at + 1 if at + 1 < len(arguments) else None
        if not argument.startswith("-") or argument == "-":
            return at
        at += 2 if argument in value_options else 1
    return None


def _refuse_mistyped(word: str, commands: Collection[str]) -> None:
    if any(char.isspace() for char in word):
        return
    from difflib import get_close_matches

    known = {"help": "--help", "version": "--version"} | {name: name for name in commands}
    match = get_close_matches(word.lower(), known, n=1, cutoff=0.7)
    if match:
        raise UsageError(
            f"no command {word!r}; did you mean `conductor {known[match[0]]}`?",
            hint=f"to run it as a task: conductor run {word}",
        )
