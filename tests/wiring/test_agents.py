"""The agents that are part of conductor-ai: packed, known everywhere, and nobody else's files with them."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest

from conductor_ai.conductor.agent_files import load_agents
from conductor_ai.settings import Settings
from conductor_ai.wiring.agents import SHIPPED, load_agent_files

ROOT = Path(__file__).parents[2]
MINE = 'name = "{0}"\ndescription = "Mine."\ninstructions = "Be mine."\n'


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The agents folder of an editable install: beside what ships stands an agent of the user's own."""
    folder = tmp_path / "clone" / "agents"
    folder.mkdir(parents=True)
    for name in SHIPPED:
        shutil.copy(ROOT / "agents" / f"{name}.toml", folder)
    (folder / "mine.toml").write_text(MINE.format("mine"))
    monkeypatch.setattr("conductor_ai.wiring.agents.bundled", lambda _name: folder)
    return folder


def found(agents_dir: Path | None = None) -> dict[str, str]:
    agents = load_agent_files(Settings.load(), agents_dir)
    assert [agent.error for agent in agents if agent.error] == []
    return {agent.name: agent.description for agent in agents}


def test_every_shipped_agent_can_be_used_and_is_packed() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    packed = {source for source in build["wheel"]["force-include"] if source.startswith("agents")}

    assert packed == {f"agents/{name}.toml" for name in SHIPPED}
    assert {f"/{source}" for source in packed} <= set(build["sdist"]["include"])
    shipped = load_agents(ROOT / "agents", only=SHIPPED)
    assert [(agent.name, agent.error) for agent in shipped] == [(name, None) for name in SHIPPED]
    assert all(agent.model is None for agent in shipped)  # whoever has any key can run it


@pytest.mark.usefixtures("conductor_home", "clone")
def test_what_a_user_wrote_in_the_clone_is_not_known_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "desk").mkdir()
    (tmp_path / "desk" / "clerk.toml").write_text(MINE.format("clerk"))

    assert found().keys() == set(SHIPPED)
    assert found(tmp_path / "desk").keys() == {"clerk", *SHIPPED}


@pytest.mark.usefixtures("conductor_home")
def test_in_the_clone_itself_it_is_known(clone: Path) -> None:
    assert found(clone).keys() == {"mine", *SHIPPED}


@pytest.mark.usefixtures("conductor_home", "clone")
def test_an_agent_of_the_same_name_takes_the_place_of_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / f"{SHIPPED[0]}.toml").write_text(MINE.format(SHIPPED[0]))

    assert found()[SHIPPED[0]] == "Mine."
