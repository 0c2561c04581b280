"""The docker backend on a real engine: what is its own, beside the tests that all backends have in common."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiodocker
import pytest

from conductor_ai.tools.sandbox.base import KilledBy, Language, RunLimits, RunSpec
from conductor_ai.tools.sandbox.docker import DockerBackend
from conductor_ai.tools.sandbox.docker import backend as backend_module
from conductor_ai.tools.sandbox.docker.container import (
    EXPIRES,
    GVISOR,
    LABEL,
    OWNER,
    configuration,
    container_name,
)
from conductor_ai.tools.sandbox.docker.owner import this_process
from tests.conftest import fail_after
from tests.services.podman import PLANTED, ContainerEngine

SPEAK_AND_WAIT = "print('here', flush=True)\nimport time\ntime.sleep(1000)"


@pytest.fixture
async def sandbox(docker_engine: ContainerEngine) -> AsyncIterator[DockerBackend]:
    made = DockerBackend()
    yield made
    await made.close()


@pytest.fixture
async def engine(docker_engine: ContainerEngine) -> AsyncIterator[aiodocker.Docker]:
    async with aiodocker.Docker(url=docker_engine.url) as client:
        yield client


def spec(code: str, run_id: str, **limits: Any) -> RunSpec:
    return RunSpec(Language.PYTHON, code, run_id, limits=RunLimits(**limits), org_id="org-1", session_id="session-1")


async def running(engine: aiodocker.Docker, run_id: str) -> dict[str, Any]:
    """The container of a run, as soon as the engine says that it runs."""
    while True:
        with suppress(aiodocker.DockerError):
            shown = await (await engine.containers.get(container_name(run_id))).show()
            if shown["State"]["Running"]:
                return shown
        await asyncio.sleep(0.02)


async def gone(engine: aiodocker.Docker, run_id: str) -> None:
    while True:
        names = [name for container in await engine.containers.list(all="true") for name in container["Names"]]
        if f"/{container_name(run_id)}" not in names:
            return
        await asyncio.sleep(0.02)


async def test_the_self_test_finds_every_wall(sandbox: DockerBackend) -> None:
    assert sandbox.missing() is None
    async with fail_after(60):
        found = await sandbox.probe()
    assert found.available, found.reasons
    assert found.languages == frozenset(Language)
    assert (found.memory, found.network_off, found.hint) == ("cgroup", True, None)


@pytest.mark.slow
async def test_nothing_of_the_engines_environment_is_inside(sandbox: DockerBackend) -> None:
    code = "import os\nprint(dict(os.environ))\nprint(open('/proc/1/environ').read())"
    async with fail_after(60):
        ended = await sandbox.run(spec(code, "environment"))
    assert "LANG" in ended.stdout
    assert PLANTED not in ended.stdout + ended.stderr


async def test_the_container_is_labelled_walled_and_gone_afterwards(
    sandbox: DockerBackend, engine: aiodocker.Docker
) -> None:
    run = asyncio.create_task(sandbox.run(spec(SPEAK_AND_WAIT, "walled", memory_bytes=128 * 2**20)))
    async with fail_after(60):
        shown = await running(engine, "walled")
        await sandbox.cancel("walled")
        ended = await run
        await gone(engine, "walled")
    assert ended.killed_by is KilledBy.CANCELLED
    assert ended.exit_code is None
    labels = shown["Config"]["Labels"]
    assert (labels[LABEL], labels[f"{LABEL}.org"], labels[OWNER]) == ("run", "org-1", this_process())
    host = shown["HostConfig"]
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["PidsLimit"]) == ("none", True, 64)
    assert host["Memory"] == host["MemorySwap"] == 128 * 2**20
    assert not host["Binds"]
    assert "SPEAK" not in str(shown["Config"]["Cmd"])


@pytest.mark.slow
async def test_cancelling_the_task_removes_the_container(sandbox: DockerBackend, engine: aiodocker.Docker) -> None:
    run = asyncio.create_task(sandbox.run(spec(SPEAK_AND_WAIT, "dropped")))
    async with fail_after(60):
        await running(engine, "dropped")
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        with pytest.raises(aiodocker.DockerError) as caught:
            await engine.containers.get(container_name("dropped"))
    assert caught.value.status == 404


async def test_cancelling_while_the_container_is_made_leaves_none(
    sandbox: DockerBackend, engine: aiodocker.Docker
) -> None:
    async with fail_after(60):
        for delay in (0.0, 0.02, 0.1):
            run = asyncio.create_task(sandbox.run(spec(SPEAK_AND_WAIT, "early")))
            await asyncio.wait({run}, timeout=delay)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            with pytest.raises(aiodocker.DockerError):
                await engine.containers.get(container_name("early"))


@pytest.mark.slow
async def test_a_run_is_not_run_twice_at_once(sandbox: DockerBackend, engine: aiodocker.Docker) -> None:
    other = DockerBackend()
    run = asyncio.create_task(sandbox.run(spec(SPEAK_AND_WAIT, "once")))
    async with fail_after(60):
        await running(engine, "once")
        again = [await backend.run(spec("print(1)", "once")) for backend in (sandbox, other)]
        assert (await running(engine, "once"))["State"]["Running"]
        await sandbox.cancel("once")
        await run
    await other.close()
    assert [(ended.killed_by, ended.stdout) for ended in again] == [(KilledBy.INFRA, "")] * 2


@pytest.mark.slow
async def test_an_end_of_process_1_is_told_apart(sandbox: DockerBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that runs out in process 1 itself is the run's doing; a container that cannot start is not."""

    def told(program: str) -> Callable[..., dict[str, Any]]:
        def configured(*args: Any, **named: Any) -> dict[str, Any]:
            made = configuration(*args, **named)
            made["Cmd"] = ["-c", program]
            return made

        return configured

    ends = {}
    for name, program in {"hungry": "x = [bytes(b'x' * 2**20) for _ in range(10**6)]", "broken": "1 / 0"}.items():
        monkeypatch.setattr(backend_module, "configuration", told(program))
        async with fail_after(60):
            ends[name] = await sandbox.run(spec("print(1)", name, memory_bytes=64 * 2**20))
    assert ends["hungry"].killed_by is KilledBy.MEMORY
    assert ends["broken"].killed_by is KilledBy.INFRA
    assert "ZeroDivisionError" in (ends["broken"].detail or "")


async def test_an_engine_gone_between_probe_and_run_is_told_and_nothing_runs(
    docker_engine: ContainerEngine, engine: aiodocker.Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = tmp_path / "way"
    way.symlink_to(docker_engine.url.removeprefix("unix://"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{way}")
    sandbox = DockerBackend()
    async with fail_after(90):
        assert (await sandbox.probe()).available
        way.unlink()
        ended = await sandbox.run(spec("print('ran')", "gone"))
        assert await sandbox.reap() == 0
    await sandbox.close()
    assert (ended.killed_by, ended.stdout, ended.exit_code) == (KilledBy.INFRA, "", None)
    assert "Cannot connect" in (ended.detail or "")
    with pytest.raises(aiodocker.DockerError):
        await engine.containers.get(container_name("gone"))


@asynccontextmanager
async def way_to(target: str, path: Path) -> AsyncIterator[Callable[[], None]]:
    """A socket by way of which an engine is reached, until what is yielded is called."""
    streams: list[asyncio.StreamWriter] = []

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(target)
        streams.extend((writer, far_writer))
        await asyncio.gather(passed_on(reader, far_writer), passed_on(far_reader, writer))

    server = await asyncio.start_unix_server(connect, path)

    def cut() -> None:
        server.close()
        path.unlink(missing_ok=True)
        for stream in streams:
            stream.transport.abort()

    yield cut
    cut()


@pytest.mark.slow
async def test_a_run_ends_with_the_connection_to_it(
    docker_engine: ContainerEngine, engine: aiodocker.Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with way_to(docker_engine.url.removeprefix("unix://"), tmp_path / "way") as cut, fail_after(60):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'way'}")
        sandbox = DockerBackend()
        run = asyncio.create_task(sandbox.run(spec(SPEAK_AND_WAIT, "cut", wall_s=1000.0)))
        await running(engine, "cut")
        cut()
        ended = await run
        await gone(engine, "cut")  # by itself: nobody can tell the engine to
        await sandbox.close()
    assert ended.killed_by is KilledBy.INFRA


@pytest.mark.slow
async def test_gvisor_is_used_where_it_gives_a_kernel_of_its_own_only(sandbox: DockerBackend) -> None:
    """Podman lists gVisor's runtime, there or not, and starts another one: the self test sees through it."""
    async with fail_after(60):
        found = await sandbox.probe()
    told = [reason for reason in found.reasons if reason.startswith("gVisor is not used")]
    assert found.level.value == ("namespaces" if told else "kernel")
    assert told == [] or "kernel" in told[0] or GVISOR in told[0]


async def test_reaping_removes_what_nobody_waits_for(sandbox: DockerBackend, engine: aiodocker.Docker) -> None:
    now = int(time.time())
    labels = {
        "of-a-dead-server": {LABEL: "run", OWNER: f"{this_process()}0", EXPIRES: str(now + 1000)},
        "of-this-server": {LABEL: "run", OWNER: this_process(), EXPIRES: str(now + 1000)},
        "of-another-machine": {LABEL: "run", OWNER: "elsewhere pid 1 2", EXPIRES: str(now + 1000)},
        "beyond-its-time": {LABEL: "run", OWNER: "elsewhere pid 1 2", EXPIRES: str(now - 1)},
        "somebody-elses": {OWNER: f"{this_process()}0", EXPIRES: str(now - 1)},
    }
    image = os.environ["CONDUCTOR_SANDBOX_IMAGE"]
    made = {}
    async with fail_after(60):
        for name, given in labels.items():
            configured: dict[str, Any] = {
                "Image": image,
                "Cmd": ["sleep", "1000"],
                "Labels": given,
                "HostConfig": {"NetworkMode": "none"},
            }
            made[name] = await engine.containers.create(configured)
        await made["of-a-dead-server"].start()
        try:
            assert await sandbox.reap() == 2
            ids = {container.id for container in await engine.containers.list(all="true")}
            left = {name for name, container in made.items() if container.id in ids}
        finally:
            for container in made.values():
                with suppress(aiodocker.DockerError):
                    await container.delete(force=True)
    assert left == {"of-this-server", "of-another-machine", "somebody-elses"}


@pytest.mark.slow
async def test_a_large_input_and_a_large_output_pass(sandbox: DockerBackend) -> None:
    code = "data = open('in.bin', 'rb').read()\nopen('out.bin', 'wb').write(data[::-1])"
    data = bytes(range(256)) * 2**14
    async with fail_after(60):
        ended = await sandbox.run(
            RunSpec(Language.PYTHON, code, "large", files={"in.bin": data}, limits=RunLimits(work_bytes=32 * 2**20))
        )
    assert ended.killed_by is KilledBy.NONE, ended
    assert ended.files == {"out.bin": data[::-1]}
