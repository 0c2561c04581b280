"""An HTTP session, and each provider's adapter connected to its server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from conductor_ai.providers.http import open_http
from tests.providers.lines import Line, connected
from tests.providers.stream_lines import STREAMS, Streamed
from tests.providers.wires import ANTHROPIC, GEMINI, LOCAL, OPENROUTER, WIRES


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_http() as session:
        yield session


@pytest.fixture(params=WIRES, ids=lambda wire: wire.name)
async def line(request: pytest.FixtureRequest, http: aiohttp.ClientSession) -> AsyncIterator[Line]:
    async with connected(request.param, http) as made:
        yield made


@pytest.fixture
async def anthropic_line(http: aiohttp.ClientSession) -> AsyncIterator[Line]:
    async with connected(ANTHROPIC, http) as made:
        yield made


@pytest.fixture
async def gemini_line(http: aiohttp.ClientSession) -> AsyncIterator[Line]:
    async with connected(GEMINI, http) as made:
        yield made


@pytest.fixture
async def openrouter_line(http: aiohttp.ClientSession) -> AsyncIterator[Line]:
    async with connected(OPENROUTER, http) as made:
        yield made


@pytest.fixture
async def local_line(http: aiohttp.ClientSession) -> AsyncIterator[Line]:
    async with connected(LOCAL, http) as made:
        yield made


@pytest.fixture(params=STREAMS, ids=lambda stream: stream.name)
async def streamed(request: pytest.FixtureRequest, http: aiohttp.ClientSession) -> AsyncIterator[Streamed]:
    async with connected(request.param.wire, http) as made:
        yield made, request.param
