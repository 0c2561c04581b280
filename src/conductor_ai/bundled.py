"""Finds the folders that travel with the package but are not Python: migrations, plugins and agents."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def bundled(name: Literal["sql", "plugins", "agents"]) -> Path:
    """The folder `name`: inside an installed wheel `conductor_ai/_data/<name>`, in a checkout `<name>` at its root.

    Raises: RuntimeError where neither is there: the installation is broken.
    """
    package = Path(__file__).parent
    installed = package / "_data" / name
    if installed.is_dir():
        return installed
    root = package.parent.parent
    if (root / "pyproject.toml").is_file() and (root / name).is_dir():
        return root / name
    raise RuntimeError(f"the folder {name!r} is missing beside {package}: install conductor-ai again")
