"""What is the bubblewrap backend's own: whose rights a run has, what it needs of a machine, and what stands in."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conductor_ai.tools.sandbox.base import KilledBy, Language, RunLimits, RunSpec
from conductor_ai.tools.sandbox.bubblewrap import BubblewrapBackend, cgroups, identity, selftest
from tests.conftest import fail_after
from tests.sandbox.conftest import Bench
from tests.sandbox.greed import WAITING, marked
from tests.sandbox.leftovers import children_of, process_with

ROOT = Path(__file__).parents[2]
ONLY_BUBBLEWRAP = pytest.mark.parametrize("bench", ["bubblewrap"], indirect=True)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root has other users to give")
SYSTEM_PYTHON = Path("/usr/bin/python3")


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in front of PATH that the user of a run can reach too."""
    with tempfile.TemporaryDirectory(prefix="programs-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        yield folder


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


async def waiting(bench: Bench) -> tuple[int, asyncio.Task[object]]:
    """A run that waits, and its process out here."""
    mark = f"waiting-{secrets.token_hex(8)}"
    task: asyncio.Task[object] = asyncio.create_task(bench.run(marked(WAITING, Language.PYTHON, mark)))
    return await process_with(mark), task


def user_of(pid: int, kind: str = "Uid") -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1])


def told_of(pid: int) -> bytes:
    """Its command line, and its environment where this process may read it."""
    folder = Path(f"/proc/{pid}")
    try:
        return (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
    except PermissionError:
        return (folder / "cmdline").read_bytes()


@ONLY_BUBBLEWRAP
@root_only
async def test_root_starts_each_run_as_a_user_of_its_own(bench: Bench) -> None:
    async with fail_after(30):
        first, second = [await waiting(bench) for _ in range(2)]
    users = {user_of(first[0]), user_of(second[0])}
    groups = {user_of(pid, "Gid") for pid, _ in (first, second)}
    await bench.backend.close()
    assert len(users) == 2
    assert groups == users
    assert min(users) > 1000
    assert not users & {uid for uid, *_ in _accounts()}


def _accounts() -> list[tuple[int, str]]:
    entries = (line.split(":") for line in Path("/etc/passwd").read_text().splitlines())
    return [(int(entry[2]), entry[0]) for entry in entries]


@ONLY_BUBBLEWRAP
async def test_no_process_of_a_run_has_the_environment_of_the_server(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_SECRET", "s3cr3t-value")
    before = children_of(os.getpid())
    async with fail_after(30):
        await waiting(bench)
    started = children_of(os.getpid()) - before
    told = [told_of(pid) for pid in started]
    await bench.backend.close()
    assert len(started) >= 3
    assert not any(b"s3cr3t-value" in text or b"PLANTED" in text for text in told)


@ONLY_BUBBLEWRAP
async def test_closing_ends_what_runs(bench: Bench) -> None:
    async with fail_after(30):
        pid, task = await waiting(bench)
        await bench.backend.close()
        ended = await task
    assert getattr(ended, "killed_by", None) is KilledBy.CANCELLED
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@ONLY_BUBBLEWRAP
async def test_a_closed_backend_can_be_used_again(bench: Bench) -> None:
    await bench.backend.close()
    assert (await bench.run("print('on')")).stdout == "on\n"


@ONLY_BUBBLEWRAP
async def test_a_run_may_be_cancelled_before_it_has_begun(bench: Bench) -> None:
    spec = bench.spec("print('ran')")
    async with fail_after(30):
        task = asyncio.create_task(bench.backend.run(spec))
        await asyncio.sleep(0)
        await bench.backend.cancel(spec.run_id)
        ended = await task
    assert (ended.killed_by, ended.stdout) == (KilledBy.CANCELLED, "")


@ONLY_BUBBLEWRAP
async def test_more_runs_than_places_wait_for_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    two = identity.Identities(at_once=2)
    monkeypatch.setattr("conductor_ai.tools.sandbox.bubblewrap.backend.shared", lambda: two)
    backend = BubblewrapBackend()
    try:
        ended = await asyncio.gather(*(backend.run(bench.spec(f"print({n})")) for n in range(5)))
    finally:
        await backend.close()
    assert [run.stdout for run in ended] == [f"{n}\n" for n in range(5)]


async def test_who_stops_waiting_for_a_place_takes_none() -> None:
    places = identity.Identities(at_once=1)

    async def wait() -> None:
        async with places.one():
            pass

    async with fail_after(30):
        async with places.one():
            waiting = [asyncio.create_task(wait()) for _ in range(2)]
            await asyncio.sleep(0)
            waiting[0].cancel()
        waiting[1].cancel()  # its turn has come, and it does not know yet
        await asyncio.wait(waiting)
        assert [task.cancelled() for task in waiting] == [True, True]
        await wait()


@ONLY_BUBBLEWRAP
async def test_closing_one_backend_leaves_the_runs_of_another(bench: Bench) -> None:
    other = BubblewrapBackend()
    await other.run(bench.spec("print('on')"))
    async with fail_after(30):
        pid, task = await waiting(bench)
        await other.close()
        os.kill(pid, 0)
        assert not task.done()
        assert (await bench.run("print('on')")).stdout == "on\n"
        await bench.backend.close()
        await task


@ONLY_BUBBLEWRAP
@root_only
async def test_two_backends_of_a_process_have_not_the_same_users(bench: Bench) -> None:
    other = Bench(BubblewrapBackend(), bench.capabilities)
    async with fail_after(30):
        runs = [await waiting(one) for one in (bench, other)]
    users = {user_of(pid) for pid, _ in runs}
    await asyncio.gather(bench.backend.close(), other.backend.close())
    await asyncio.gather(*(task for _, task in runs))
    assert len(users) == 2


@ONLY_BUBBLEWRAP
async def test_without_control_groups_a_watchdog_bounds_all_processes_together(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "find", list)
    async with fail_after(60):
        assert await selftest.memory(bench.backend.run) == []
        assert await selftest.processes(bench.backend.run) == []
        found = await bench.run("b = bytearray(2**30)")
    assert found.killed_by is KilledBy.MEMORY


@ONLY_BUBBLEWRAP
async def test_memory_that_children_share_counts_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "find", list)
    code = "import os, time\nheld = b'x' * (100 << 20)\n" + "os.fork()\n" * 3 + "time.sleep(0.5)\nprint(1, flush=True)"
    async with fail_after(60):
        ended = await bench.run(code)
    assert ended.killed_by is KilledBy.NONE, ended


@ONLY_BUBBLEWRAP
@pytest.mark.parametrize("refused", ["--proc", "--disable-userns"])
async def test_a_bwrap_that_can_do_less_still_runs_code(bench: Bench, programs: Path, refused: str) -> None:
    real = Path("/usr/bin/bwrap")
    program(
        programs,
        "bwrap",
        f'case "$*" in *"{refused}"*) echo "bwrap: no {refused} here" >&2; exit 1;; esac\nexec {real} "$@"',
    )
    ended = await bench.run("import sys\nprint(sys.stdin.read())", stdin="on")
    assert (ended.stdout, ended.exit_code) == ("on\n", 0), ended
    if refused == "--proc":
        javascript = await bench.run("console.log('on')", Language.JAVASCRIPT)
        assert (javascript.stdout, javascript.exit_code) == ("on\n", 0), javascript


@ONLY_BUBBLEWRAP
@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("bwrap: Unknown option --perms", "install bubblewrap 0.6 or newer"),
        ("bwrap: No permissions to create new namespace", "CONDUCTOR_SANDBOX=docker"),
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "CONDUCTOR_SANDBOX=docker"),
    ],
    ids=["old", "no-namespaces", "no-mounts"],
)
async def test_a_bwrap_that_does_not_work_is_told_with_what_it_said(
    bench: Bench, programs: Path, monkeypatch: pytest.MonkeyPatch, said: str, hint: str
) -> None:
    monkeypatch.setattr("conductor_ai.tools.sandbox.bubblewrap.requirements._setting", lambda name: None)
    program(programs, "bwrap", f'echo "{said}" >&2\nexit 1')
    backend = BubblewrapBackend()
    found = await backend.probe()
    ended = await backend.run(bench.spec("print('ran')"))
    await backend.close()
    assert (found.available, found.reasons) == (False, (said,))
    assert found.hint is not None and found.hint.startswith(hint)
    assert (ended.killed_by, ended.detail, ended.stdout) == (KilledBy.INFRA, said, "")


async def test_without_bwrap_the_reason_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    backend = BubblewrapBackend()
    assert backend.missing() == "bubblewrap is not installed: there is no bwrap in PATH"
    found = await backend.probe()
    assert (found.available, found.hint) == (False, "apt-get install bubblewrap")
    ended = await backend.run(RunSpec(Language.PYTHON, "print('ran')", "run"))
    assert (ended.killed_by, ended.stdout) == (KilledBy.INFRA, "")
    await backend.close()


@ONLY_BUBBLEWRAP
async def test_bwrap_that_goes_away_after_the_self_test_is_an_error(bench: Bench, programs: Path) -> None:
    program(programs, "bwrap", 'exec /usr/bin/bwrap "$@"')
    backend = BubblewrapBackend()
    assert (await backend.run(bench.spec("print('ran')"))).stdout == "ran\n"
    (programs / "bwrap").unlink()
    ended = await backend.run(bench.spec("print('ran')"))
    await backend.close()
    assert (ended.killed_by, ended.stdout) == (KilledBy.INFRA, "")
    assert ended.detail is not None and "bwrap" in ended.detail


NORMAL_USER = """
import asyncio, encodings.ascii, os, resource, sys  # what is imported late is out of reach later
from conductor_ai.tools.sandbox import frames
from conductor_ai.tools.sandbox.base import Language, RunSpec
from conductor_ai.tools.sandbox.bubblewrap import BubblewrapBackend
frames.GUEST
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
async def main():
    backend = BubblewrapBackend()
    ended = await backend.run(RunSpec(Language.PYTHON, "import os; print(os.getuid())", "r"))
    print(ended.killed_by.value, ended.detail, ended.stdout)
    bomb = await backend.run(RunSpec(Language.PYTHON, "b = bytearray(1 << 30)", "r"))
    print(bomb.killed_by.value)
    await backend.close()
asyncio.run(main())
"""


@ONLY_BUBBLEWRAP
@root_only
@pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason="the system has no interpreter of its own")
async def test_a_user_that_cannot_reach_the_interpreter_gets_that_of_the_system(bench: Bench) -> None:
    async with fail_after(60):
        server = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            NORMAL_USER,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin"},
        )
        said, _ = await server.communicate()
    lines = said.decode().split()
    assert lines[:3] == ["none", "None", "65534"], said
    assert lines[-1] == "memory"


def shut_environment(folder: Path) -> Path:
    """A virtual environment with one package, where only this user can get at it."""
    folder.chmod(0o700)
    environment = folder / "environment"
    packages = environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "only_here.py").write_text("value = 42\n")
    (environment / "bin").mkdir()
    (environment / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (environment / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    (environment / ".env").write_text("KEY=s3cr3t-value\n")  # as where it was made in a project's own folder
    return environment


@ONLY_BUBBLEWRAP
async def test_an_environment_in_a_folder_that_is_shut_to_others_is_seen(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = shut_environment(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(environment))
    monkeypatch.setattr(sys, "executable", str(environment / "bin" / "python"))
    backend = BubblewrapBackend()
    ended = await backend.run(bench.spec("import only_here\nprint(only_here.value)"))
    await backend.close()
    assert ended.stdout == "42\n", ended


@ONLY_BUBBLEWRAP
async def test_what_lies_beside_an_environment_is_not_seen(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = shut_environment(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(environment))
    monkeypatch.setattr(sys, "executable", str(environment / "bin" / "python"))
    backend = BubblewrapBackend()
    ended = await backend.run(bench.spec("import os, sys\nprint(sys.prefix, *sorted(os.listdir(sys.prefix)))"))
    await backend.close()
    assert ended.stdout == "/opt/env bin lib pyvenv.cfg\n", ended


@ONLY_BUBBLEWRAP
async def test_the_code_is_alone_with_its_own_pipes(bench: Bench) -> None:
    ended = await bench.run(
        "import os\nprint(sorted(map(int, os.listdir('/proc/self/fd')))[:3], len(os.listdir('/proc/self/fd')),"
        " os.listdir('.'), os.getpriority(os.PRIO_PROCESS, 0), open('/proc/self/oom_score_adj').read())"
    )
    assert ended.stdout.split("]")[0] == "[0, 1, 2"
    assert ended.stdout.split() == ["[0,", "1,", "2]", "4", "['.main.py']", "10", "1000"]


@ONLY_BUBBLEWRAP
async def test_a_label_cannot_leave_its_place(bench: Bench) -> None:
    """A run's id becomes part of a folder's name."""
    for run_id in ("../../../escape", "a/b", "x" * 400, "ü\n", ""):
        spec = RunSpec(Language.PYTHON, "print('on')", run_id, limits=RunLimits(wall_s=30))
        assert (await bench.backend.run(spec)).stdout == "on\n"
