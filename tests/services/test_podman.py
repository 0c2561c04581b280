"""The container engine of the tests: it answers, says why where it cannot be had, and leaves nothing of itself."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import podman
from tests.services.podman import ContainerEngine
from tests.services.processes import RunFolder, ServiceFailed

START_A_CONTAINER = """
import asyncio, sys
import aiodocker

async def start():
    async with aiodocker.Docker(url=sys.argv[1]) as engine:
        configured = {"Image": sys.argv[2], "Cmd": ["sleep", sys.argv[3]], "HostConfig": {"NetworkMode": "none"}}
        await (await engine.containers.create(configured)).start()

asyncio.run(start())
"""


@pytest.fixture
def own_run() -> Iterator[RunFolder]:
    run = RunFolder.make()
    yield run
    run.close()


def commands() -> set[str]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("store", ["", "/nonexistent/store"], ids=["unnamed", "not-there"])
def test_without_an_engine_the_reason_is_one_line(own_run: RunFolder, store: str) -> None:
    with pytest.raises(ServiceFailed) as caught:
        podman.shared(own_run, store)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_an_engine_ends_with_its_run_and_its_containers_with_it(
    docker_engine: ContainerEngine, own_run: RunFolder, image_store: str
) -> None:
    if not image_store:
        pytest.skip("the engine is not ours")
    engine = podman.shared(own_run, image_store)
    nap = str(10**9 + secrets.randbelow(10**9))
    subprocess.run([sys.executable, "-c", START_A_CONTAINER, engine.url, engine.image, nap], check=True, timeout=60)
    assert [command for command in commands() if nap in command]
    own_run.close()
    assert not [command for command in commands() if nap in command or str(own_run.path) in command]
    assert not own_run.path.exists()
    assert str(own_run.path) not in Path("/proc/self/mounts").read_text()
