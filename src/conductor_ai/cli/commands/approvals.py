"""`conductor approvals`: what agents wait for, and the decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from conductor_ai.cli.options import AsJSON

ApprovalId = Annotated[str, typer.Argument(metavar="ID", help="Approval id, or six or more characters of its end.")]


def list_approvals(as_json: AsJSON = False) -> int:
    """List the tool calls, and the actions inside them, that wait for a decision."""
    import asyncio

    return asyncio.run(_list(as_json=as_json))


async def _list(*, as_json: bool) -> int:
    import json

    from conductor_ai.cli.door import has_database, opened
    from conductor_ai.cli.output import note, say, say_json
    from conductor_ai.cli.text import asker, exact

    records: list[dict[str, Any]] = []
    if has_database():
        async with opened() as conductor:
            records = [approval.to_dict() for approval in await conductor.approvals()]
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


def approve(approval_id: ApprovalId, as_json: AsJSON = False) -> int:
    """Allow one tool call or action, exactly as it was asked for. `conductor resume` then makes it."""
    return _decide(approval_id, "approved", None, as_json=as_json)


def deny(
    approval_id: ApprovalId,
    reason: Annotated[str | None, typer.Option("--reason", help="Told to the model.")] = None,
    as_json: AsJSON = False,
) -> int:
    """Refuse one tool call or action. `conductor resume` then tells the model."""
    return _decide(approval_id, "denied", reason, as_json=as_json)


def _decide(part: str, decision: Literal["approved", "denied"], reason: str | None, *, as_json: bool) -> int:
    import asyncio

    return asyncio.run(_decide_async(part, decision, reason, as_json=as_json))


async def _decide_async(
    part: str, decision: Literal["approved", "denied"], reason: str | None, *, as_json: bool
) -> int:
    from conductor_ai.cli.door import approval_id_of, opened, person
    from conductor_ai.cli.output import note, say, say_json
    from conductor_ai.cli.text import asker

    async with opened() as conductor:
        approval_id = await approval_id_of(conductor, part)
        record = await conductor.decide(approval_id, decision, by=person(), reason=reason)
    if as_json:
        say_json(record.to_dict())
        return 0
    say(f"{record.approval_id} {record.status.value}")
    note(f"that was {asker(record.tool_name, record.action)}; go on: conductor resume {record.session_id}")
    return 0


COMMANDS: dict[str, Callable[..., Any]] = {"list": list_approvals, "approve": approve, "deny": deny}
