"""A session's files, as the commands name them: what there is, and where to get it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conductor_ai.sdk.context import SessionFile


def file_lines(session_id: str, files: Sequence[SessionFile], server: str | None) -> list[str]:
    """One line for each, with its address on a server, and the command that saves them all; nothing where there are
    none."""
    if not files:
        return []
    lines = [f"file:    {file.name}  {size_text(file.size_bytes)}{_link(session_id, file, server)}" for file in files]
    where = "" if server is None else f" --server {shlex.quote(server)}"
    return [*lines, f"save:    conductor sessions files {session_id} --save DIR{where}"]


def size_text(size_bytes: int) -> str:
    """For reading, rounded: `14.2 kB`."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    return f"{size_bytes / 1000:.1f} kB" if size_bytes < 999_950 else f"{size_bytes / 1_000_000:.1f} MB"


def _link(session_id: str, file: SessionFile, server: str | None) -> str:
    if server is None:
        return ""
    from conductor_ai.client.client import file_path

    return f"  {server.rstrip('/')}{file_path(session_id, file.name)}"
