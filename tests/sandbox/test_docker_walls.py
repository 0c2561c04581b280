"""Each wall of a container is one that the self test misses: with it taken away the engine is not used."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from conductor_ai.tools.sandbox.base import KilledBy, Language, RunSpec
from conductor_ai.tools.sandbox.docker import DockerBackend
from conductor_ai.tools.sandbox.docker import backend as backend_module
from conductor_ai.tools.sandbox.docker.container import configuration
from tests.conftest import fail_after


def _without(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(made: dict[str, Any]) -> None:
        for key in keys:
            del made["HostConfig"][key]

    return change


def _as_root(made: dict[str, Any]) -> None:
    made["User"] = "0:0"


def _with_proxies(made: dict[str, Any]) -> None:
    made["Env"].append("HTTPS_PROXY=http://user:password@192.0.2.1:3128")


def _unfiltered(made: dict[str, Any]) -> None:
    made["HostConfig"]["SecurityOpt"] = ["no-new-privileges", "seccomp=unconfined"]
    made["Cmd"][-1] = "".join(made["Cmd"][-1].partition("import _thread")[1:])


def _with_new_privileges(made: dict[str, Any]) -> None:
    _unfiltered(made)
    made["HostConfig"]["SecurityOpt"] = []


def _with_engine_socket(made: dict[str, Any]) -> None:
    made["HostConfig"]["Binds"] = [f"{os.environ['DOCKER_HOST'].removeprefix('unix://')}:/run/docker.sock"]
    del made["HostConfig"]["Tmpfs"]["/run"]


def _with_network(made: dict[str, Any]) -> None:
    made["HostConfig"]["NetworkMode"] = "host"
    made["NetworkDisabled"] = False


def _with_other_processes(made: dict[str, Any]) -> None:
    made["HostConfig"]["PidMode"] = "host"


def _unsealed(made: dict[str, Any]) -> None:
    for folder in ("/run", "/var/tmp"):
        del made["HostConfig"]["Tmpfs"][folder]


def _larger(made: dict[str, Any]) -> None:
    made["HostConfig"]["Tmpfs"]["/tmp"] = "rw,size=100m,mode=1777"


def _more_memory(made: dict[str, Any]) -> None:
    made["HostConfig"].update(Memory=2**30, MemorySwap=2**30)


def _with_capabilities(made: dict[str, Any]) -> None:
    _as_root(made)
    made["HostConfig"]["CapAdd"] = ["NET_ADMIN"]


MUTANTS = {
    "as-root": (_as_root, "the code runs as root"),
    "with-capabilities": (_with_capabilities, "the code has capabilities"),
    "with-new-privileges": (_with_new_privileges, "the code may gain rights by a setuid program"),
    "without-a-filter-of-system-calls": (_unfiltered, "system calls are not filtered"),
    "with-a-writable-root": (_without("ReadonlyRootfs"), "the root file system can be written"),
    "with-shared-memory": (_without("IpcMode"), "/dev/shm can be written"),
    "without-sealed-folders": (_unsealed, "/run can be written"),
    "with-a-larger-tmp": (_larger, "/tmp is larger than its limit"),
    "with-a-network": (_with_network, "there is a network"),
    "with-processes-of-the-host": (_with_other_processes, "there are other processes"),
    "with-the-engines-proxies": (_with_proxies, "the engine's proxy settings are in the environment"),
    "with-the-engines-socket": (_with_engine_socket, "the engine's socket /run/docker.sock is in reach"),
    "with-more-memory": (_more_memory, "the memory of a run is not limited"),
    "without-a-limit-of-processes": (_without("PidsLimit"), "the number of processes is not limited"),
}


@pytest.mark.slow
@pytest.mark.usefixtures("docker_engine")
@pytest.mark.parametrize(("change", "reason"), MUTANTS.values(), ids=MUTANTS)
async def test_the_self_test_fails_where_a_wall_is_missing(
    change: Callable[[dict[str, Any]], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def configured(*args: Any, **named: Any) -> dict[str, Any]:
        made = configuration(*args, **named)
        change(made)
        return made

    monkeypatch.setattr(backend_module, "configuration", configured)
    sandbox = DockerBackend()
    async with fail_after(90):
        found = await sandbox.probe()
    assert not found.available
    assert reason in "; ".join(found.reasons)
    async with fail_after(10):
        assert (await sandbox.run(RunSpec(Language.PYTHON, "print(1)", "mutant"))).killed_by is KilledBy.INFRA
