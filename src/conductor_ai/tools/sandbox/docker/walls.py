"""Runs inside a container, as code of a run, and prints one line for each wall that is not there.

Standard library only, Python 3.9 and later. Its stdin is a JSON object: `tmp_bytes` and `work_bytes`, what the folders
may hold; `processes`, how many there may be; `own_kernel`, whether system calls go to a kernel of the sandbox's own.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDERS = {Path("/tmp"): "tmp_bytes", Path("/work"): "work_bytes"}  # noqa: S108
OTHERS = {Path(name) for name in ("/", "/dev", "/dev/shm", "/etc", "/home", "/run", "/usr", "/var", "/var/tmp")}  # noqa: S108
ENGINES = tuple(
    Path(name, socket_name)
    for name in ("/run", "/var/run")
    for socket_name in ("docker.sock", "podman/podman.sock", "containerd/containerd.sock")
)
SETTINGS = tuple(
    Path("/proc", name) for name in ("sys/kernel/core_pattern", "sys/vm/overcommit_memory", "sysrq-trigger")
)
NEW_USER_AND_MOUNTS = 0x10000000 | 0x00020000
NOWHERE = ("192.0.2.1", 9)  # RFC 5737: no host has it


def main() -> None:
    told = json.load(sys.stdin)
    gaps = [
        *rights(own_kernel=told["own_kernel"]),
        *writable(),
        *sizes(told),
        *surroundings(),
        *network(),
        *processes(told["processes"]),
    ]
    sys.stdout.write("".join(f"{gap}\n" for gap in gaps))


def rights(*, own_kernel: bool) -> Iterator[str]:
    if os.getuid() == 0 or 0 in os.getgroups():
        yield "the code runs as root"
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    if int(status.get("CapEff", "1"), 16) or int(status.get("CapPrm", "1"), 16):
        yield "the code has capabilities"
    if ctypes.CDLL(None).unshare(NEW_USER_AND_MOUNTS) == 0:
        yield "the code may make namespaces"
    if own_kernel:
        return  # it does not tell the rest
    if status.get("NoNewPrivs") != "1":
        yield "the code may gain rights by a setuid program"
    if status.get("Seccomp") != "2":
        yield "system calls are not filtered"


def writable() -> Iterator[str]:
    if not os.statvfs("/").f_flag & os.ST_RDONLY:
        yield "the root file system can be written"
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    places = {Path(line.split()[1]) for line in mounts} | OTHERS
    for place in sorted(places - set(FOLDERS)):
        try:
            place.joinpath("conductor-self-test").touch()
        except OSError:
            continue
        yield f"{place} can be written"
    for setting in SETTINGS:
        try:
            setting.open("ab").close()
        except OSError:
            continue
        yield f"{setting} can be opened for writing"


def sizes(told: dict[str, Any]) -> Iterator[str]:
    for folder, limit in FOLDERS.items():
        space = os.statvfs(folder)
        if space.f_blocks * space.f_frsize > told[limit]:
            yield f"{folder} is larger than its limit"


def surroundings() -> Iterator[str]:
    if others := {int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()} - {1, os.getpid()}:
        yield f"{len(others)} processes of others are in sight"
    if any(value for name, value in os.environ.items() if name.lower().endswith("_proxy")):
        yield "the engine's proxy settings are in the environment"
    for path in ENGINES:
        if path.exists():
            yield f"the engine's socket {path} is in reach"


def network() -> Iterator[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(NOWHERE)
        except OSError:
            return
    yield "there is a network"


def processes(limit: int) -> Iterator[str]:
    started: list[int] = []
    try:
        for _ in range(limit + 1):
            child = os.fork()
            if child == 0:
                signal.pause()
            started.append(child)
    except OSError:
        return
    finally:
        for child in started:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    yield "the number of processes is not limited"


if __name__ == "__main__":
    main()
