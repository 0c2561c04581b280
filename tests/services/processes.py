"""Starting servers for tests: who they run as, where, and how they come to an end."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.services.keeper import Order

T = TypeVar("T")
HOST = "127.0.0.1"
START_S = 60
_KEEPER = Path(__file__).with_name("keeper.py")
# Nothing of the person who runs the tests reaches a server: `PGPORT` and its kin would change what it does.
_ENVIRONMENT = {"PATH": os.defpath + os.pathsep + "/usr/sbin", "LC_ALL": "C", "TZ": "UTC"}


class ServiceFailed(Exception):
    """A server that a test needs could not be had. The text says why."""


@dataclass(frozen=True, slots=True)
class OrdinaryUser:
    """How to run a program that refuses to run as root: behind `prefix`, as user number `user` where one is given."""

    prefix: tuple[str, ...] = ()
    user: int | None = None

    def run(self, *command: str | Path, timeout_s: float = START_S) -> str:
        """Run a program to its end; answers what it printed. Raises: ServiceFailed with what it complained about."""
        try:
            ended = subprocess.run(
                [*self.prefix, *map(str, command)],
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
                cwd="/",
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise ServiceFailed(f"{Path(command[0]).name} could not be run: {exc}") from exc
        if ended.returncode != 0:
            said = (ended.stderr or ended.stdout).strip()
            raise ServiceFailed(f"{Path(command[0]).name} ended with {ended.returncode}: {said}")
        return ended.stdout

    def owns(self, folder: Path) -> Path:
        """Hand `folder` over to that user."""
        if self.user is not None:
            os.chown(folder, self.user, self.user)
        return folder

    def can_run(self, *command: str | Path) -> bool:
        """Whether that user may run it. A clone in the home of root is closed to everybody else."""
        try:
            self.run(*command)
        except ServiceFailed:
            return False
        return True


def ordinary_user() -> OrdinaryUser:
    """Ourselves, or for root somebody else: in a user namespace (root's own files stay root's), else `nobody`.

    Raises: ServiceFailed where root may do neither.
    """
    if os.geteuid() != 0:
        return OrdinaryUser()
    nobody = pwd.getpwnam("nobody").pw_uid
    inside = 1000 if any(user.pw_uid == 1000 for user in pwd.getpwall()) else nobody  # initdb wants one with a name
    mapped = OrdinaryUser(prefix=("unshare", "--user", f"--map-user={inside}", f"--map-group={inside}"))
    for user in (mapped, OrdinaryUser(user=nobody)):
        if user.can_run("true"):
            return user
    raise ServiceFailed(
        "root may neither make a user namespace here nor become `nobody`: run the tests as another user"
    )


class Kept:
    """A server behind its keeper (`keeper.py`): it ends with this process, or earlier if told so."""

    def __init__(self, folder: Path, lifeline: int) -> None:
        self._alive = Path(f"{folder}.alive")
        self._lifeline = lifeline

    def end(self) -> None:
        """End the server in its own gentle way; returns when it is gone, with its folder."""
        os.close(self._lifeline)
        wait_for_the_end(self._alive)

    def kill(self) -> None:
        """End it as a crash would."""
        os.write(self._lifeline, b"!")
        self.end()


def keep(
    command: Iterable[object], folder: Path, *, ending: signal.Signals, user: OrdinaryUser = OrdinaryUser()
) -> Kept:
    """Start a server for this process alone."""
    theirs, ours = os.pipe()
    try:
        launch(command, folder, ending=ending, user=user, lifeline=theirs)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return Kept(folder, ours)


def launch(
    command: Iterable[object], folder: Path, *, ending: signal.Signals, user: OrdinaryUser, lifeline: int
) -> None:
    """Start a server that lives until nobody writes to `lifeline` any more. `folder` is its own: it goes with it."""
    order: Order = {
        "folder": str(folder),
        "command": [*user.prefix, *map(str, command)],
        "environment": _ENVIRONMENT,
        "user": user.user,
        "ending": ending,
    }
    with Path(f"{folder}.log").open("ab") as log:
        # Without `site`: no coverage is measured in there, and nothing of the environment is loaded.
        subprocess.run(
            [sys.executable, "-I", "-S", _KEEPER, json.dumps(order)],
            stdin=lifeline,
            stdout=log,
            stderr=log,
            timeout=START_S,
            check=True,
        )


def wait_until(ready: Callable[[], bool], folder: Path, what: str) -> None:
    """Wait for a server just started to answer. Raises: ServiceFailed with the end of its log where it never does."""
    deadline = time.monotonic() + START_S
    while not ready():
        over = time.monotonic() > deadline
        if over or _is_over(Path(f"{folder}.alive")):
            log = Path(f"{folder}.log").read_text(errors="replace").splitlines()[-15:]
            raise ServiceFailed("\n".join([f"{what} {'does not answer' if over else 'ended'}:", *log]))
        time.sleep(0.01)


def wait_for_the_end(alive: Path) -> None:
    """Wait until the keeper has let go of its lock. It kills a server that takes too long, so this comes to an end."""
    with alive.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def _is_over(alive: Path) -> bool:
    with alive.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def free_port() -> int:
    """A port of loopback that a server can have, and have again after a restart.

    It is below those that the system hands out to connections on their way out, which would take it in between.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)  # `random` may have been seeded alike in every process
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def on_a_free_port(start: Callable[[int], T]) -> T:
    """What `start` made of a port. Somebody may be faster to take it, so it gets a second and a third one."""
    for _ in range(2):
        with suppress(ServiceFailed):
            return start(free_port())
    return start(free_port())


class RunFolder:
    """What the processes of one test run share: a folder, and a pipe whose writing end only the first of them holds.

    The servers that all of them use read from that pipe, and so end with the run. The first process also holds a lock
    on the file `leader` in it, until it has removed the folder; where it was killed, a keeper removes it.
    """

    def __init__(self, path: Path, held: tuple[int, int] | None) -> None:
        self.path = path
        self._held = held

    @classmethod
    def make(cls) -> RunFolder:
        """In the process that leads the run. It must `close` it."""
        path = Path(tempfile.mkdtemp(prefix="conductor-services-"))
        path.chmod(0o711)  # another user's server finds its own folder in it
        os.mkfifo(path / "lifeline", 0o600)
        lifeline = os.open(path / "lifeline", os.O_RDWR)  # both ends: opening one waits for the other
        leader = os.open(path / "leader", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(leader, fcntl.LOCK_EX)
        return cls(path, (lifeline, leader))

    @classmethod
    def join(cls, path: Path) -> RunFolder:
        """In a process of the run."""
        return cls(path, None)

    @property
    def leads(self) -> bool:
        """Whether it is this process that closes it."""
        return self._held is not None

    @contextmanager
    def lifeline(self) -> Iterator[int]:
        """The end that a server reads from."""
        reading = os.open(self.path / "lifeline", os.O_RDONLY | os.O_NONBLOCK)
        try:
            os.set_blocking(reading, True)
            yield reading
        finally:
            os.close(reading)

    def folder(self, name: str) -> Path:
        """A new empty folder in it, or an emptied one."""
        path = self.path / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
        return path

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Only one process of the run at a time is in here."""
        with (self.path / f"{name}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def once(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `make` returned in the process that came first; JSON. A failure is everybody's, too."""
        said = self.path / f"{name}.json"
        with self.alone(name):
            if not said.exists():
                try:
                    made = {"made": make()}
                except ServiceFailed as exc:
                    made = {"failed": {"reason": str(exc)}}
                said.write_text(json.dumps(made))
        result: dict[str, dict[str, Any]] = json.loads(said.read_text())
        if "failed" in result:
            raise ServiceFailed(result["failed"]["reason"])
        return result["made"]

    def made(self, name: str) -> dict[str, Any] | None:
        """What `once` has made by now."""
        said = self.path / f"{name}.json"
        return json.loads(said.read_text()).get("made") if said.exists() else None

    def close(self) -> None:
        """End the servers that the processes shared, and leave nothing behind."""
        if self._held is None:
            return
        lifeline, leader = self._held
        self._held = None
        os.close(lifeline)
        for alive in self.path.glob("*.alive"):
            wait_for_the_end(alive)
        shutil.rmtree(self.path)
        os.close(leader)
