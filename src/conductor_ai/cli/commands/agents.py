"""`conductor agents`: which agents there are in files, and what one of them says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conductor_ai.cli.options import AgentsDir, AsJSON

if TYPE_CHECKING:
    from pathlib import Path

    from conductor_ai.conductor import AgentSpec


def list_agents(as_json: AsJSON = False, agents_dir: AgentsDir = None) -> int:
    """List agents in files; a broken one with its error."""
    from conductor_ai.cli.output import say_json, say_table

    found = _loaded(agents_dir)
    if as_json:
        say_json([agent.to_dict() for agent in found])
        return 0
    rows = [
        (agent.name, f"broken: {agent.error}" if agent.error else agent.description, _tools(agent), agent.path)
        for agent in found
    ]
    say_table(("agent", "what it does", "tools", "from"), rows, shorten=("what it does", "tools", "from"))
    return 0


def show(
    name: Annotated[str, typer.Argument(help="The agent.")], as_json: AsJSON = False, agents_dir: AgentsDir = None
) -> int:
    """Show one agent: its model, tools, limits, how the model is asked, and instructions."""
    from conductor_ai.cli.output import say, say_json
    from conductor_ai.cli.text import json_line
    from conductor_ai.conductor.agent_files import find_agent

    agent = find_agent(_loaded(agents_dir), name)
    if as_json:
        say_json(agent.to_dict())
        return 0
    say(f"name: {agent.name}")
    say(f"description: {agent.description}")
    say(f"model: {', then '.join(agent.models) or 'the default model'}")
    say(f"tools: {_tools(agent)}")
    bounds = {name: value for name, value in agent.limits.to_dict().items() if value is not None}
    say(f"limits: {json_line(bounds, 400)}")
    asked = {name: value for name, value in agent.parameters.to_dict().items() if value is not None}
    if asked:
        say(f"parameters: {json_line(asked, 400)}")
    if agent.response_schema is not None:
        say(f"response_schema: {json_line(agent.response_schema, 400)}")
    say(f"from: {agent.path}")
    say(f"\n{agent.instructions}")
    return 0


def _loaded(agents_dir: Path | None) -> list[AgentSpec]:
    from conductor_ai.settings import Settings
    from conductor_ai.wiring.agents import load_agent_files

    return load_agent_files(Settings.load(), agents_dir)


def _tools(agent: AgentSpec) -> str:
    if agent.error:
        return "-"
    return "all" if agent.tools is None else ", ".join(agent.tools) or "none"


COMMANDS: dict[str, Callable[..., Any]] = {"list": list_agents, "show": show}
