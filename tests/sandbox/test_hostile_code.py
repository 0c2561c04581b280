"""The hostile set of every sandbox: what it tries stays shut, what it takes without end is ended and named."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from conductor_ai.tools.sandbox.base import MIB, KilledBy, Language
from tests.sandbox.conftest import Bench
from tests.sandbox.greed import DAEMON, DISK_FILL, FORK_BOMB, GREED, marked
from tests.sandbox.leftovers import no_process_with
from tests.sandbox.payloads import SECRETS, WALLS

PROJECT = Path(__file__).parents[2]
PLANTED = "planted-4f1c9a7e"


@dataclass(slots=True)
class Outside:
    """What is there on the machine for hostile code to reach, and whether anybody reached it."""

    port: int
    abstract: str
    socket_path: Path
    secret_file: Path
    visits: list[str] = field(default_factory=list)

    def known(self, *files: str) -> str:
        """What a payload reads, with these files beside the one of the test."""
        known: dict[str, Any] = {
            "port": self.port,
            "abstract": self.abstract,
            "sockets": [str(self.socket_path), "/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock"],
            "files": [str(self.secret_file), *files],
            "pid": os.getpid(),
        }
        return orjson.dumps(known).decode()


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    """Servers on loopback and on unix sockets, and a file that anybody on the machine may read."""
    secret_file = tmp_path / "secret.txt"
    secret_file.write_text(PLANTED)
    secret_file.chmod(0o644)
    place = Path("/tmp") / f"outside-{secrets.token_hex(4)}"
    abstract = f"outside-{secrets.token_hex(8)}"
    with ExitStack() as opened:
        inet, named, hidden = (opened.enter_context(socket.socket(f)) for f in (socket.AF_INET, *[socket.AF_UNIX] * 2))
        inet.bind(("127.0.0.1", 0))
        named.bind(str(place))
        opened.callback(place.unlink)
        place.chmod(0o777)
        hidden.bind("\0" + abstract)
        found = Outside(inet.getsockname()[1], abstract, place, secret_file)
        threads = [
            threading.Thread(target=_note_visits, args=(s, name, found.visits))
            for s, name in ((inet, "loopback"), (named, "path"), (hidden, "abstract"))
        ]
        for listening, thread in zip((inet, named, hidden), threads, strict=True):
            listening.listen()
            thread.start()
        yield found
        for listening in (inet, named, hidden):
            listening.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def _note_visits(listening: socket.socket, name: str, visits: list[str]) -> None:
    while True:
        try:
            visitor, _ = listening.accept()
        except OSError:
            return  # it was shut down
        visits.append(name)
        visitor.close()


def opened(stdout: str) -> list[str]:
    lines = stdout.splitlines()
    assert lines and lines[-1] == "done", stdout
    assert any(line.startswith("shut ") for line in lines)
    return [line for line in lines if line.startswith("open ")]


@pytest.mark.parametrize("wall", WALLS)
async def test_every_door_is_shut(bench: Bench, language: Language, wall: str, outside: Outside) -> None:
    files = (str(PROJECT / "pyproject.toml"), __file__, "/etc/shadow", "/root/.bashrc")
    known = outside.known(*files)
    ended = await bench.run(WALLS[wall].code(language), language, stdin=known)
    assert (ended.killed_by, ended.exit_code) == (KilledBy.NONE, 0), ended.stderr + ended.stdout
    assert opened(ended.stdout) == []
    assert outside.visits == []
    assert PLANTED not in ended.stdout + ended.stderr


async def test_the_doors_are_doors_where_there_is_no_sandbox(outside: Outside) -> None:
    """A payload that fails for a reason of its own would prove nothing."""
    seen = []
    for wall in ("network", "unix-sockets", "host-files", "other-processes"):
        code = WALLS[wall].python
        command = [sys.executable, "-c", code]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        stdout, _ = await process.communicate(outside.known().encode())
        seen += [line.split()[1] for line in opened(stdout.decode())]
    assert {"loopback", "abstract", str(outside.socket_path), str(outside.secret_file), "signal", "watch"} <= set(seen)
    assert set(outside.visits) == {"loopback", "abstract", "path"}


async def test_a_secret_of_the_server_is_nowhere_inside(
    bench: Bench, language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SECRET_KEY", "OPENAI_API_KEY", "CONDUCTOR_SQL_URL", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, PLANTED)
    ended = await bench.run(SECRETS.code(language), language, output_bytes=MIB)
    assert (ended.killed_by, ended.exit_code, ended.stderr) == (KilledBy.NONE, 0, "done\n")
    assert "PATH" in ended.stdout
    assert PLANTED not in ended.stdout


# Both languages end in the same ways but for memory: of the others JavaScript's come with the slow tests.
GREED_CASES = [
    pytest.param(language, greed, id=f"{language}-{greed}", marks=pytest.mark.slow if slow else ())
    for greed in GREED
    for language in Language
    for slow in [language is Language.JAVASCRIPT and not greed.startswith("memory")]
]


@pytest.mark.parametrize(("language", "greed"), GREED_CASES)
async def test_what_takes_without_end_is_ended_and_named(bench: Bench, language: Language, greed: str) -> None:
    payload, expected = GREED[greed]
    wall_s = 0.3 if expected == {KilledBy.TIME} else 30.0
    ended = await bench.run(payload.code(language), language, wall_s=wall_s)
    assert ended.killed_by in expected, ended
    assert "got" not in ended.stdout
    assert len(ended.stdout) <= 64 * 1024 and len(ended.stderr) <= 64 * 1024
    assert ended.stdout_truncated == (greed == "endless-output")
    assert ended.stderr_truncated == (greed == "endless-errors")


async def test_a_fork_bomb_gets_no_further_than_its_limit(bench: Bench, language: Language) -> None:
    ended = await bench.run(FORK_BOMB.code(language), language, processes=64)
    assert ended.killed_by in (KilledBy.NONE, KilledBy.MEMORY), ended
    if ended.killed_by is KilledBy.NONE:
        assert 10 < int(ended.stdout) <= 64 + 4, ended
    assert (await bench.run("print('well')")).stdout == "well\n"


async def test_no_folder_takes_more_than_its_size(bench: Bench, language: Language) -> None:
    ended = await bench.run(DISK_FILL.code(language), language, work_bytes=16 * MIB, tmp_bytes=8 * MIB)
    assert (ended.killed_by, ended.exit_code) == (KilledBy.NONE, 0), ended
    taken = {folder: int(size) for folder, size in (line.split() for line in ended.stdout.splitlines())}
    assert set(taken) == {".", "/tmp", "/dev/shm"}
    assert 8 * MIB < taken["."] <= 16 * MIB
    assert 4 * MIB < taken["/tmp"] <= 8 * MIB
    assert taken["/dev/shm"] <= 64 * MIB


async def test_a_daemon_ends_with_the_run(bench: Bench, language: Language) -> None:
    mark = f"daemon-{secrets.token_hex(8)}"
    ended = await bench.run(marked(DAEMON, language, mark), language)
    assert (ended.killed_by, ended.exit_code) == (KilledBy.NONE, 0), ended
    assert ended.stdout.startswith("left\n")
    await no_process_with(mark)


async def test_killing_everything_in_sight_ends_only_the_run_itself(bench: Bench) -> None:
    code = """
import os, signal, subprocess
child = subprocess.Popen(['sleep', '1000'])
for n in (signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL):
    os.kill(1, n)
os.kill(-1, signal.SIGKILL)
print(child.wait())
"""
    ended = await bench.run(code)
    assert (ended.stdout, ended.exit_code) == ("-9\n", 0), ended.stderr
    assert (await bench.run("print('well')")).stdout == "well\n"


SIGNALS = """
import os, signal, time
for n in signal.valid_signals():
    os.kill(1, n)
time.sleep(0.1)
print('still here')
"""
LIMITS_OF_PROCESS_1 = """
import os, resource
refused = 0
for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_CPU):
    for ask in (lambda: resource.prlimit(1, kind), lambda: resource.prlimit(1, kind, (0, 0))):
        try:
            ask()
        except PermissionError:
            refused += 1
resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
open('written.txt', 'w').close()
print(refused, resource.getrlimit(resource.RLIMIT_NOFILE))
"""


async def test_no_signal_ends_the_sandbox_from_within(bench: Bench) -> None:
    """Nor does the code inherit what the guest ignores."""
    ended = await bench.run(SIGNALS)
    assert (ended.killed_by, ended.exit_code, ended.stdout) == (KilledBy.NONE, 0, "still here\n"), ended
    interrupted = await bench.run("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint('deaf')")
    assert "KeyboardInterrupt" in interrupted.stderr and "deaf" not in interrupted.stdout
    default = await bench.run("process.kill(process.pid, 'SIGINT'); setTimeout(() => {}, 9000)", Language.JAVASCRIPT)
    assert default.exit_code == -2, default


async def test_the_code_sets_its_own_limits_only(bench: Bench) -> None:
    ended = await bench.run(LIMITS_OF_PROCESS_1)
    assert (ended.killed_by, ended.stdout) == (KilledBy.NONE, "8 (16, 16)\n"), ended
    assert list(ended.files) == ["written.txt"]
