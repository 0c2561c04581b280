"""The edge of the command line: arguments in, an exit code out, and every error as one clear line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from conductor_ai.cli import answer_stream, arguments, output, stdin_text
from conductor_ai.cli.exit_codes import ExitCode, of_error
from conductor_ai.cli.secrets import without_secrets
from conductor_ai.errors import ConductorError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. `argv` without the program's name; None takes the process's own, and then the process ends with
    the command: its standard output stays out of reach of what others do at exit."""
    stdout = sys.stdout
    output.prepare_streams()
    if argv is None:
        return _run(sys.argv[1:])
    try:
        return _run(list(argv))
    finally:
        answer_stream.give_back(stdout)


def _run(given: list[str]) -> int:
    debug = arguments.has_flag(given, "--debug")
    as_json = arguments.has_flag(given, "--json")
    try:
        return _dispatch(arguments.without_flag(given, "--debug"))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except ConductorError as error:
        return _refused(error.code, str(error), error.hint, of_error(error), debug=debug, as_json=as_json)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        said = f"{error.strerror or type(error).__name__}{where}"
        return _refused("os_error", said, None, ExitCode.FAILED, debug=debug, as_json=as_json)
    except Exception as error:
        said = f"a bug in conductor-ai, not in what you did: {type(error).__name__}: {error}"
        hint = "run it again with --debug and report the trace"
        return _refused("bug", said, hint, ExitCode.FAILED, debug=debug, as_json=as_json)


def _dispatch(given: list[str]) -> int:
    import typer

    from conductor_ai.cli.app import root_command

    root = root_command()
    if not given:
        given = ["run"] if stdin_text.is_piped() else ["--help"]
    meant = arguments.with_command(given, commands=root.commands, value_options=root.value_options)
    try:
        code = root.invoke(meant)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        hint = f"{context.command_path} --help" if context is not None else None
        return _refused(
            "usage", error.format_message(), hint, ExitCode.USAGE, as_json=arguments.has_flag(given, "--json")
        )
    return code


def _refused(
    code: str, message: str, hint: str | None, exit_code: ExitCode, *, debug: bool = False, as_json: bool = False
) -> ExitCode:
    if debug:
        import traceback

        output.note(without_secrets(traceback.format_exc()))
    output.say_error(code, message, hint, as_json=as_json)
    return exit_code
