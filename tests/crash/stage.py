"""The world around a session: the model it asks and the places where its tools stop, both in the test's hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

from aiohttp import web

from tests.conftest import fail_after
from tests.crash.log_reader import LogReader
from tests.servers.chat_completions import reply, tool_call, violation

Turn = str | Sequence[str]
"""What the model says in one step: an answer, or the names of the tools it calls."""
_WAIT_S = 30.0


class Hold:
    """A point where the world stands still."""

    def __init__(self) -> None:
        self._arrived = asyncio.Event()
        self._released = asyncio.Event()

    async def arrived(self) -> None:
        async with fail_after(_WAIT_S):
            await self._arrived.wait()

    def release(self) -> None:
        self._released.set()

    async def stand(self) -> None:
        self._arrived.set()
        await self._released.wait()


class Stage:
    """Plays `turns`: step N of the conversation gets turn N, however often it is asked for.

    Points: `model:N` before step N is answered, `TOOL:begin` before a tool acts, `TOOL:acted` before it returns.
    What no session may do is written down in `violations`, as it happens and by looking at the log; a model call for a
    step that is stored already in `asked_again`.
    """

    def __init__(self, turns: Sequence[Turn], log: LogReader) -> None:
        self.turns = turns
        self.violations: list[str] = []
        self.asked_again: list[int] = []
        self.requests: list[dict[str, Any]] = []
        self._log = log
        self._holds: dict[str, Hold] = {}
        self._all_holds: list[Hold] = []
        self._runner: web.AppRunner | None = None
        self._tools: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._model)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._tools = await asyncio.start_server(self._tool, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        assert self._tools is not None
        self.let_go()
        await self._runner.cleanup()
        self._tools.close()
        await self._tools.wait_closed()

    @property
    def environment(self) -> dict[str, str]:
        assert self._runner is not None
        assert self._tools is not None
        return {
            "LOCAL_LLM_BASE_URL": f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1",
            "CONDUCTOR_MODEL": "local/tiny",
            "CRASH_STAGE_PORT": str(self._tools.sockets[0].getsockname()[1]),
        }

    def hold(self, point: str) -> Hold:
        hold = self._holds[point] = Hold()
        self._all_holds.append(hold)
        return hold

    def let_go(self) -> None:
        """Hold nothing any more."""
        self._holds.clear()
        for hold in self._all_holds:
            hold.release()

    async def _pass(self, point: str) -> None:
        hold = self._holds.get(point)
        if hold is not None:
            await hold.stand()

    async def _model(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        broken = violation(body)
        if broken is not None:
            self.violations.append(f"the model was sent a broken conversation: {broken}")
            return web.json_response({"error": {"code": 400, "message": broken}}, status=400)
        step_no = 1 + sum(message["role"] == "assistant" for message in body["messages"])
        if self._log.has_step(step_no):
            self.asked_again.append(step_no)
        await self._pass(f"model:{step_no}")
        return web.json_response(_said(step_no, self.turns[step_no - 1]))

    async def _tool(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        point, _, key = (await reader.readline()).decode().strip().partition(" ")
        if point.endswith(":begin"):
            self._look_at_the_log(key)
        await self._pass(point)
        with suppress(ConnectionError):  # the process was killed
            writer.write(b"go on\n")
            await writer.drain()
        writer.close()

    def _look_at_the_log(self, key: str) -> None:
        call_id = key.rpartition(":")[2]
        if not self._log.has_event("tool.started", call_id):
            self.violations.append(f"{key} began before its intent was stored")
        if self._log.has_event("tool.completed", call_id):
            self.violations.append(f"{key} began although its result was stored")


def _said(step_no: int, turn: Turn) -> dict[str, Any]:
    if isinstance(turn, str):
        return reply({"role": "assistant", "content": turn})
    calls = [
        tool_call(f"call_{step_no}_{index}", name, json.dumps({"item": f"{name} {step_no}"}))
        for index, name in enumerate(turn)
    ]
    return reply({"role": "assistant", "content": None, "tool_calls": calls}, "tool_calls")
