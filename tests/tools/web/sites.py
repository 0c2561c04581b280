"""A site on loopback that says exactly the bytes it is told to, and names that lead there instead of to the web."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from conductor_ai.sdk import testing
from conductor_ai.sdk.base import ToolResult
from conductor_ai.sdk.context import ToolContext, bind, reset
from conductor_ai.tools.web_fetch import WebFetchTool

CERTIFICATE = Path(__file__).parent / "shop.example.com.pem"
"""Self-signed, with its key, for shop.example.com; valid for a hundred years. It guards nothing."""
PUBLIC = "93.184.215.14"
OTHER_PUBLIC = "151.101.1.69"


@dataclass(frozen=True)
class Seen:
    """One request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Answer = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


def http(
    status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None, *, kind: str = "text/plain"
) -> bytes:
    """A whole answer. `kind` empty: no content type."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *([f"Content-Type: {kind}"] if kind else [])]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def html(body: str) -> bytes:
    return http(body=body.encode(), kind="text/html; charset=utf-8")


def as_json(data: Any) -> bytes:
    return http(body=json.dumps(data).encode(), kind="application/json")


def redirect(location: str, status: int = 302) -> bytes:
    return http(status, headers={"Location": location})


@dataclass
class Site:
    """Answers each path with fixed bytes or with a coroutine; any other path, /robots.txt too, with 404."""

    port: int = 0
    answers: dict[str, bytes | Answer] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    open_now: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def grant(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def paths(self) -> list[str]:
        """What was asked for, robots.txt left out."""
        return [seen.path for seen in self.seen if seen.path != "/robots.txt"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_now += 1
        try:
            seen = await _read_request(reader)
            self.seen.append(seen)
            answer = self.answers.get(seen.path, http(404, b"not here"))
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(seen, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left, as a client at its deadline does
        finally:
            self.open_now -= 1
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> Seen:
    first = await reader.readexactly(1)
    if first == b"\x16":  # a TLS handshake
        return Seen("", "", {}, b"")
    head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers: dict[str, str] = {}
    for line in filter(None, head[1:]):
        name, _, value = line.partition(":")
        headers[name.lower()] = ", ".join(filter(None, (headers.get(name.lower()), value.strip())))
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, path, headers, body)


@asynccontextmanager
async def serving(
    answers: Mapping[str, bytes | Answer] | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Site]:
    """A site on a free port of loopback, until the end of the body."""
    site = Site(answers=dict(answers or {}))
    open_ones: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(site.serve(reader, writer))
        open_ones[task] = writer
        task.add_done_callback(open_ones.pop)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls, backlog=512)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()
        left = dict(open_ones)
        for task, writer in left.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*left, return_exceptions=True)


async def never(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """Say nothing until the client leaves or the site closes."""
    await asyncio.Event().wait()


def self_signed() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


class Names(AbstractResolver):
    """Answers from a table, in order, the last answer again and again; `asked` is every lookup."""

    def __init__(self, table: Mapping[str, list[str]]) -> None:
        self._table = {name: list(answers) for name, answers in table.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answers = self._table.get(host)
        if not answers:
            raise OSError(f"{host} is unknown")
        address = answers.pop(0) if len(answers) > 1 else answers[0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [{"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


class Wires:
    """A socket factory whose sockets all end at `site`; `made` is where they were meant to go."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.made: list[tuple[str, int]] = []

    def __call__(self, info: aiohttp.AddrInfoType) -> socket.socket:
        self.made.append((str(info[4][0]), int(info[4][1])))
        return _LoopbackSocket(self._site.port)


class _LoopbackSocket(socket.socket):
    def __init__(self, port: int) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self._port = port

    def connect(self, address: object) -> None:
        super().connect(("127.0.0.1", self._port))


class SkippingClock:
    """Time that passes only by being slept; `slept` is every wait."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.time += seconds
        await asyncio.sleep(0)


def tool_for(site: Site, **options: Any) -> WebFetchTool:
    """The tool, allowed to reach `site`, in no hurry to be polite to it."""
    return WebFetchTool(grants=[site.grant], **{"host_interval_s": 0.0, **options})


def public_tool(site: Site, names: Names, wires: Wires | None = None, **options: Any) -> WebFetchTool:
    """The tool for names of the web, every connection of which ends at `site`."""
    return WebFetchTool(names, wires or Wires(site), **{"host_interval_s": 0.0, **options})


async def fetch(tool: WebFetchTool, url: str, **arguments: Any) -> ToolResult:
    return await testing.run_tool(tool, {"url": url, **arguments})


async def page(tool: WebFetchTool, url: str, **arguments: Any) -> dict[str, Any]:
    """The result of a fetch that must succeed."""
    answer = await fetch(tool, url, **arguments)
    assert answer.success, answer.error
    result: dict[str, Any] = answer.result
    return result


async def failure(tool: WebFetchTool, url: str, **arguments: Any) -> str:
    """The error of a fetch that must fail."""
    answer = await fetch(tool, url, **arguments)
    assert not answer.success and answer.error is not None
    return answer.error


async def audited(tool: WebFetchTool, url: str, **arguments: Any) -> tuple[ToolResult, dict[str, Any]]:
    """A fetch, and the facts for its audit row."""
    facts: dict[str, Any] = {}
    token = bind(ToolContext("org", "session", 1, "call", "key", on_record=facts.update))
    try:
        return await fetch(tool, url, **arguments), facts
    finally:
        reset(token)
