"""The console script in a process of its own, as people run it; and, for what needs no process, without one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pexpect

from conductor_ai.cli import main

SCRIPT = str(Path(sys.executable).parent / "conductor")


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON value and nothing else."""
        return json.loads(self.out)


class Console:
    """Runs `conductor` in `folder`, an empty one at first, with no variable set but those in `env`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
        }

    def __call__(self, *arguments: str | bytes, stdin: bytes | None = None, **env: str) -> Outcome:
        ended = subprocess.run(
            [SCRIPT, *arguments],
            cwd=self.folder,
            env=self.env | env,
            stdin=subprocess.DEVNULL if stdin is None else None,
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return Outcome(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    def here(self, *arguments: str) -> Outcome:
        """The same in the process of the tests: no start-up to wait for, where nothing but the words matters."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        with (
            mock.patch.dict(os.environ, self.env, clear=True),
            mock.patch.multiple(sys, stdin=None, stdout=out, stderr=err),
            contextlib.chdir(self.folder),
        ):
            code = main(arguments)
        out.seek(0)
        err.seek(0)
        return Outcome(code, out.read(), err.read())

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """A process that goes on running, without a terminal."""
        return subprocess.Popen(
            [SCRIPT, *arguments],
            cwd=self.folder,
            env=self.env,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def on_terminal(self, *arguments: str, **env: str) -> pexpect.spawn[str]:
        """A process whose three streams are a terminal, 200 columns wide."""
        return pexpect.spawn(
            SCRIPT,
            list(arguments),
            cwd=str(self.folder),
            env={**self.env, "TERM": "xterm", **env},
            encoding="utf-8",
            dimensions=(50, 200),
            timeout=30,
        )
