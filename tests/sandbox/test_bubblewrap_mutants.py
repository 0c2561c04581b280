"""Each wall of the bubblewrap backend, taken away: its self test has to notice, or the backend to refuse."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from conductor_ai.tools.sandbox.base import KilledBy
from conductor_ai.tools.sandbox.bubblewrap import backend, cgroups, command, identity, process, selftest
from tests.conftest import fail_after
from tests.sandbox.conftest import Bench

pytestmark = pytest.mark.parametrize("bench", ["bubblewrap"], indirect=True)
Patch = pytest.MonkeyPatch
SECRET = "CONDUCTOR_PLANTED_SECRET"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a sandbox the rights of root")


def told_otherwise(patch: Patch, change: Callable[[list[str]], list[str]]) -> None:
    """bwrap is started with other arguments."""
    arguments = command.arguments
    patch.setattr(command, "arguments", lambda *given, **more: change(arguments(*given, **more)))


def without(*lost: str) -> Callable[[list[str]], list[str]]:
    """The arguments but for the first stretch that is this."""

    def change(arguments: list[str]) -> list[str]:
        starts = range(len(arguments) - len(lost) + 1)
        at = next(i for i in starts if all(a == b for a, b in zip(arguments[i:], lost, strict=False)))
        return arguments[:at] + arguments[at + len(lost) :]

    return change


def with_more(*more: str) -> Callable[[list[str]], list[str]]:
    """The arguments with these before `--remount-ro`, after which nothing can be mounted."""

    def change(arguments: list[str]) -> list[str]:
        at = arguments.index("--remount-ro")
        return [*arguments[:at], *more, *arguments[at:]]

    return change


def full_environment(patch: Patch) -> None:
    patch.setenv(SECRET, "s3cr3t")
    patch.setattr(subprocess, "Popen", _with_environment)
    told_otherwise(patch, without("--clearenv"))


def environment_in_process_1(patch: Patch) -> None:
    patch.setenv(SECRET, "s3cr3t")
    patch.setattr(subprocess, "Popen", _with_environment)
    told_otherwise(patch, without("--as-pid-1"))


class _with_environment(subprocess.Popen[bytes]):  # noqa: N801 - it stands in for a function's name
    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **{**given, "env": dict(os.environ)})


def rights_of_root(patch: Patch) -> None:
    patch.setattr(identity, "identity", lambda place: identity.Identity(0, given_up=False))
    patch.setattr(process, "_uid", lambda pid: 65534)
    told_otherwise(patch, without("--remount-ro", "/proc"))


def filter_off(patch: Patch) -> None:
    def change(arguments: list[str]) -> list[str]:
        return without("--seccomp", arguments[arguments.index("--seccomp") + 1])(arguments)

    told_otherwise(patch, change)


def memory_of_a_process(patch: Patch) -> None:
    limits = command.limits_of_a_process

    def change(*given: Any, **more: Any) -> dict[str, int]:
        return {name: value for name, value in limits(*given, **more).items() if name not in ("AS", "DATA")}

    patch.setattr(backend, "limits_of_a_process", change)


WALLS: dict[str, tuple[Callable[[Patch], None], str]] = {
    "environment": (full_environment, "the environment holds more than it was given"),
    "environment-of-process-1": (environment_in_process_1, "process 1 shows an environment"),
    "shared-memory-without-a-size": (
        lambda patch: told_otherwise(patch, _shm_without_a_size),
        "a folder takes more than its size",
    ),
    "seccomp": (filter_off, "the system call filter is off"),
    "socket-families": (filter_off, "it can open sockets of any kind"),
    "read-only-root": (
        lambda patch: told_otherwise(patch, without("--remount-ro", "/")),
        "its root can be written to",
    ),
    "read-only-dev": (
        lambda patch: told_otherwise(patch, without("--remount-ro", "/dev")),
        "its root can be written to",
    ),
    "network": (lambda patch: told_otherwise(patch, with_more("--share-net")), "it reaches the network"),
    "files": (
        lambda patch: told_otherwise(patch, with_more("--ro-bind", "/var", "/var")),
        "it sees files of the machine",
    ),
    "processes": (
        lambda patch: told_otherwise(patch, with_more("--ro-bind", "/proc", "/proc")),
        "Refusal: this is no sandbox: there are other processes",  # the guest looks before it starts anything
    ),
    "memory-of-a-process": (memory_of_a_process, "a process takes more than its memory"),
}


def _shm_without_a_size(arguments: list[str]) -> list[str]:
    size = arguments[arguments.index("/dev/shm") - 2]
    at = arguments.index("/dev/shm") - 3
    assert arguments[at : at + 2] == ["--size", size]
    return arguments[:at] + arguments[at + 2 :]


async def test_the_walls_hold_as_they_are(bench: Bench) -> None:
    async with fail_after(30):
        assert await selftest.walls(bench.backend.run) == []


@pytest.mark.parametrize(("take_away", "noticed"), WALLS.values(), ids=WALLS.keys())
async def test_a_missing_wall_is_noticed(
    bench: Bench, monkeypatch: Patch, take_away: Callable[[Patch], None], noticed: str
) -> None:
    take_away(monkeypatch)
    async with fail_after(30):
        assert noticed in await selftest.walls(bench.backend.run)


@root_only
async def test_the_rights_of_root_are_noticed(bench: Bench, monkeypatch: Patch) -> None:
    rights_of_root(monkeypatch)
    async with fail_after(30):
        noticed = await selftest.walls(bench.backend.run)
    assert "it has the rights of root over settings of the kernel" in noticed


@root_only
async def test_nothing_is_started_with_the_rights_of_root(bench: Bench, monkeypatch: Patch) -> None:
    monkeypatch.setattr(identity, "identity", lambda place: identity.Identity(0, given_up=False))
    ended = await bench.run("open('ran', 'w').close()\nprint('ran')")
    assert (ended.killed_by, ended.detail) == (KilledBy.INFRA, "the sandbox would run as root")
    assert (ended.stdout, ended.files) == ("", {})


async def test_an_unbounded_number_of_processes_is_noticed(bench: Bench, monkeypatch: Patch) -> None:
    limits = command.limits_of_a_process

    def no_limit(*given: Any, **more: Any) -> dict[str, int]:
        return limits(*given, **{**more, "count_processes": False})

    monkeypatch.setattr(backend, "limits_of_a_process", no_limit)
    monkeypatch.setattr(cgroups, "_bound", lambda *given: None)
    async with fail_after(30):
        assert await selftest.processes(bench.backend.run) == ["it starts more processes than it may"]


@pytest.mark.slow
async def test_unbounded_memory_of_all_processes_is_noticed(bench: Bench, monkeypatch: Patch) -> None:
    monkeypatch.setattr(cgroups, "_bound", lambda *given: None)
    monkeypatch.setattr(backend, "watch_memory", _no_watch)
    async with fail_after(30):
        noticed = await selftest.memory(bench.backend.run)
    assert len(noticed) == 1
    assert noticed[0].startswith("its processes take more memory than they may")


async def _no_watch(*given: object) -> None:
    return None


@pytest.mark.slow
async def test_a_self_test_that_fails_makes_the_backend_unavailable(bench: Bench, monkeypatch: Patch) -> None:
    filter_off(monkeypatch)
    async with fail_after(60):
        found = await bench.backend.probe()
    assert not found.available
    assert "the system call filter is off" in found.reasons
    assert found.languages == frozenset()
