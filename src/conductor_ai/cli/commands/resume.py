"""`conductor resume` and `conductor cancel`: a session that another process, or this one, began."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conductor_ai.cli.options import (
    AsJSON,
    MaxCost,
    MaxSteps,
    PluginsDir,
    RecordDir,
    Server,
    SessionId,
    limits_from,
    refuse_with_server,
)

if TYPE_CHECKING:
    from pathlib import Path

    from conductor_ai.cli.reporting import Report


def resume(
    session_id: SessionId,
    max_cost: MaxCost = None,
    max_steps: MaxSteps = None,
    as_json: AsJSON = False,
    plugins_dir: PluginsDir = None,
    record: RecordDir = None,
    server: Server = None,
) -> int:
    """Go on with a session that is paused, was waiting, failed on something that passes, or lost its process.

    A completed session prints its answer again. One that runs on a server is shown until it stops.
    """
    import asyncio

    from conductor_ai.cli.reporting import Report

    refuse_with_server(server, plugins_dir=plugins_dir, record=record)
    report = Report(as_json, plugins_dir, server)
    return asyncio.run(_resume(session_id, limits_from(max_cost, max_steps), report, record))


async def _resume(part: str, limits: dict[str, Any] | None, report: Report, record_dir: Path | None) -> int:
    from conductor_ai.cli.commands.run import say_recorded
    from conductor_ai.cli.door import door_to, session_id_of
    from conductor_ai.cli.foreground import Foreground

    async with door_to(report.server, report.plugins_dir, record_dir=record_dir) as door:
        session_id = await session_id_of(door, part)
        with Foreground(door, report) as foreground:
            work = door.resume(session_id, limits=limits, on_event=foreground.view.event)
            code = await foreground.finish(session_id, work)
    say_recorded(record_dir, session_id)
    return code


def cancel(session_id: SessionId, as_json: AsJSON = False, server: Server = None) -> int:
    """Stop a session for good; one that another process drives stops at its next step."""
    import asyncio

    return asyncio.run(_cancel(session_id, server, as_json=as_json))


async def _cancel(part: str, server: str | None, *, as_json: bool) -> int:
    from conductor_ai.cli.door import door_to, person, session_id_of
    from conductor_ai.cli.output import say, say_json

    async with door_to(server) as door:
        session = await door.cancel(await session_id_of(door, part), by=person())
    if as_json:
        say_json(session.to_dict())
    else:
        say(f"{session.session_id} {session.status.value}")
    return 0
