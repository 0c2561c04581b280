"""`conductor sessions files`: what a session's tools left with it, listed or saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conductor_ai.cli.options import AsJSON, Server, SessionId
from conductor_ai.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conductor_ai.cli.door import Door
    from conductor_ai.sdk.context import SessionFile


def files(
    session_id: SessionId,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="DIR", help="Write them into this folder, a new or an empty one."),
    ] = None,
    as_json: AsJSON = False,
    server: Server = None,
) -> int:
    """List the files of a session, or save them."""
    import asyncio

    return asyncio.run(_files(session_id, save, server, as_json=as_json))


async def _files(part: str, folder: Path | None, server: str | None, *, as_json: bool) -> int:
    from dataclasses import asdict

    from conductor_ai.cli.door import door_to, session_id_of
    from conductor_ai.cli.output import note, say, say_json, say_table
    from conductor_ai.cli.stored_files import size_text

    saved: list[Path] = []
    async with door_to(server) as door:
        session_id = await session_id_of(door, part)
        found = await door.files(session_id)
        if folder is not None:
            saved = await _save(door, session_id, found, folder)
    if as_json:
        places = [{"path": str(path)} for path in saved] or [{} for _ in found]
        say_json([{**asdict(file), **place} for file, place in zip(found, places, strict=True)])
    elif not found:
        note(f"session {session_id} has no files")
    elif folder is not None:
        for path in saved:
            say(str(path))
    else:
        rows = [(file.name, size_text(file.size_bytes), file.media_type, file.created_at[:19]) for file in found]
        say_table(("file", "size", "kind", "written (UTC)"), rows, shorten=("file",))
    return 0


async def _save(door: Door, session_id: str, files: Sequence[SessionFile], folder: Path) -> list[Path]:
    """Raises: UsageError, OSError."""
    import asyncio

    from conductor_ai.sdk.files import check_name

    await asyncio.to_thread(_refuse_full, folder)
    saved = []
    for file in files:
        check_name(file.name)  # what a server says is not for us to trust
        saved.append(folder / file.name)
        await asyncio.to_thread(_write, saved[-1], await door.file(session_id, file.name))
    return saved


def _refuse_full(folder: Path) -> None:
    """What a session calls its files was chosen by code or a model: beside others, one could be read by a program that
    looks for it there, as `.profile` is. Raises: UsageError."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is no empty folder; nothing was saved", hint="name a new one")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as out:
        out.write(content)
