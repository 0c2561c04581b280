"""Files of sessions: small enough that each is one row."""

# ruff: noqa: S608  only names that stand in this package are put into SQL; values are always bound
from __future__ import annotations

import sqlite3

from conductor_ai.sdk.context import SessionFile
from conductor_ai.sdk.files import check_room
from conductor_ai.storage.files import FILE_COLUMNS, file_values, no_file, session_file, whole_file
from conductor_ai.storage.rows import storable
from conductor_ai.storage.sqlite.reads import require_session

_COLUMNS = ", ".join(FILE_COLUMNS)
_ROOM = "SELECT name, size_bytes FROM session_files WHERE session_id = ?"
_FILES = f"SELECT {_COLUMNS} FROM session_files WHERE session_id = ? ORDER BY name"
_FILE = f"SELECT {_COLUMNS}, content FROM session_files WHERE session_id = ? AND name = ?"
_PUT = f"""
INSERT INTO session_files (session_id, org_id, {_COLUMNS}, content)
VALUES (:session_id, :org_id, {", ".join(f":{name}" for name in FILE_COLUMNS)}, :content)
ON CONFLICT (session_id, name) DO UPDATE SET
{", ".join(f"{name} = excluded.{name}" for name in (*FILE_COLUMNS, "content") if name != "name")}
"""


def put(connection: sqlite3.Connection, session_id: str, org_id: str, file: SessionFile, content: bytes) -> None:
    require_session(connection, session_id, org_id)
    check_room(connection.execute(_ROOM, (session_id,)), file.name, len(content))
    connection.execute(_PUT, file_values(session_id, org_id, file, content))


def read_all(connection: sqlite3.Connection, session_id: str, org_id: str) -> list[SessionFile]:
    require_session(connection, session_id, org_id)
    return [session_file(row) for row in connection.execute(_FILES, (session_id,))]


def read(connection: sqlite3.Connection, session_id: str, org_id: str, name: str) -> tuple[SessionFile, bytes]:
    require_session(connection, session_id, org_id)
    row = connection.execute(_FILE, (session_id, storable(name))).fetchone()
    if row is None:
        raise no_file(session_id, name)
    return whole_file(session_id, row)
