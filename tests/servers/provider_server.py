"""What the servers of all wires share: a loopback port, a queue of answers, a record of requests."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Self, TypeAlias

from aiohttp import web

KEY = "sk-test-0123456789"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
_RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds


@dataclass(frozen=True)
class Seen:
    """One request as it arrived, and the address that its connection came from."""

    path: str
    headers: Mapping[str, str]
    raw: bytes
    peer: Any

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


class Then(Enum):
    """How a streamed answer may go on that does not end in order."""

    CUT = "the connection is closed within the reply"
    RESET = "the connection is reset"
    SILENCE = "nothing more comes, and the connection stays"


@dataclass(frozen=True)
class Repeated:
    """Sent again and again, with a pause between, until the client leaves."""

    piece: bytes
    every_s: float = 0.005


Step: TypeAlias = bytes | asyncio.Event | Then | Repeated
"""Of a streamed answer: bytes are one write to the socket, an event is waited for."""


@dataclass
class Sending:
    """What became of a streamed answer. `written` counts the body's bytes that the socket took, `over` is set when no
    more will be sent, `client_left` says that the client closed first."""

    written: int = 0
    client_left: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)


class ProviderServer:
    """Answers `path` in the order in which `will_...` was called; without an answer left, with status 500.

    A request that breaks the wire's rules gets the refusal that a strict service would give, and uses up no answer.
    """

    path: ClassVar[str]
    base_path: ClassVar[str] = ""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.arrived = asyncio.Event()
        self._answers: deque[Answer] = deque()
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """The base URL that a client is given."""
        return f"http://127.0.0.1:{self._port}{self.base_path}"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post(self.path, self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()

    def refusal(self, seen: Seen) -> tuple[int, Any] | None:
        """Status and body for a request that breaks the wire's rules."""
        raise NotImplementedError

    def will_answer(self, status: int = 200, body: Any = b"", headers: Mapping[str, str] | None = None) -> None:
        """`body`: bytes as they are, anything else as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()

        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(
                status=status, body=raw, headers={"content-type": "application/json", **(headers or {})}
            )

        self._answers.append(answer)

    def will_ask(self, script: Callable[[Seen], Any], times: int) -> None:
        """Let `script` make up the next `times` answers, each out of the request that it answers."""

        async def answer(request: web.Request) -> web.StreamResponse:
            return web.json_response(script(self.requests[-1]))

        self.will_do(answer, times)

    def will_do(self, answer: Answer, times: int = 1) -> None:
        """Let `answer` give the next `times` answers, whatever they are."""
        self._answers.extend([answer] * times)

    def will_reset(self) -> None:
        """Break the connection before any reply."""

        async def answer(request: web.Request) -> web.StreamResponse:
            _reset(request)
            return web.Response()

        self._answers.append(answer)

    def will_cut(self, body: bytes, after: int, *, status: int = 200, chunked: bool = False) -> None:
        """Close the connection with `after` bytes of the body sent."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(status=status, headers={"content-type": "application/json"})
            if chunked:
                response.enable_chunked_encoding()
            else:
                response.content_length = len(body)
            await response.prepare(request)
            await response.write(body[:after])
            assert request.transport is not None
            request.transport.close()
            return response

        self._answers.append(answer)

    def will_stall(self, body: bytes | None = None) -> None:
        """Keep silent until the server closes: before the reply's head, or once `body`, not its end, was sent."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            if body is not None:
                response.content_length = len(body) + 1
                await response.prepare(request)
                await response.write(body)
            await self._closing.wait()
            return response

        self._answers.append(answer)

    def will_stream(self, *steps: Step, headers: Mapping[str, str] | None = None) -> Sending:
        """Stream an answer step by step; after the last, end it in order."""
        sending = Sending()
        sent = {"content-type": "text/event-stream; charset=utf-8", **(headers or {})}

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers=sent)
            response.enable_chunked_encoding()
            await response.prepare(request)
            try:
                for step in steps:
                    await self._take(step, request, response, sending)
                for _ in range(5):
                    await asyncio.sleep(0)  # the end comes apart from what it ends
            except ConnectionError:
                sending.client_left = True
            finally:
                sending.over.set()
            return response

        self._answers.append(answer)
        return sending

    async def _take(self, step: Step, request: web.Request, response: web.StreamResponse, sending: Sending) -> None:
        if isinstance(step, bytes):
            await response.write(step)
            sending.written += len(step)
            await asyncio.sleep(0)  # the client's turn: what is written next, it reads apart from this
        elif isinstance(step, asyncio.Event):
            await step.wait()
        elif isinstance(step, Repeated):
            while not self._closing.is_set():
                await self._take(step.piece, request, response, sending)
                await asyncio.sleep(step.every_s)
        elif step is Then.SILENCE:
            await self._closing.wait()
        elif step is Then.RESET:
            _reset(request)
        else:
            assert request.transport is not None
            request.transport.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peer = request.transport.get_extra_info("peername")
        seen = Seen(request.path, request.headers.copy(), await request.read(), peer)
        self.requests.append(seen)
        self.arrived.set()
        refused = self.refusal(seen)
        if refused is not None:
            return web.json_response(refused[1], status=refused[0])
        if not self._answers:
            return web.json_response({"error": {"message": "no answer left"}}, status=500)
        return await self._answers.popleft()(request)


def _reset(request: web.Request) -> None:
    transport = request.transport
    assert transport is not None
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
    transport.abort()
