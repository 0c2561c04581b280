"""What a container of a run is made of, and whose it is: all that can be told without an engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from conductor_ai.tools.sandbox.base import Language, RunLimits, RunSpec
from conductor_ai.tools.sandbox.docker.container import EXPIRES, LABEL, OWNER, configuration, container_name, is_pinned
from conductor_ai.tools.sandbox.docker.engine import old_runtimes
from conductor_ai.tools.sandbox.docker.leftovers import is_forgotten
from conductor_ai.tools.sandbox.docker.owner import is_dead, this_process

DIGEST = "sha256:" + "0a" * 32
SPEC = RunSpec(
    Language.PYTHON,
    "print('code-7d1')",
    "run-1",
    stdin="stdin-7d1",
    files={"file-7d1": b"content-7d1"},
    limits=RunLimits(wall_s=10.0, memory_bytes=100_000, processes=7, work_bytes=3000, tmp_bytes=2000),
    org_id="org-1",
    session_id="session-1",
    step_no=4,
)
MADE = configuration(SPEC, image_id=DIGEST, architecture="x86_64", runtime=None)
LIMITS = MADE["HostConfig"]


@pytest.mark.parametrize("image", [DIGEST, f"sandbox@{DIGEST}", f"registry.example:5000/a/b@{DIGEST}", f"a:1@{DIGEST}"])
def test_an_image_is_named_by_its_digest(image: str) -> None:
    assert is_pinned(image)


@pytest.mark.parametrize(
    "image",
    [
        "",
        "sandbox",
        "sandbox:1",
        DIGEST[:-1],
        DIGEST + "0",
        DIGEST.upper(),
        f"a b@{DIGEST}",
        f"@{DIGEST}",
        f"{DIGEST}\n",
    ],
)
def test_any_other_name_may_mean_another_image_tomorrow(image: str) -> None:
    assert not is_pinned(image)


def test_a_container_has_every_wall() -> None:
    expected = {
        "NetworkMode": "none",
        "IpcMode": "none",
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Privileged": False,
        "ReadonlyRootfs": True,
        "Memory": 100_000,
        "MemorySwap": 100_000,
        "NanoCpus": 10**9,
        "PidsLimit": 7,
        "AutoRemove": True,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
    }
    assert {name: LIMITS[name] for name in expected} == expected
    assert MADE["User"] == "65534:65534"
    assert MADE["NetworkDisabled"] is True
    assert MADE["Image"] == DIGEST


def test_a_container_gets_nothing_of_the_host() -> None:
    assert not {"Binds", "Mounts", "Devices", "VolumesFrom", "CapAdd", "PidMode", "UsernsMode"} & set(LIMITS)
    assert "Volumes" not in MADE


def test_every_file_system_that_can_be_written_has_a_size() -> None:
    options = {place: set(given.split(",")) for place, given in LIMITS["Tmpfs"].items()}
    assert {place for place, given in options.items() if "rw" in given} == {"/tmp", "/work"}
    assert "size=2000" in options["/tmp"]
    assert "size=3000" in options["/work"]
    assert all({"nosuid", "nodev", "noexec"} <= given for given in options.values())


def test_the_limits_of_a_process_are_named_one_by_one() -> None:
    limits = {limit["Name"]: (limit["Soft"], limit["Hard"]) for limit in LIMITS["Ulimits"]}
    assert limits == {
        "core": (0, 0),
        "nofile": (256, 256),
        "fsize": (3000, 3000),
        "msgqueue": (0, 0),
        "nproc": (1024, 1024),
    }


def test_neither_code_nor_input_nor_the_environment_of_the_server_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", "planted-7d1")
    made = json.dumps(configuration(SPEC, image_id=DIGEST, architecture="x86_64", runtime=None))
    assert "7d1" not in made
    assert MADE["Env"] == ["LANG=C.UTF-8"]


def test_the_labels_tell_whose_run_it_is() -> None:
    labels = {name.removeprefix(f"{LABEL}."): value for name, value in MADE["Labels"].items()}
    wanted = {"run": "run-1", "org": "org-1", "session": "session-1", "step": "4"}
    assert {name: labels[name] for name in wanted} == wanted


def test_the_runtime_is_named_where_one_was_chosen() -> None:
    assert "Runtime" not in LIMITS
    made = configuration(SPEC, image_id=DIGEST, architecture="aarch64", runtime="runsc")
    assert made["HostConfig"]["Runtime"] == "runsc"


@pytest.mark.parametrize(("architecture", "filtered"), [("amd64", True), ("aarch64", True), ("riscv64", False)])
def test_system_calls_are_filtered_by_the_table_of_the_engines_machine(architecture: str, filtered: bool) -> None:
    made = configuration(SPEC, image_id=DIGEST, architecture=architecture, runtime=None)
    assert ("prctl(22,2" in made["Cmd"][-1]) is filtered


def test_the_program_of_process_1_is_one_that_python_reads() -> None:
    compile(MADE["Cmd"][-1], "bootstrap", "exec")


def test_a_run_has_one_name_and_another_run_another() -> None:
    assert container_name("run-1") == container_name("run-1")
    assert container_name("run-1") != container_name("run-2")
    assert container_name("\ud800 / ü").replace("-", "").isalnum()


def test_this_process_is_alive() -> None:
    assert not is_dead(this_process())


def test_a_process_that_ended_is_dead() -> None:
    program = "from conductor_ai.tools.sandbox.docker.owner import this_process; print(this_process())"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert is_dead(ended.stdout.strip())


def test_a_process_that_waits_to_be_collected_is_dead() -> None:
    program = "from conductor_ai.tools.sandbox.docker.owner import this_process; print(this_process(), flush=True)"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout:
        owner = child.stdout.read().strip()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(owner)
    child.wait()


def test_another_process_with_the_same_number_is_not_the_owner() -> None:
    here, _, process = this_process().partition(" pid ")
    pid, _, started = process.partition(" ")
    assert is_dead(f"{here} pid {pid} {int(started) - 1}")


@pytest.mark.parametrize("owner", ["", "nonsense", "elsewhere pid 1 2", "elsewhere pid x 2"])
def test_of_a_process_elsewhere_nothing_is_known(owner: str) -> None:
    assert not is_dead(owner)


def test_a_container_is_forgotten_when_its_owner_is_dead_or_its_time_is_over() -> None:
    labels = MADE["Labels"]
    expires = float(labels[EXPIRES])
    assert not is_forgotten(labels, now=expires - 1)
    assert is_forgotten(labels, now=expires + 1)
    assert is_forgotten({**labels, OWNER: f"{this_process()}0"}, now=expires - 1)
    assert not is_forgotten({**labels, OWNER: "elsewhere pid 1 2"}, now=expires - 1)
    assert is_forgotten({LABEL: "run"}, now=0.0)


def test_a_container_lives_longer_than_its_run_may() -> None:
    brief, long = (
        configuration(replace(SPEC, limits=RunLimits(wall_s=wall)), image_id=DIGEST, architecture="", runtime=None)
        for wall in (1.0, 1001.0)
    )
    assert int(long["Labels"][EXPIRES]) - int(brief["Labels"][EXPIRES]) in (1000, 1001)


@pytest.mark.parametrize(
    ("name", "version", "warned"),
    [
        ("runc", "1.1.12", True),
        ("runc", "1.2.7", True),
        ("runc", "1.2.8", False),
        ("runc", "1.3.2", True),
        ("runc", "1.3.3", False),
        ("runc", "1.4.0-rc.2", True),
        ("runc", "1.4.0-rc.3", False),
        ("runc", "1.4.0", False),
        ("runc", "2.0.0", False),
        ("OCI Runtime (runc)", "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev", True),
        ("OCI Runtime (crun)", "crun version 1.8.1", False),
        ("runc", "unknown", False),
        ("containerd", "1.7.1", False),
    ],
)
def test_an_engine_with_a_known_way_out_is_named(name: str, version: str, warned: bool) -> None:
    found = list(old_runtimes({"Components": [{"Name": name, "Version": version}]}))
    assert bool(found) is warned
    assert all("CVE-2025-31133" in warning for warning in found)


def test_the_image_in_the_tree_has_what_the_wheels_of_the_bubblewrap_sandbox_have() -> None:
    root = Path(__file__).resolve().parents[2]

    def pins(name: str) -> set[str]:
        lines = root.joinpath(name).read_text().splitlines()
        return {line.split(" ")[0] for line in lines if "==" in line}

    image = pins("sandbox/requirements.txt")
    assert {pin.partition("==")[0] for pin in image} >= {"numpy", "pandas", "matplotlib"}
    assert image <= pins("requirements.lock")


def test_the_image_in_the_tree_leaves_the_place_of_the_working_folder_free() -> None:
    """Podman gives the file system that it puts there the rights of what it hides, and a run could not write to it."""
    lines = Path(__file__).resolve().parents[2].joinpath("sandbox/Dockerfile").read_text().splitlines()
    commands = [line for line in lines if not line.startswith("#")]
    assert not [line for line in commands if "/work" in line]
