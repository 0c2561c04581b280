"""`python -m tests.crash.racer FIFO ARGUMENT...`: `conductor ARGUMENT...`, loaded whole, and held until the start.

Says "ready" on standard error, then waits for one byte in FIFO.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from conductor_ai.cli import main

LOADED_ON_USE = ("cli.app", "cli.commands.approvals", "cli.commands.resume", "cli.door", "cli.foreground", "wiring")


def race(fifo: Path, arguments: list[str]) -> int:
    for name in LOADED_ON_USE:
        importlib.import_module(f"conductor_ai.{name}")
    with fifo.open("rb", buffering=0) as start:
        print("ready", file=sys.stderr, flush=True)
        start.read(1)
    return main(arguments)


if __name__ == "__main__":
    sys.exit(race(Path(sys.argv[1]), sys.argv[2:]))
