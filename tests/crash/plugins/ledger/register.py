"""Tools whose every run leaves a line in a file of the test's, and which stop where the test holds them."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Protocol

from conductor_ai.sdk import BaseTool, PluginRegistry
from conductor_ai.sdk.context import current_context
from conductor_ai.sdk.security.approval import require_approval

registry = PluginRegistry()


class Tools(Protocol):
    def register(self, tool: BaseTool) -> None: ...


@registry.tool(effect="read")
async def look_up(item: str) -> dict[str, str]:
    """Look an item up.

    Args:
        item: What to look up.
    """
    return await _act("look_up", item)


@registry.tool(effect="idempotent")
async def save(item: str) -> dict[str, str]:
    """Save an item; saving it again changes nothing.

    Args:
        item: What to save.
    """
    return await _act("save", item)


@registry.tool(effect="once")
async def charge(item: str) -> dict[str, str]:
    """Charge for an item.

    Args:
        item: What to charge for.
    """
    return await _act("charge", item)


@registry.tool(effect="once", requires_approval=True)
async def send(item: str) -> dict[str, str]:
    """Send an item.

    Args:
        item: What to send.
    """
    return await _act("send", item)


@registry.tool(effect="once")
async def deploy(item: str) -> dict[str, str]:
    """Deploy an item; a person is asked on the way.

    Args:
        item: What to deploy.
    """
    await _stop_at("deploy:entered", current_context().idempotency_key)
    return await _release("deploy", item)


@registry.tool(effect="idempotent")
async def publish(item: str) -> dict[str, str]:
    """Publish an item, which may be done again; a person is asked on the way.

    Args:
        item: What to publish.
    """
    await _stop_at("publish:entered", current_context().idempotency_key)
    return await _release("publish", item)


def register(global_registry: Tools) -> None:
    for tool in registry.tools:
        global_registry.register(tool)


async def _act(tool: str, item: str) -> dict[str, str]:
    key = current_context().idempotency_key
    await _stop_at(f"{tool}:begin", key)
    _leave_a_mark(tool, key)
    await _stop_at(f"{tool}:acted", key)
    return {"item": item, "key": key}


@require_approval(category="release")
async def _release(tool: str, item: str) -> dict[str, str]:
    return await _act(tool, item)


async def _stop_at(point: str, key: str) -> None:
    """Tell the test where this call is, and go on when it says so."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(os.environ["CRASH_STAGE_PORT"]))
    try:
        writer.write(f"{point} {key}\n".encode())
        await reader.readline()
    finally:
        writer.close()


def _leave_a_mark(tool: str, key: str) -> None:
    """The effect: one line, on the disk when this returns."""
    line = json.dumps({"tool": tool, "key": key, "pid": os.getpid()}) + "\n"
    file = os.open(os.environ["CRASH_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
        os.fsync(file)
    finally:
        os.close(file)
