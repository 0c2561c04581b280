"""`conductor tools`: what a model may call, and one call without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conductor_ai.cli.options import AsJSON, PluginsDir, Server, Yes, refuse_with_server
from conductor_ai.errors import InvalidInput, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from conductor_ai.errors import MissingExtra, ToolUnavailable
    from conductor_ai.sdk.base import ToolDefinition
    from conductor_ai.sdk.security.approval import ApprovalRequest


def list_tools(as_json: AsJSON = False, plugins_dir: PluginsDir = None, server: Server = None) -> int:
    """List tools: what they do, what repeating a call means, and whether they need approval.

    A tool that lacks its extra is listed as unavailable, with the line that installs it.
    """
    from conductor_ai.cli.output import say_json, say_table

    refuse_with_server(server, plugins_dir=plugins_dir)
    definitions, unavailable = _known(plugins_dir, server)
    if as_json:
        say_json([definition.model_dump(mode="json") for definition in definitions])
        return 0
    rows = [(name, "unavailable", "-", f"{lacking}: {lacking.hint}") for name, lacking in unavailable.items()]
    rows += [(d.name, d.effect, "yes" if d.requires_approval else "no", d.description) for d in definitions]
    say_table(("tool", "effect", "approval", "what it does"), rows, shorten=("what it does",))
    return 0


def _known(
    plugins_dir: Path | None, server: str | None
) -> tuple[Sequence[ToolDefinition], Mapping[str, MissingExtra | ToolUnavailable]]:
    """The tools, and what lacks something here; a server says only what it can run."""
    import asyncio

    from conductor_ai.cli.door import loaded_tools

    if server is None:
        registry, _ = loaded_tools(plugins_dir)
        return registry.definitions, registry.unavailable
    from conductor_ai.cli.remote import tools_of

    return asyncio.run(tools_of(server)), {}


def call(
    name: Annotated[str, typer.Argument(help="The tool.")],
    arguments: Annotated[str, typer.Argument(metavar="JSON", help="Its arguments, a JSON object.")] = "{}",
    yes: Yes = False,
    as_json: AsJSON = False,
    plugins_dir: PluginsDir = None,
) -> int:
    """Call one tool, outside any session; the audit records it. A tool that needs approval asks first."""
    import asyncio
    import json

    from conductor_ai.cli.output import say, say_error, say_json

    result = asyncio.run(_call(name, _parsed(arguments), plugins_dir, confirmed=yes, as_json=as_json))
    if as_json:
        say_json(result)
    elif not result["success"]:
        say_error("tool_failed", result["error"] or "the tool gave no reason", None, as_json=False)
    else:
        value = result["result"]
        say(value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False))
    return 0 if result["success"] else 1


async def _call(
    name: str, arguments: dict[str, Any], plugins_dir: Any, *, confirmed: bool, as_json: bool
) -> dict[str, Any]:
    from conductor_ai.cli.door import opened

    async with opened(plugins_dir) as conductor:
        definition = conductor.tool(name)

        async def approver(request: ApprovalRequest) -> bool:
            await _confirm(name, request.arguments, request.action, confirmed=confirmed, as_json=as_json)
            return True

        if definition.requires_approval:
            await _confirm(name, arguments, None, confirmed=confirmed, as_json=as_json)
        result = await conductor.call_tool(name, arguments, approver=approver)
    return result.model_dump(mode="json")


async def _confirm(name: str, arguments: dict[str, Any], action: str | None, *, confirmed: bool, as_json: bool) -> None:
    """Raises: UsageError where the call, or the action of it that asks, is not allowed."""
    from conductor_ai.cli.asking import ask_yes_no, can_ask, show_call
    from conductor_ai.cli.text import asker

    who = asker(name, action)
    if confirmed:
        return
    if as_json or not can_ask():
        raise UsageError(f"{who} needs approval", hint="--yes allows this one call")
    show_call(who, arguments)
    if not await ask_yes_no(f"allow {who}?"):
        raise UsageError(f"{who} was not called: not allowed")


def _parsed(text: str) -> dict[str, Any]:
    from conductor_ai.schemas import json_text

    try:
        value = json_text.loads(text)
    except ValueError as error:
        raise InvalidInput(f"arguments are not JSON: {error}", hint="""quote them: '{"name": "value"}'""") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"arguments must be a JSON object, got {text!r}")
    return value


COMMANDS: dict[str, Callable[..., Any]] = {"list": list_tools, "call": call}
