"""`conductor plugins`: which folders of tools were found, and the beginning of a new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from conductor_ai.cli.options import AsJSON, PluginsDir


def list_plugins(as_json: AsJSON = False, plugins_dir: PluginsDir = None) -> int:
    """List plugins with their tools; a broken one with its error."""
    from conductor_ai.cli.door import loaded_tools
    from conductor_ai.cli.output import say_json, say_table

    _, found = loaded_tools(plugins_dir)
    if as_json:
        say_json([{"name": p.name, "path": p.path, "tools": list(p.tools), "error": p.error} for p in found])
        return 0
    rows = [(p.name, f"broken: {p.error}" if p.error else ", ".join(p.tools), p.path) for p in found]
    say_table(("plugin", "tools", "from"), rows, shorten=("tools", "from"))
    return 0


def new(
    name: Annotated[str, typer.Argument(help="Name of the plugin, a Python identifier.")],
    plugins_dir: PluginsDir = None,
    as_json: AsJSON = False,
) -> int:
    """Write a small working plugin to begin from."""
    from conductor_ai.cli.output import note, say, say_json
    from conductor_ai.settings import Settings
    from conductor_ai.tools.scaffold import new_plugin

    path = new_plugin(name, plugins_dir or Settings.load().conductor_plugins_dir)
    if as_json:
        say_json({"name": name, "path": str(path)})
        return 0
    say(str(path))
    note("its tools: conductor tools list")
    return 0


COMMANDS: dict[str, Callable[..., Any]] = {"list": list_plugins, "new": new}
