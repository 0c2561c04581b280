"""Which plugins a process loads: the bundled ones, the operator's folder, and installed packages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from conductor_ai.bundled import bundled
from conductor_ai.observability.redaction import Redactor
from conductor_ai.settings import Settings
from conductor_ai.tools.plugin_loader import SHIPPED
from conductor_ai.tools.registry import PluginInfo, PluginLoader, ToolRegistry
from conductor_ai.wiring.folders import operators_folder


def load_plugins(registry: ToolRegistry, settings: Settings, plugins_dir: Path | None = None) -> list[PluginInfo]:
    """Register the tools of every plugin found, and say what was found, errors without secrets. A folder that
    somebody named must exist.

    A plugin in the operator's folder takes the place of the bundled one of the same name.
    """
    folder = operators_folder(settings, "plugins", plugins_dir)
    found = [] if folder is None else PluginLoader.discover_and_register(registry, plugins_dir=folder)
    names = {plugin.name for plugin in found}
    shipped = bundled("plugins")
    if folder is None or shipped.resolve() != folder.resolve():
        found += PluginLoader.discover_and_register(registry, plugins_dir=shipped, only=SHIPPED, skip=names)
    redactor = Redactor(settings.secrets())
    return [one if one.error is None else replace(one, error=redactor.clean_log(one.error)) for one in found]
