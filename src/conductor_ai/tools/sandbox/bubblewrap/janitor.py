"""Cleans up after this process where it is killed: the kernel ends its sandboxes, and keeps their empty groups.

One small shell waits for the end of its stdin, which comes when the server is gone, however it went.
"""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

_SCRIPT = """
trap "" INT TERM HUP
read -r _
tries=100
while [ "$tries" -gt 0 ]; do
    tries=$((tries - 1))
    left=
    for group in "$@"; do
        for run in "$group"/*/; do
            [ -d "$run" ] || continue
            while read -r pid; do kill -9 "$pid"; done <"${run}cgroup.procs"
            rmdir "$run"
        done
        rmdir "$group"
        [ ! -d "$group" ] || left=yes
    done
    [ -n "$left" ] || exit 0
    sleep 0.1
done
"""
_END_S = 3.0


class Janitor:
    def __init__(self, groups: list[Path]) -> None:
        """Starts it. Raises: OSError."""
        self._shell = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _SCRIPT, "conductor-janitor", *map(str, groups)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin"},
            start_new_session=True,  # a Ctrl-C is not for it
            cwd="/",
        )

    async def end(self) -> None:
        """Let it do its work now, and wait for it."""
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        try:
            await asyncio.to_thread(self._shell.wait, _END_S)
        except subprocess.TimeoutExpired:
            self._shell.kill()
            await asyncio.to_thread(self._shell.wait)
