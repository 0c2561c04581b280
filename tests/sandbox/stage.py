"""A process that runs code in a sandbox, for tests that kill it or change the guest: `python -m tests.sandbox.stage`.

It reads one JSON object from stdin: `backend`, `run_id`, `code` in Python, and, where they differ from the ordinary,
`stdin`, `wall_s` and `guest`, the source to run inside. It prints `begun` before the run, and after it the end as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from conductor_ai.tools.sandbox import backends, frames
from conductor_ai.tools.sandbox.base import Language, RunLimits, RunSpec


async def main(asked: dict[str, Any]) -> None:
    if "guest" in asked:
        frames._guest = lambda: asked["guest"].encode()  # type: ignore[assignment] # noqa: SLF001
    backend = backends()[asked["backend"]]
    limits = RunLimits(wall_s=asked.get("wall_s", 300.0))
    spec = RunSpec(Language.PYTHON, asked["code"], asked["run_id"], stdin=asked.get("stdin", ""), limits=limits)
    print("begun", flush=True)
    ended = await backend.run(spec)
    told = {name: getattr(ended, name) for name in ("killed_by", "stdout", "detail", "started")}
    print(json.dumps(told), flush=True)
    await backend.close()


if __name__ == "__main__":
    asyncio.run(main(json.load(sys.stdin)))
