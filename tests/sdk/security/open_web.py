"""A web of our own for the guard's tests: names at the addresses we say, and sockets that lead to one loopback server.

A verdict is taken from the sockets: every one that is made, and every connect, is on record, whatever a guard says.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from tests.conftest import fail_after

HERE = Path(__file__).parent
ADDRESS = "93.184.215.14"
ADDRESS_6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
# Written by hand from what the tests use as good servers: the tests do not ask the table under test.
PUBLIC_ADDRESSES = frozenset({ADDRESS, ADDRESS_6, "1.1.1.1", "8.8.8.8", "2a00:1450:4001:800::200e"})
PUBLIC_PORTS = frozenset({80, 443, 8080, 8443})
_PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

HOSTILE_URLS: dict[str, list[str]] = json.loads((HERE / "hostile_urls.json").read_text())
HOSTILE_ZONE: dict[str, list[str]] = json.loads((HERE / "hostile_zone.json").read_text())
GOOD_URLS: list[str] = json.loads((HERE / "good_urls.json").read_text())


class Names(AbstractResolver):
    """Any name is at `ADDRESS`, unless `rounds` has its answers: of the first lookup, of the second, and so on."""

    def __init__(self, rounds: Mapping[str, Sequence[Sequence[str]]] | None = None) -> None:
        self._answers: dict[str, list[Sequence[str]]] = {name: [answers] for name, answers in HOSTILE_ZONE.items()}
        for name, answers in (rounds or {}).items():
            self._answers[name] = list(answers)
        self.lookups: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.lookups.append(host)
        rounds = self._answers.get(host, [[ADDRESS]])
        answers = rounds.pop(0) if len(rounds) > 1 else rounds[0]
        return [
            {"hostname": host, "host": answer, "port": port, "family": family, "proto": 0, "flags": 0}
            for answer in answers
        ]

    async def close(self) -> None:
        """Nothing is open."""


class _Detour(socket.socket):
    """Says it is of the family asked for, records where it is sent, and goes to the loopback server instead."""

    def __init__(self, web: OpenWeb, family: int) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self._web = web
        self._family = family

    @property
    def family(self) -> int:  # type: ignore[override]
        return self._family

    def connect(self, address: Any) -> None:
        self._web.connects.append((address[0], address[1]))
        super().connect(self._web.server)


@dataclass
class OpenWeb:
    names: Names
    server: tuple[str, int] = ("127.0.0.1", 0)
    sockets: list[tuple[str, int]] = field(default_factory=list)
    connects: list[tuple[str, int]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    """Head of each request, request line first."""
    hellos: list[bytes] = field(default_factory=list)
    """First bytes of connections that spoke TLS to the plain server."""
    conversations: set[asyncio.Task[None]] = field(default_factory=set)

    def make_socket(self, info: Any) -> socket.socket:
        self.sockets.append((info[4][0], info[4][1]))
        return _Detour(self, info[0])

    @property
    def forbidden(self) -> list[tuple[str, int]]:
        """Sockets made for an address or port that is none of the public web, and connects there."""
        return [
            (address, port)
            for address, port in self.sockets + self.connects
            if address not in PUBLIC_ADDRESSES or port not in PUBLIC_PORTS
        ]

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.conversations.add(asyncio.create_task(self._answer(reader, writer)))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start = await reader.read(1)
        if start == b"\x16":  # a TLS handshake
            self.hellos.append(start + await reader.read(4096))
        elif start:
            head = (start + await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            _, _, location = head.split(" ")[1].partition("?to=")
            writer.write(_redirect(bytes.fromhex(location)) if location else _PAGE)
            if location:
                await reader.read()  # the body is never finished: who does not follow must hang up
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):  # the client may be gone already
            await writer.wait_closed()


def _redirect(location: bytes) -> bytes:
    return b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\nContent-Length: 100\r\n\r\n"


def redirecting(location: str, *, origin: str = "http://example.org") -> str:
    """A URL of the open web that answers with a redirect to `location`."""
    return f"{origin}/a/b?to={location.encode().hex()}"


@asynccontextmanager
async def open_web(
    rounds: Mapping[str, Sequence[Sequence[str]]] | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[OpenWeb]:
    web = OpenWeb(Names(rounds))
    server = await asyncio.start_server(web.accept, "127.0.0.1", 0, ssl=tls)
    async with server:
        web.server = server.sockets[0].getsockname()[:2]
        yield web
    async with fail_after(10):
        await asyncio.gather(*web.conversations)


def anonymous_tls(side: int) -> ssl.SSLContext:
    """TLS without any certificate, for tests in which the certificate is not the subject."""
    context = ssl.SSLContext(side)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if side == ssl.PROTOCOL_TLS_CLIENT:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("AECDH:@SECLEVEL=0")
    return context
