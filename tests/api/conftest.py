"""The API on a real server on loopback, in the event loop of the test; the model is a script, the store is real."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn

from conductor_ai.api import create_app
from conductor_ai.delivery.service import Service
from conductor_ai.providers.scripted import Script, call, say
from conductor_ai.schemas.orgs import ALL_SCOPES, Scope
from conductor_ai.sdk import BaseTool
from conductor_ai.settings import Settings
from tests.agents.conftest import Gate, Tool, answering
from tests.conftest import fail_after
from tests.delivery.conftest import Desk

RUN = {"messages": [{"role": "user", "content": "Do it."}], "model": "demo/scripted"}
ASKS = (call("send_email", {"to": "ann@example.org"}), say("Sent."))
WAITS = (call("wait"), say("Waited."))


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    data: Any

    @property
    def code(self) -> Any:
        assert self.headers["Content-Type"] == "application/problem+json", self
        return self.data["code"]


class Server:
    """One server and a caller of it. `key` None: the caller shows none."""

    def __init__(self, url: str, service: Service, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.service = service
        self.http = http

    async def new_key(self, *scopes: Scope, org_id: str = "default") -> str:
        _, key = await self.service.keys.create(org_id, scopes=scopes or ALL_SCOPES, by="test")
        return key

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
    ) -> Reply:
        head = dict(headers or {})
        if key is not None:
            head["Authorization"] = f"Bearer {key}"
        if body is not None:
            data = json.dumps(body)
            head.setdefault("Content-Type", "application/json")
        async with fail_after(20), self.http.request(method, self.url + path, headers=head, data=data) as reply:
            text = await reply.read()
            is_json = "json" in reply.headers.get("Content-Type", "")
            return Reply(reply.status, reply.headers, json.loads(text) if is_json else text)

    async def run(self, key: str | None = None, **fields: Any) -> str:
        """The id of a new session."""
        reply = await self.ask("POST", "/agents/run", {**RUN, **fields}, key=key)
        assert reply.status == 202, reply
        return str(reply.data["session_id"])

    async def stopped(self, session_id: str, key: str | None = None) -> dict[str, Any]:
        """The session once its event stream has ended."""
        await self.ask("GET", f"/agents/{session_id}/events", key=key)
        session: dict[str, Any] = (await self.ask("GET", f"/agents/{session_id}", key=key)).data
        return session

    @asynccontextmanager
    async def stream(
        self, session_id: str, *, key: str | None = None, query: str = "", headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Frames]:
        head = dict(headers or {})
        if key is not None:
            head["Authorization"] = f"Bearer {key}"
        async with self.http.get(f"{self.url}/agents/{session_id}/events{query}", headers=head) as reply:
            assert reply.status == 200, await reply.text()
            yield Frames(reply)


class Frames:
    """An event stream, frame by frame: its fields by name; a comment has the name ""."""

    def __init__(self, reply: aiohttp.ClientResponse) -> None:
        self.reply = reply

    async def next(self) -> dict[str, str] | None:
        """None at its end."""
        fields: dict[str, str] = {}
        while line := (await self.reply.content.readline()).decode():
            if line == "\n":
                return fields
            name, _, value = line.rstrip("\n").partition(":")
            fields[name] = value.removeprefix(" ")
        return None

    async def rest(self) -> list[dict[str, str]]:
        found = []
        async with fail_after(20):
            while (frame := await self.next()) is not None:
                found.append(frame)
        return found

    async def until(self, kind: str) -> dict[str, str]:
        async with fail_after(20):
            while (frame := await self.next()) is not None:
                if frame.get("event") == kind:
                    return frame
        raise AssertionError(f"the stream ended before {kind}")


class Floor:
    """Opens servers; `wait` and `send_email` are tools of each: one waits for `gate`, one needs approval."""

    def __init__(self, tmp_path: Path, stack: AsyncExitStack) -> None:
        self.stack = stack
        self.gate = Gate()
        self.sent = Tool("send_email", answering("sent"), requires_approval=True, effect="once")
        self.desk = Desk(tmp_path / "home", stack)
        self.http: aiohttp.ClientSession

    async def open(self, script: Script, *tools: BaseTool, **settings: Any) -> Server:
        service = await self.desk.open(script, self.sent, Tool("wait", self.gate), *tools)
        app = create_app(Settings(conductor_home=self.desk.home, **settings), service=service)
        port = await self.stack.enter_async_context(serving(app))
        self.http = await self.stack.enter_async_context(aiohttp.ClientSession())
        return Server(f"http://127.0.0.1:{port}", service, self.http)


class _Server(uvicorn.Server):
    """As it is, but it does not look only ten times a second whether it shall stop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()

    async def main_loop(self) -> None:
        await self.stop.wait()


@asynccontextmanager
async def serving(app: Any, listening: socket.socket | None = None) -> AsyncIterator[int]:
    """The app on a port of loopback, or on the socket that is given. Requests wait until it has started."""
    if listening is None:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as `conductor serve` does
    server = _Server(uvicorn.Config(app, log_config=None, access_log=False))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield listening.getsockname()[1] if listening.family == socket.AF_INET else 0
    finally:
        app.state.house.streams.close()  # as a signal does
        server.stop.set()
        await task


@pytest.fixture
async def floor(tmp_path: Path) -> AsyncIterator[Floor]:
    async with AsyncExitStack() as stack:
        opened = Floor(tmp_path, stack)
        yield opened
        opened.gate.open.set()
