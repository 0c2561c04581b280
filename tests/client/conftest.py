from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from conductor_ai.client import ConductorClient
from conductor_ai.settings import Settings
from tests.cli.conftest import DESK
from tests.cli.model_server import ModelServer, model_server
from tests.client.served import Served, served

CLERK = """name = "clerk"
description = "Looks things up."
instructions = "Be brief."
tools = ["look_up"]
"""


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """What the server's default model, `local/tiny`, answers."""
    with model_server() as answers:
        monkeypatch.setenv("LOCAL_LLM_BASE_URL", answers.url)
        monkeypatch.setenv("CONDUCTOR_MODEL", "local/tiny")
        yield answers


@pytest.fixture
def office(conductor_home: Path) -> Path:
    """A folder with the tools look_up, post (needs approval) and shout, one agent in a file, and a model that sees."""
    folder = conductor_home.parent
    (folder / "plugins" / "desk").mkdir(parents=True)
    (folder / "plugins" / "desk" / "__init__.py").touch()
    (folder / "plugins" / "desk" / "register.py").write_text(DESK)
    (folder / "agents").mkdir()
    (folder / "agents" / "clerk.toml").write_text(CLERK)
    conductor_home.mkdir()
    (conductor_home / "models.toml").write_text('[models."local/seeing"]\nvision = true\n')
    return folder


@pytest.fixture
async def server(office: Path, model: ModelServer) -> AsyncIterator[Served]:
    async with served(Settings.load()) as running:
        yield running


@pytest.fixture
async def client(server: Served) -> AsyncIterator[ConductorClient]:
    """Without a key, as on one's own machine."""
    async with ConductorClient(server.url) as opened:
        yield opened
