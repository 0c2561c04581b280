"""The real API over the real store on loopback, in the event loop of the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn

from conductor_ai.api import create_app
from conductor_ai.delivery.service import Service
from conductor_ai.settings import Settings
from conductor_ai.wiring.service import open_service


@dataclass(frozen=True)
class Served:
    url: str
    port: int
    service: Service


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[Served]:
    """Requests wait in the socket's queue until the app has started."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as `conductor serve` does
    port = listening.getsockname()[1]
    async with open_service(settings) as service:
        app = create_app(settings, service=service)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield Served(f"http://127.0.0.1:{port}", port, service)
        finally:
            server.should_exit = True
            await serving
