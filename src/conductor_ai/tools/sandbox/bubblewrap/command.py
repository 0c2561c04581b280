"""The command line that builds a sandbox with bwrap and starts the guest in it."""

from __future__ import annotations

import marshal
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from conductor_ai.tools.sandbox import frames
from conductor_ai.tools.sandbox.base import MIB, Language, RunLimits, RunSpec
from conductor_ai.tools.sandbox.bubblewrap.identity import Identity
from conductor_ai.tools.sandbox.bubblewrap.runtime import SEARCH_PATH, Runtime

INNER_UID = 65534
WORK = "/work"
GUEST = 1
"""The process that starts the code and tells of it counts too."""
SHM_BYTES = 16 * MIB
_OPEN_FILES = 256
_SHARED_BYTES = 512 * MIB
"""Beyond its own memory a Python process may map this much of files and of memory shared with others: libraries take
their part of it. V8 sets aside gigabytes that it never touches, so Node.js has no such bound."""
UNGROUPED_PROCESSES = 16
"""Without a control group the bounds of one process hold for each: so there are few, and each can hold less of what no
process is charged with. The libraries of numpy, pandas and matplotlib take 90 MiB."""
_UNGROUPED_OPEN_FILES = 64
_UNGROUPED_SHARED_BYTES = 128 * MIB
_SPARE_CPU_S = 5
_NICENESS = 10  # the server answers first
STUBS: Mapping[str, bytes] = {
    "/etc/passwd": b"nobody:x:65534:65534:nobody:/tmp:/bin/false\n",
    "/etc/group": b"nogroup:x:65534:\n",
    "/etc/hosts": b"127.0.0.1 localhost\n",
    "/etc/fonts/fonts.conf": b"<fontconfig><dir>/usr/share/fonts</dir><cachedir>/tmp/.fonts</cachedir></fontconfig>\n",
}
_SET_LIMITS = """
import os, resource
for name, wanted in {limits!r}.items():
    kind = getattr(resource, "RLIMIT_" + name)
    hard = resource.getrlimit(kind)[1]
    value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (value, value))
os.nice({niceness})
"""
_START_GUEST = """
def take(size):
    taken = b""
    while len(taken) < size:
        piece = os.read(0, size - len(taken))
        if not piece:
            raise SystemExit("the server is gone")
        taken += piece
    return taken
guest = take(int.from_bytes(take(4), "big"))
"""
_AS_SOURCE = "exec(compile(guest, 'guest.py', 'exec'))"
_AS_COMPILED = "import marshal\nexec(marshal.loads(guest))"  # saves its compilation, a fifth of a run's start
_STAGE = """
set -e
mount=$1 folder=$2 count=$3
shift 3
"$mount" -t tmpfs -o size=64k,mode=755,nosuid,nodev tmpfs "$folder"
while [ "$count" -gt 0 ]; do
    if [ -d "$1" ]; then mkdir "$2"; else : >"$2"; fi
    "$mount" --bind "$1" "$2"
    shift 2
    count=$((count - 1))
done
exec "$@"
"""
_STAGES = ("/media", "/srv", "/mnt")


@dataclass(frozen=True, slots=True)
class Features:
    """What this bwrap, on this machine, does beyond what every run needs."""

    proc: bool = True
    disable_userns: bool = True


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What bwrap reads from and writes to, beside its stdin, stdout and stderr."""

    info: int
    seccomp: int
    stubs: Mapping[str, int]

    def all(self) -> tuple[int, ...]:
        return (self.info, self.seccomp, *self.stubs.values())


@dataclass(frozen=True, slots=True)
class Tools:
    """Programs of the machine, by their paths. The last three only root needs, to carry an interpreter over."""

    bwrap: str
    unshare: str | None = None
    mount: str | None = None
    setpriv: str | None = None

    @classmethod
    def find(cls) -> Tools | None:
        bwrap = shutil.which("bwrap")
        if bwrap is None:
            return None
        return cls(bwrap, *(shutil.which(name) for name in ("unshare", "mount", "setpriv")))

    @property
    def can_stage(self) -> bool:
        return None not in (self.unshare, self.mount, self.setpriv)


def limits_of_a_process(
    language: Language, limits: RunLimits, *, count_processes: bool, grouped: bool
) -> dict[str, int]:
    """What one process of a run may use, by the names of `resource`.

    Args:
        count_processes: Whether the number of processes is bounded here: it is counted per user and user namespace,
            which a sandbox has to itself.
        grouped: Whether a control group bounds the run as a whole.
    """
    found = {
        "CORE": 0,
        "CPU": int(limits.wall_s) + _SPARE_CPU_S,
        "DATA": limits.memory_bytes,
        "FSIZE": max(limits.work_bytes, limits.tmp_bytes) + MIB,  # a full disk is told before the signal comes
        "MEMLOCK": 64 * 1024,
        "MSGQUEUE": 0,
        "NOFILE": _OPEN_FILES if grouped else _UNGROUPED_OPEN_FILES,
        "SIGPENDING": 256,
    }
    if language is Language.PYTHON:
        found["AS"] = limits.memory_bytes + (_SHARED_BYTES if grouped else _UNGROUPED_SHARED_BYTES)
    if count_processes:
        found["NPROC"] = (limits.processes if grouped else min(limits.processes, UNGROUPED_PROCESSES)) + GUEST
    return found


def inside(runtime: Runtime, limits: Mapping[str, int]) -> list[str]:
    """What bwrap starts: an interpreter that binds itself and all that it will start, and becomes the guest."""
    program = _SET_LIMITS.format(limits=dict(limits), niceness=_NICENESS)
    program += _START_GUEST + (_AS_COMPILED if runtime.own else _AS_SOURCE)
    return [str(runtime.python), "-I", "-S", "-c", program]


def request(runtime: Runtime, spec: RunSpec) -> bytes:
    """What the guest reads, and itself in front. Raises: InvalidInput as `request_bytes` does."""
    guest = _compiled_guest() if runtime.own else frames.GUEST
    return len(guest).to_bytes(4, "big") + guest + frames.request_bytes(spec)


@cache
def _compiled_guest() -> bytes:
    return marshal.dumps(compile(frames.GUEST, "guest.py", "exec"))


def arguments(
    runtime: Runtime, limits: RunLimits, fds: Descriptors, features: Features, *, outer: Mapping[Path, Path]
) -> list[str]:
    """What bwrap is told, up to the program inside.

    Args:
        outer: Where on the machine something is found that is not reachable by its own path.
    """
    told = ["--unshare-all", "--unshare-user", "--uid", str(INNER_UID), "--gid", str(INNER_UID)]
    told += ["--hostname", "sandbox", "--die-with-parent", "--new-session", "--as-pid-1", "--clearenv"]
    for name, value in {"PATH": SEARCH_PATH, "HOME": "/tmp", "LANG": "C.UTF-8"}.items():  # noqa: S108
        told += ["--setenv", name, value]
    told += ["--dev", "/dev"]
    if features.proc:
        told += ["--proc", "/proc"]
    for folder, size in (("/tmp", limits.tmp_bytes), (WORK, limits.work_bytes), ("/dev/shm", SHM_BYTES)):  # noqa: S108
        told += ["--perms", "0700", "--size", str(size), "--tmpfs", folder]
    told += _binds(runtime, outer)
    for name, fd in fds.stubs.items():
        told += ["--perms", "0444", "--ro-bind-data", str(fd), name]
    # Each of these is a file system of its own, without a size, or the kernel's own: nothing may be written there.
    for folder in ("/dev", *(["/proc"] if features.proc else []), *map(str, runtime.covered), "/"):
        told += ["--remount-ro", folder]
    if features.disable_userns:
        told.append("--disable-userns")
    told += ["--seccomp", str(fds.seccomp), "--info-fd", str(fds.info)]
    return [*told, "--chdir", WORK, "--"]


def _binds(runtime: Runtime, outer: Mapping[Path, Path]) -> list[str]:
    told = []
    for source, inner in runtime.binds.items():
        told += ["--ro-bind", str(outer.get(source, source)), str(inner)]
        for folder in runtime.covered:
            if folder.parent == inner:
                told += ["--perms", "0755", "--size", "4096", "--tmpfs", str(folder)]
    for name, target in runtime.links.items():
        told += ["--symlink", str(target), str(name)]
    return told


def command(
    tools: Tools,
    runtime: Runtime,
    limits: RunLimits,
    fds: Descriptors,
    features: Features,
    identity: Identity,
    inner: list[str],
) -> list[str]:
    """The whole command of one run. Where `staged` is true of it, it has to be started as root and gives that up
    itself; otherwise it is started as the identity."""
    if not staged(runtime, identity):
        return [tools.bwrap, *arguments(runtime, limits, fds, features, outer={}), *inner]
    assert tools.unshare is not None and tools.mount is not None and tools.setpriv is not None  # `Tools.can_stage`
    stage = _stage(runtime)
    outer = {source: stage / str(n) for n, source in enumerate(runtime.unreachable)}
    carried = [str(path) for pair in outer.items() for path in pair]
    return [
        *(tools.unshare, "--mount", "--propagation", "private", "/bin/sh", "-c", _STAGE, "stage"),
        *(tools.mount, str(stage), str(len(outer)), *carried),
        *(tools.setpriv, f"--reuid={identity.uid}", f"--regid={identity.uid}", "--clear-groups", "--inh-caps=-all"),
        *(tools.bwrap, *arguments(runtime, limits, fds, features, outer=outer), *inner),
    ]


def _stage(runtime: Runtime) -> Path:
    """A folder that nothing is taken from, so that it can be hidden behind what is carried over. Raises:
    FileNotFoundError where there is none."""
    folders = [Path(name) for name in _STAGES if Path(name).is_dir() and not Path(name).is_symlink()]
    for folder in folders:
        if not any(source.resolve().is_relative_to(folder) for source in runtime.binds):
            return folder
    raise FileNotFoundError(
        f"the interpreter cannot be carried over: none of {', '.join(_STAGES)} is there to do it in"
    )


def staged(runtime: Runtime, identity: Identity) -> bool:
    """Whether root has to carry something over: in a mount namespace of its own, which ends with the run."""
    return identity.given_up and bool(runtime.unreachable)
