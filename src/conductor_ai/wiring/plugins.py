"""Which plugins a process loads: the bundled ones, the operator's folder, and installed packages."""

from __future__ import annotations

from pathlib import Path

from conductor_ai.bundled import bundled
from conductor_ai.errors import InvalidInput
from conductor_ai.settings import Settings
from conductor_ai.tools.plugin_loader import SHIPPED
from conductor_ai.tools.registry import PluginInfo, PluginLoader, ToolRegistry


def load_plugins(settings: Settings, plugins_dir: Path | None = None) -> tuple[ToolRegistry, list[PluginInfo]]:
    """A registry with all tools found, and what was found. A folder that somebody named must exist.

    A plugin in the operator's folder takes the place of the bundled one of the same name.
    """
    if plugins_dir is not None and not plugins_dir.is_dir():
        raise InvalidInput(f"there is no plugins folder {plugins_dir}")
    folder = plugins_dir or settings.conductor_plugins_dir
    # A copy of .env.example names the default, which is there for whoever has plugins.
    if folder != Settings.model_fields["conductor_plugins_dir"].default and not folder.is_dir():
        raise InvalidInput(f"there is no plugins folder {folder}", hint="CONDUCTOR_PLUGINS_DIR names it")
    registry = ToolRegistry()
    found = PluginLoader.discover_and_register(registry, plugins_dir=folder) if folder.is_dir() else []
    names = {plugin.name for plugin in found}
    shipped = bundled("plugins")
    if shipped.resolve() != folder.resolve():
        found += PluginLoader.discover_and_register(registry, plugins_dir=shipped, only=SHIPPED, skip=names)
    return registry, found
