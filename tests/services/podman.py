"""A container engine for the tests: Podman's service, which speaks Docker's API, with a store of images of our own.

No wheel has it. `.ci/run` installs it where it may, and `scripts/sandbox-image` makes the image; on Debian and Ubuntu:
    apt-get install mmdebstrap podman runc && scripts/sandbox-image FOLDER && export CONDUCTOR_TESTS_SANDBOX=FOLDER
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.services.podman_service import PLANTED
from tests.services.processes import OrdinaryUser, RunFolder, ServiceFailed, launch, wait_until

__all__ = ["PLANTED", "ContainerEngine", "outside", "shared"]

STORE = "CONDUCTOR_TESTS_SANDBOX"
_SERVICE = Path(__file__).with_name("podman_service.py")
_PROGRAMS = ("podman", "runc", "conmon")


@dataclass(frozen=True, slots=True)
class ContainerEngine:
    """One that runs. `url` is for `DOCKER_HOST`, `image` for `CONDUCTOR_SANDBOX_IMAGE`."""

    version: str
    url: str
    image: str

    @property
    def name(self) -> str:
        """As people call it in a report."""
        return self.version


def outside(host: str, image: str) -> ContainerEngine:
    """The engine that `$DOCKER_HOST` names, with the image that `$CONDUCTOR_SANDBOX_IMAGE` names."""
    return ContainerEngine("container engine ($DOCKER_HOST)", host, image)


def shared(run: RunFolder, store: str) -> ContainerEngine:
    """The engine of this run, started or looked up by whichever process needs it first. Raises: ServiceFailed.

    Args:
        store: The folder that `scripts/sandbox-image` filled; empty where there is none.
    """

    def make() -> dict[str, Any]:
        return asdict(_start(run, _image_of(store), Path(store, "images")))

    return ContainerEngine(**run.once("podman", make))


def _image_of(store: str) -> str:
    missing = [name for name in _PROGRAMS if not shutil.which(name, path=os.defpath + os.pathsep + "/usr/sbin")]
    if missing:
        raise ServiceFailed(f"{', '.join(missing)}: not installed (on Debian and Ubuntu: apt-get install podman runc)")
    if os.getuid() != 0:
        raise ServiceFailed("Podman needs root here, as it is not set up for other users")
    if not store:
        raise ServiceFailed(f"there is no image for it (scripts/sandbox-image FOLDER makes one, {STORE} names it)")
    try:
        return Path(store, "image").read_text(encoding="ascii").strip()
    except OSError as exc:
        raise ServiceFailed(f"{STORE} names no folder that scripts/sandbox-image has filled ({exc.strerror})") from exc


def _start(run: RunFolder, image: str, images: Path) -> ContainerEngine:
    folder = run.folder("podman")
    for name in ("run", "tmp"):
        folder.joinpath(name).mkdir()
    folder.joinpath("containers.conf").write_text(_containers_conf(folder))
    folder.joinpath("storage.conf").write_text(_storage_conf(folder, images))
    command = [sys.executable, "-I", "-S", _SERVICE, folder]
    mounts_of_its_own = OrdinaryUser(prefix=("unshare", "--mount"))
    with run.lifeline() as lifeline:
        launch(command, folder, ending=signal.SIGTERM, user=mounts_of_its_own, lifeline=lifeline)
    path = folder / "socket"
    wait_until(lambda: _ask(path, "/_ping") is not None, folder, "Podman")
    version = json.loads(_ask(path, "/version") or "{}").get("Version", "of unknown version")
    if _ask(path, f"/images/{image}/json") is None:
        raise ServiceFailed(f"Podman does not see the image in {images}")
    return ContainerEngine(f"Podman {version} (Docker's API)", f"unix://{path}", image)


def _containers_conf(folder: Path) -> str:
    """Its own folders, so that no other Podman of this machine is met. The limits are spelled out, as without the right
    to raise them (CAP_SYS_RESOURCE) none would start."""
    return f"""[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"

[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{folder}/tmp"
"""


def _storage_conf(folder: Path, images: Path) -> str:
    return f"""[storage]
driver = "overlay"
graphroot = "{folder}/store"
runroot = "{folder}/run"

[storage.options]
additionalimagestores = ["{images}"]
"""


class _Connection(http.client.HTTPConnection):
    """HTTP by way of a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _ask(path: Path, what: str) -> bytes | None:
    """The engine's answer; None where there is none, or another one than 200."""
    connection = _Connection(path)
    try:
        connection.request("GET", what)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return body if answer.status == http.client.OK else None
