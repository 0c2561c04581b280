"""The plugins that are part of conductor-ai: packed, loaded everywhere, and nobody else's files with them."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest

from conductor_ai.settings import Settings
from conductor_ai.tools.plugin_loader import SHIPPED
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring.plugins import load_plugins

ROOT = Path(__file__).parents[2]
PACKED = "conductor_ai/_data/plugins"


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plugins folder of an editable install: beside what ships stands a plugin of the user's own."""
    folder = tmp_path / "clone" / "plugins"
    for name in SHIPPED:
        shutil.copytree(ROOT / "plugins" / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    write_plugin(folder / "opening_hours")
    monkeypatch.setattr("conductor_ai.wiring.plugins.bundled", lambda _name: folder)
    return folder


def write_plugin(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "register.py").write_text("def register(global_registry):\n    pass\n")


def found(plugins_dir: Path | None = None) -> dict[str, str]:
    plugins = load_plugins(ToolRegistry(), Settings.load(), plugins_dir)
    assert [plugin.error for plugin in plugins if plugin.error] == []
    return {plugin.name: plugin.path for plugin in plugins}


def test_every_shipped_plugin_is_packed_into_the_wheel() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    packed = build["force-include"]  # the folder as a whole, or each plugin by its name

    for name in SHIPPED:
        assert (ROOT / "plugins" / name / "register.py").is_file()
        assert packed.get("plugins") == PACKED or packed.get(f"plugins/{name}") == f"{PACKED}/{name}"
    assert {source for source in packed if source.startswith("plugins/")} <= {f"plugins/{name}" for name in SHIPPED}


@pytest.mark.usefixtures("conductor_home", "clone")
def test_what_a_user_wrote_in_the_clone_is_not_loaded_elsewhere(tmp_path: Path) -> None:
    write_plugin(tmp_path / "mine" / "desk")

    assert found().keys() == set(SHIPPED)
    assert found(tmp_path / "mine").keys() == {"desk", *SHIPPED}


@pytest.mark.usefixtures("conductor_home")
def test_in_the_clone_itself_it_is_loaded(clone: Path) -> None:
    assert found(clone).keys() == {"opening_hours", *SHIPPED}


@pytest.mark.usefixtures("conductor_home", "clone")
def test_a_plugin_of_the_same_folder_name_takes_the_place_of_a_shipped_one(tmp_path: Path) -> None:
    mine = tmp_path / "mine" / SHIPPED[0]
    write_plugin(mine)

    assert found(mine.parent) == {SHIPPED[0]: str(mine)}
