"""Engines that cannot take a run, and what is said of them: a server on a socket answers as such an engine would."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from conductor_ai.tools.sandbox.base import KilledBy, Language, RunSpec
from conductor_ai.tools.sandbox.docker import DockerBackend, engine
from tests.conftest import fail_after

IMAGE = "sha256:" + "0a" * 32
GOOD: dict[str, Any] = {
    "OSType": "linux",
    "Architecture": "x86_64",
    "KernelVersion": "6.1.0",
    "MemoryLimit": True,
    "PidsLimit": True,
    "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"],
    "Runtimes": {"runc": {}},
}
SPEC = RunSpec(Language.PYTHON, "print(1)", "run-1")


class ScriptedEngine:
    """Answers what an engine is asked before a run; `image` None: it is not there. It makes no container."""

    def __init__(self) -> None:
        self.info: dict[str, Any] = dict(GOOD)
        self.image: dict[str, Any] | None = {"Id": IMAGE, "Config": {}}
        self.asked: list[str] = []
        self.silent = asyncio.Event()
        self.silent.set()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path}")
        await self.silent.wait()
        what = request.path.removeprefix("/v1.41")
        if what == "/version":
            return web.json_response({"ApiVersion": "1.41", "Components": [{"Name": "runc", "Version": "1.1.0"}]})
        if what == "/info":
            return web.json_response(self.info)
        if what == f"/images/{IMAGE}/json" and self.image is not None:
            return web.json_response(self.image)
        return web.json_response({"message": f"no such thing: {what}"}, status=404)


@pytest.fixture
async def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedEngine]:
    found = ScriptedEngine()
    application = web.Application()
    application.router.add_route("*", "/{what:.*}", found.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "s")).start()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 's'}")
    yield found
    found.silent.set()
    await runner.cleanup()


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(engine, "_usual_sockets", lambda: iter([tmp_path / "not-there"]))


async def reasons(backend: DockerBackend) -> str:
    async with fail_after(30):
        found = await backend.probe()
    assert not found.available
    assert found.hint is not None
    return "; ".join(found.reasons)


Change = Callable[[ScriptedEngine], None]


def info(**changed: Any) -> Change:
    return lambda scripted: scripted.info.update(changed)


def image(found: dict[str, Any] | None) -> Change:
    def change(scripted: ScriptedEngine) -> None:
        scripted.image = found

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(info(OSType="windows"), "windows containers", id="windows"),
        pytest.param(info(MemoryLimit=False), "cannot limit memory", id="no-memory-limit"),
        pytest.param(info(PidsLimit=False), "cannot limit memory and processes", id="no-process-limit"),
        pytest.param(info(SecurityOptions=["name=apparmor"]), "filters no system calls", id="no-seccomp"),
        pytest.param(info(SecurityOptions=None), "filters no system calls", id="no-security-options"),
        pytest.param(
            info(SecurityOptions=["name=seccomp,profile=unconfined"]), "filters no system calls", id="unconfined"
        ),
        pytest.param(image(None), f"the image {IMAGE} is not there", id="no-image"),
        pytest.param(image({"Id": IMAGE, "Config": {"Volumes": {"/data": {}}}}), "volumes", id="image-with-volumes"),
        pytest.param(image({"Config": {}}), "does not tell the id", id="an-answer-of-another-kind"),
    ],
)
async def test_an_engine_without_a_wall_is_refused(scripted: ScriptedEngine, change: Change, reason: str) -> None:
    change(scripted)
    backend = DockerBackend(IMAGE)
    assert backend.missing() is None
    assert reason in await reasons(backend)
    ended = await backend.run(SPEC)
    assert ended.killed_by is KilledBy.INFRA
    assert ended.detail is not None
    assert reason in ended.detail
    assert not [asked for asked in scripted.asked if "containers" in asked or "pull" in asked or "create" in asked]


async def test_an_engine_that_makes_no_container_fails_its_self_test(scripted: ScriptedEngine) -> None:
    assert "no such thing: /containers/create" in await reasons(DockerBackend(IMAGE))


async def test_an_engine_that_does_not_answer_is_not_waited_for(
    scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ANSWER_S", 0.2)
    scripted.silent.clear()
    assert await reasons(DockerBackend(IMAGE)) == "the engine does not answer"


async def test_a_self_test_is_done_once(scripted: ScriptedEngine) -> None:
    backend = DockerBackend(IMAGE)
    first = await backend.probe()
    asked = len(scripted.asked)
    assert await backend.probe() is first
    assert len(scripted.asked) == asked


async def test_dangers_of_an_engine_are_told(scripted: ScriptedEngine) -> None:
    scripted.info["SecurityOptions"] = ["name=seccomp,profile=builtin"]
    url = engine.find()
    assert url is not None
    found = await engine.look(url, IMAGE)
    assert [warning for warning in found.warnings if "is root on its machine" in warning]
    assert [warning for warning in found.warnings if "runc 1.1.0" in warning]


@pytest.mark.parametrize(
    "named", [None, "", "sandbox", "sandbox:latest", "python@sha256:12"], ids=["none", "empty", "name", "tag", "part"]
)
async def test_an_image_that_is_not_pinned_is_refused(
    scripted: ScriptedEngine, named: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named is not None:
        monkeypatch.setenv("CONDUCTOR_SANDBOX_IMAGE", named)
    backend = DockerBackend()
    missing = backend.missing()
    assert missing is not None
    assert "CONDUCTOR_SANDBOX_IMAGE" in missing
    assert missing in await reasons(backend)
    assert scripted.asked == []


async def test_the_image_comes_from_the_environment(scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDUCTOR_SANDBOX_IMAGE", IMAGE)
    assert DockerBackend().missing() is None


@pytest.mark.usefixtures("no_engine")
async def test_without_an_engine_the_reason_says_where_it_was_looked_for() -> None:
    backend = DockerBackend(IMAGE)
    assert backend.missing() == "no container engine listens here, and DOCKER_HOST names none"
    assert "no container engine listens here" in await reasons(backend)
    assert (await backend.run(SPEC)).killed_by is KilledBy.INFRA
    assert await backend.reap() == 0


@pytest.mark.usefixtures("no_engine")
def test_the_first_socket_that_is_there_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / "file", tmp_path / "one", tmp_path / "two"]
    paths[0].touch()
    monkeypatch.setattr(engine, "_usual_sockets", lambda: iter(paths))
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
        one.bind(str(paths[1]))
        two.bind(str(paths[2]))
        assert engine.find() == f"unix://{paths[1]}"


def test_a_socket_that_nobody_listens_on_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'gone'}")
    assert f"no container engine listens at {tmp_path / 'gone'}" in (DockerBackend(IMAGE).missing() or "")


@pytest.mark.parametrize("host", ["ssh://a@b", "docker", "/run/docker.sock"])
def test_an_address_of_another_kind_is_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    assert "DOCKER_HOST is not an address" in (DockerBackend(IMAGE).missing() or "")


AS_NOBODY = """
import os, sys
import aiodocker  # while the environment can still be read: it may be somebody's home
from conductor_ai.tools.sandbox.docker import DockerBackend
backend = DockerBackend(sys.argv[1])
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
print(backend.missing())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_an_ordinary_user_is_told_that_the_socket_is_not_for_it(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listening, tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        listening.bind(f"{folder}/s")
        listening.listen()
        Path(f"{folder}/s").chmod(0o600)
        said = [
            subprocess.run(
                [sys.executable, "-c", AS_NOBODY, IMAGE],
                env={**os.environ, "DOCKER_HOST": host, "HOME": str(closed), "XDG_RUNTIME_DIR": str(closed)},
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            ).stdout
            for host in (f"unix://{folder}/s", "")
        ]
    assert "may not be used" in said[0]
    assert said[1].strip() != "None"  # and no traceback: what cannot be looked into is not there
