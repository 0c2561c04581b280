"""What is piped into `conductor`: context for the task, or the task itself."""

from __future__ import annotations

import os
import select
import stat
import sys

from conductor_ai.cli.output import note

_SAY_WE_WAIT_AFTER_S = 1.0


def is_piped() -> bool:
    """Whether standard input is a pipe, a file or a socket: not a terminal, not /dev/null, not closed."""
    if sys.stdin is None:
        return False
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):  # closed, or a stand-in without a file
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def read_piped() -> str:
    """All of it, without the newlines at the end; bytes that are not UTF-8 are kept as `\\xff`."""
    ready, _, _ = select.select([sys.stdin], [], [], _SAY_WE_WAIT_AFTER_S)
    if not ready:
        note("reading standard input to its end; add </dev/null where there is nothing to read")
    return sys.stdin.buffer.read().decode("utf-8", errors="backslashreplace").rstrip("\r\n")


def task_with_context(task: str | None) -> str | None:
    """The task, with what is piped in behind it; None where there is neither."""
    piped = read_piped() if is_piped() else ""
    if not piped.strip():
        return task
    return f"{task}\n\n{piped}" if task and task.strip() else piped
