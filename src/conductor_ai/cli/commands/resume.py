"""`conductor resume` and `conductor cancel`: a session that another process, or this one, began."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conductor_ai.cli.options import AsJSON, MaxCost, MaxSteps, PluginsDir, RecordDir, SessionId, limits_from

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
) -> int:
    """Go on with a session that is paused, was waiting, failed on something that passes, or lost its process.

    A completed session prints its answer again.
    """
    import asyncio

    from conductor_ai.cli.reporting import Report

    return asyncio.run(_resume(session_id, limits_from(max_cost, max_steps), Report(as_json, plugins_dir), record))


async def _resume(part: str, limits: dict[str, Any] | None, report: Report, record_dir: Path | None) -> int:
    from conductor_ai.cli.commands.run import say_recorded
    from conductor_ai.cli.door import opened, session_id_of
    from conductor_ai.cli.foreground import Foreground

    async with opened(report.plugins_dir, record_dir=record_dir) as conductor:
        session_id = await session_id_of(conductor, part)
        with Foreground(conductor, report) as foreground:
            work = conductor.resume(session_id, limits=limits, on_event=foreground.view.event)
            code = await foreground.finish(session_id, work)
    say_recorded(record_dir, session_id)
    return code


def cancel(session_id: SessionId, as_json: AsJSON = False) -> int:
    """Stop a session for good; one that another process drives stops at its next step."""
    import asyncio

    return asyncio.run(_cancel(session_id, as_json=as_json))


async def _cancel(part: str, *, as_json: bool) -> int:
    from conductor_ai.cli.door import opened, person, session_id_of
    from conductor_ai.cli.output import say, say_json

    async with opened() as conductor:
        session = await conductor.cancel(await session_id_of(conductor, part), by=person())
    if as_json:
        say_json(session.to_dict())
    else:
        say(f"{session.session_id} {session.status.value}")
    return 0
