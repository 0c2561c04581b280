"""What is piped into `conductor`: context for the task, or the task itself."""

from __future__ import annotations

import os
import select
import stat
import sys

from conductor_ai.cli.output import note

_SAY_WE_WAIT_AFTER_S = 1.0
_LEAVE_AFTER_S = 10.0
"""A pipe that nobody writes to and nobody closes is what scripts and CI systems often hand down by accident."""


def is_piped() -> bool:
    """Whether standard input is a pipe, a file or a socket: not a terminal, not /dev/null, not closed."""
    if sys.stdin is None:
        return False
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):  # closed, or a stand-in without a file
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def read_piped(*, optional: bool) -> str:
    """All of it, without the newlines at the end; bytes that are not UTF-8 are kept as `\\xff`.

    Args:
        optional: Whether there is a task without it: then a pipe that stays silent is left alone, and that is said.
    """
    if not _ready(_SAY_WE_WAIT_AFTER_S):
        note("reading standard input to its end; add </dev/null where there is nothing to read")
        if optional and not _ready(_LEAVE_AFTER_S - _SAY_WE_WAIT_AFTER_S):
            note(f"nothing came on standard input within {_LEAVE_AFTER_S:g} s: going on without it")
            return ""
    return sys.stdin.buffer.read().decode("utf-8", errors="backslashreplace").rstrip("\r\n")


def task_with_context(task: str | None) -> str | None:
    """The task, with what is piped in behind it; None where there is neither."""
    named = task is not None and bool(task.strip())
    piped = read_piped(optional=named) if is_piped() else ""
    if not piped.strip():
        return task
    return f"{task}\n\n{piped}" if named else piped


def _ready(timeout_s: float) -> bool:
    """Whether there is something to read, or the end."""
    return bool(select.select([sys.stdin], [], [], timeout_s)[0])
