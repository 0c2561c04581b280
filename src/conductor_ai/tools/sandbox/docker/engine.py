"""The container engine: where it is, how its failures read, and what it says of itself."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conductor_ai.tools.sandbox.docker.container import is_pinned

if TYPE_CHECKING:
    import aiodocker

ANSWER_S = 10.0
GONE = 404
_UNIX = "unix://"
_NOT_REACHED = 900  # aiodocker's own status
_SECCOMP = "name=seccomp"


class EngineFailed(Exception):
    """The engine did not do what a run needs; the text says what, in one line. Never leaves this package."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One that can take containers. `warnings` are for its operator; `listed` are the runtimes it says it has."""

    url: str
    image_id: str
    architecture: str
    kernel: str
    listed: frozenset[str]
    warnings: tuple[str, ...]


def find() -> str | None:
    """Where the engine listens: `DOCKER_HOST`, or the first of the usual sockets that is there."""
    if named := os.environ.get("DOCKER_HOST", "").strip():
        return named
    return next((f"{_UNIX}{path}" for path in _usual_sockets() if _is_socket(path)), None)


def _usual_sockets() -> Iterator[Path]:
    if own := os.environ.get("XDG_RUNTIME_DIR"):  # those without root first
        yield Path(own, "docker.sock")
        yield Path(own, "podman", "podman.sock")
    yield from (Path("/run/docker.sock"), Path("/var/run/docker.sock"), Path("/run/podman/podman.sock"))
    if home := os.environ.get("HOME"):
        yield Path(home, ".docker", "run", "docker.sock")


def _is_socket(path: Path) -> bool:
    try:
        return path.is_socket()
    except OSError:  # it lies in a folder that is not for us to look into
        return False


def unreachable() -> str | None:
    """Why no engine can be used, as far as a moment shows; None where nothing speaks against it."""
    if find_spec("aiodocker") is None:
        return "aiodocker is not installed: pip install 'conductor-ai[docker]'"
    url = find()
    if url is None:
        return "no container engine listens here, and DOCKER_HOST names none"
    if not url.startswith((_UNIX, "tcp://", "http://", "https://")):
        return "DOCKER_HOST is not an address such as unix:///run/docker.sock"
    return _unreachable_socket(url.removeprefix(_UNIX)) if url.startswith(_UNIX) else None


def _unreachable_socket(path: str) -> str | None:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(path)
        except PermissionError:
            return f"{path} may not be used: this user is not one whom the engine serves"
        except OSError as exc:
            return f"no container engine listens at {path} ({exc.strerror or exc})"
    return None


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[aiodocker.Docker]:
    """A client of the engine. Raises: EngineFailed, for every failure of the engine in its body."""
    import aiodocker

    with _failures():
        async with aiodocker.Docker(url=url) as docker:
            yield docker


@contextmanager
def _failures() -> Iterator[None]:
    import aiohttp
    from aiodocker import DockerError

    try:
        yield
    except DockerError as exc:
        raise EngineFailed(_in_one_line(exc.message if exc.status == _NOT_REACHED else f"the engine: {exc}")) from exc
    except TimeoutError as exc:
        raise EngineFailed("the engine does not answer") from exc
    except (aiohttp.ClientError, OSError, ValueError, LookupError) as exc:  # the last two: an answer of another kind
        raise EngineFailed(_in_one_line(f"the engine cannot be reached: {exc}")) from exc
    except AssertionError as exc:  # aiodocker takes for granted that its connection is still there
        raise EngineFailed("the engine closed the connection") from exc


def _in_one_line(text: str) -> str:
    return " ".join(text.split())[:500]


async def look(url: str, image: str) -> Engine:
    """Ask the engine what it is. Raises: EngineFailed with what keeps it from taking a run."""
    from aiodocker import DockerError

    async with connected(url) as docker, asyncio.timeout(ANSWER_S):
        version, info = await docker.version(), await docker.system.info()
        try:
            found = await docker.images.inspect(image)
        except DockerError as exc:
            if exc.status != GONE:
                raise
            raise EngineFailed(f"the image {image} is not there, and none is fetched for a run") from exc
    image_id = f"sha256:{str(found.get('Id')).removeprefix('sha256:')}"
    if lacking := _lacking(info) or _unfit(found):
        raise EngineFailed(lacking)
    if not is_pinned(image_id):
        raise EngineFailed("the engine does not tell the id of the image")
    return Engine(
        url=url,
        image_id=image_id,
        architecture=str(info.get("Architecture", "")),
        kernel=str(info.get("KernelVersion", "")),
        listed=frozenset(info.get("Runtimes") or ()),
        warnings=(*_dangers(url, info), *old_runtimes(version)),
    )


def _lacking(info: Mapping[str, Any]) -> str | None:
    """A wall that this engine does not have."""
    if info.get("OSType") != "linux":
        return f"the engine runs {info.get('OSType') or 'unknown'} containers; Linux ones are needed"
    if not info.get("MemoryLimit") or not info.get("PidsLimit"):
        return "the engine cannot limit memory and processes: it needs cgroup version 2, or to run as root"
    seccomp = [option for option in info.get("SecurityOptions") or () if option.startswith(_SECCOMP)]
    if not seccomp or any("unconfined" in option for option in seccomp):
        return "the engine filters no system calls: it needs its default seccomp profile"
    return None


def _unfit(image: Mapping[str, Any]) -> str | None:
    if (image.get("Config") or {}).get("Volumes"):
        return "the image declares volumes, and a volume is a disk without a limit"
    return None


def _dangers(url: str, info: Mapping[str, Any]) -> Iterator[str]:
    if url.startswith(("tcp://", "http://")) and os.environ.get("DOCKER_TLS_VERIFY") != "1":
        yield "DOCKER_HOST is reached without TLS: whoever reaches it too is root on the engine's machine"
    if not info.get("Rootless") and "name=rootless" not in (info.get("SecurityOptions") or ()):
        yield "whoever may use the engine's socket is root on its machine: prefer a rootless engine, or another machine"


def old_runtimes(version: Mapping[str, Any]) -> Iterator[str]:
    """A warning where runc is older than the releases that closed the escapes of November 2025.

    A distribution may have mended an older version under its old number, which nobody can tell from here.
    Source: CVE-2025-31133, CVE-2025-52565, CVE-2025-52881; mended in runc 1.2.8, 1.3.3 and 1.4.0-rc.3.
    """
    for component in version.get("Components") or ():
        named = re.search(r"(\d+)\.(\d+)\.(\d+)(?:-rc\.(\d+))?", str(component.get("Version", "")))
        if "runc" not in str(component.get("Name", "")) or named is None:
            continue
        major, minor, patch = (int(part) for part in named.groups()[:3])
        candidate = int(named[4]) if named[4] else 1000
        if (major, minor, patch, candidate) < _MENDED.get((major, minor), (1, 4, 0, 3)):
            yield (
                f"runc {named[0]} may let code out (CVE-2025-31133, CVE-2025-52565, CVE-2025-52881): "
                "1.2.8, 1.3.3 and 1.4.0 do not, nor do versions that a distribution has mended"
            )


_MENDED = {(1, 2): (1, 2, 8, 0), (1, 3): (1, 3, 3, 0)}


def filters(**wanted: str) -> str:
    """The engine's way to select: each name must have the value."""
    return json.dumps({name: [value] for name, value in wanted.items()})
