from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from conductor_ai.errors import InvalidInput
from conductor_ai.tools.registry import PluginLoader, ToolRegistry
from conductor_ai.tools.scaffold import TEMPLATE, new_plugin

PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the template, in the place from which `new_plugin` takes it."""
    shipped = tmp_path / "shipped"
    unwanted = shutil.ignore_patterns("__pycache__")
    copy = Path(shutil.copytree(PLUGINS / TEMPLATE, shipped / TEMPLATE, ignore=unwanted))
    monkeypatch.setattr("conductor_ai.tools.scaffold.bundled", lambda _name: shipped)
    return copy


def test_a_new_plugin_loads_beside_the_one_it_was_copied_from(tmp_path: Path) -> None:
    registry = ToolRegistry()
    folder = new_plugin("dealer_mail", tmp_path / "new" / "plugins")

    [template] = PluginLoader.discover_and_register(registry, PLUGINS, only={TEMPLATE})
    [plugin] = PluginLoader.discover_and_register(registry, folder.parent)

    assert folder == tmp_path / "new" / "plugins" / "dealer_mail"
    assert plugin.error is None
    assert plugin.tools == tuple(f"dealer_mail_{name}" for name in template.tools)
    assert len(plugin.tools) == 4


def test_nothing_of_the_templates_name_is_left(tmp_path: Path) -> None:
    folder = new_plugin("dealer_mail", tmp_path)

    assert [path for path in folder.rglob("*") if path.is_file() and "example_plugin" in path.read_text()] == []
    assert [path.name for path in tmp_path.iterdir()] == ["dealer_mail"]


def test_the_tests_of_a_new_plugin_pass_as_they_are(tmp_path: Path) -> None:
    new_plugin("dealer_mail", tmp_path / "plugins")
    # As in a fresh project: no configuration of ours, no plugins of pytest.
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "plugins/dealer_mail"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x",
        "Dealer",
        "dealer-mail",
        "../evil",
        "a/b",
        "9lives",
        "naïve",
        "x" * 41,
        "class",
        "match",
        "tests",
        "name\n",
    ]
    + ["json", "pytest", "conductor_ai", "__main__"],
)
def test_a_name_that_cannot_be_a_package_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        new_plugin(name, tmp_path / "plugins")

    assert list(tmp_path.iterdir()) == []


def test_the_name_of_a_module_without_a_file_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "loose_module", ModuleType("loose_module"))

    with pytest.raises(InvalidInput, match="'loose_module' is the name of a Python module already"):
        new_plugin("loose_module", tmp_path)


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "nowhere")

    for name in ("mine", "linked"):
        with pytest.raises(InvalidInput, match=f"{name} exists already"):
            new_plugin(name, tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["linked", "mine"]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidInput, match="cannot be written"):
        new_plugin("dealer_mail", tmp_path / "file")


def test_the_copy_of_a_read_only_template_can_be_changed(tmp_path: Path, template: Path) -> None:
    for waste in ("__pycache__", ".pytest_cache"):
        (template / "tests" / waste).mkdir()
        (template / "tests" / waste / "left_over").write_text("")
    for path in (template, *template.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)

    folder = new_plugin("dealer_mail", tmp_path / "plugins")

    copied = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert copied == {
        path.relative_to(template).as_posix()
        for path in template.rglob("*")
        if not {"__pycache__", ".pytest_cache"} & set(path.parts)
    }
    for path in (folder, *folder.rglob("*")):
        assert path.stat().st_mode & stat.S_IWUSR, path
        assert not path.is_dir() or path.stat().st_mode & stat.S_IXUSR, path


def test_a_failed_copy_leaves_nothing_behind(tmp_path: Path, template: Path) -> None:
    (template / "data" / "lost.csv").symlink_to(tmp_path / "nowhere")
    (tmp_path / "there").mkdir()

    for plugins_dir in (tmp_path / "new" / "plugins", tmp_path / "there"):
        with pytest.raises(InvalidInput, match="dealer_mail cannot be written: No such file"):
            new_plugin("dealer_mail", plugins_dir)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["shipped", "there"]
    assert list((tmp_path / "there").iterdir()) == []
