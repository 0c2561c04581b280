"""Tools of an office: one that looks, one that charges and must not do it twice, one that a person has to allow.

Each run leaves one line in the file that `OFFICE_EFFECTS` names: the tool, and the idempotency key of the call.
"""

from __future__ import annotations

import json
import os
from typing import Protocol

from conductor_ai.sdk import BaseTool, PluginRegistry
from conductor_ai.sdk.context import current_context

registry = PluginRegistry()


class Tools(Protocol):
    def register(self, tool: BaseTool) -> None: ...


@registry.tool(effect="read")
async def look_up(word: str) -> dict[str, str]:
    """Look a word up.

    Args:
        word: What to look up.
    """
    _leave_a_mark("look_up")
    return {"meaning": word.upper()}


@registry.tool(effect="once")
async def charge(word: str) -> dict[str, str]:
    """Charge somebody.

    Args:
        word: Whom to charge.
    """
    return _act("charge", word)


@registry.tool(effect="once", requires_approval=True)
async def send(word: str) -> dict[str, str]:
    """Send something.

    Args:
        word: What to send.
    """
    return _act("send", word)


def register(global_registry: Tools) -> None:
    for tool in registry.tools:
        global_registry.register(tool)


def _act(tool: str, word: str) -> dict[str, str]:
    _leave_a_mark(tool)
    return {"done": word}


def _leave_a_mark(tool: str) -> None:
    """The effect: one line, written in one go."""
    told = {"tool": tool, "key": current_context().idempotency_key, "pid": os.getpid()}
    file = os.open(os.environ["OFFICE_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, json.dumps(told).encode() + b"\n")
    finally:
        os.close(file)
