"""What a plugin author imports: five names.

Importing them loads pydantic and the standard library. Beside them stand `conductor_ai.sdk.testing`, for an author's
tests, `conductor_ai.sdk.context.current_context`, for functions (a class has `self.context`), and `ConductorClient`,
the client of the HTTP API, which is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conductor_ai.sdk.base import BaseTool, ToolCategory, ToolDefinition, ToolResult
from conductor_ai.sdk.registry import PluginRegistry

if TYPE_CHECKING:
    from conductor_ai.client import ConductorClient as ConductorClient

__all__ = ["BaseTool", "PluginRegistry", "ToolCategory", "ToolDefinition", "ToolResult"]


def __getattr__(name: str) -> Any:
    if name == "ConductorClient":
        from conductor_ai.client import ConductorClient

        return ConductorClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
