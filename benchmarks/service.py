"""What a run over HTTP costs the server, beside the floor: the same model calls and answers by bare aiohttp.

    python -m benchmarks.service [--quick]

Three processes: the server (`conductor serve`, or `service_floor.py`) alone on one core, the model (`chat_server.py`)
and this load on the others. A run is POST /agents/run and its event stream up to the end: ten tool calls and an answer.
CPU time is that of the server's process, all threads. Figures compare within one run only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import aiohttp

from benchmarks.step_cost import machine, running_server

FLOOR = Path(__file__).with_name("service_floor.py")
PLUGIN = Path(__file__).with_name("service_plugin")
STEPS = 11
AT_ONCE = 32
ORG_STREAMS = 16  # a caller may read 20 at once
TARGET_CPU_MS, TARGET_RUNS_PER_S, TARGET_FIRST_MS = 12, 60, 5


class Server(NamedTuple):
    url: str
    pid: int

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Figures(NamedTuple):
    cpu_ms: float
    runs_per_s: float
    one_cpu_ms: float
    first_ms: float


@contextmanager
def running(kind: str, model_url: str, folder: Path) -> Iterator[Server]:
    """The server of this kind, on the first core; everything else of the benchmark keeps off it."""
    home = folder / "home"
    home.mkdir()
    (home / "models.toml").write_text('[models."local/bench"]\ncontext_window = 1_000_000\n')
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}
    variables = kept | {"CONDUCTOR_HOME": str(home), "LOCAL_LLM_BASE_URL": f"{model_url}/v1"}
    ours = [str(Path(sys.executable).with_name("conductor")), "serve", "--port", "0", "--json"]
    ours += ["--plugins-dir", str(PLUGIN)]
    command = ours if kind == "ours" else [sys.executable, str(FLOOR), model_url]
    cores = sorted(os.sched_getaffinity(0))

    def alone() -> None:
        os.sched_setaffinity(0, cores[:1])

    with subprocess.Popen(
        command,
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=alone,
    ) as process:
        assert process.stdout is not None
        try:
            yield Server(json.loads(process.stdout.readline())["url"], process.pid)
        finally:
            process.terminate()


async def run(http: aiohttp.ClientSession, steps: int, org_no: int = 0) -> float:
    """One run to its end. Returns: seconds until the first thing that the model said."""
    org = {"x-org-id": f"bench-{org_no}"}
    started = time.perf_counter()
    first_s = 0.0
    body = {"model": "local/bench", "tools": ["look_up"], "messages": [{"role": "user", "content": f"steps={steps}"}]}
    async with http.post("/agents/run", json=body, headers=org) as reply:
        if reply.status != 202:
            raise SystemExit(f"POST /agents/run: {reply.status} {await reply.text()}")
        session_id = (await reply.json())["session_id"]
    async with http.get(f"/agents/{session_id}/events", headers=org) as stream:
        if stream.status != 200:
            raise SystemExit(f"GET events: {stream.status} {await stream.text()}")
        async for line in stream.content:
            if not line.startswith(b"event:"):
                continue
            kind = line[6:].strip().decode()
            if not first_s and kind in ("delta", "model.completed"):
                first_s = time.perf_counter() - started
            if kind == "session.completed":
                return first_s
    raise SystemExit("a run ended otherwise than completed")


async def direct(url: str, times: int) -> float:
    """Seconds until the model has answered somebody who asks it directly: the median."""
    body = {"model": "bench", "messages": [{"role": "user", "content": "steps=1"}]}
    seen = []
    async with aiohttp.ClientSession(url) as http:
        for _ in range(times):
            started = time.perf_counter()
            async with http.post("/v1/chat/completions", json=body) as reply:
                await reply.read()
            seen.append(time.perf_counter() - started)
    return median(seen)


async def measured(server: Server, model_url: str, runs: int) -> Figures:
    async with aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(limit=0)) as http:
        await asyncio.gather(
            *(run(http, STEPS, number // ORG_STREAMS) for number in range(AT_ONCE))
        )  # opens connections, fills caches
        left = iter(range(runs))

        async def worker(number: int) -> None:
            for _ in left:
                await run(http, STEPS, number // ORG_STREAMS)

        cpu, wall = server.cpu_s(), time.perf_counter()
        await asyncio.gather(*(worker(number) for number in range(AT_ONCE)))
        cpu, wall = server.cpu_s() - cpu, time.perf_counter() - wall
        alone = max(5, runs // 10)
        one_cpu = server.cpu_s()
        for _ in range(alone):
            await run(http, STEPS)
        one_cpu = server.cpu_s() - one_cpu
        firsts = [await run(http, 1) for _ in range(alone)]
        asked = await direct(model_url, alone)
    return Figures(cpu * 1000 / runs, runs / wall, one_cpu * 1000 / alone, (median(firsts) - asked) * 1000)


def row(name: str, figures: Figures) -> str:
    return (
        f"| {name} | {figures.cpu_ms:.1f} | {figures.runs_per_s:.0f} | {figures.one_cpu_ms:.1f} "
        f"| {figures.first_ms:.1f} |"
    )


def one(kind: str, runs: int, given_dir: Path | None) -> Figures:
    cores = sorted(os.sched_getaffinity(0))
    with (
        running_server() as model_url,
        tempfile.TemporaryDirectory(prefix="service-", dir=given_dir) as folder,
        running(kind, model_url, Path(folder)) as server,
    ):
        os.sched_setaffinity(0, cores[1:] or cores)
        try:
            return asyncio.run(measured(server, model_url, runs))
        finally:
            os.sched_setaffinity(0, cores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="show that all of it runs")
    parser.add_argument("--dir", type=Path, help="folder for the store, on the disk to be measured")
    given = parser.parse_args()
    runs, turns = (40, 1) if given.quick else (400, 3)
    seen: dict[str, list[Figures]] = {"ours": [], "floor": []}
    for _ in range(turns):
        for kind, figures in seen.items():
            figures.append(one(kind, runs, given.dir))
    print(f"{machine()}; {STEPS} steps a run, {AT_ONCE} at once\n")
    print("| server | ms CPU/run | runs/s on one core | ms CPU/run, one at a time | first word over the model's, ms |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for kind, figures in seen.items():
        print(row(kind, Figures(*(median(column) for column in zip(*figures, strict=True)))))
    print(f"| target | {TARGET_CPU_MS} | {TARGET_RUNS_PER_S} |  | {TARGET_FIRST_MS} |")


if __name__ == "__main__":
    main()
