"""The tool that runs of `service.py` call."""

from __future__ import annotations

from typing import Any

from conductor_ai.sdk import PluginRegistry

registry = PluginRegistry()


@registry.tool(effect="read")
async def look_up(key: str) -> dict[str, Any]:
    """Look up one dealer.

    Args:
        key: Which dealer to look up.
    """
    return {"key": key, "city": "Springfield", "phone": "+1 555 0100", "open_slots": 3}


def register(global_registry: Any) -> None:
    for tool in registry.tools:
        global_registry.register(tool)
