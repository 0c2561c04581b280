"""`conductor agents`: which agents there are in files, and what one of them says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conductor_ai.cli.options import AgentsDir, AsJSON, Server, refuse_with_server
from conductor_ai.errors import UnknownAgent

if TYPE_CHECKING:
    from pathlib import Path

    from conductor_ai.conductor import AgentSpec


def list_agents(as_json: AsJSON = False, agents_dir: AgentsDir = None, server: Server = None) -> int:
    """List agents in files; a broken one with its error."""
    from conductor_ai.cli.output import say_json, say_table

    refuse_with_server(server, agents_dir=agents_dir)
    found = [agent.to_dict() for agent in _loaded(agents_dir)] if server is None else _asked(server)
    if as_json:
        say_json(found)
        return 0
    rows = [
        (
            agent["name"],
            f"broken: {agent['error']}" if agent["error"] else agent["description"],
            _tools(agent),
            agent.get("path", "the server"),
        )
        for agent in found
    ]
    say_table(("agent", "what it does", "tools", "from"), rows, shorten=("what it does", "tools", "from"))
    return 0


def show(
    name: Annotated[str, typer.Argument(help="The agent.")],
    as_json: AsJSON = False,
    agents_dir: AgentsDir = None,
    server: Server = None,
) -> int:
    """Show one agent: its model, tools, limits, how the model is asked, and instructions."""
    from conductor_ai.cli.output import say, say_json
    from conductor_ai.cli.text import json_line
    from conductor_ai.conductor.agent_files import find_agent

    refuse_with_server(server, agents_dir=agents_dir)
    agent = find_agent(_loaded(agents_dir), name).to_dict() if server is None else _found(_asked(server), name)
    if as_json:
        say_json(agent)
        return 0
    say(f"name: {agent['name']}")
    say(f"description: {agent['description']}")
    say(f"model: {', then '.join(agent['models']) or 'the default model'}")
    say(f"tools: {_tools(agent)}")
    for heading in ("limits", "parameters"):
        named = {name: value for name, value in agent[heading].items() if value is not None}
        if named or heading == "limits":
            say(f"{heading}: {json_line(named, 400)}")
    if agent["response_schema"] is not None:
        say(f"response_schema: {json_line(agent['response_schema'], 400)}")
    say(f"from: {agent.get('path', server)}")
    say(f"\n{agent['instructions']}")
    return 0


def _loaded(agents_dir: Path | None) -> list[AgentSpec]:
    from conductor_ai.settings import Settings
    from conductor_ai.wiring.agents import load_agent_files

    return load_agent_files(Settings.load(), agents_dir)


def _asked(server: str) -> list[dict[str, Any]]:
    import asyncio

    from conductor_ai.cli.remote import agents_of

    return asyncio.run(agents_of(server))


def _found(agents: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Raises: UnknownAgent, also for one whose file is broken."""
    found = next((agent for agent in agents if agent["name"] == name), None)
    if found is None:
        raise UnknownAgent(f"unknown agent {name!r}", hint=f"agents are: {', '.join(one['name'] for one in agents)}")
    if found["error"]:
        raise UnknownAgent(f"agent {name} cannot be used: {found['error']}", hint="mend its file on the server")
    return found


def _tools(agent: dict[str, Any]) -> str:
    if agent["error"]:
        return "-"
    return "all" if agent["tools"] is None else ", ".join(agent["tools"]) or "none"


COMMANDS: dict[str, Callable[..., Any]] = {"list": list_agents, "show": show}
