"""The vocabulary of tools, at the path the plan gives it; it lives in `conductor_ai.sdk.base`."""

from conductor_ai.sdk.base import BaseTool, ToolCategory, ToolDefinition, ToolEffect, ToolResult

__all__ = ["BaseTool", "ToolCategory", "ToolDefinition", "ToolEffect", "ToolResult"]
