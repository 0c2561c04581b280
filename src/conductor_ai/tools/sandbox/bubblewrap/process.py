"""One bwrap, from its start to the certainty that nothing of it is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from conductor_ai.tools.sandbox import seccomp
from conductor_ai.tools.sandbox.base import RunLimits
from conductor_ai.tools.sandbox.bubblewrap import descriptors
from conductor_ai.tools.sandbox.bubblewrap.command import STUBS, Descriptors, Features, Tools, command, staged
from conductor_ai.tools.sandbox.bubblewrap.identity import Identity
from conductor_ai.tools.sandbox.bubblewrap.runtime import Runtime
from conductor_ai.tools.sandbox.bubblewrap.watchdog import descendants

_MOST_NOISE = 4096
_SETUP_S = 10.0
_BWRAP_END_S = 0.5
_GONE_S = 5.0


class StartFailed(Exception):
    """bwrap did not come to the point where the program inside begins. The text is its own."""


class Process:
    """Made by `start`. What is inside waits for its stdin, so nothing of the code is there before `feed`. `ended` comes
    last and closes everything."""

    def __init__(self, bwrap: subprocess.Popen[bytes], opened: descriptors.Opened, fds: dict[str, int]) -> None:
        self._bwrap = bwrap
        self._opened = opened
        self._fds = fds
        self._bwrap_fd = opened.keep(os.pidfd_open(bwrap.pid))
        self._child_fd: int | None = None
        self._noise = bytearray()
        self._listening = asyncio.create_task(self._listen_to_noise())
        self._killed = False
        self.cpu_s = 0.0
        self.exit_status = 0

    @classmethod
    def start(
        cls,
        tools: Tools,
        runtime: Runtime,
        limits: RunLimits,
        features: Features,
        identity: Identity,
        inner: list[str],
    ) -> Process:
        """Raises: OSError."""
        opened = descriptors.Opened()
        try:
            outside, inside, told = _pipes(opened)
            drop = {} if staged(runtime, identity) else identity.popen()
            bwrap = subprocess.Popen(  # noqa: S603
                command(tools, runtime, limits, told, features, identity, inner),
                stdin=inside["stdin"],
                stdout=inside["stdout"],
                stderr=inside["stderr"],
                pass_fds=told.all(),
                env={},  # process 1 of the sandbox can be asked for the environment that bwrap began with
                cwd="/",
                start_new_session=True,  # a Ctrl-C is not for it
                umask=0o077,
                **drop,
            )
            opened.close(*inside.values(), *told.all())
            return cls(bwrap, opened, outside)
        except BaseException:
            opened.close()
            raise

    async def child(self) -> int:
        """Wait until the sandbox is being made. Returns: its process 1, by its pid out here. Raises: StartFailed."""
        text = b""
        try:
            async with asyncio.timeout(_SETUP_S):
                async for piece in descriptors.read(self._fds["info"]):
                    text += piece
                    if b"}" in text:
                        break
        except TimeoutError as exc:
            raise StartFailed(f"bwrap did not start a process within {_SETUP_S:g} s") from exc
        if b"}" not in text:
            await self._listening
            raise StartFailed(self.noise or "bwrap ended before it started a process")
        pid = int(json.loads(text)["child-pid"])
        try:
            self._child_fd = self._opened.keep(os.pidfd_open(pid))
            if self._killed:
                self.kill()
            if _uid(pid) == 0:
                raise StartFailed("the sandbox would run as root")
            _die_first(pid)
        except (ProcessLookupError, FileNotFoundError) as exc:
            await self._listening
            raise StartFailed(self.noise or "the sandbox ended before the program inside began") from exc
        return pid

    async def feed(self, content: bytes) -> None:
        """Write its stdin, and end it."""
        await descriptors.write_all(self._opened.release(self._fds["stdin"]), content)

    async def listen(self, take: Callable[[bytes], bool]) -> None:
        """Hand over its stdout up to the end, or until it is killed because `take` says True."""
        async for piece in descriptors.read(self._fds["stdout"]):
            if take(piece):
                self.kill()
                return

    def kill(self) -> None:
        """With process 1 the kernel ends everything else of its namespace. Where it is not known yet, that happens once
        `child` knows it: bwrap alone may not be killed, as its child would wait for it for ever."""
        self._killed = True
        if self._child_fd is not None:
            _kill(self._child_fd)

    async def ended(self) -> None:
        """Wait until nothing of it is left, which `kill` brings about. Raises: TimeoutError where something stays."""
        try:
            await self._until_gone()
        finally:
            self._listening.cancel()
            self._opened.close()

    async def _until_gone(self) -> None:
        async with asyncio.timeout(_GONE_S):
            if self._killed:
                # bwrap ends by itself, once it has collected its child. Killed before that, it would leave a zombie to
                # this process where this one is the first of its container. The rest is for one that hangs.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_BWRAP_END_S):
                        await descriptors.until_readable(self._bwrap_fd)
                for pid in reversed(descendants(self._bwrap.pid)):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            await descriptors.until_readable(self._bwrap_fd)
            self._collect()
            if self._child_fd is not None:
                await descriptors.until_readable(self._child_fd)
            await self._listening

    def _collect(self) -> None:
        _, status, used = os.wait4(self._bwrap.pid, 0)
        self._bwrap.returncode = self.exit_status = os.waitstatus_to_exitcode(status)
        self.cpu_s = used.ru_utime + used.ru_stime

    @property
    def noise(self) -> str:
        """The first line that bwrap, or what starts the guest, wrote to stderr."""
        lines = self._noise.decode("utf-8", "replace").splitlines()
        return lines[0] if lines else ""

    async def _listen_to_noise(self) -> None:
        async for piece in descriptors.read(self._fds["stderr"]):
            self._noise += piece[: _MOST_NOISE - len(self._noise)]


def _uid(pid: int) -> int:
    """Whose process it is on this machine; where bwrap is setuid it has root's rights too until the walls are up."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Uid:"))


def _die_first(pid: int) -> None:
    """Where the machine itself runs out of memory, this process, and what it will start, is what it ends first."""
    Path(f"/proc/{pid}/oom_score_adj").write_text("1000", encoding="ascii")


def _kill(pidfd: int) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _pipes(opened: descriptors.Opened) -> tuple[dict[str, int], dict[str, int], Descriptors]:
    """Returns: our ends, which do not block; the ends for stdin, stdout and stderr; what bwrap is told by number."""
    outside, inside = {}, {}
    inside["stdin"], outside["stdin"] = opened.pipe()
    outside["stdout"], inside["stdout"] = opened.pipe()
    outside["stderr"], inside["stderr"] = opened.pipe()
    outside["info"], info = opened.pipe()
    for fd in outside.values():
        os.set_blocking(fd, False)
    architecture = seccomp.machine()
    assert architecture is not None  # `BubblewrapBackend.missing`
    filtered = opened.keep(descriptors.holding(seccomp.program(architecture)))
    stubs = {name: opened.keep(descriptors.holding(content)) for name, content in STUBS.items()}
    return outside, inside, Descriptors(info, filtered, stubs)
