"""One cell of `stream_cost.py`: reads streamed answers in this process, prints one JSON object.

`floor` reads by bare aiohttp, cuts at the empty lines and gives the data to orjson; `adapter` is the provider's
`stream`; `runner` is `AgentRunner.stream` of one session per answer, over a durable store. All read the same bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson
from aiohttp.client_proto import ResponseHandler

from conductor_ai.providers.base import HeadSpec, ModelRequest, Provider
from conductor_ai.providers.http import open_http
from conductor_ai.schemas.deltas import TextDelta
from conductor_ai.schemas.messages import Message, Role

Answer = Callable[[str], Awaitable[int]]
"""Sends a message and reads the answer to its end; how many pieces of text it had."""
_WARM = "pieces=20 every_ms=1"
_SHORT = 10
"""Pieces of the answers whose cost is taken off, to find what each further piece costs."""
_KEY = "bench-key-0123456789"


class Cell(NamedTuple):
    """`streams` at once, of `pieces` each, which come `every_ms` apart; `rounds` times over."""

    kind: str
    wire: str
    url: str
    streams: int
    pieces: int
    every_ms: int
    rounds: int

    def message(self, pieces: int) -> str:
        return f"pieces={pieces} every_ms={self.every_ms}"


class Wire(NamedTuple):
    """`base` and `path` make the address; `text` finds the text of an event; `settings` names where the base goes."""

    model: str
    base: str
    path: str
    between: bytes
    text: Callable[[dict[str, Any]], str | None]
    settings: tuple[str, str]


def _anthropic_text(data: dict[str, Any]) -> str | None:
    return data["delta"]["text"] if data["type"] == "content_block_delta" else None


def _chat_text(data: dict[str, Any]) -> str | None:
    text: str | None = data["choices"][0]["delta"]["content"]
    return text


def _gemini_text(data: dict[str, Any]) -> str | None:
    text: str | None = data["candidates"][0]["content"]["parts"][0]["text"]
    return text


_GEMINI_PATH = "/v1beta/models/bench:streamGenerateContent?alt=sse"
WIRES = {
    "anthropic": Wire(
        "claude-sonnet-5-5", "", "/v1/messages", b"\n\n", _anthropic_text, ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY")
    ),
    "openrouter": Wire(
        "deepseek/deepseek-v3.2",
        "/api/v1",
        "/chat/completions",
        b"\n\n",
        _chat_text,
        ("OPENROUTER_BASE_URL", "OPENROUTER_API_KEY"),
    ),
    "local": Wire(
        "local/bench", "/v1", "/chat/completions", b"\n\n", _chat_text, ("LOCAL_LLM_BASE_URL", "LOCAL_LLM_API_KEY")
    ),
    "gemini": Wire(
        "gemini-3.8-flash", "", _GEMINI_PATH, b"\r\n\r\n", _gemini_text, ("GEMINI_BASE_URL", "GOOGLE_API_KEY")
    ),
}


@asynccontextmanager
async def floor(cell: Cell) -> AsyncIterator[Answer]:
    wire = WIRES[cell.wire]
    url = f"{cell.url}{wire.base}{wire.path}"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:

        async def answer(message: str) -> int:
            body = orjson.dumps({"messages": [{"role": "user", "content": message}]})
            texts: list[str] = []
            rest = b""
            async with http.post(url, data=body, headers={"content-type": "application/json"}) as reply:
                async for chunk in reply.content.iter_any():
                    *events, rest = (rest + chunk).split(wire.between)
                    for event in events:
                        data = event.partition(b"data: ")[2]
                        if data != b"[DONE]" and (text := wire.text(orjson.loads(data))):
                            texts.append(text)
            return len(texts)

        yield answer


@asynccontextmanager
async def adapter(cell: Cell) -> AsyncIterator[Answer]:
    wire = WIRES[cell.wire]
    async with open_http() as http:
        provider = _provider(cell.wire, http, cell.url + wire.base)
        head = provider.encode_head(HeadSpec("bench", None, (), 8192))

        async def answer(message: str) -> int:
            turn = provider.encode_turn(Message(Role.USER, message))
            pieces = 0
            async for item in provider.stream(ModelRequest("bench", head, [turn])):
                if isinstance(item, TextDelta):
                    pieces += 1
            return pieces

        yield answer


def _provider(name: str, http: aiohttp.ClientSession, base_url: str) -> Provider:
    from conductor_ai.providers.anthropic import AnthropicProvider
    from conductor_ai.providers.gemini import GeminiProvider
    from conductor_ai.providers.local import LocalProvider
    from conductor_ai.providers.openrouter import OpenRouterProvider

    match name:
        case "anthropic":
            return AnthropicProvider(http, api_key=_KEY, base_url=base_url)
        case "openrouter":
            return OpenRouterProvider(http, api_key=_KEY, base_url=base_url)
        case "local":
            return LocalProvider(http, api_key=_KEY, base_url=base_url)
        case _:
            return GeminiProvider(http, api_key=_KEY, base_url=base_url)


@asynccontextmanager
async def runner(cell: Cell) -> AsyncIterator[Answer]:
    from conductor_ai.agents.runner import AgentRunner

    wire = WIRES[cell.wire]
    agent = AgentRunner(wire.model)

    async def answer(message: str) -> int:
        pieces, item = 0, dict[str, Any]()
        async for item in agent.stream([{"role": "user", "content": message}], org_id="bench"):
            if item["type"] == "model.delta" and item["payload"]["kind"] == "text":
                pieces += 1
        if item.get("type") != "session.completed":
            raise SystemExit(f"a session ended with {item}")
        return pieces

    try:
        yield answer
    finally:
        await agent.close()


@contextmanager
def counted_reads() -> Iterator[list[int]]:
    """How often the socket gave something to any connection of this process."""
    reads = [0]
    take = ResponseHandler.data_received

    def data_received(self: ResponseHandler, data: bytes) -> None:
        reads[0] += bool(data)  # aiohttp calls it without any to go on after a pause
        take(self, data)

    ResponseHandler.data_received = data_received  # type: ignore[method-assign]
    try:
        yield reads
    finally:
        ResponseHandler.data_received = take  # type: ignore[method-assign]


async def cost(cell: Cell) -> dict[str, float]:
    """CPU time of this process, all threads, per piece, and per piece after the first ones; and how many pieces came
    with one read."""
    kinds = {"floor": floor, "adapter": adapter, "runner": runner}
    with counted_reads() as reads:
        async with kinds[cell.kind](cell) as answer:
            await _together(answer, cell.streams, _WARM)  # opens the connections
            short_us, _ = await _cpu_us(answer, cell, _SHORT)
            reads[0] = 0
            cpu_us, busy = await _cpu_us(answer, cell, cell.pieces)
            per_read = cell.streams * cell.rounds * cell.pieces / reads[0]
    return {
        "cpu_us": cpu_us / cell.pieces,
        "further_us": (cpu_us - short_us) / (cell.pieces - _SHORT),
        "pieces_per_read": per_read,
        "busy": busy,
    }


async def _cpu_us(answer: Answer, cell: Cell, pieces: int) -> tuple[float, float]:
    """CPU microseconds of one answer of so many pieces, on average, and which part of the time that is."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    seen = [n for _ in range(cell.rounds) for n in await _together(answer, cell.streams, cell.message(pieces))]
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if seen != [pieces] * cell.streams * cell.rounds:
        raise SystemExit(f"pieces were lost or joined: {seen} instead of {pieces} each")
    return cpu * 1e6 / len(seen), cpu / wall


async def _together(answer: Answer, count: int, message: str) -> list[int]:
    return await asyncio.gather(*(answer(message) for _ in range(count)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["floor", "adapter", "runner"])
    parser.add_argument("wire", choices=[*WIRES])
    parser.add_argument("url")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--pieces", type=int, default=100)
    parser.add_argument("--every-ms", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--home", type=Path, help="folder for the store, on a real disk")
    given = parser.parse_args()
    wire = WIRES[given.wire]
    base, key = wire.settings
    os.environ |= {base: given.url + wire.base, key: _KEY}
    with tempfile.TemporaryDirectory(prefix="stream-cost-", dir=given.home) as home:
        os.environ["CONDUCTOR_HOME"] = home
        cell = Cell(given.kind, given.wire, given.url, given.streams, given.pieces, given.every_ms, given.rounds)
        result = asyncio.run(cost(cell))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
