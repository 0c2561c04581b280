"""Standard output kept for the answer: what tools and plugins print while a command runs goes to standard error."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TextIO, TypeVar

T = TypeVar("T")
_Kept = tuple[TextIO, int | None]  # where answers go; the file descriptor that was pointed elsewhere
_kept: ContextVar[_Kept | None] = ContextVar("kept answer stream", default=None)


def answer_stream() -> TextIO | None:
    """Where answers go; None where whoever started us closed it."""
    kept = _kept.get()
    return sys.stdout if kept is None else kept[0]


def keeping_standard_output(command: Callable[..., T]) -> Callable[..., T]:
    """`command`, with standard output out of reach of the code of others from its start on, until `give_back`.

    Typer prints help itself, before a command starts: that goes where it always went.
    """

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> T:
        _keep()
        return command(*args, **kwargs)

    return guarded


def give_back(stdout: TextIO | None) -> None:
    """Undo what a command did to standard output, for a caller that goes on; `stdout` is what it was before."""
    kept = _kept.get()
    sys.stdout = stdout
    _kept.set(None)
    if kept is not None and kept[1] is not None:
        if stdout is not None:
            with contextlib.suppress(OSError):  # nobody reads standard error any more
                stdout.flush()  # what others left in its buffer still belongs there
        os.dup2(kept[0].fileno(), kept[1])
        os.close(kept[0].fileno())


def _keep() -> None:
    stream = sys.stdout
    if stream is None or _kept.get() is not None:
        return
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # a stand-in without a file: no other process can write to it
        _kept.set((stream, None))
    else:
        stream.flush()
        # closefd=False: the stream lives as long as the process, and nobody is to be warned that it was not closed.
        own = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)  # never 2, which is free where standard error is closed
        answers = open(own, "w", encoding=stream.encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
        _kept.set((answers, number))
        _point_at_standard_error(number)
    if sys.stderr is not None:
        sys.stdout = sys.stderr


def _point_at_standard_error(number: int) -> None:
    """The file descriptor itself too: programs that a tool starts inherit it."""
    try:
        target = None if sys.stderr is None else sys.stderr.fileno()
    except (OSError, ValueError):  # a stand-in without a file
        target = None
    if target is not None:
        os.dup2(target, number)
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
