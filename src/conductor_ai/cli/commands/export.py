"""`conductor sessions export` and `conductor sessions replay`: a session as a file, and a file as a session."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conductor_ai.cli.exit_codes import ExitCode
from conductor_ai.cli.options import AsJSON, PluginsDir, SessionId
from conductor_ai.errors import InvalidInput, UsageError

if TYPE_CHECKING:
    from conductor_ai.schemas.exchanges import Recording
    from conductor_ai.sdk import BaseTool
    from conductor_ai.wiring.replay import Replayed


class Form(StrEnum):
    PYTEST = "pytest"
    JSON = "json"


def export(
    session_id: SessionId,
    form: Annotated[
        str,
        typer.Option(
            "--as", metavar="pytest|json", help="A test that replays it offline, or the log on standard output."
        ),
    ] = Form.JSON,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for the test [default: the current one].")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
    plugins_dir: PluginsDir = None,
    as_json: AsJSON = False,
) -> int:
    """Export a session: its log as JSON, or a pytest test. Without secrets."""
    import asyncio

    if form not in set(Form):
        raise UsageError(f"--as {form!r} is unknown", hint=f"one of: {', '.join(Form)}")
    if form == Form.JSON and (out is not None or force):
        raise InvalidInput("--out and --force belong to --as pytest; the log goes to standard output")
    return asyncio.run(_export(session_id, Form(form), out or Path(), plugins_dir, force=force, as_json=as_json))


async def _export(part: str, form: Form, folder: Path, plugins_dir: Path | None, *, force: bool, as_json: bool) -> int:
    import asyncio

    from conductor_ai.cli.door import opened, session_id_of
    from conductor_ai.cli.output import note, say, say_json
    from conductor_ai.schemas import json_text
    from conductor_ai.settings import Settings
    from conductor_ai.wiring.replay.exports import export_log, export_test

    settings = Settings.load()
    async with opened(plugins_dir) as conductor:
        session_id = await session_id_of(conductor, part)
        if form is Form.JSON:
            say_json(json_text.loads(await export_log(settings, conductor, session_id)))
            return ExitCode.COMPLETED
        exported = await export_test(settings, conductor, session_id)
    paths = await asyncio.to_thread(exported.write, folder, force=force)
    if as_json:
        say_json({"session_id": session_id, "files": [str(path) for path in paths]})
        return ExitCode.COMPLETED
    for path in paths:
        say(str(path))
    note(f"run it: pytest {paths[0]}")
    return ExitCode.COMPLETED


def replay(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Recordings of --record, or of exported tests.")],
    live: Annotated[
        list[str] | None, typer.Option("--live", metavar="TOOL", help="Really run this tool; repeatable.")
    ] = None,
    plugins_dir: PluginsDir = None,
    as_json: AsJSON = False,
) -> int:
    """Run recorded sessions again, offline. Models and tools answer from each FILE.

    Exit code 1 where one goes otherwise than it was recorded, or its recording ends before the session stops.
    """
    import asyncio

    return asyncio.run(_replay(files, live or [], plugins_dir, as_json=as_json))


async def _replay(files: list[Path], live: list[str], plugins_dir: Path | None, *, as_json: bool) -> int:
    import asyncio

    from conductor_ai.cli.live_view import open_view
    from conductor_ai.cli.output import say_json
    from conductor_ai.schemas.exchanges import read_recording
    from conductor_ai.wiring.replay import replay_session

    recordings = [await asyncio.to_thread(read_recording, file) for file in files]
    tools = await asyncio.to_thread(_live_tools, live, recordings, plugins_dir) if live else []
    code, told = ExitCode.COMPLETED, []
    for file, recording in zip(files, recordings, strict=True):
        view = open_view()
        view.line(f"replay of session {recording.session_id}")
        try:
            replayed = await replay_session(recording, live=tools, on_event=view.event)
        finally:
            view.hold()
        _tell(replayed, recording.cut, f"{file}: " if len(files) > 1 else "", as_json=as_json)
        if replayed.difference is not None:
            code = ExitCode.FAILED
        told.append(
            {
                "file": str(file),
                "recorded_session_id": recording.session_id,
                "difference": replayed.difference,
                "session": replayed.session.to_dict(),
            }
        )
    if as_json:
        say_json(told)
    return code


def _live_tools(names: list[str], recordings: list[Recording], plugins_dir: Path | None) -> list[BaseTool]:
    """Raises: UnknownTool; InvalidInput for one that nothing here calls: it would be taken for tested."""
    from conductor_ai.cli.door import loaded_tools
    from conductor_ai.wiring.replay.script import script_of

    registry, _ = loaded_tools(plugins_dir)
    tools = [registry.get_tool(name) for name in names]
    called = {call.name for recording in recordings for call in script_of(recording).calls.values()}
    for name in names:
        if name not in called:
            where = "this recording" if len(recordings) == 1 else "these recordings"
            raise InvalidInput(
                f"{name} was not called in {where}", hint=f"called: {', '.join(sorted(called)) or 'none'}"
            )
    return tools


def _tell(replayed: Replayed, cut: str | None, which: str, *, as_json: bool) -> None:
    from conductor_ai.cli.output import note, say, say_error
    from conductor_ai.cli.text import count, money
    from conductor_ai.schemas.session import SessionStatus

    session, differs = replayed.session, replayed.difference
    spent = f"{count(len(session.steps), 'step')}, {session.usage.total_tokens:,} tokens, {money(session.cost_usd)}"
    ended = differs is not None and session.status is SessionStatus.RUNNING
    note(f"{'stopped at the difference' if ended else session.status.value.replace('_', ' ')}: {spent}")
    if session.final_answer is not None and not as_json:
        say(session.final_answer)
    if differs is None:
        note(f"{which}as recorded")
    else:
        hint = "where this is meant, record the session anew"
        if cut is not None:
            hint = "once the session has stopped, record or export it anew; conductor resume takes up one that died"
        what = differs if differs == cut else f"the replay differs: {differs}"
        say_error("replay_differs", f"{which}{what}", hint, as_json=False)
