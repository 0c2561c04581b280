"""What a store keeps of sessions' files."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

from conductor_ai.errors import FileNotStored, StoreCorrupt
from conductor_ai.sdk.context import SessionFile
from conductor_ai.sdk.files import MAX_FILE_BYTES, MAX_SESSION_BYTES, MAX_SESSION_FILES
from conductor_ai.storage.rows import storable

__all__ = ["MAX_FILE_BYTES", "MAX_SESSION_BYTES", "MAX_SESSION_FILES", "FileStore"]


class FileStore(Protocol):
    """Files by session and name; deleting a session removes its own. A session of another org is not found."""

    async def put_file(self, session_id: str, org_id: str, file: SessionFile, content: bytes) -> None:
        """Store a file, in place of one of the same name; durable on return.

        Raises: SessionNotFound; InvalidInput where the session's files would be more than `MAX_SESSION_FILES`, or
            larger than `MAX_SESSION_BYTES` together, or one name a file and a folder; nothing is changed then.
        """
        ...

    async def files(self, session_id: str, org_id: str) -> list[SessionFile]:
        """By name. Raises: SessionNotFound."""
        ...

    async def file(self, session_id: str, org_id: str, name: str) -> tuple[SessionFile, bytes]:
        """Raises: SessionNotFound, FileNotStored, StoreCorrupt where it is not what was stored."""
        ...


FILE_COLUMNS = ("name", "media_type", "size_bytes", "sha256", "created_at", "step_no", "call_id")


def file_values(session_id: str, org_id: str, file: SessionFile, content: bytes) -> dict[str, Any]:
    """By column."""
    values = {name: getattr(file, name) for name in FILE_COLUMNS}
    texts = {"name": storable(file.name), "call_id": storable(file.call_id)}
    return {"session_id": storable(session_id), "org_id": storable(org_id), **values, **texts, "content": content}


def session_file(row: Any) -> SessionFile:
    """From the columns of FILE_COLUMNS."""
    return SessionFile(**dict(zip(FILE_COLUMNS, row, strict=True)))


def whole_file(session_id: str, row: Any) -> tuple[SessionFile, bytes]:
    """From the columns of FILE_COLUMNS and the content. Takes its time with a large file. Raises: StoreCorrupt."""
    *columns, content = row
    file = session_file(columns)
    if not isinstance(content, bytes) or hashlib.sha256(content).hexdigest() != file.sha256:
        raise StoreCorrupt(
            f"file {file.name!r} of session {session_id} is not as it was written",
            hint="restore the database from a backup",
        )
    return file, content


def no_file(session_id: str, name: str) -> FileNotStored:
    return FileNotStored(
        f"session {storable(session_id)} has no file {storable(name)!r:.300}", hint="`conductor sessions files ID`"
    )
