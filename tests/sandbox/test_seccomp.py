"""The system call filter: as a program for both architectures, and in a sandbox of this one."""

from __future__ import annotations

import errno
import json
import platform
import struct

import pytest

from conductor_ai.tools.sandbox import seccomp
from conductor_ai.tools.sandbox.base import KilledBy
from tests.sandbox.conftest import Bench

X86, ARM = seccomp.ARCHITECTURES["x86_64"], seccomp.ARCHITECTURES["aarch64"]
BOTH = pytest.mark.parametrize("machine", [X86, ARM], ids=["x86_64", "aarch64"])
ONLY_BUBBLEWRAP = pytest.mark.parametrize("bench", ["bubblewrap"], indirect=True)
X32 = 0x40000000
LATER = 470


def fails(error: int) -> int:
    return 0x00050000 | error


def verdict(machine: seccomp.Architecture, number: int, *args: int, arch: int | None = None) -> int:
    """What the kernel would do, by running the program as it does."""
    data = struct.pack("=IIQ6Q", number, arch or machine.audit_arch, 0, *args, *[0] * (6 - len(args)))
    program = list(struct.iter_unpack("=HBBI", seccomp.program(machine)))
    at = value = 0
    while True:
        code, if_true, if_false, operand = program[at]
        at += 1
        if code == 0x20:
            value = struct.unpack_from("=I", data, operand)[0]
        elif code == 0x06:
            return int(operand)
        else:
            holds = {0x15: value == operand, 0x25: value > operand, 0x35: value >= operand, 0x45: value & operand}[code]
            at += if_true if holds else if_false


@BOTH
@pytest.mark.parametrize("name", seccomp.DENIED)
def test_a_denied_call_fails(machine: seccomp.Architecture, name: str) -> None:
    number = seccomp.DENIED[name][machine.column]
    if number >= 0:
        assert verdict(machine, number) == fails(errno.EPERM)


@BOTH
def test_a_call_of_another_architecture_ends_the_process(machine: seccomp.Architecture) -> None:
    for arch in (0x40000003, 0x40000028, ARM.audit_arch if machine is X86 else X86.audit_arch):
        assert verdict(machine, 1, arch=arch) == seccomp.KILL


def test_a_call_of_x32_ends_the_process() -> None:
    assert verdict(X86, X32 | 41, 16) == seccomp.KILL


@BOTH
def test_runtimes_take_their_older_way(machine: seccomp.Architecture) -> None:
    for numbers in seccomp.UNANSWERED.values():
        assert verdict(machine, numbers[machine.column]) == fails(errno.ENOSYS)


@BOTH
def test_a_call_that_nobody_looked_at_does_not_exist(machine: seccomp.Architecture) -> None:
    assert verdict(machine, LATER) == fails(errno.ENOSYS)


@BOTH
def test_a_socket_is_local_or_of_the_internet(machine: seccomp.Architecture) -> None:
    for number in ((41, 53), (198, 199))[machine.column]:
        allowed = {family for family in range(64) if verdict(machine, number, family, 1) == seccomp.ALLOW}
        assert allowed == {1, 2}
        assert verdict(machine, number, 16, 1) == fails(errno.EAFNOSUPPORT)
        assert verdict(machine, number, 2**32 + 16, 1) == fails(errno.EAFNOSUPPORT)
        assert verdict(machine, number, 2, 1, 132) == fails(errno.EPROTONOSUPPORT)


@BOTH
def test_a_child_gets_no_namespace(machine: seccomp.Architecture) -> None:
    number = (56, 220)[machine.column]
    assert verdict(machine, number, 0x01200011) == seccomp.ALLOW  # as fork and posix_spawn ask
    assert verdict(machine, number, 0x003D0F00) == seccomp.ALLOW  # as a thread is made
    for namespace in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(machine, number, namespace | 17) == fails(errno.EPERM)


@BOTH
def test_a_terminal_is_not_typed_into(machine: seccomp.Architecture) -> None:
    number = (16, 29)[machine.column]
    assert verdict(machine, number, 0, 0x5412) == fails(errno.EPERM)
    assert verdict(machine, number, 0, 2**32 + 0x541C) == fails(errno.EPERM)
    assert verdict(machine, number, 0, 0x5401) == seccomp.ALLOW


@BOTH
def test_a_process_stays_plain_linux(machine: seccomp.Architecture) -> None:
    number = (135, 92)[machine.column]
    assert verdict(machine, number, 0xFFFFFFFF) == seccomp.ALLOW
    assert verdict(machine, number, 0x0040000) == fails(errno.EPERM)


@BOTH
def test_a_process_sets_limits_for_itself_only(machine: seccomp.Architecture) -> None:
    number = (302, 261)[machine.column]
    assert verdict(machine, number, 0, 7) == seccomp.ALLOW
    assert verdict(machine, number, 2**32, 7) == seccomp.ALLOW  # the kernel reads 32 bits
    for pid in (1, 2, 2**32 + 1, 2**32 - 1):
        assert verdict(machine, number, pid, 7) == fails(errno.EPERM)


@BOTH
def test_what_every_program_does_is_allowed(machine: seccomp.Architecture) -> None:
    names = {"read": (0, 63), "write": (1, 64), "mmap": (9, 222), "execve": (59, 221), "exit_group": (231, 94)}
    names |= {"futex": (202, 98), "prlimit64": (302, 261), "rseq": (334, 293), "kill": (62, 129), "bind": (49, 200)}
    for numbers in names.values():
        assert verdict(machine, numbers[machine.column]) == seccomp.ALLOW


CALLS = """
import ctypes, json, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number):
    ctypes.set_errno(0)
    libc.syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 6)
    return ctypes.get_errno()
print(json.dumps({name: call(number) for name, number in json.load(sys.stdin).items()}))
"""
MACHINE_CODE = """
import ctypes, mmap, os
for name, code in {
    'int80': b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3',            # mov eax, getpid; int 0x80; ret
    'x32': b'\\xb8\\x27\\0\\0\\x40\\x0f\\x05\\xc3',            # mov eax, x32 getpid; syscall; ret
    'x86_64': b'\\xb8\\x27\\0\\0\\0\\x0f\\x05\\xc3',           # mov eax, getpid; syscall; ret
}.items():
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    if os.fork() == 0:
        os._exit(0 if function() == os.getpid() else 1)
    print(name, os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@ONLY_BUBBLEWRAP
async def test_the_kernel_denies_these_calls_in_a_sandbox(bench: Bench) -> None:
    machine = seccomp.machine()
    assert machine is not None
    numbers = {name: both[machine.column] for name, both in {**seccomp.DENIED, **seccomp.UNANSWERED}.items()}
    there = {name: number for name, number in numbers.items() if number >= 0}
    ended = await bench.run(CALLS, stdin=json.dumps(there))
    assert (ended.killed_by, ended.exit_code) == (KilledBy.NONE, 0), ended.stderr
    assert json.loads(ended.stdout) == {
        name: errno.ENOSYS if name in seccomp.UNANSWERED else errno.EPERM for name in there
    }


@ONLY_BUBBLEWRAP
@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86_64 has older ways to call its kernel")
async def test_the_older_ways_into_the_kernel_end_the_process(bench: Bench) -> None:
    ended = await bench.run(MACHINE_CODE)
    assert ended.stdout.splitlines() == ["int80 -31", "x32 -31", "x86_64 0"], ended.stderr
