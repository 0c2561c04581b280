"""Where conductor-ai asks this plugin for its tools."""

from typing import Any

from .tools import registry


def register(global_registry: Any) -> None:
    """Called once by the plugin loader."""
    for tool in registry.tools:
        global_registry.register(tool)
