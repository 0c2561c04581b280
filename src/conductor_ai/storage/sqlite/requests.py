"""What callers' requests leave behind: idempotency keys, and messages that wait for a session that runs."""

# ruff: noqa: S608  only names that stand in this package are put into SQL; values are always bound
from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from conductor_ai.errors import IdempotencyKeyUsed
from conductor_ai.storage.base import IdempotencyMark, QueuedMessage
from conductor_ai.storage.rows import storable
from conductor_ai.storage.sqlite.reads import require_session

_MESSAGE = ", ".join(QueuedMessage._fields)


def read_key(connection: sqlite3.Connection, org_id: str, key: str) -> tuple[IdempotencyMark, str] | None:
    sql = "SELECT request_hash, session_id FROM idempotency_keys WHERE org_id = ? AND key = ?"
    row = connection.execute(sql, (storable(org_id), storable(key))).fetchone()
    return None if row is None else (IdempotencyMark(key, row[0]), row[1])


def used_key(connection: sqlite3.Connection, org_id: str, key: str) -> IdempotencyKeyUsed | None:
    """What to say where the org has used this key."""
    found = read_key(connection, org_id, key)
    if found is None:
        return None
    mark, session_id = found
    return IdempotencyKeyUsed(
        f"this idempotency key was used for session {session_id}",
        session_id=session_id,
        request_hash=mark.request_hash,
    )


def use_key(connection: sqlite3.Connection, org_id: str, mark: IdempotencyMark, session_id: str, at: str) -> None:
    connection.execute(
        "INSERT INTO idempotency_keys (org_id, key, request_hash, session_id, created_at) VALUES (?, ?, ?, ?, ?)",
        (storable(org_id), storable(mark.key), storable(mark.request_hash), session_id, at),
    )


def enqueue(connection: sqlite3.Connection, message: QueuedMessage, idempotency: IdempotencyMark | None) -> None:
    if idempotency is not None:
        used = used_key(connection, message.org_id, idempotency.key)
        if used is not None:
            raise used
        use_key(connection, message.org_id, idempotency, message.session_id, message.created_at)
    require_session(connection, message.session_id, message.org_id)
    values = message._replace(org_id=storable(message.org_id))
    connection.execute(f"INSERT INTO queued_messages ({_MESSAGE}) VALUES (?, ?, ?, ?, ?)", values)


def read_messages(connection: sqlite3.Connection, session_id: str, org_id: str) -> list[QueuedMessage]:
    require_session(connection, session_id, org_id)
    # `rowid` is the order in which they came: some may have come in the same microsecond.
    sql = f"SELECT {_MESSAGE} FROM queued_messages WHERE session_id = ? ORDER BY rowid"
    return [QueuedMessage(*row) for row in connection.execute(sql, (session_id,))]


def all_queued(connection: sqlite3.Connection, session_id: str, message_ids: Sequence[str]) -> bool:
    wanted = set(message_ids)
    marks = ", ".join("?" * len(wanted))
    sql = f"SELECT count(*) FROM queued_messages WHERE session_id = ? AND message_id IN ({marks})"
    (found,) = connection.execute(sql, (session_id, *wanted)).fetchone()
    return bool(found == len(wanted))


def take_messages(connection: sqlite3.Connection, message_ids: Sequence[str]) -> None:
    for message_id in message_ids:
        connection.execute("DELETE FROM queued_messages WHERE message_id = ?", (message_id,))


def discard_messages(connection: sqlite3.Connection, session_id: str, org_id: str, message_id: str | None) -> int:
    """Returns: how many there were."""
    sql = "DELETE FROM queued_messages WHERE session_id = ? AND org_id = ? AND message_id = coalesce(?, message_id)"
    return connection.execute(sql, (storable(session_id), storable(org_id), message_id)).rowcount
