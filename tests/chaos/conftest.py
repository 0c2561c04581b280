from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.chaos.ledger import Ledger
from tests.chaos.server import Server, serving
from tests.crash.invariants import Effect
from tests.service.conftest import (
    MODEL,
    PLUGINS,
    House,
    contents,
    effects_file,
    effects_in,
    house,
    model,
    takes_minutes,
)
from tests.service.door import Door
from tests.service.model import Model
from tests.services.fault_proxy import FaultProxy
from tests.services.redis import RedisServer

__all__ = ["House", "contents", "effects_file", "house", "model", "takes_minutes"]

_THINKS_S = 0.1


@dataclass(frozen=True)
class Site:
    """A server process, and the means to harm what it stands on."""

    server: Server
    door: Door
    model: Model
    database: FaultProxy
    redis: RedisServer
    ledger: Ledger
    effects_file: Path

    def effects(self) -> list[Effect]:
        return effects_in(self.effects_file)

    def violations(self) -> list[str]:
        return self.ledger.violations(self.effects())


@pytest.fixture
def ledger(postgres_url: str) -> Iterator[Ledger]:
    opened = Ledger(postgres_url)
    yield opened
    opened.close()


@pytest.fixture
async def site(
    tmp_path: Path,
    postgres_url: str,
    redis_server: RedisServer,
    fault_proxy: Callable[[str], FaultProxy],
    ledger: Ledger,
) -> AsyncIterator[Site]:
    database = fault_proxy(postgres_url)
    effects = tmp_path / "effects"
    async with Model(_THINKS_S) as model:
        variables = {
            "CONDUCTOR_HOME": str(tmp_path / "home"),
            "CONDUCTOR_PLUGINS_DIR": str(PLUGINS),
            "CONDUCTOR_MODEL": MODEL,
            "LOCAL_LLM_BASE_URL": model.url,
            "DATABASE_URL": database.url,
            "REDIS_URL": redis_server.url,
            "OFFICE_EFFECTS": str(effects),
        }
        async with (
            serving(tmp_path, variables) as server,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        ):
            door = Door(http, server.url, server.key)
            yield Site(server, door, model, database, redis_server, ledger, effects)
