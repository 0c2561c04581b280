"""What a container of one run is made of. Every wall is written down here, none is left to the engine's defaults."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from typing import Any

from conductor_ai.tools.sandbox import seccomp
from conductor_ai.tools.sandbox.base import RunSpec
from conductor_ai.tools.sandbox.docker.owner import this_process
from conductor_ai.tools.sandbox.frames import BOOTSTRAP

LABEL = "ai.conductor.sandbox"
OWNER, EXPIRES = f"{LABEL}.owner", f"{LABEL}.expires"
GVISOR = "runsc"
NOBODY = "65534:65534"
START_S = 30.0
"""How long the engine may take to make and start a container."""
GRACE_S = 30.0
"""How much longer than all its limits a container may be there, before it counts as forgotten."""
LOST = 75
"""What a container exits with when nobody listens to it any more."""

# The engine closes the container's stdin when the connection to it closes, so a run ends with the server that wanted
# it, also where that was killed with -9. Beyond its time it ends in any case. Both hold for whatever the code does: no
# signal from within its namespace ends process 1.
_LIFELINE = (
    "import _thread,os,select\n"
    "def watch():\n"
    " p=select.poll()\n"
    " p.register(0,0)\n"
    " p.poll({milliseconds})\n"
    f" os._exit({LOST})\n"
    "_thread.start_new_thread(watch,())\n"
)
# Docker's own filter of system calls refuses most of this; Podman's lets code make namespaces, io_uring and keys.
_FILTER = (
    "import base64,ctypes\n"
    "class Program(ctypes.Structure):\n"
    " _fields_=[('length',ctypes.c_ushort),('lines',ctypes.c_char_p)]\n"
    "lines=base64.b64decode('{lines}')\n"
    "prctl=ctypes.CDLL(None).prctl\n"
    "if prctl(38,1,0,0,0) or prctl(22,2,ctypes.byref(Program(len(lines)//8,lines)),0,0):\n"
    " raise SystemExit('the kernel takes no filter of system calls')\n"
)
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
_PINNED = re.compile(r"(?:[^\s@]+@)?sha256:[0-9a-f]{64}")
_SEALED = ("/run", "/var/tmp")  # noqa: S108
"""Podman puts file systems without a limit there, where it is told nothing."""


def is_pinned(image: str) -> bool:
    """Whether these words can only ever name one image: `sha256:...`, which is its id, or `name@sha256:...`."""
    return _PINNED.fullmatch(image) is not None


def container_name(run_id: str) -> str:
    """The same for the same run, so that the engine refuses to run it a second time beside the first."""
    return f"conductor-run-{hashlib.sha256(run_id.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def configuration(spec: RunSpec, *, image_id: str, architecture: str, runtime: str | None) -> dict[str, Any]:
    """The body of the engine's `POST /containers/create`.

    Source: Docker Engine API 1.41, ContainerCreate. Seccomp and AppArmor stay the engine's own: naming none keeps them.
    """
    return {
        "Image": image_id,
        "Entrypoint": ["python3"],
        "Cmd": ["-I", "-S", "-W", "ignore", "-c", _program(spec, architecture)],
        "User": NOBODY,
        "Env": ["LANG=C.UTF-8"],
        "WorkingDir": "/work",
        "Hostname": "sandbox",
        "NetworkDisabled": True,
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGKILL",
        "Tty": False,
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Labels": _labels(spec),
        "HostConfig": _host_configuration(spec, runtime),
    }


def _program(spec: RunSpec, architecture: str) -> str:
    """What process 1 does before it becomes the guest. The code and its input are not in here: they come by stdin."""
    known = seccomp.ARCHITECTURES.get(_ARCHITECTURES.get(architecture, architecture))
    lines = "" if known is None else base64.b64encode(seccomp.program(known)).decode()
    lifeline = _LIFELINE.format(milliseconds=int((spec.limits.wall_s + GRACE_S) * 1000))
    return (_FILTER.format(lines=lines) if lines else "") + lifeline + BOOTSTRAP


def _host_configuration(spec: RunSpec, runtime: str | None) -> dict[str, Any]:
    limits = spec.limits
    configuration: dict[str, Any] = {
        "NetworkMode": "none",
        "IpcMode": "none",  # no /dev/shm, which has no limit of its own
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Privileged": False,
        "ReadonlyRootfs": True,
        "Tmpfs": {
            "/tmp": f"rw,noexec,nosuid,nodev,mode=1777,size={limits.tmp_bytes}",  # noqa: S108
            "/work": f"rw,noexec,nosuid,nodev,mode=1777,size={limits.work_bytes}",
            **dict.fromkeys(_SEALED, "ro,noexec,nosuid,nodev,size=4096"),
        },
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,
        "NanoCpus": 10**9,
        "PidsLimit": limits.processes,
        "Ulimits": [
            _ulimit("core", 0),
            _ulimit("nofile", 256),
            _ulimit("fsize", max(limits.work_bytes, limits.tmp_bytes)),
            _ulimit("msgqueue", 0),
            # It counts all processes of the user on this machine, those of other runs too: `PidsLimit` is the wall.
            _ulimit("nproc", 1024),
        ],
        "Init": False,  # the guest is process 1 and collects what ends
        "AutoRemove": True,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
    }
    if runtime is not None:
        configuration["Runtime"] = runtime
    return configuration


def _ulimit(name: str, value: int) -> dict[str, Any]:
    return {"Name": name, "Soft": value, "Hard": value}


def _labels(spec: RunSpec) -> dict[str, str]:
    expires = time.time() + START_S + spec.limits.wall_s + 2 * GRACE_S
    return {
        LABEL: "run",
        f"{LABEL}.run": spec.run_id,
        f"{LABEL}.org": spec.org_id,
        f"{LABEL}.session": spec.session_id,
        f"{LABEL}.step": str(spec.step_no),
        OWNER: this_process(),
        EXPIRES: str(int(expires)),
    }
