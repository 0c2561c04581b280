"""One cell of `step_cost.py`: runs sessions in this process against a chat server, prints one JSON object.

`ours` drives `AgentRunner` over a durable store; `floor` makes the same calls with the same bodies by bare aiohttp and
orjson, and stores nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson

INSTRUCTIONS = "You look up dealers, one after another, until you have seen them all."
TOOL = "look_up"
PARAMETERS = {
    "type": "object",
    "properties": {"key": {"type": "string", "description": "Which dealer to look up."}},
    "required": ["key"],
    "additionalProperties": False,
}

Session = Callable[[str], Awaitable[None]]
"""Runs one session from its first user message to its final answer."""


class Cell(NamedTuple):
    """`sessions` concurrent sessions of `steps` steps each, `rounds` times over."""

    kind: str
    url: str
    sessions: int
    steps: int
    rounds: int
    tools: int
    home: Path


def tool_names(count: int) -> list[str]:
    return [TOOL, *(f"other_tool_{number}" for number in range(1, count))]


def looked_up(key: str) -> dict[str, Any]:
    return {"key": key, "city": "Springfield", "phone": "+1 555 0100", "open_slots": 3}


def exact(data: bytes) -> bytes:
    """A copy without the spare room of orjson's buffers."""
    return bytes(memoryview(data))


@asynccontextmanager
async def ours(cell: Cell) -> AsyncIterator[Session]:
    os.environ["CONDUCTOR_HOME"] = str(cell.home)
    os.environ["LOCAL_LLM_BASE_URL"] = f"{cell.url}/v1"
    # What a step costs is measured here, not what a small window makes of a long session.
    (cell.home / "models.toml").write_text('[models."local/bench"]\ncontext_window = 100_000_000\n')
    from conductor_ai.agents.runner import AgentRunner
    from conductor_ai.sdk import BaseTool, ToolCategory, ToolDefinition, ToolResult
    from conductor_ai.tools.registry import ToolRegistry

    class LookUp(BaseTool):
        def __init__(self, name: str) -> None:
            self._name = name

        @property
        def definition(self) -> ToolDefinition:
            return ToolDefinition(
                name=self._name,
                description="Look up one dealer.",
                category=ToolCategory.DATA,
                parameters=PARAMETERS,
                effect="read",
            )

        async def run(self, arguments: dict[str, Any]) -> ToolResult:
            return ToolResult(tool_name=self._name, success=True, result=looked_up(arguments["key"]))

    registry = ToolRegistry()
    names = tool_names(cell.tools)
    for name in names:
        registry.register(LookUp(name))
    limits = {"max_steps": 1000, "deadline_s": 3600.0}
    runner = AgentRunner("local/bench", names, registry=registry, instructions=INSTRUCTIONS, limits=limits)

    async def session(message: str) -> None:
        ended = await runner.run(messages=[{"role": "user", "content": message}], org_id="bench")
        if ended.status != "completed":
            raise SystemExit(f"a session ended {ended.status}: {ended.error}")

    try:
        yield session
    finally:
        await runner.close()


@asynccontextmanager
async def floor(cell: Cell) -> AsyncIterator[Session]:
    from conductor_ai.agents.read_result import READ_RESULT

    looking_up = [(name, "Look up one dealer.", PARAMETERS) for name in tool_names(cell.tools)]
    always = READ_RESULT.definition  # the tool that every session of ours has beside its own
    tools = [
        {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}
        for name, description, parameters in (*looking_up, (always.name, always.description, always.parameters))
    ]
    head = orjson.dumps({"model": "bench", "max_tokens": 8192, "tools": tools})[:-1] + b',"messages":['
    first = orjson.dumps({"role": "system", "content": INSTRUCTIONS})
    url = f"{cell.url}/v1/chat/completions"
    headers = {"content-type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:

        async def session(message: str) -> None:
            turns = [first, orjson.dumps({"role": "user", "content": message})]
            while True:
                async with http.post(url, data=head + b",".join(turns) + b"]}", headers=headers) as reply:
                    answer = orjson.loads(await reply.read())["choices"][0]["message"]
                turns.append(exact(orjson.dumps(answer)))
                calls = answer.get("tool_calls")
                if not calls:
                    return
                for call in calls:
                    result = looked_up(orjson.loads(call["function"]["arguments"])["key"])
                    content = orjson.dumps(result).decode()
                    turn = {"role": "tool", "tool_call_id": call["id"], "content": content}
                    turns.append(exact(orjson.dumps(turn)))

        yield session


async def cost(cell: Cell) -> dict[str, float]:
    """CPU time of this process, all threads, and wall time, per step; and what the server saw."""
    async with (ours if cell.kind == "ours" else floor)(cell) as session, aiohttp.ClientSession() as control:
        await session("steps=5")
        await _together(session, cell.sessions, "steps=2")  # opens the connections
        await _get(control, f"{cell.url}/stats")
        gc.collect()
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(cell.rounds):
            await _together(session, cell.sessions, f"steps={cell.steps}")
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        seen = await _get(control, f"{cell.url}/stats")
    steps = cell.rounds * cell.sessions * cell.steps
    if seen["calls"] != steps:
        raise SystemExit(f"the server saw {seen['calls']} calls instead of {steps}")
    return {
        "steps": steps,
        "cpu_ms": cpu * 1000 / steps,
        "steps_per_s": steps / wall,
        "body_kb": seen["body_bytes"] / steps / 1000,
    }


async def memory(cell: Cell) -> dict[str, float]:
    """Resident memory per session while all of them wait for the model's last answer."""
    async with (ours if cell.kind == "ours" else floor)(cell) as session, aiohttp.ClientSession() as control:
        # One session first: code and caches are there before the count begins. Everything else that 1,000 sessions need
        # counts, their connections too.
        await session("steps=5")
        gc.collect()
        before = _resident_kb()
        running = asyncio.gather(*(session(f"steps={cell.steps} hold") for _ in range(cell.sessions)))
        held = asyncio.ensure_future(_get(control, f"{cell.url}/held/{cell.sessions}"))
        await asyncio.wait([running, held], return_when=asyncio.FIRST_COMPLETED)
        if not held.done():
            await running
        gc.collect()
        after = _resident_kb()
        await _get(control, f"{cell.url}/release")
        await running
    return {"kb_per_session": (after - before) / cell.sessions}


async def _together(session: Session, count: int, message: str) -> None:
    await asyncio.gather(*(session(message) for _ in range(count)))


async def _get(control: aiohttp.ClientSession, url: str) -> Any:
    async with control.get(url) as reply:
        return await reply.json()


def _resident_kb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measure", choices=["cost", "memory"])
    parser.add_argument("kind", choices=["ours", "floor"])
    parser.add_argument("url")
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tools", type=int, default=1)
    parser.add_argument("--home", type=Path, help="folder for the store, on the disk to be measured")
    given = parser.parse_args()
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    with tempfile.TemporaryDirectory(prefix="step-cost-", dir=given.home) as home:
        cell = Cell(given.kind, given.url, given.sessions, given.steps, given.rounds, given.tools, Path(home))
        result = asyncio.run((cost if given.measure == "cost" else memory)(cell))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
