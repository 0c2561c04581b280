"""Fetches in a process of its own, whose memory and loop are watched: `python -m tests.tools.web.client '{...}'`.

Given as JSON: `port` of the site that all names lead to, `urls`, fetched all at once, `timeout_s`, and `warm_up`, a URL
fetched before the watch begins. Prints JSON: `answers`, `growth_bytes` (the peak over what the warm-up left) and
`largest_gap_cpu_s` (the most work of this process between two turns of the loop: a busy machine adds nothing to it).
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from conductor_ai.tools.web_fetch import WebFetchTool
from tests.tools.web.sites import PUBLIC, Names, Site, Wires, fetch


async def main(order: dict[str, Any]) -> dict[str, Any]:
    names = Names({f"{name}.example.com": [PUBLIC] for name in ("shop", *map(str, range(200)))})
    tool = WebFetchTool(names, Wires(Site(port=order["port"])), timeout_s=order["timeout_s"], host_interval_s=0)
    await fetch(tool, order["warm_up"])
    before, gaps = _peak_begins_anew(), [0.0]
    heart = asyncio.create_task(_beat(gaps))
    answers = await asyncio.gather(*(tool.run({"url": url}) for url in order["urls"]))
    heart.cancel()
    return {
        "answers": [answer.model_dump() for answer in answers],
        "growth_bytes": _memory("VmHWM") - before,
        "largest_gap_cpu_s": max(gaps),
    }


async def _beat(gaps: list[float]) -> None:
    while True:
        since, worked = time.monotonic(), time.process_time()
        await asyncio.sleep(0.005)
        gaps.append(min(time.monotonic() - since - 0.005, time.process_time() - worked))


def _peak_begins_anew() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1)) * 1024


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
