"""`conductor run`: start a session, or continue one, and drive it until it stops."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conductor_ai.cli.options import (
    AgentsDir,
    AsJSON,
    MaxCost,
    MaxSteps,
    PluginsDir,
    RecordDir,
    Server,
    limits_from,
    refuse_with_server,
)
from conductor_ai.errors import UsageError

if TYPE_CHECKING:
    from conductor_ai.cli.door import Door
    from conductor_ai.cli.reporting import Report
    from conductor_ai.conductor import StartRequest


def run(
    task: Annotated[
        str | None, typer.Argument(help="What to do. Text piped in is added to it; alone, it is the task.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help="An agent in a file; see `conductor agents list`.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="ID", help="Model; of several, A,B,C, each takes over where the one before fails."
        ),
    ] = None,
    tools: Annotated[
        str | None,
        typer.Option("--tools", metavar="A,B", help="Tools the model may use [default: the agent's, else all]."),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="Instructions that stand above the task.")] = None,
    images: Annotated[
        list[str] | None, typer.Option("--image", metavar="FILE|URL", help="An image to look at; repeatable.")
    ] = None,
    response_schema: Annotated[
        Path | None,
        typer.Option(
            "--response-schema", metavar="FILE", help="JSON schema that the answer must fit; it is then JSON."
        ),
    ] = None,
    temperature: Annotated[
        str | None, typer.Option("--temperature", metavar="T", help="From 0 to 2 [default: the model's own].")
    ] = None,
    reasoning_effort: Annotated[
        str | None,
        typer.Option("--reasoning-effort", metavar="HOW", help="How much to think: none, low, medium or high."),
    ] = None,
    max_cost: MaxCost = None,
    max_steps: MaxSteps = None,
    continue_id: Annotated[
        str | None, typer.Option("--continue", metavar="ID", help="Give the task to this ended session.")
    ] = None,
    approve: Annotated[
        list[str] | None, typer.Option("--approve", metavar="TOOL", help="Allow this tool beforehand; repeatable.")
    ] = None,
    as_json: AsJSON = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run and what it may cost; call and store nothing.")
    ] = False,
    plugins_dir: PluginsDir = None,
    agents_dir: AgentsDir = None,
    record: RecordDir = None,
    server: Server = None,
) -> int:
    """Run a task to its answer. This is the default command.

    The answer goes to standard output, the view of the work to standard error. Ctrl-C once pauses the session; with
    --server it goes on there, and is only watched no more.
    With --agent, what other options say wins over the agent's file.
    """
    import asyncio

    from conductor_ai.cli.reporting import Report
    from conductor_ai.cli.stdin_text import task_with_context
    from conductor_ai.cli.wishes import message_content, parameters_from, schema_from

    given_to_new_only = {
        "--agent": agent,
        "--model": model,
        "--tools": tools,
        "--system": system,
        "--approve": approve,
        "--response-schema": response_schema,
        "--temperature": temperature,
        "--reasoning-effort": reasoning_effort,
    }
    if continue_id and (unfit := [name for name, value in given_to_new_only.items() if value]):
        raise UsageError(f"{unfit[0]} cannot change with --continue: a session keeps what it was started with")
    refuse_with_server(
        server,
        plugins_dir=plugins_dir,
        agents_dir=agents_dir,
        record=record,
        dry_run=dry_run,
        approve=approve,
    )
    message = task_with_context(task)
    if message is None or not message.strip():
        raise UsageError("no task given", hint='conductor run "what to do", or pipe the task in')
    content = message_content(message, images or [])
    report = Report(as_json, plugins_dir, server)
    limits = limits_from(max_cost, max_steps)
    if continue_id:
        return asyncio.run(_continue(continue_id, content, limits, report, dry_run=dry_run, record_dir=record))
    from conductor_ai.conductor import StartRequest

    request = StartRequest(
        messages=[content],
        models=[name.strip() for name in (model or "").split(",") if name.strip()],
        tools=None if tools is None else [name.strip() for name in tools.split(",") if name.strip()],
        instructions=system,
        limits=limits,
        parameters=parameters_from(temperature, reasoning_effort),
        response_schema=None if response_schema is None else schema_from(response_schema),
        pre_approved=approve or [],
        agent=agent,
    )
    if dry_run and record is not None:
        raise UsageError("--dry-run calls no model, so there is nothing to --record")
    if dry_run:
        return _show_plan(request, report, agents_dir)
    work = start_and_drive(request, report, plugins_dir=plugins_dir, agents_dir=agents_dir, record_dir=record)
    return asyncio.run(work)


async def start_and_drive(
    request: StartRequest,
    report: Report,
    *,
    plugins_dir: Path | None,
    agents_dir: Path | None = None,
    record_dir: Path | None = None,
) -> int:
    """Start a session and drive it until it stops. Returns: the exit code."""
    from conductor_ai.cli.door import door_to
    from conductor_ai.cli.foreground import Foreground

    async with door_to(report.server, plugins_dir, agents_dir, record_dir) as door:
        with Foreground(door, report) as foreground:
            session = await door.start(request)
            foreground.view.line(
                f"session {session.session_id}  {session.model}{f'  {session.agent}' if session.agent else ''}"
            )
            for remark in _remarks_on(session.model, door):
                foreground.view.line(remark)
            work = door.run(session.session_id, on_event=foreground.view.event)
            code = await foreground.finish(session.session_id, work)
    say_recorded(record_dir, session.session_id)
    return code


def _remarks_on(model_id: str, door: Door) -> list[str]:
    """What a person should know of the model before its answer: that it is a script, or that it soon retires."""
    from datetime import UTC, datetime

    from conductor_ai.model_catalog import ModelProvider, retirement_warning

    remarks: list[str] = []
    for model in door.models():
        if model.id != model_id:
            continue
        if model.provider is ModelProvider.DEMO:
            remarks.append("only the model's choices are scripted; tools, data, log and audit are real")
        if warning := retirement_warning(model, datetime.now(UTC).date()):
            remarks.append(f"warning: {warning}")
    return remarks


async def _continue(
    part: str,
    message: dict[str, Any],
    limits: dict[str, Any] | None,
    report: Report,
    *,
    dry_run: bool,
    record_dir: Path | None,
) -> int:
    from conductor_ai.cli.door import door_to, session_id_of
    from conductor_ai.cli.foreground import Foreground

    if dry_run:
        raise UsageError("--dry-run shows a new session; it does not go with --continue")
    async with door_to(report.server, report.plugins_dir, record_dir=record_dir) as door:
        session_id = await session_id_of(door, part)
        with Foreground(door, report) as foreground:
            foreground.view.line(f"session {session_id}")
            work = door.continue_session(session_id, message, limits=limits, on_event=foreground.view.event)
            code = await foreground.finish(session_id, work)
    say_recorded(record_dir, session_id)
    return code


def say_recorded(record_dir: Path | None, session_id: str) -> None:
    """Name the recording on standard error, where there is one."""
    from conductor_ai.cli.output import note
    from conductor_ai.schemas.exchanges import SUFFIX

    if record_dir is not None and (path := record_dir / f"{session_id}{SUFFIX}").exists():
        note(f"recorded: {path}")


def _show_plan(request: StartRequest, report: Report, agents_dir: Path | None) -> int:
    from conductor_ai.cli.output import say, say_json
    from conductor_ai.cli.text import json_line
    from conductor_ai.settings import Settings
    from conductor_ai.wiring import plan_run

    plan = plan_run(Settings.load(), request, plugins_dir=report.plugins_dir, agents_dir=agents_dir)
    if report.as_json:
        say_json(plan)
        return 0
    for name, value in plan.items():
        if isinstance(value, list):
            say(f"{name}:")
            for item in value:
                say(f"  {json_line(item, 200)}")
        else:
            say(f"{name}: {value if isinstance(value, str) else json_line(value, 200)}")
    return 0
