"""Standard output and standard error: answers and JSON on the one, everything said about them on the other."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from conductor_ai.cli.answer_stream import answer_stream
from conductor_ai.cli.secrets import without_secrets
from conductor_ai.cli.text import one_line, plain


def prepare_streams() -> None:
    """No character may crash a command, whatever encoding the terminal claims to have."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # absent where a program put its own stream there
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """One piece of the answer, on standard output. Raises: OSError where it cannot be written."""
    _write(answer_stream(), plain(text) + "\n")


def say_json(data: Any) -> None:
    """One JSON value on standard output, in ASCII: valid JSON whatever the encoding and whatever the text holds."""
    import json

    _write(answer_stream(), json.dumps(data, indent=2) + "\n")


def note(text: str) -> None:
    """One line about the work, on standard error. Nobody's work fails because nobody can read about it."""
    try:
        _write(sys.stderr, plain(text) + "\n")
    except OSError:
        return


def say_error(code: str, message: str, hint: str | None, *, as_json: bool) -> None:
    """`error:` and `hint:` lines on standard error; with `as_json` also one object on standard output."""
    message = without_secrets(message)  # before it is cut: no part of one may stay
    hint = without_secrets(hint) if hint else hint
    note(f"error: {one_line(message, 1000)}")
    if hint:
        note(f"hint: {one_line(hint, 1000)}")
    if as_json:
        say_json({"error": {"code": code, "message": message, "hint": hint}})


def say_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, shorten: Sequence[str] = ()) -> None:
    """Aligned columns on a terminal; elsewhere one line per row, fields separated by tabs, and no headings.

    Args:
        shorten: The headings of columns that may be cut, with a mark, where the terminal is too narrow. Where that is
            not enough, each row takes two lines: its first two fields, and the others below them.
    """
    cells = [[one_line(cell, 300) for cell in row] for row in rows]
    stream = answer_stream()
    if stream is None or not stream.isatty():
        for row in cells:
            say("\t".join(row))
        return
    from conductor_ai.cli.table import table_lines

    columns = os.get_terminal_size(stream.fileno()).columns or 80
    for line in table_lines(headings, cells, columns=columns, shorten=shorten):
        say(line)


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:  # closed by whoever started us
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _discard(stream)  # the reader has seen enough, as `head` does; the work goes on
    except OSError:
        _discard(stream)
        raise


def _discard(stream: TextIO) -> None:
    """Send what is buffered and all that follows nowhere, so that the flush at exit cannot fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
