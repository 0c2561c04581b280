"""Files of sessions: small enough that each is one row. They are written beside the writer, whom a large one would
keep from the logs of all sessions."""

# ruff: noqa: S608  only names that stand in this package are put into SQL; values are always bound
from __future__ import annotations

import asyncio
from typing import Any

from conductor_ai.sdk.context import SessionFile
from conductor_ai.sdk.files import MAX_FILE_BYTES, check_room
from conductor_ai.storage.files import FILE_COLUMNS, file_values, no_file, session_file, whole_file
from conductor_ai.storage.postgres.changes import not_found
from conductor_ai.storage.postgres.link import Link
from conductor_ai.storage.postgres.readers import Readers
from conductor_ai.storage.rows import storable

_SLOWEST_BYTES_PER_S = 2**19  # on the way to a database far away
_LONGEST_S = MAX_FILE_BYTES / _SLOWEST_BYTES_PER_S

_COLUMNS = ", ".join(FILE_COLUMNS)
_OF_ORG = "s.session_id = %(session_id)s AND s.org_id = %(org_id)s"
# What is counted must not change before it is added to, and a large file is long on its way. Only files wait for it.
_ALONE = b"""
SELECT pg_advisory_xact_lock(hashtextextended('conductor session_files ' || %(session_id)s::text, 0)),
    set_config('idle_in_transaction_session_timeout', %(idle)s, true)
"""
_ROOM = f"""
SELECT f.name, f.size_bytes FROM sessions s LEFT JOIN session_files f ON f.session_id = s.session_id WHERE {_OF_ORG}
""".encode()
# The session stays while its file is stored, and its log goes on.
_PUT = f"""
INSERT INTO session_files (session_id, org_id, {_COLUMNS}, content)
SELECT s.session_id, s.org_id, %(name)s::text, %(media_type)s::text, %(size_bytes)s::bigint, %(sha256)s::text,
    %(created_at)s::timestamptz, %(step_no)s::integer, %(call_id)s::text, %(content)s::bytea
FROM sessions s WHERE {_OF_ORG} FOR KEY SHARE OF s
ON CONFLICT (session_id, name) DO UPDATE SET
{", ".join(f"{name} = excluded.{name}" for name in (*FILE_COLUMNS, "content") if name != "name")}
RETURNING 1
""".encode()
_FILES = f"""
SELECT {", ".join(f"f.{name}" for name in FILE_COLUMNS)} FROM sessions s
LEFT JOIN session_files f ON f.session_id = s.session_id WHERE {_OF_ORG} ORDER BY f.name COLLATE "C"
""".encode()
_FILE = f"""
SELECT {", ".join(f"f.{name}" for name in FILE_COLUMNS)}, f.content FROM sessions s
LEFT JOIN session_files f ON f.session_id = s.session_id AND f.name = %(name)s WHERE {_OF_ORG}
""".encode()


async def put(readers: Readers, session_id: str, org_id: str, file: SessionFile, content: bytes) -> None:
    values = file_values(session_id, org_id, file, content)
    extra_s = len(content) / _SLOWEST_BYTES_PER_S

    async def store(link: Link) -> None:
        async with link.transaction(extra_s=extra_s):
            await link.run(_ALONE, {**values, "idle": f"{round(_LONGEST_S)}s"})
            found = await link.run(_ROOM, values)
            if not found:
                raise not_found(session_id)
            check_room(((name, size) for name, size in found if name is not None), file.name, len(content))
            if not await link.run(_PUT, values, extra_s=extra_s):
                raise not_found(session_id)  # it was deleted a moment ago

    await readers.change(store)


async def read_all(readers: Readers, session_id: str, org_id: str) -> list[SessionFile]:
    rows = await readers.read(org_id, _FILES, _of_org(session_id, org_id))
    if not rows:
        raise not_found(session_id)
    return [session_file(row) for row in rows if row[0] is not None]


async def read(readers: Readers, session_id: str, org_id: str, name: str) -> tuple[SessionFile, bytes]:
    values = {**_of_org(session_id, org_id), "name": storable(name)}
    rows = await readers.read(org_id, _FILE, values, extra_s=_LONGEST_S)
    if not rows:
        raise not_found(session_id)
    if rows[0][0] is None:
        raise no_file(session_id, name)
    return await asyncio.to_thread(whole_file, session_id, rows[0])


def _of_org(session_id: str, org_id: str) -> dict[str, Any]:
    return {"session_id": storable(session_id), "org_id": storable(org_id)}
