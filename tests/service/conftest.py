"""The real service over both ways of storing; what a test needs to be somebody who uses it."""

from __future__ import annotations

import faulthandler
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from conductor_ai.api import create_app
from conductor_ai.delivery.service import Service
from conductor_ai.schemas.orgs import ALL_SCOPES, Scope
from conductor_ai.settings import Settings
from conductor_ai.wiring.service import open_service
from tests.api.conftest import serving
from tests.crash.invariants import Effect
from tests.service.contents import Contents, PostgresContents, SQLiteContents
from tests.service.door import Door
from tests.service.model import Model

PLUGINS = Path(__file__).parent / "plugins"
MODEL = "local/office"
_MOST_S = 1200
CLERK = """
name = "clerk"
description = "Looks things up."
instructions = "Be brief."
tools = ["look_up"]
"""
PRICES = """
[models."local/office"]
context_window = 1_000_000
price = { input = 1.00, output = 10.00 }
"""


@dataclass(frozen=True)
class House:
    """A running service. `door` has no key, as somebody at this machine."""

    url: str
    service: Service
    settings: Settings
    model: Model
    door: Door
    contents: Contents
    effects_file: Path

    async def key(self, org_id: str, *scopes: Scope) -> str:
        """A new key, with every scope where none is named."""
        _, key = await self.service.keys.create(org_id, scopes=scopes or ALL_SCOPES, by="test")
        return key

    async def as_org(self, org_id: str, *scopes: Scope) -> Door:
        return self.door.with_key(await self.key(org_id, *scopes))

    def effects(self) -> list[str]:
        """The idempotency key of each effect on the world that there was."""
        return [effect.key for effect in effects_in(self.effects_file) if effect.tool != "look_up"]


def effects_in(file: Path) -> list[Effect]:
    """What the tools of the office did, in order."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [Effect(**json.loads(line)) for line in lines]


@pytest.fixture
def takes_minutes() -> None:
    """The watch over tests that hang gives this one more time: it is bounded by itself."""
    faulthandler.dump_traceback_later(_MOST_S, exit=True, file=2)


@pytest.fixture
async def model(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Model]:
    """What the service's default model, which has a price, answers."""
    async with Model() as running:
        monkeypatch.setenv("LOCAL_LLM_BASE_URL", running.url)
        monkeypatch.setenv("CONDUCTOR_MODEL", MODEL)
        yield running


@pytest.fixture
def effects_file(conductor_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tools of the office leave their marks; the service has no other tools but its own."""
    file = conductor_home.parent / "effects"
    monkeypatch.setenv("OFFICE_EFFECTS", str(file))
    monkeypatch.setenv("CONDUCTOR_PLUGINS_DIR", str(PLUGINS))
    conductor_home.mkdir()
    (conductor_home / "models.toml").write_text(PRICES)
    (conductor_home.parent / "agents").mkdir()
    (conductor_home.parent / "agents" / "clerk.toml").write_text(CLERK)
    return file


@pytest.fixture(params=["sqlite", "postgres-redis"])
def contents(
    request: pytest.FixtureRequest, conductor_home: Path, effects_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Contents:
    """Where everything is stored; the environment names it."""
    if request.param == "sqlite":
        return SQLiteContents(conductor_home / "conductor.db")
    url = str(request.getfixturevalue("postgres_url"))
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("REDIS_URL", request.getfixturevalue("redis_url"))
    return PostgresContents(url)


@pytest.fixture
async def house(contents: Contents, model: Model, effects_file: Path) -> AsyncIterator[House]:
    async with opened(contents, model, effects_file) as house:
        yield house


@pytest.fixture
async def second_house(house: House) -> AsyncIterator[House]:
    """What a second process over the same database would be."""
    async with opened(house.contents, house.model, house.effects_file) as second:
        yield second


@asynccontextmanager
async def opened(contents: Contents, model: Model, effects_file: Path) -> AsyncIterator[House]:
    """A service over what the environment names, behind the real API on a port of loopback."""
    async with AsyncExitStack() as stack:
        settings = Settings.load()
        service = await stack.enter_async_context(open_service(settings, grace_s=1.0))
        port = await stack.enter_async_context(serving(create_app(settings, service=service), _listening()))
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        url = f"http://127.0.0.1:{port}"
        yield House(url, service, settings, model, Door(http, url), contents, effects_file)


def _listening() -> socket.socket:
    """Said to be TCP: else asyncio leaves Nagle's algorithm on, and each answer waits 40 ms for an acknowledgement."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(1024)
    return listening
