"""Whose a container is: one process, told apart from every other that has its number before or after it."""

from __future__ import annotations

import os
from pathlib import Path

_STATE, _START_TIME = 0, 19  # of the fields after the program's name in /proc/PID/stat


def this_process() -> str:
    """What `is_dead` understands; empty where the system does not tell."""
    try:
        return f"{_here()} pid {os.getpid()} {_started(os.getpid())}"
    except OSError:
        return ""


def is_dead(owner: str) -> bool:
    """Whether that process has ended, as far as one can know here: False for those of other machines and containers."""
    here, _, process = owner.partition(" pid ")
    pid, _, started = process.partition(" ")
    try:
        if not pid.isdecimal() or here != _here():
            return False
    except OSError:
        return False
    try:
        return _started(int(pid)) != started
    except (FileNotFoundError, ProcessLookupError):
        return True


def _here() -> str:
    """This start of this machine, and the namespace in which the process numbers count."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _started(pid: int) -> str:
    """When it started, in the kernel's ticks; "ended" where it only waits to be collected."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    fields = stat.rpartition(")")[2].split()  # the name before it may itself hold spaces and parentheses
    return "ended" if fields[_STATE] in "ZX" else fields[_START_TIME]
