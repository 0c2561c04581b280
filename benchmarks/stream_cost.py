"""What a piece of a streamed answer costs, beside the floor: the same bytes by bare aiohttp, cut and given to orjson.

    python benchmarks/stream_cost.py [--quick]

The model is a loopback server in another process (`stream_cost_server.py`). Each cell runs in a fresh process
(`stream_cost_client.py`), the floor, our adapter and our runner in turns; CPU time is that of the whole client process,
all threads, calls and sessions included, the median of the turns; and what each further piece costs, where the first
ten, and with them the call and the session, are left out. Figures compare within one run only: another machine,
or a busy one, gives others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

CLIENT = Path(__file__).with_name("stream_cost_client.py")
SERVER = Path(__file__).with_name("stream_cost_server.py")
KINDS = ("floor", "adapter", "runner")
WIRES = ("anthropic", "openrouter", "local", "gemini")
TARGET = 2.0
"""Of the pieces that come one by one, to the floor."""


class Load(NamedTuple):
    """`streams` at once, of `pieces` each, which come `every_ms` apart, or all at once; `rounds` times over."""

    streams: int
    pieces: int
    every_ms: int
    rounds: int = 1


LOADS = (Load(1, 1000, 2), Load(50, 250, 20), Load(1, 2000, 0, rounds=5))
QUICK_LOADS = (Load(1, 50, 1), Load(5, 20, 5), Load(1, 200, 0))


class Figures(NamedTuple):
    """CPU microseconds per piece of each kind, all in and of further ones; how many pieces the floor and the runner
    took from one read."""

    cpu_us: dict[str, float]
    further_us: dict[str, float]
    per_read: tuple[float, float]

    def ratio(self, kind: str) -> float:
        return self.cpu_us[kind] / self.cpu_us["floor"]

    def further_ratio(self, kind: str) -> float:
        return self.further_us[kind] / self.further_us["floor"]


@contextmanager
def running_server() -> Iterator[str]:
    """The server's base URL, while it runs in another process."""
    with subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def client(kind: str, wire: str, url: str, home: Path, load: Load) -> dict[str, float]:
    options = {
        "streams": load.streams,
        "pieces": load.pieces,
        "every-ms": load.every_ms,
        "rounds": load.rounds,
        "home": home,
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, str(CLIENT), kind, wire, url, *arguments]
    figures: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return figures


def measured(wire: str, url: str, home: Path, load: Load, turns: int) -> Figures:
    seen = [{kind: client(kind, wire, url, home, load) for kind in KINDS} for _ in range(turns)]
    cpu_us, further_us = (
        {kind: median(turn[kind][name] for turn in seen) for kind in KINDS} for name in ("cpu_us", "further_us")
    )
    floor, runner = (median(turn[kind]["pieces_per_read"] for turn in seen) for kind in ("floor", "runner"))
    return Figures(cpu_us, further_us, (floor, runner))


def print_row(wire: str, load: Load, figures: Figures) -> None:
    floor, adapter, runner = (figures.cpu_us[kind] for kind in KINDS)
    come = f"each after {load.every_ms} ms" if load.every_ms else "all at once"
    print(
        f"| {wire} | {load.streams} | {load.pieces:,} | {come} | {floor:.1f} | {adapter:.1f} "
        f"| {figures.ratio('adapter'):.2f} | {runner:.1f} | {figures.ratio('runner'):.2f} "
        f"| {figures.further_ratio('adapter'):.2f} / {figures.further_ratio('runner'):.2f} "
        f"| {figures.per_read[0]:,.1f} / {figures.per_read[1]:,.1f} |",
        flush=True,
    )


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in cpuinfo if "model name" in line), "unknown CPU")
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {system}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small load, once: shows that all of it runs")
    parser.add_argument("--turns", type=int, default=3, help="how often each cell runs")
    parser.add_argument("--dir", type=Path, default=Path.cwd(), help="where the stores go: a folder on a real disk")
    given = parser.parse_args()
    turns = 1 if given.quick else given.turns
    print(f"{machine()}\n")
    print(
        "| wire | streams | pieces | they come | floor, us CPU/piece | adapter | ratio | runner | ratio "
        "| ratios of further pieces | per read |"
    )
    print("| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    apart: list[Figures] = []
    with running_server() as url, tempfile.TemporaryDirectory(prefix=".stream-cost-", dir=given.dir) as folder:
        for load in QUICK_LOADS if given.quick else LOADS:
            for wire in WIRES:
                figures = measured(wire, url, Path(folder), load, turns)
                print_row(wire, load, figures)
                if load.every_ms:
                    apart.append(figures)
    print()
    for kind in ("adapter", "runner"):
        ratios = [figures.ratio(kind) for figures in apart]
        further = [figures.further_ratio(kind) for figures in apart]
        print(
            f"- pieces that come one by one cost the {kind} {min(ratios):.2f}x to {max(ratios):.2f}x of the floor, "
            f"further ones {min(further):.2f}x to {max(further):.2f}x (target: at most {TARGET:.0f}x)"
        )


if __name__ == "__main__":
    main()
