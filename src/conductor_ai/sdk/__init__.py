"""What a plugin author imports: five names.

Importing them loads pydantic and the standard library. Beside them stand `conductor_ai.sdk.testing`, for an author's
tests, and `conductor_ai.sdk.context.current_context`, for functions (a class has `self.context`).
"""

from __future__ import annotations

from typing import NoReturn

from conductor_ai.sdk.base import BaseTool, ToolCategory, ToolDefinition, ToolResult
from conductor_ai.sdk.registry import PluginRegistry

__all__ = ["BaseTool", "PluginRegistry", "ToolCategory", "ToolDefinition", "ToolResult"]


def __getattr__(name: str) -> NoReturn:
    if name == "ConductorClient":
        # ImportError, since `from ... import` would replace the words of an AttributeError by its own.
        raise ImportError("ConductorClient is the client of the HTTP API, which this version does not have yet")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
