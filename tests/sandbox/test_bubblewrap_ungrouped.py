"""What bounds the memory of a run where no control group can be had."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from conductor_ai.tools.sandbox.base import MIB, KilledBy, Language
from conductor_ai.tools.sandbox.bubblewrap import cgroups, watchdog
from tests.conftest import fail_after
from tests.sandbox.conftest import Bench

GIB = 2**30
LET_GO = f"""
import mmap, os, time
def hold(size):
    held, piece = mmap.mmap(-1, size), b"x" * {MIB}
    for at in range(0, size, {MIB}):
        held[at : at + {MIB}] = piece
        held.madvise(mmap.MADV_DONTNEED, at, {MIB})
    time.sleep(10)
for _ in range(12):
    if os.fork() == 0:
        hold(192 * {MIB})
time.sleep(10)
"""
"""Shared pages stay when they are let go, and count as nobody's; all together these are 2.25 GiB."""
QUEUES = """
import os, socket, time
def fill():
    queued, held = 0, []
    try:
        while True:
            held += socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            for end in held[-2:]:
                end.setblocking(False)
                try:
                    while True:
                        queued += end.send(bytes(32000))
                except BlockingIOError:
                    pass
    except OSError:
        return queued
reading, writing = os.pipe()
started = 0
try:
    while started < 40:
        if os.fork() == 0:
            os.write(writing, b"%20d" % fill())
            time.sleep(10)
        started += 1
except OSError:
    pass
print(sum(int(os.read(reading, 20)) for _ in range(started)), flush=True)
os._exit(0)
"""
EMPTY_FILES = """
import os
for folder in range(1000):
    os.mkdir(f"/tmp/{folder}")
    os.chdir(f"/tmp/{folder}")
    for n in range(2000):
        os.mknod(str(n))
"""


@pytest.fixture(autouse=True)
def no_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "find", list)


pytestmark = pytest.mark.parametrize("bench", ["bubblewrap"], indirect=True)


async def test_shared_pages_that_are_let_go_are_counted(bench: Bench) -> None:
    async with fail_after(60):
        ended = await bench.run(LET_GO, wall_s=20.0, memory_bytes=256 * MIB)
    assert ended.killed_by is KilledBy.MEMORY, ended


async def test_the_queues_of_sockets_hold_little(bench: Bench) -> None:
    async with fail_after(60):
        ended = await bench.run(QUEUES)
    assert ended.killed_by is KilledBy.MEMORY or int(ended.stdout) < 256 * MIB, ended


@pytest.mark.slow
async def test_the_names_of_empty_files_are_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "MARGIN_BYTES", 64 * MIB)  # it takes longer to make more of them
    async with fail_after(60):
        ended = await bench.run(EMPTY_FILES, wall_s=40.0, memory_bytes=32 * MIB)
    assert ended.killed_by is KilledBy.MEMORY, ended


@pytest.mark.parametrize("language", [Language.PYTHON, Language.JAVASCRIPT], ids=["python", "javascript"])
async def test_ordinary_code_has_enough(bench: Bench, language: Language) -> None:
    code = {
        Language.PYTHON: "import numpy, pandas, matplotlib\nmatplotlib.use('Agg')\nimport matplotlib.pyplot as plot\n"
        "plot.plot(pandas.Series(numpy.arange(1e6)))\nplot.savefig('a.png')\nprint('on')",
        Language.JAVASCRIPT: "const { Worker } = require('node:worker_threads');\n"
        "new Worker(\"console.log('on')\", { eval: true });",
    }
    async with fail_after(60):
        ended = await bench.run(code[language], language)
    assert (ended.stdout, ended.killed_by) == ("on\n", KilledBy.NONE), ended


def meminfo(path: Path, *, available: int, anonymous: int) -> None:
    path.write_text(f"MemTotal: 9 kB\nMemAvailable: {available // 1024} kB\nAnonPages: {anonymous // 1024} kB\n")


async def test_what_the_machine_lost_counts_and_what_processes_hold_does_not(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain file stands in for the kernel's."""
    monkeypatch.setattr(watchdog, "MEMINFO", tmp_path / "meminfo")
    meminfo(watchdog.MEMINFO, available=8 * GIB, anonymous=GIB)
    with watchdog.Machine().run(256 * MIB) as lost_too_much:
        meminfo(watchdog.MEMINFO, available=GIB, anonymous=8 * GIB)
        assert not lost_too_much()
        meminfo(watchdog.MEMINFO, available=GIB, anonymous=8 * GIB - 513 * MIB)
        assert lost_too_much()


async def test_runs_at_a_time_may_take_what_their_limits_add_up_to(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "MEMINFO", tmp_path / "meminfo")
    meminfo(watchdog.MEMINFO, available=8 * GIB, anonymous=0)
    machine = watchdog.Machine()
    with machine.run(256 * MIB) as lost_too_much:
        with machine.run(256 * MIB):
            meminfo(watchdog.MEMINFO, available=8 * GIB - 600 * MIB, anonymous=0)
            assert not lost_too_much()
        assert lost_too_much()


async def test_the_self_test_says_what_bounds_the_memory(bench: Bench) -> None:
    async with fail_after(60):
        found = await bench.backend.probe()
    assert (found.available, found.memory) == (True, "rlimit and a watchdog"), found
    assert any("Delegate=yes" in reason for reason in found.reasons)


async def test_runs_at_a_time_do_not_end_each_other(bench: Bench) -> None:
    code = f"open('fill', 'wb').write(bytes(48 * {MIB}))\nprint('on')"
    async with fail_after(60):
        ended = await asyncio.gather(*(bench.run(code) for _ in range(6)))
    assert [run.stdout for run in ended] == ["on\n"] * 6
