"""Which tools a process has: its own first, then those of plugins."""

from __future__ import annotations

from pathlib import Path

from conductor_ai.errors import InvalidInput, MissingExtra
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import PluginInfo, ToolRegistry
from conductor_ai.tools.sandbox import Sandbox
from conductor_ai.wiring.plugins import load_plugins
from conductor_ai.wiring.sandbox import sandbox_of
from conductor_ai.wiring.sql_tools import register_sql


def load_tools(
    settings: Settings, plugins_dir: Path | None = None, *, sandbox: Sandbox | None = None
) -> tuple[ToolRegistry, list[PluginInfo]]:
    """A registry with all tools, and the plugins that were found. A folder that somebody named must exist.

    A tool that lacks its extra, or cannot work on this machine, is unavailable in the registry; the others are there.

    Args:
        sandbox: Where `code_run` runs code; None: one that nobody closes, for whoever only lists tools.
    Raises: InvalidInput for settings that cannot be used.
    """
    registry = ToolRegistry()
    _register_web_fetch(registry, settings)
    _register_code_run(registry, sandbox or sandbox_of(settings))
    register_sql(registry, settings)
    return registry, load_plugins(registry, settings, plugins_dir)


def _register_web_fetch(registry: ToolRegistry, settings: Settings) -> None:
    from conductor_ai.sdk.security import parse_grants
    from conductor_ai.tools.web_fetch import WebFetchTool

    grants = settings.conductor_fetch_grants
    try:
        parse_grants(grants)  # a slip in it is told even where the tool cannot be built
    except InvalidInput as exc:
        raise InvalidInput(f"CONDUCTOR_FETCH_GRANTS: {exc}", hint=exc.hint) from exc
    try:
        registry.register(WebFetchTool(grants=grants.split(",") if grants.strip() else ()))
    except MissingExtra as exc:
        registry.keep_unavailable("web_fetch", exc)


def _register_code_run(registry: ToolRegistry, sandbox: Sandbox) -> None:
    from conductor_ai.tools.code_run import NAME, CodeRunTool

    if (lacking := sandbox.missing()) is None:
        registry.register(CodeRunTool(sandbox=sandbox))
    else:
        registry.keep_unavailable(NAME, lacking)
