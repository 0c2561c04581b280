"""What ended a run, told from what is known of it."""

from __future__ import annotations

import re

from conductor_ai.tools.sandbox.base import KilledBy

_SIGKILL = (-9, 137)
_LAST_WORDS = 1000
_PYTHON_NO_MEMORY = re.compile(r"^(?:[\w.]*_ArrayMemoryError|MemoryError)\b", re.MULTILINE)  # a traceback's last line
_NO_MEMORY = re.compile(
    r"JavaScript heap out of memory|Fatal (?:process|JavaScript) out of memory|Array buffer allocation failed"
    r"|ERR_MEMORY_ALLOCATION_FAILED|could not allocate memory|std::bad_alloc"
)


def killed_by(
    *,
    killed_by_host: KilledBy | None,
    over_output: bool,
    out_of_memory: bool,
    ended: bool,
    exit_code: int | None,
    stderr: str,
) -> KilledBy:
    """Name what ended a run.

    Args:
        killed_by_host: Why the backend ended it; None where it did not, or only because `Reply.feed` said so.
        over_output: One of its streams went beyond the cap.
        out_of_memory: Something in it was killed for want of memory.
        ended: The guest told the run to its end.
        exit_code: The code's; None where it did not end by itself.
        stderr: What the code wrote there; a runtime that finds no memory says so at its end.
    """
    if killed_by_host not in (None, KilledBy.NONE, KilledBy.OUTPUT):
        return killed_by_host
    if over_output or killed_by_host is KilledBy.OUTPUT:
        return KilledBy.OUTPUT
    if out_of_memory and (not ended or exit_code in _SIGKILL):
        return KilledBy.MEMORY
    if not ended:
        return KilledBy.INFRA
    if exit_code and (_PYTHON_NO_MEMORY.search(stderr[-_LAST_WORDS:]) or _NO_MEMORY.search(stderr)):
        return KilledBy.MEMORY
    return KilledBy.NONE
