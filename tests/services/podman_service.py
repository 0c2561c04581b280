"""Podman's service and the containers that it makes, ended together: `python -I -S podman_service.py FOLDER`.

Standard library only. The containers of an engine outlive it, so the signal that ends this script ends them too. To be
started in a mount namespace of its own, with which all that it mounts goes away.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
PLANTED = "planted-in-the-engine-2b7f"
"""What the environment of the engine holds and no container may see."""


def main() -> None:
    folder = Path(sys.argv[1])
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "HTTP_PROXY": f"http://{PLANTED}@192.0.2.1:3128",
        "https_proxy": f"http://{PLANTED}@192.0.2.1:3128",
        "PLANTED": PLANTED,
    }
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    service = subprocess.Popen(
        ["podman", "system", "service", "--time", "0", f"unix://{folder / 'socket'}"], env=environment
    )
    signal.signal(signal.SIGTERM, lambda *_: service.terminate())
    service.wait()
    subprocess.run(["podman", "rm", "--all", "--force", "--time", "0"], env=environment, timeout=8, check=False)
    signal.alarm(8)
    with suppress(ChildProcessError):
        while True:  # what watches over a container cleans up after it, on its own
            os.wait()


if __name__ == "__main__":
    main()
