"""What the bubblewrap backend makes of a machine: users, interpreters, settings of the kernel."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from conductor_ai.tools.sandbox.base import Language, RunLimits
from conductor_ai.tools.sandbox.bubblewrap import command, identity, requirements, runtime

WHOLE = "         0          0 4294967295\n"
SOMEBODY = 12345
"""A user of the machine that owns nothing of it."""


def test_the_users_of_runs_belong_to_nobody_else() -> None:
    pids = (2, 300, 2**22 - 1)
    stretches = [identity.first_of(identity.end_of_map(WHOLE), pid) for pid in pids]
    assert all(first is not None and 2**31 > first >= 1_900_000_000 for first in stretches)
    assert len(set(stretches)) == len(pids)
    assert all(first is not None and first + identity.AT_ONCE <= 2**31 for first in stretches)


def test_two_servers_never_have_the_same_users() -> None:
    first, second = (identity.first_of(identity.end_of_map(WHOLE), pid) for pid in (1000, 1001))
    assert first is not None and second is not None
    assert second - first == identity.AT_ONCE


@pytest.mark.parametrize("text", ["0 100000 65536\n", "0 1000 1\n1 100001 65535\n"], ids=["whole", "in-two"])
@pytest.mark.parametrize("pid", [1, 7, 31, 4_194_303])
def test_a_container_with_few_users_has_the_last_of_them(text: str, pid: int) -> None:
    first = identity.first_of(identity.end_of_map(text), pid)
    assert first is not None
    assert 64_000 < first <= 65_536 - identity.AT_ONCE


def test_a_container_with_one_user_has_none_for_runs() -> None:
    assert identity.first_of(identity.end_of_map("0 1000 1\n"), 7) is None


def test_root_without_other_users_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(identity, "first_uid", lambda: None)
    assert identity.missing() is not None
    with pytest.raises(PermissionError, match="as root"):
        identity.identity(0)


def test_a_normal_user_stays_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)
    found = identity.identity(3)
    assert (found.uid, found.popen()) == (SOMEBODY, {})


@pytest.fixture
def shut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation below a folder that only its owner may enter; it is this process's, as far as this one knows."""
    tmp_path.chmod(0o700)
    (tmp_path / "python" / "bin").mkdir(parents=True)
    executable = tmp_path / "python" / "bin" / "python3"
    executable.touch(0o755)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "executable", str(executable))
    return tmp_path / "python"


def test_an_interpreter_that_is_out_of_reach_is_carried_over_by_root(shut: Path) -> None:
    found = runtime.find(SOMEBODY, may_stage=True)
    assert found.own
    assert found.python == shut / "bin" / "python3"
    assert shut / "bin" in found.unreachable
    assert Path("/usr") not in found.unreachable


def test_an_interpreter_that_is_out_of_reach_is_left_by_others(shut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = shut.parent.parent / "no-python3"
    monkeypatch.setattr(runtime, "_SYSTEM_PYTHON", system)
    with pytest.raises(FileNotFoundError, match="cannot reach the interpreter") as caught:
        runtime.find(SOMEBODY, may_stage=False)
    assert requirements.hint(str(caught.value)) is not None


def test_a_virtual_environment_appears_in_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python3.11"))
    found = runtime.find(os.geteuid(), may_stage=True)
    assert found.python == Path("/opt/env/bin/python3.11")
    assert found.binds[tmp_path / "bin"] == Path("/opt/env/bin")


@pytest.mark.parametrize("names", [["prefix"], ["prefix", "base_prefix", "base_exec_prefix"]], ids=["venv", "base"])
def test_of_an_installation_in_somebodys_folder_the_rest_stays_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    for folder in ("bin", "lib", "include", "share", ".ssh", ".conductor", "notes"):
        (tmp_path / folder).mkdir()
    for file in (".env", "pyvenv.cfg"):
        (tmp_path / file).touch()
    (tmp_path / "bin" / "python3").touch()
    for name in names:
        monkeypatch.setattr(sys, name, str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python3"))
    found = runtime.find(os.geteuid(), may_stage=True)
    assert found.own
    seen = {str(path.relative_to(tmp_path)) for path in found.binds if path.is_relative_to(tmp_path)}
    assert seen == {"bin", "lib", "include", "pyvenv.cfg"}


def test_of_a_shared_folder_only_the_interpreter_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("prefix", "base_prefix"):
        monkeypatch.setattr(sys, name, "/usr/local")
    monkeypatch.setattr(sys, "executable", "/usr/local/bin/python3")
    found = runtime.find(os.geteuid(), may_stage=True)
    local = {path for path in found.binds if path.is_relative_to("/usr/local")}
    assert local <= {Path("/usr/local/bin"), Path("/usr/local/lib")}
    assert Path("/usr/local") in found.covered


def test_no_home_and_no_project_is_bound() -> None:
    found = runtime.find(os.geteuid(), may_stage=True)
    parts = {Path(sys.base_prefix), Path(sys.prefix), Path(sys.base_prefix).resolve()}
    for path in found.binds:
        named = path.is_relative_to("/etc") or path.is_relative_to("/usr") or path.parent == Path("/")
        assert named or path.parent in parts or path.name in ("node", "zoneinfo"), path


def test_without_node_there_is_no_javascript(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert runtime.find(os.geteuid(), may_stage=True).languages == {Language.PYTHON}


def test_a_process_is_bounded_by_what_the_run_may_use() -> None:
    limits = RunLimits(wall_s=7.0, memory_bytes=2**28, processes=9, work_bytes=2**20, tmp_bytes=2**21)
    found = command.limits_of_a_process(Language.PYTHON, limits, count_processes=True, grouped=True)
    assert (found["DATA"], found["NPROC"], found["CORE"], found["NOFILE"]) == (2**28, 10, 0, 256)
    assert found["FSIZE"] > 2**21  # a full folder answers before the signal comes
    assert found["CPU"] > 7
    assert "AS" not in command.limits_of_a_process(Language.JAVASCRIPT, limits, count_processes=False, grouped=True)


def test_a_process_is_bounded_more_tightly_where_nothing_bounds_them_together() -> None:
    grouped, alone = (
        command.limits_of_a_process(Language.PYTHON, RunLimits(), count_processes=True, grouped=grouped)
        for grouped in (True, False)
    )
    assert all(alone[name] < grouped[name] for name in ("AS", "NOFILE", "NPROC"))
    assert alone["AS"] * alone["NPROC"] < 8 * 2**30


@pytest.mark.parametrize(
    ("release", "own_user", "counts"),
    [("6.1.0-18-amd64", False, True), ("5.14.0", False, True), ("5.10.0-28", False, False), ("5.10.0-28", True, True)],
)
def test_processes_are_counted_by_user_before_linux_5_14(
    monkeypatch: pytest.MonkeyPatch, release: str, own_user: bool, counts: bool
) -> None:
    monkeypatch.setattr("platform.release", lambda: release)
    assert requirements.counts_processes(own_user=own_user) is counts


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("user/max_user_namespaces", "sysctl -w user.max_user_namespaces=10000"),
        ("kernel/unprivileged_userns_clone", "sysctl -w kernel.unprivileged_userns_clone=1"),
    ],
)
def test_a_machine_that_forbids_namespaces_says_how_to_allow_them(
    monkeypatch: pytest.MonkeyPatch, setting: str, hint: str
) -> None:
    monkeypatch.setattr(command.Tools, "find", lambda: command.Tools("/bin/sh"))
    monkeypatch.setattr(requirements, "_setting", {setting: "0"}.get)
    reason = requirements.missing()
    assert reason is not None and setting.replace("/", ".") in reason
    assert requirements.hint(reason) == hint


def test_ubuntu_is_told_of_its_apparmor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "_setting", {"kernel/apparmor_restrict_unprivileged_userns": "1"}.get)
    found = requirements.hint("bwrap: setting up uid map: Permission denied")
    assert found is not None and "apparmor" in found


@pytest.mark.parametrize(
    ("platform", "machine"), [("darwin", "x86_64"), ("win32", "AMD64"), ("linux", "riscv64")], ids=str
)
def test_elsewhere_it_says_that_it_cannot(monkeypatch: pytest.MonkeyPatch, platform: str, machine: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert requirements.missing() is not None
