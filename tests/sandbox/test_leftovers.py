"""However a run ends, the machine is as before: no process, mount, control group, file or container of it is left."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conductor_ai.tools.sandbox import backends
from conductor_ai.tools.sandbox.base import KilledBy, Language
from tests.conftest import fail_after
from tests.sandbox.conftest import Bench
from tests.sandbox.greed import DAEMON, GREED, WAITING, marked
from tests.sandbox.leftovers import (
    cgroups_of,
    children_of,
    entries_of,
    mounts,
    no_process_with,
    process_with,
    processes_with,
)

ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Marks:
    """What runs are known by: their ids, and the control groups that they were seen in."""

    run_ids: list[str] = field(default_factory=list)
    cgroups: list[Path] = field(default_factory=list)


@pytest.fixture
def as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Marks]:
    """Add the marks of runs; when the test ends nothing of them may be there."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    temporary.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before, children = mounts(), children_of(os.getpid())
    marks = Marks()
    yield marks
    assert marks.run_ids
    assert list(temporary.iterdir()) == []
    assert mounts() - before == set()
    assert children_of(os.getpid()) - children == set()
    assert [folder for folder in marks.cgroups if folder.exists()] == []
    for run_id in marks.run_ids:
        assert entries_of(run_id) == []
        assert processes_with(run_id) == []


ENDINGS = {
    "well": ("print('well')", KilledBy.NONE),
    "badly": ("raise SystemExit(1)", KilledBy.NONE),
    "out-of-memory": (GREED["memory-bit-by-bit"][0].python, KilledBy.MEMORY),
    "with-too-much-output": (GREED["endless-output"][0].python, KilledBy.OUTPUT),
    "with-a-daemon": (DAEMON.python.replace("MARK", "'a-daemon'"), KilledBy.NONE),
}


@pytest.mark.parametrize(("code", "killed_by"), ENDINGS.values(), ids=ENDINGS.keys())
async def test_nothing_is_left_of_a_run_that_ended(
    bench: Bench, as_before: Marks, code: str, killed_by: KilledBy
) -> None:
    ended = await bench.run(code)
    assert ended.killed_by is killed_by, ended
    await bench.backend.close()
    as_before.run_ids += bench.run_ids


@pytest.fixture
def mark() -> str:
    """The command line of a waiting run's child holds it."""
    return f"waiting-{secrets.token_hex(8)}"


async def seen_running(bench: Bench, mark: str, marks: Marks) -> None:
    """Wait until the code runs, and note where."""
    groups = cgroups_of(await process_with(mark))
    assert groups or "cgroup" not in bench.capabilities.memory
    marks.cgroups += groups


@pytest.mark.slow
async def test_nothing_is_left_of_a_run_that_met_its_deadline(bench: Bench, as_before: Marks, mark: str) -> None:
    async with fail_after(60):
        running = asyncio.create_task(bench.run(marked(WAITING, Language.PYTHON, mark), wall_s=2.0))
        await seen_running(bench, mark, as_before)
        assert (await running).killed_by is KilledBy.TIME
    assert processes_with(mark) == []
    await bench.backend.close()
    as_before.run_ids += bench.run_ids


async def test_cancelling_the_task_ends_the_run(bench: Bench, language: Language, as_before: Marks, mark: str) -> None:
    async with fail_after(60):
        task = asyncio.create_task(bench.backend.run(bench.spec(marked(WAITING, language, mark), language)))
        await seen_running(bench, mark, as_before)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert processes_with(mark) == []
    await bench.backend.close()
    as_before.run_ids += bench.run_ids


async def test_a_cancelled_run_says_so(bench: Bench, as_before: Marks, mark: str) -> None:
    spec = bench.spec(marked(WAITING, Language.PYTHON, mark))
    async with fail_after(60):
        task = asyncio.create_task(bench.backend.run(spec))
        await seen_running(bench, mark, as_before)
        await bench.backend.cancel("another run")
        assert processes_with(mark)
        await bench.backend.cancel(spec.run_id)
        ended = await task
    assert (ended.killed_by, ended.exit_code) == (KilledBy.CANCELLED, None)
    assert processes_with(mark) == []
    await bench.backend.close()
    as_before.run_ids += bench.run_ids


@pytest.mark.crash
async def test_nothing_is_left_of_a_run_whose_server_was_killed(bench: Bench, as_before: Marks, mark: str) -> None:
    run_id = f"run-{secrets.token_hex(8)}"
    as_before.run_ids.append(run_id)
    asked = {"backend": bench.backend.name, "run_id": run_id, "code": marked(WAITING, Language.PYTHON, mark)}
    environment = {**os.environ, "TMPDIR": tempfile.gettempdir()}
    async with fail_after(90):
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.sandbox.stage"),
            cwd=ROOT,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps(asked).encode())
        server.stdin.close()
        assert await server.stdout.readline() == b"begun\n"
        await seen_running(bench, mark, as_before)
        server.send_signal(signal.SIGKILL)
        await server.wait()
        successor = backends()[bench.backend.name]
        await successor.reap()
        await successor.close()
        await no_process_with(mark)
        for folder in as_before.cgroups:
            while folder.exists():  # noqa: ASYNC110 - nobody tells when the kernel has let go of it
                await asyncio.sleep(0.01)
