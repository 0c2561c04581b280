"""Which agents a process knows: those of the operator's folder, and the bundled ones."""

from __future__ import annotations

from pathlib import Path

from conductor_ai.bundled import bundled
from conductor_ai.conductor.agent_files import AgentSpec, load_agents
from conductor_ai.settings import Settings
from conductor_ai.wiring.folders import operators_folder

SHIPPED = ("web-researcher",)
"""The agents that are part of conductor-ai. In a clone they share their folder with whatever a user writes there."""


def load_agent_files(settings: Settings, agents_dir: Path | None = None) -> list[AgentSpec]:
    """Every agent by name, broken ones with their error. A folder that somebody named must exist.

    An agent in the operator's folder takes the place of the bundled one of the same name, a broken one too: nobody
    gets other instructions than the ones they wrote.
    """
    folder = operators_folder(settings, "agents", agents_dir)
    found = [] if folder is None else load_agents(folder)
    shipped = bundled("agents")
    if folder is None or shipped.resolve() != folder.resolve():
        names = {agent.name for agent in found}
        found += load_agents(shipped, only=set(SHIPPED) - names)
    return sorted(found, key=lambda agent: agent.name)
