"""`conductor approvals`: what agents wait for, and the decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from conductor_ai.cli.options import AsJSON, Server

ApprovalId = Annotated[str, typer.Argument(metavar="ID", help="Approval id, or six or more characters of its end.")]


def list_approvals(as_json: AsJSON = False, server: Server = None) -> int:
    """List the tool calls, and the actions inside them, that wait for a decision."""
    import asyncio

    return asyncio.run(_list(server, as_json=as_json))


async def _list(server: str | None, *, as_json: bool) -> int:
    import json

    from conductor_ai.cli.door import door_to, has_database
    from conductor_ai.cli.output import note, say, say_json
    from conductor_ai.cli.text import asker, exact

    records: list[dict[str, Any]] = []
    if server is not None or has_database():
        async with door_to(server) as door:
            records = [approval.to_dict() for approval in await door.approvals()]
    if as_json:
        say_json(records)
        return 0
    if not records:
        note("nothing waits for approval")
    for record in records:
        who = asker(record["tool_name"], record["action"])
        say(f"{record['approval_id']}  {who}  session {record['session_id']}")
        say(f"  {exact(json.dumps(record['arguments'], ensure_ascii=False))}")
    return 0


def approve(approval_id: ApprovalId, as_json: AsJSON = False, server: Server = None) -> int:
    """Allow one tool call or action, exactly as it was asked for. `conductor resume` then makes it; a server makes it
    by itself."""
    return _decide(approval_id, "approved", None, server, as_json=as_json)


def deny(
    approval_id: ApprovalId,
    reason: Annotated[str | None, typer.Option("--reason", help="Told to the model.")] = None,
    as_json: AsJSON = False,
    server: Server = None,
) -> int:
    """Refuse one tool call or action. `conductor resume` then tells the model; a server tells it by itself."""
    return _decide(approval_id, "denied", reason, server, as_json=as_json)


def _decide(
    part: str, decision: Literal["approved", "denied"], reason: str | None, server: str | None, *, as_json: bool
) -> int:
    import asyncio

    return asyncio.run(_decide_async(part, decision, reason, server, as_json=as_json))


async def _decide_async(
    part: str, decision: Literal["approved", "denied"], reason: str | None, server: str | None, *, as_json: bool
) -> int:
    from conductor_ai.cli.door import approval_id_of, door_to, person
    from conductor_ai.cli.output import note, say, say_json
    from conductor_ai.cli.text import asker

    async with door_to(server) as door:
        approval_id = await approval_id_of(door, part)
        record = await door.decide(approval_id, decision, by=person(), reason=reason)
    if as_json:
        say_json(record.to_dict())
        return 0
    say(f"{record.approval_id} {record.status}")
    goes_on = f"go on: conductor resume {record.session_id}"
    if server is not None:
        goes_on = "its session goes on by itself once nothing waits"
    note(f"that was {asker(record.tool_name, record.action)}; {goes_on}")
    return 0


COMMANDS: dict[str, Callable[..., Any]] = {"list": list_approvals, "approve": approve, "deny": deny}
