"""A model on loopback that does what the user's newest message tells it to, so any number of sessions may talk to it.

The message is a program, one statement for each step, with semicolons between them:

    call TOOL WORD, TOOL WORD    call tools, each with its word
    say TEXT                     answer
    stream N                     answer with the numbers up to N, each a piece of its own
    break NAME N                 the same, and half of them come once the test lets go of NAME
    hold NAME STATEMENT          the same, once the test lets go of NAME
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import Any, Self

from aiohttp import web

from tests.conftest import fail_after
from tests.servers.chat_completions import DONE, chunk, reply, tool_call

USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
_WAIT_S = 30


class Hold:
    """Where sessions stand still: `arrived` counts them."""

    def __init__(self) -> None:
        self.arrived = 0
        self._more = asyncio.Condition()
        self._open = asyncio.Event()

    async def has(self, sessions: int = 1) -> None:
        """Return once so many have come."""
        async with fail_after(_WAIT_S), self._more:
            await self._more.wait_for(lambda: self.arrived >= sessions)

    def release(self) -> None:
        self._open.set()

    async def stand(self) -> None:
        async with self._more:
            self.arrived += 1
            self._more.notify_all()
        await self._open.wait()


class Model:
    """`requests` are the bodies that came; `thinks_s` is how long it takes for each."""

    def __init__(self, thinks_s: float = 0.0) -> None:
        self.thinks_s = thinks_s
        self.requests: list[dict[str, Any]] = []
        self.holds: defaultdict[str, Hold] = defaultdict(Hold)
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/chat/completions", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        for hold in self.holds.values():
            hold.release()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        kind, _, rest = _statement(body["messages"]).partition(" ")
        if kind == "hold":
            name, kind, rest = rest.split(" ", 2)
            await self.holds[name].stand()
        if self.thinks_s:
            await asyncio.sleep(self.thinks_s)
        midway = None
        if kind == "break":
            name, rest = rest.split(" ")
            midway = self.holds[name]
        pieces = [f"{number} " for number in range(int(rest))] if kind in ("stream", "break") else [rest]
        calls = _calls(rest, len(body["messages"])) if kind == "call" else []
        if not body.get("stream"):
            if midway is not None:
                await midway.stand()
            said: dict[str, Any] = {"tool_calls": calls, "content": None} if calls else {"content": "".join(pieces)}
            return web.json_response(reply({"role": "assistant", **said}, _finish(calls), **USAGE))
        return await _streamed(request, pieces, calls, midway)


def _statement(messages: list[dict[str, Any]]) -> str:
    """Of the newest program the one whose turn it is; behind the last one the session is done."""
    asked = max(at for at, message in enumerate(messages) if message["role"] == "user")
    program = [statement.strip() for statement in str(messages[asked]["content"]).split(";")]
    done = sum(message["role"] == "assistant" for message in messages[asked:])
    return program[done] if done < len(program) else "say Done."


def _calls(text: str, place: int) -> list[dict[str, Any]]:
    named = [call.split() for call in text.split(",")]
    return [
        tool_call(f"call_{place}_{number}", tool, json.dumps({"word": word}))
        for number, (tool, word) in enumerate(named)
    ]


def _finish(calls: list[dict[str, Any]]) -> str:
    return "tool_calls" if calls else "stop"


async def _streamed(
    request: web.Request, pieces: list[str], calls: list[dict[str, Any]], midway: Hold | None
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    deltas: list[dict[str, Any]] = [{"content": piece} for piece in pieces]
    if calls:
        deltas = [{"tool_calls": [{"index": at, **call} for at, call in enumerate(calls)]}]
    try:
        for place, delta in enumerate(deltas):
            if midway is not None and place == len(deltas) // 2:
                await midway.stand()
            await response.write(chunk(delta))
            await asyncio.sleep(0)
        await response.write(chunk({}, _finish(calls)) + chunk(None, usage=USAGE) + DONE)
    except ConnectionError:
        pass  # the session was cancelled, or its process has gone
    return response
