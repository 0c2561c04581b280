"""What a durable step costs, beside the floor: the same model calls with the same bodies by bare aiohttp and orjson.

    python benchmarks/step_cost.py [--quick]

The model is a loopback server in another process that answers at once (`chat_server.py`). Each cell runs in a fresh
process (`step_cost_client.py`), ours and the floor in turns; CPU time is that of the whole client process, all threads,
the median of the turns. Figures compare within one run only: another machine, or a busy one, gives others.
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

CLIENT = Path(__file__).with_name("step_cost_client.py")
SERVER = Path(__file__).with_name("chat_server.py")


class Load(NamedTuple):
    sessions: int
    steps: int
    rounds: int
    tools: int = 1


LOADS = (
    Load(1, 10, 40),
    Load(100, 10, 4),
    Load(1000, 10, 1),
    Load(1, 50, 8),
    Load(100, 50, 1),
    Load(1, 200, 3),
    Load(100, 200, 1),
)
MANY_TOOLS = Load(100, 10, 4, tools=100)
QUICK_LOADS = (Load(1, 10, 2), Load(10, 10, 1), Load(1, 50, 1))
QUICK_MANY_TOOLS = Load(10, 10, 1, tools=100)
TARGETS = {(100, 10): 0.35, (100, 50): 0.35, (100, 200): 0.35, (1, 10): 0.9, (1, 50): 0.9, (1, 200): 0.9}


class Figures(NamedTuple):
    """CPU milliseconds per step, and bodies in kB per call, of both."""

    ours_ms: float
    floor_ms: float
    ours_kb: float
    floor_kb: float
    steps_per_s: float


@contextmanager
def running_server() -> Iterator[str]:
    """The chat server's base URL, while it runs in another process."""
    with subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def client(measure: str, kind: str, url: str, home: Path, load: Load) -> dict[str, float]:
    options = {"sessions": load.sessions, "steps": load.steps, "rounds": load.rounds, "tools": load.tools, "home": home}
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, str(CLIENT), measure, kind, url, *arguments]
    figures: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return figures


def measured(url: str, home: Path, load: Load, turns: int) -> Figures:
    seen = [(client("cost", "ours", url, home, load), client("cost", "floor", url, home, load)) for _ in range(turns)]
    return Figures(
        ours_ms=median(ours["cpu_ms"] for ours, _ in seen),
        floor_ms=median(floor["cpu_ms"] for _, floor in seen),
        ours_kb=seen[0][0]["body_kb"],
        floor_kb=seen[0][1]["body_kb"],
        steps_per_s=median(ours["steps_per_s"] for ours, _ in seen),
    )


def print_costs(url: str, home: Path, loads: tuple[Load, ...], turns: int) -> dict[tuple[int, int], Figures]:
    print("| sessions | steps | tools | ours, ms CPU/step | floor, ms CPU/step | ratio | target | steps/s | kB/call |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    all_figures = {}
    for load in loads:
        figures = all_figures[load.sessions, load.steps] = measured(url, home, load, turns)
        print_row(load, figures)
    return all_figures


def print_row(load: Load, figures: Figures) -> None:
    target = TARGETS.get((load.sessions, load.steps)) if load.tools == 1 else None
    print(
        f"| {load.sessions:,} | {load.steps} | {load.tools} | {figures.ours_ms:.3f} | {figures.floor_ms:.3f} "
        f"| {figures.ours_ms / figures.floor_ms:.2f} | {target or ''} | {figures.steps_per_s:,.0f} "
        f"| {figures.ours_kb:.1f} / {figures.floor_kb:.1f} |",
        flush=True,
    )


def growth(figures: dict[tuple[int, int], Figures], sessions: int) -> str | None:
    """How the cost of late steps compares with that of early ones."""
    lengths = sorted(steps for count, steps in figures if count == sessions)
    if len(lengths) < 2:
        return None
    short, long = lengths[0], lengths[-1]
    before = lengths[-2]
    late_ms = figures[sessions, long].ours_ms * long - figures[sessions, before].ours_ms * before
    late_ms /= long - before
    early_ms = figures[sessions, short].ours_ms
    whole = figures[sessions, long].ours_ms / early_ms
    return (
        f"- {sessions} session(s): sessions of {long} steps cost {whole:.2f}x per step of those of {short}; "
        f"steps {before + 1} to {long} alone {late_ms:.3f} ms each, {late_ms / early_ms:.2f}x (target: at most 1.5x)"
    )


def machine() -> str:
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor() or "unknown CPU",
    )
    load = os.getloadavg()[0]
    return (
        f"{cpu}, {os.cpu_count()} cores, load {load:.1f}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small load, once: shows that all of it runs")
    parser.add_argument("--turns", type=int, default=3, help="how often each cell runs")
    parser.add_argument("--dir", type=Path, default=Path.cwd(), help="where the stores go: a folder on a real disk")
    given = parser.parse_args()
    turns = 1 if given.quick else given.turns
    many = QUICK_MANY_TOOLS if given.quick else MANY_TOOLS
    held = Load(20 if given.quick else 1000, 10, 1)
    print(f"{machine()}\n")
    with running_server() as url, tempfile.TemporaryDirectory(prefix=".step-cost-", dir=given.dir) as folder:
        home = Path(folder)
        figures = print_costs(url, home, QUICK_LOADS if given.quick else LOADS, turns)
        many_figures = measured(url, home, many, turns)
        print_row(many, many_figures)
        print()
        for line in (growth(figures, 1), growth(figures, 100)):
            if line is not None:
                print(line)
        one = figures[many.sessions, many.steps]
        print(
            f"- 100 tools against one: {many_figures.ours_ms / one.ours_ms:.2f}x "
            f"(target: at most 1.2x; the floor's: {many_figures.floor_ms / one.floor_ms:.2f}x)"
        )
        ours, floor = (client("memory", kind, url, home, held)["kb_per_session"] for kind in ("ours", "floor"))
        print(
            f"- resident memory per running session, {held.sessions:,} of them before step {held.steps}: {ours:.0f} kB "
            f"(target: at most 80 kB; the floor's: {floor:.0f} kB)"
        )


if __name__ == "__main__":
    main()
