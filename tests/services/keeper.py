"""Keeps one server, as a process of its own: the server ends when whoever needs it ends, killed or not.

Run as a script, with the standard library only: `python -I -S keeper.py '<JSON of Order>'`. It goes to the background
and reads its standard input. At the end of that (every writer has closed it, or is dead) the server gets its signal,
and is killed where it has not ended after `PATIENCE_S`. A byte on it means: kill at once. Whatever ends the server, its
folder goes with it, while `<folder>.log` stays. All the while the keeper holds a lock on `<folder>.alive`: whoever gets
that lock knows that all is over. What a run leaves that was killed is removed by the last keeper of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TypedDict

PATIENCE_S = 10


class Order(TypedDict):
    """What to run. `user` is a user and group number to become, None to stay who we are."""

    folder: str
    command: list[str]
    environment: dict[str, str]
    user: int | None
    ending: int


def main() -> None:
    order: Order = json.loads(sys.argv[1])
    folder = Path(order["folder"])
    lock = os.open(f"{folder}.alive", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    if os.fork():
        return  # whoever called us goes on; the lock stays with the other one
    os.setsid()  # a Ctrl-C in the terminal is for the run; the end of the run is for us
    server = start(order, folder)
    signal.signal(signal.SIGTERM, lambda *_: server.send_signal(order["ending"]))
    threading.Thread(target=end_with_the_input, args=(server, order["ending"]), daemon=True).start()
    server.wait()
    shutil.rmtree(folder, ignore_errors=True)  # a process of the server that is still ending may hold something back
    if nobody_leads(folder.parent):
        shutil.rmtree(folder.parent, ignore_errors=True)


def nobody_leads(run: Path) -> bool:
    """Whether the process that would remove the folder of the run was killed."""
    try:
        with (run / "leader").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def start(order: Order, folder: Path) -> subprocess.Popen[bytes]:
    with Path(f"{folder}.log").open("ab") as log:
        return subprocess.Popen(
            order["command"],
            cwd=folder,
            env=order["environment"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=order["user"],
            group=order["user"],
            extra_groups=None if order["user"] is None else [],
        )


def end_with_the_input(server: subprocess.Popen[bytes], ending: int) -> None:
    if os.read(0, 1):
        server.kill()
        return
    server.send_signal(ending)
    try:
        server.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    main()
