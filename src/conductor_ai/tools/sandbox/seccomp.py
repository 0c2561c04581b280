"""The system calls that code in a sandbox may not make, as a classic BPF program for the kernel.

Everything is allowed but: the calls of another architecture and of x32, which end the process; calls that reach what
all sandboxes share (mounts, modules, keys, tracing, io_uring, ...); new namespaces; sockets that are neither local nor
IPv4; memory that no limit of a process counts; the limits of another process; and calls that this table does not know.
Numbers: asm/unistd_64.h and asm-generic/unistd.h of Linux 6.12.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterable
from dataclasses import dataclass

_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGS = 0, 4, 16  # offsets in `struct seccomp_data`; an argument's low half comes first on both
KILL, ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
_X32_BIT = 0x40000000
_LAST_KNOWN = 462
"""`mseal`. What came later answers ENOSYS, as on an older kernel, until somebody has looked at it."""

_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_FAMILIES = (1, 2)  # AF_UNIX, AF_INET
_PROTOCOLS = (0, 6, 17)  # the family's default, TCP, UDP
_TYPE_FOR_THE_TERMINAL = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: input for whoever started the server
_PERSONALITIES = (0, 0xFFFFFFFF)  # plain Linux, and the question which it is
_ITSELF = (0,)  # as libc asks; by any pid the guest's limits could be lowered, which is of the same user


@dataclass(frozen=True, slots=True)
class Architecture:
    audit_arch: int
    column: int  # in the table of numbers


ARCHITECTURES = {"x86_64": Architecture(0xC000003E, 0), "aarch64": Architecture(0xC00000B7, 1)}

_ABSENT = -1
_CLONE, _CLONE3, _SOCKET, _SOCKETPAIR, _IOCTL, _PERSONALITY, _PRLIMIT64 = (
    (56, 220),
    (435, 435),
    (41, 198),
    (53, 199),
    (16, 29),
    (135, 92),
    (302, 261),
)

DENIED: dict[str, tuple[int, int]] = {
    "_sysctl": (156, _ABSENT),
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "afs_syscall": (183, _ABSENT),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "create_module": (174, _ABSENT),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "get_kernel_syms": (177, _ABSENT),
    "getpmsg": (181, _ABSENT),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, _ABSENT),
    "iopl": (172, _ABSENT),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "listmount": (458, 458),
    "lookup_dcookie": (212, 18),
    "memfd_secret": (447, 447),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, _ABSENT),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "putpmsg": (182, _ABSENT),
    "query_module": (178, _ABSENT),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "security": (185, _ABSENT),
    "semget": (64, 190),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "shmget": (29, 194),
    "statmount": (457, 457),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "sysfs": (139, _ABSENT),
    "tuxcall": (184, _ABSENT),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, _ABSENT),
    "userfaultfd": (323, 282),
    "ustat": (136, _ABSENT),
    "vhangup": (153, 58),
    "vserver": (236, _ABSENT),
}
"""Each answers EPERM. Numbers on x86_64 and aarch64."""

UNANSWERED: dict[str, tuple[int, int]] = {"clone3": _CLONE3, "memfd_create": (319, 279)}
"""Each answers ENOSYS, as on an older kernel, so that runtimes take their older way: the flags of clone3 lie in memory
that a filter cannot read, and files in memory count towards no limit but a cgroup's."""


def machine() -> Architecture | None:
    """This machine's; None where there is no table for it."""
    return ARCHITECTURES.get(platform.machine())


def program(architecture: Architecture) -> bytes:
    """The filter as bwrap's `--seccomp` reads it: an array of `struct sock_filter`."""
    column = architecture.column
    lines = [_load(_ARCH), *_unless(architecture.audit_arch, [_answer(KILL)]), _load(_NUMBER)]
    if column == 0:
        lines += [_line(_JUMP_AT_LEAST, _X32_BIT, 0, 1), _answer(KILL)]
    lines += [_line(_JUMP_GREATER, _LAST_KNOWN, 0, 1), _fail(errno.ENOSYS)]
    for numbers, error in [
        *((numbers, errno.EPERM) for numbers in DENIED.values()),
        *((numbers, errno.ENOSYS) for numbers in UNANSWERED.values()),
    ]:
        if numbers[column] != _ABSENT:
            lines += _when(numbers[column], [_fail(error)])
    lines += _when(_CLONE[column], [_load(_ARGS), _line(_JUMP_BITS, _NEW_NAMESPACES, 0, 1), _fail(errno.EPERM), _OK])
    for call in (_SOCKET, _SOCKETPAIR):
        checks = [*_only(0, _FAMILIES, errno.EAFNOSUPPORT), *_only(2, _PROTOCOLS, errno.EPROTONOSUPPORT), _OK]
        lines += _when(call[column], checks)
    refused = [line for value in _TYPE_FOR_THE_TERMINAL for line in _when(value, [_fail(errno.EPERM)])]
    lines += _when(_IOCTL[column], [_load(_ARGS + 8), *refused, _OK])
    lines += _when(_PERSONALITY[column], [*_only(0, _PERSONALITIES, errno.EPERM), _OK])
    lines += _when(_PRLIMIT64[column], [*_only(0, _ITSELF, errno.EPERM), _OK])
    return b"".join([*lines, _OK])


def _line(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _load(offset: int) -> bytes:
    return _line(_LOAD, offset)


def _answer(action: int) -> bytes:
    return _line(_RETURN, action)


def _fail(error: int) -> bytes:
    return _answer(_ERRNO | error)


def _when(value: int, lines: list[bytes]) -> list[bytes]:
    """The lines where what was loaded is the value; past them otherwise."""
    return [_line(_JUMP_EQUAL, value, 0, len(lines)), *lines]


def _unless(value: int, lines: list[bytes]) -> list[bytes]:
    return [_line(_JUMP_EQUAL, value, len(lines), 0), *lines]


def _only(argument: int, values: Iterable[int], error: int) -> list[bytes]:
    """Fail unless the argument is one of the values. The kernel takes each of these as 32 bits."""
    values = tuple(values)
    checks = [_line(_JUMP_EQUAL, value, len(values) - i, 0) for i, value in enumerate(values)]
    return [_load(_ARGS + 8 * argument), *checks, _fail(error)]


_OK = _answer(ALLOW)
