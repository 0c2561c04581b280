"""Control groups: found where the kernel says they are, named after their owner, and removed when it is dead."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conductor_ai.tools.sandbox.base import Language, RunLimits
from conductor_ai.tools.sandbox.bubblewrap import cgroups
from tests.conftest import fail_after
from tests.sandbox.conftest import Bench
from tests.sandbox.greed import WAITING, marked
from tests.sandbox.leftovers import cgroups_of, no_process_with, process_with

LIMITS = RunLimits(memory_bytes=32 * 2**20, processes=7)


@pytest.fixture
def hierarchies() -> list[cgroups.Hierarchy]:
    found = cgroups.find()
    if not found:
        pytest.skip("this process may make no control groups here")
    return found


@pytest.fixture
def dead_owner() -> str:
    """What a process that has ended was called."""
    with subprocess.Popen(["sleep", "1000"]) as child:
        name = cgroups.owner_name(child.pid)
        child.kill()
    return name


@pytest.fixture
def left_behind(hierarchies: list[cgroups.Hierarchy], dead_owner: str) -> Iterator[list[Path]]:
    """A run of a dead server in each hierarchy."""
    folders = [h.own / f"conductor-sandbox-{dead_owner}-2" / "1-run" for h in hierarchies]
    for folder in folders:
        folder.mkdir(parents=True)
    yield folders
    for folder in folders:
        for path in (folder, folder.parent):
            if path.exists():
                path.rmdir()


async def test_what_a_dead_server_left_is_killed_and_removed(
    hierarchies: list[cgroups.Hierarchy], left_behind: list[Path]
) -> None:
    async with fail_after(30):
        sleeper = await asyncio.create_subprocess_exec("sleep", "1000")
        (left_behind[0] / "cgroup.procs").write_text(str(sleeper.pid))
        assert await cgroups.remove_left_over(hierarchies) >= 1
        assert await sleeper.wait() == -signal.SIGKILL
    assert not any(folder.parent.exists() for folder in left_behind)


async def test_what_a_living_server_has_stays(hierarchies: list[cgroups.Hierarchy]) -> None:
    group = cgroups.ProcessGroup(hierarchies)
    group.make()
    run = group.new_run(LIMITS, "a-run")
    await cgroups.remove_left_over(hierarchies)
    there = [folder.exists() for folder in group.folders]
    await run.remove()
    group.remove()
    assert there == [True] * len(hierarchies)
    assert not any(folder.exists() for folder in group.folders)


async def test_what_another_pid_namespace_has_stays(hierarchies: list[cgroups.Hierarchy], dead_owner: str) -> None:
    space, rest = dead_owner.split("-", 1)
    folder = hierarchies[0].own / f"conductor-sandbox-{int(space) + 1}-{rest}-1"
    folder.mkdir()
    try:
        assert folder not in cgroups.left_over(hierarchies)
    finally:
        folder.rmdir()


def test_two_backends_of_a_process_have_a_group_each(tmp_path: Path) -> None:
    where = [cgroups.Hierarchy(frozenset({"memory", "pids"}), tmp_path, 1)]
    first, second = cgroups.ProcessGroup(where), cgroups.ProcessGroup(where)
    first.make()
    second.make()
    first.remove()
    assert second.folders[0].is_dir()
    assert cgroups.left_over(where) == []


def test_being_short_of_descriptors_is_not_being_without_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(path: Path, **given: object) -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "read_text", short)
    with pytest.raises(OSError, match="Too many open files"):
        cgroups.find(tmp_path)


def test_a_pid_that_is_used_again_is_another_owner() -> None:
    space, pid, start = cgroups.owner_name(os.getpid()).split("-")
    assert pid == str(os.getpid())
    assert cgroups.owner_name(1).split("-")[0] == space
    assert int(start) > 0


async def test_a_run_is_bounded_before_anything_is_in_it(hierarchies: list[cgroups.Hierarchy]) -> None:
    group = cgroups.ProcessGroup(hierarchies)
    group.make()
    run = group.new_run(LIMITS, "a-run")
    found = {}
    for folder in group.folders:
        for path in (folder / "1-a-run").iterdir():
            if path.name in ("memory.limit_in_bytes", "memory.max", "pids.max"):
                found[path.name.partition(".")[0]] = int(path.read_text())
    await run.remove()
    group.remove()
    assert found == {"memory": LIMITS.memory_bytes, "pids": LIMITS.processes + 1}


def test_version_2_is_bounded_by_its_own_files(tmp_path: Path) -> None:
    """Plain files stand in for the kernel's."""
    group = cgroups.ProcessGroup([cgroups.Hierarchy(frozenset({"memory", "pids"}), tmp_path, 2)])
    folder = group.folders[0]
    folder.mkdir()
    (folder / "cgroup.subtree_control").write_text("memory pids\n")
    group.make()
    run = group.new_run(LIMITS, "a-run")
    inner = folder / "1-a-run"
    assert (inner / "memory.max").read_text() == str(LIMITS.memory_bytes)
    assert (inner / "pids.max").read_text() == str(LIMITS.processes + 1)
    (inner / "memory.events").write_text("low 0\noom 2\noom_kill 0\n")
    assert not run.ran_out_of_memory()
    (inner / "memory.events").write_text("low 0\noom 2\noom_kill 1\n")
    assert run.ran_out_of_memory()
    assert run.peak_memory_bytes() is None
    (inner / "memory.peak").write_text("4096\n")
    assert run.peak_memory_bytes() == 4096


@pytest.mark.parametrize(
    ("own", "mounted"),
    [
        ("0::/user.slice\n", "30 23 0:26 / {point} rw - cgroup2 cgroup2 rw\n"),
        ("0::/docker/abc\n", "30 23 0:26 /docker/abc {point} rw - cgroup2 cgroup2 rw\n"),
        ("3:memory:/a\n2:cpu:/a\n", "30 23 0:26 / {point} rw - cgroup cgroup rw,memory\n"),
        ("", ""),
    ],
    ids=["version-2-of-somebody-else", "version-2-in-a-container", "version-1-without-pids", "none"],
)
def test_half_of_the_bounds_is_none(tmp_path: Path, own: str, mounted: str) -> None:
    (tmp_path / "cgroup").write_text(own)
    (tmp_path / "mountinfo").write_text(mounted.format(point=tmp_path / "groups"))
    assert cgroups.find(tmp_path) == []


def test_a_kernel_without_control_groups_has_none(tmp_path: Path) -> None:
    assert cgroups.find(tmp_path) == []


SERVER = """
import asyncio, sys
from conductor_ai.tools.sandbox.base import Language, RunSpec
from conductor_ai.tools.sandbox.bubblewrap import BubblewrapBackend
asyncio.run(BubblewrapBackend().run(RunSpec(Language.PYTHON, sys.stdin.read(), "run")))
"""


@pytest.mark.crash
@pytest.mark.parametrize("bench", ["bubblewrap"], indirect=True)
async def test_a_killed_server_leaves_no_control_group_even_without_a_successor(
    bench: Bench, hierarchies: list[cgroups.Hierarchy]
) -> None:
    mark = f"waiting-{secrets.token_hex(8)}"
    async with fail_after(60):
        server = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, stdin=asyncio.subprocess.PIPE)
        assert server.stdin is not None
        server.stdin.write(marked(WAITING, Language.PYTHON, mark).encode())
        server.stdin.close()
        groups = cgroups_of(await process_with(mark))
        assert len(groups) == len(hierarchies)
        server.send_signal(signal.SIGKILL)
        await server.wait()
        await no_process_with(mark)
        while any(group.parent.exists() for group in groups):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)
