"""Runs inside a sandbox and tries its walls, for the self test. Prints a JSON list of those that did not hold.

Standard library only: it is handed over as code. Its stdin is JSON: what it must not reach.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

EXPECTED_NAMES = {"PATH", "HOME", "LANG", "TMPDIR", "PWD", "LC_CTYPE", "MPLBACKEND", "MPLCONFIGDIR"}
EXPECTED_PREFIXES = ("PYTHON", "OMP_", "OPENBLAS_", "MKL_")
EXPECTED_IN_ETC = {"passwd", "group", "hosts", "fonts", "ld.so.cache", "alternatives"}
IO_URING_SETUP = 425
CLONE3 = 435
UNSHARE = {"x86_64": 272, "aarch64": 97}
KEYCTL = {"x86_64": 250, "aarch64": 219}
AF_NETLINK, AF_VSOCK = 16, 40
PIECE = 2**20


def unexpected_names(names: list[str]) -> list[str]:
    return [name for name in names if name not in EXPECTED_NAMES and not name.startswith(EXPECTED_PREFIXES)]


def environment() -> bool:
    return not unexpected_names(list(os.environ))


def environment_of_process_1() -> bool:
    try:
        entries = Path("/proc/1/environ").read_bytes().split(b"\0")
    except OSError:
        return True
    return not unexpected_names([entry.split(b"=")[0].decode() for entry in entries if entry])


def network() -> bool:
    reached = []
    for family, address in ((socket.AF_INET, tuple(asked["tcp"])), (socket.AF_UNIX, "\0" + asked["abstract"])):
        with socket.socket(family) as connection:
            connection.settimeout(1)
            reached.append(connection.connect_ex(address) == 0)
    return not any(reached)


def host_files() -> bool:
    shut = (asked["folder"], "/etc/shadow", "/var", "/run", "/boot", "/sys")
    inside = {path.name for path in Path("/etc").iterdir()}
    return not any(Path(path).exists() for path in shut) and inside <= EXPECTED_IN_ETC


def host_processes() -> bool:
    return len([path for path in Path("/proc").glob("[0-9]*") if path.is_dir()]) <= 3


def kernel_settings() -> bool:
    return not any(writable(f"/proc/sys/{name}") for name in ("kernel/core_pattern", "vm/overcommit_memory"))


def writable(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_WRONLY))
    except OSError:
        return False
    return True


def read_only_root() -> bool:
    return not any(os.access(folder, os.W_OK) for folder in ("/", "/dev", "/etc", "/usr", "/usr/local", "/opt"))


def sized_folders() -> bool:
    return all(fills_up(Path(folder), limit) for folder, limit in asked["sizes"].items())


def fills_up(folder: Path, limit: int) -> bool:
    """Whether the folder is full at its limit. One file alone would come to another limit before."""
    paths = [folder / f"filler-{n}" for n in range(limit // PIECE + 1)]
    try:
        for path in paths:
            path.write_bytes(bytes(PIECE))
    except OSError as exc:
        return exc.errno == errno.ENOSPC
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
    return False


def system_calls() -> bool:
    calls = [(IO_URING_SETUP, errno.EPERM), (CLONE3, errno.ENOSYS)]
    calls += [(UNSHARE[machine], errno.EPERM), (KEYCTL[machine], errno.EPERM)]
    return all(answer(number) == expected for number, expected in calls)


def answer(number: int) -> int:
    """The errno of the call with arguments that are not valid, so that it does no harm where it is allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(ctypes.c_long(number), ctypes.c_long(-1), ctypes.c_long(0), ctypes.c_long(0))
    return ctypes.get_errno()


def socket_families() -> bool:
    for family in (AF_NETLINK, AF_VSOCK):
        try:
            socket.socket(family, socket.SOCK_DGRAM).close()
            return False
        except OSError as exc:
            if exc.errno != errno.EAFNOSUPPORT:
                return False
    return True


def memory_of_a_process() -> bool:
    try:
        mmap.mmap(-1, 2**32, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError as exc:
        return exc.errno == errno.ENOMEM
    return False


WALLS: dict[str, Callable[[], bool]] = {
    "the environment holds more than it was given": environment,
    "process 1 shows an environment": environment_of_process_1,
    "it reaches the network": network,
    "it sees files of the machine": host_files,
    "it sees processes of the machine": host_processes,
    "it has the rights of root over settings of the kernel": kernel_settings,
    "its root can be written to": read_only_root,
    "a folder takes more than its size": sized_folders,
    "the system call filter is off": system_calls,
    "it can open sockets of any kind": socket_families,
    "a process takes more than its memory": memory_of_a_process,
}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    machine = os.uname().machine
    sys.stdout.write(json.dumps([name for name, holds in WALLS.items() if not holds()]))
