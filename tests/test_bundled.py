"""The folders that travel with the package are found in a checkout and in an installed wheel."""

from __future__ import annotations

import importlib.util
import shutil
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import conductor_ai.bundled
from conductor_ai.bundled import bundled

ROOT = Path(__file__).parents[1]


def installed(site_packages: Path) -> ModuleType:
    """The module as it stands in an installation under `site_packages`."""
    package = site_packages / "conductor_ai"
    package.mkdir(parents=True)
    copy = shutil.copy(conductor_ai.bundled.__file__, package)
    spec = importlib.util.spec_from_file_location("bundled_in_a_wheel", copy)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_checkout_has_the_folders_at_its_root() -> None:
    assert bundled("sql") == ROOT / "sql"
    assert bundled("plugins") == ROOT / "plugins"
    assert bundled("agents") == ROOT / "agents"


def test_a_wheel_has_them_where_the_build_puts_them(tmp_path: Path) -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    module = installed(tmp_path)
    for target in build["force-include"].values():
        (tmp_path / target).mkdir(parents=True)
    for name in ("sql", "plugins", "agents"):
        assert module.bundled(name) == tmp_path / "conductor_ai" / "_data" / name


def test_a_broken_installation_says_so(tmp_path: Path) -> None:
    (tmp_path / "sql").mkdir()  # no checkout of ours: there is no project file beside it
    module = installed(tmp_path / "lib")
    with pytest.raises(RuntimeError, match="'sql' is missing"):
        module.bundled("sql")
