"""`conductor sessions`: what ran, what it did, what it cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conductor_ai.cli.commands.export import export, replay
from conductor_ai.cli.commands.files import files
from conductor_ai.cli.options import AsJSON, Server, SessionId, Yes
from conductor_ai.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conductor_ai.cli.door import SessionView
    from conductor_ai.schemas.steps import AgentStep
    from conductor_ai.schemas.usage import Usage


def list_sessions(
    status: Annotated[str | None, typer.Option("--status", help="Only sessions with this status.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 100,
    as_json: AsJSON = False,
    server: Server = None,
) -> int:
    """List sessions, newest first."""
    import asyncio

    return asyncio.run(_list(status, limit, server, as_json=as_json))


async def _list(status: str | None, limit: int, server: str | None, *, as_json: bool) -> int:
    from conductor_ai.cli.door import door_to, has_database
    from conductor_ai.cli.output import note, say_json, say_table
    from conductor_ai.cli.text import money
    from conductor_ai.schemas.session import SessionStatus

    if status is not None and status not in set(SessionStatus):
        raise UsageError(f"unknown status {status!r}", hint=f"one of: {', '.join(SessionStatus)}")
    wanted = None if status is None else SessionStatus(status)
    sessions: Sequence[SessionView] = []
    if server is not None or has_database():
        async with door_to(server) as door:
            sessions = await door.sessions(status=wanted, limit=limit)
    if as_json:
        say_json([session.to_dict() for session in sessions])
        return 0
    if not sessions:
        note("no sessions yet" if status is None else f"no sessions are {status}")
        return 0
    rows = [(s.session_id, s.status.value, s.created_at[:19], s.model, money(s.cost_usd), s.title) for s in sessions]
    say_table(("session", "status", "created (UTC)", "model", "cost", "task"), rows, shorten=("model", "task"))
    return 0


def show(session_id: SessionId, as_json: AsJSON = False, server: Server = None) -> int:
    """Show one session: its steps, tool calls, figures, answer and files."""
    import asyncio

    return asyncio.run(_show(session_id, server, as_json=as_json))


async def _show(part: str, server: str | None, *, as_json: bool) -> int:
    from dataclasses import asdict

    from conductor_ai.cli.door import door_to, session_id_of
    from conductor_ai.cli.output import note, say, say_json
    from conductor_ai.cli.stored_files import file_lines

    async with door_to(server) as door:
        session = await door.session(await session_id_of(door, part))
        stored = await door.files(session.session_id)
        resume = _resume_line(session, server)
    if as_json:
        say_json({**session.to_dict(), "files": [asdict(file) for file in stored]})
        return 0
    for line in _heading(session):
        say(line)
    for step in session.steps:
        for line in _step_lines(step):
            say(line)
    for line in file_lines(session.session_id, stored, server):
        say(line)
    if resume:
        note(resume)
    return 0


def _resume_line(session: SessionView, server: str | None) -> str | None:
    """The line that goes on with the session; None where nothing can, or where an approval comes first."""
    from conductor_ai.cli.reporting import Report
    from conductor_ai.schemas.session import SessionStatus

    line = f"resume:  {Report(as_json=False, server=server).resume_line(session.session_id)}"
    match session.status:
        case SessionStatus.PAUSED:
            return line
        case SessionStatus.RUNNING:
            return f"{line}  (where the process that drove it has ended)" if server is None else None
        case SessionStatus.FAILED:
            return line if session.failure is not None and session.failure["resumable"] else None
    return None


def _heading(session: SessionView) -> list[str]:
    from conductor_ai.cli.text import cost_text, one_line

    reason = f" ({session.pause_reason})" if session.pause_reason else ""
    lines = [
        f"session {session.session_id}",
        f"task    {one_line(session.title)}",
        f"status  {session.status.value}{reason}",
        f"model   {session.model}",
        f"created {session.created_at}",
        f"usage   {_tokens(session.usage)}",
        f"cost    {cost_text(session.cost)}",
    ]
    if session.error:
        lines.append(f"error   {session.error}")
    if session.failure is not None and session.failure["hint"]:
        lines.append(f"hint    {session.failure['hint']}")
    return lines


def _tokens(usage: Usage) -> str:
    read = usage.total_tokens - usage.output_tokens
    cached = f" ({usage.cache_read_tokens / read:.0%} from a cache)" if usage.cache_read_tokens else ""
    return f"{read:,} in{cached} + {usage.output_tokens:,} out tokens"


def _step_lines(step: AgentStep) -> list[str]:
    from conductor_ai.cli.narration import without_label
    from conductor_ai.cli.text import call_cost_text, json_line, milliseconds, one_line

    figures = ""
    if step.model is not None:
        cost = call_cost_text(step.cost_usd, step.cost_source, step.price_as_of)
        figures = f"  {milliseconds(step.duration_ms)}  {cost}"
    lines = ["", f"step {step.step_no}  {step.type.value}{figures}"]
    if step.content:
        lines += [f"  {line}" for line in step.content.splitlines()]
    if step.rejected:
        lines.append(f"  not taken: {one_line(step.rejected, 200)}")
    for call in step.tool_calls:
        said = without_label(call.error) if call.error else json_line(call.result, 200)
        lines.append(f"  {call.name} {json_line(call.arguments, 200)}")
        lines.append(
            f"    {call.outcome or 'no result yet'}  {milliseconds(call.execution_time_ms)}  {one_line(said, 200)}"
        )
        if call.provenance is not None:
            source = call.provenance["source"] or call.provenance["tool"] or ""
            lines.append(f"    untrusted text from {one_line(source, 200)}")
    return lines


def delete(session_id: SessionId, yes: Yes = False, as_json: AsJSON = False, server: Server = None) -> int:
    """Delete a session with its log and files; its audit rows stay. Asks first where it is run on a terminal."""
    import asyncio

    return asyncio.run(_delete(session_id, server, yes=yes, as_json=as_json))


async def _delete(part: str, server: str | None, *, yes: bool, as_json: bool) -> int:
    from conductor_ai.cli.asking import ask_yes_no, can_ask
    from conductor_ai.cli.door import door_to, person, session_id_of
    from conductor_ai.cli.output import say, say_json

    async with door_to(server) as door:
        session_id = await session_id_of(door, part)
        if not yes and not as_json and can_ask() and not await ask_yes_no(f"delete session {session_id} for good?"):
            say("kept")
            return 0
        await door.delete(session_id, by=person())
    if as_json:
        say_json({"session_id": session_id, "deleted": True})
    else:
        say(f"{session_id} deleted")
    return 0


COMMANDS: dict[str, Callable[..., Any]] = {
    "list": list_sessions,
    "show": show,
    "export": export,
    "replay": replay,
    "files": files,
    "delete": delete,
}
