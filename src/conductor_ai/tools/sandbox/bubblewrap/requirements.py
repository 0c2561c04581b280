"""What this backend needs of a machine, why a machine may lack it, and the line that mends it."""

from __future__ import annotations

import os
import platform
import re
import stat
import sys
from pathlib import Path

from conductor_ai.tools.sandbox import seccomp
from conductor_ai.tools.sandbox.bubblewrap import identity, runtime
from conductor_ai.tools.sandbox.bubblewrap.command import Tools

_COUNTS_BY_NAMESPACE = (5, 14)
_APPARMOR = "apparmor_restrict_unprivileged_userns"
_HINTS = {
    "not installed": "apt-get install bubblewrap",
    "unknown option": "install bubblewrap 0.6 or newer",
    "interpreter": "install python3 for all users, or run conductor as another user than root",
    "as root": "run conductor as another user than root",
    "max_user_namespaces": "sysctl -w user.max_user_namespaces=10000",
    "unprivileged_userns_clone": "sysctl -w kernel.unprivileged_userns_clone=1",
    "Linux 5.14": "let conductor make control groups: with systemd, Delegate=yes and DelegateSubgroup=server",
}


def missing() -> str | None:
    """What is seen to be missing without starting anything; None where nothing is."""
    if sys.platform != "linux":
        return "bubblewrap runs on Linux only"
    if seccomp.machine() is None:
        return f"there is no table of system calls for {platform.machine()}"
    tools = Tools.find()
    if tools is None:
        return "bubblewrap is not installed: there is no bwrap in PATH"
    if (lacking := identity.missing()) is not None:
        return lacking
    if not Path(tools.bwrap).stat().st_mode & stat.S_ISUID and (lacking := _no_namespaces()) is not None:
        return lacking
    try:
        runtime.find(identity.identity(0).uid, may_stage=may_stage(tools))
    except FileNotFoundError as exc:
        return str(exc)
    return None


def _no_namespaces() -> str | None:
    for name in ("user/max_user_namespaces", "kernel/unprivileged_userns_clone"):
        if _setting(name) == "0":
            return f"this machine lets nobody make user namespaces: {name.replace('/', '.')} is 0"
    return None


def may_stage(tools: Tools) -> bool:
    """Whether root can carry over what the user of a run cannot reach."""
    return os.geteuid() == 0 and tools.can_stage


def counts_processes(*, own_user: bool) -> bool:
    """Whether a process's limit of processes means those of one run: it counts those of a user, and since Linux 5.14
    within a user namespace only.

    Args:
        own_user: Whether each run has a user to itself.
    """
    numbers = re.findall(r"\d+", platform.release())[:2]
    return own_user or tuple(map(int, numbers)) >= _COUNTS_BY_NAMESPACE


def hint(reason: str) -> str | None:
    """The line that mends it, as far as there is one."""
    lowered = reason.lower()
    for sign, line in _HINTS.items():
        if sign.lower() in lowered:
            return line
    if _setting(f"kernel/{_APPARMOR}") == "1":
        return f"sysctl -w kernel.{_APPARMOR}=0, or an AppArmor profile for bwrap that has `userns,`"
    if "namespace" in lowered or "permitted" in lowered or "proc" in lowered:
        return "CONDUCTOR_SANDBOX=docker, or run conductor outside of this container: it may make no namespaces here"
    return None


def _setting(name: str) -> str | None:
    try:
        return (Path("/proc/sys") / name).read_text(encoding="ascii").strip()
    except OSError:
        return None
