"""Which plugins a process loads: the bundled ones, the operator's folder, and installed packages."""

from __future__ import annotations

from pathlib import Path

from conductor_ai.bundled import bundled
from conductor_ai.errors import InvalidInput
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import PluginInfo, PluginLoader, ToolRegistry


def load_plugins(settings: Settings, plugins_dir: Path | None = None) -> tuple[ToolRegistry, list[PluginInfo]]:
    """A registry with all tools found, and what was found. A folder named by the caller must exist.

    A plugin in the operator's folder takes the place of the bundled one of the same name.
    """
    if plugins_dir is not None and not plugins_dir.is_dir():
        raise InvalidInput(f"there is no plugins folder {plugins_dir}")
    folder = plugins_dir or Path(settings.conductor_plugins_dir)
    registry = ToolRegistry()
    found = PluginLoader.discover_and_register(registry, plugins_dir=folder) if folder.is_dir() else []
    names = {plugin.name for plugin in found}
    shipped = bundled("plugins")
    if shipped.resolve() != folder.resolve():
        found += PluginLoader.discover_and_register(registry, plugins_dir=shipped, skip=names)
    return registry, found
