"""What a SQLite file may hold that a read must cope with: logs beyond one string, and rows that were damaged."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from conductor_ai.errors import SessionNotFound, StorageError, StoreCorrupt
from conductor_ai.storage.sqlite import SQLiteStore
from conductor_ai.storage.sqlite.faults import faults
from conductor_ai.storage.sqlite.reads import read_events
from tests.storage.session_log import ORG, SessionLog, decision

Read = Callable[[SQLiteStore, SessionLog], Awaitable[object]]
QUOTES = '"' * 1_000_000


@pytest.fixture
async def store(home: Path) -> AsyncIterator[SQLiteStore]:
    opened = await SQLiteStore.open(home)
    yield opened
    await opened.close()


def change(home: Path, sql: str, *values: object) -> None:
    """As a failing disk would, or a person with a database tool."""
    with contextlib.closing(sqlite3.connect(home / "conductor.db")) as connection, connection:
        assert connection.execute(sql, values).rowcount > 0


async def test_a_long_log_with_large_results_comes_back_whole_and_in_order(store: SQLiteStore) -> None:
    log = SessionLog()
    payloads = [{"n": n, "result": QUOTES if n % 100 == 7 else '\\"\0\ud800\u2603' * (n % 50)} for n in range(1200)]
    payloads[256:258] = [{"at": "a border", "result": "\u2603" * 200_000}] * 2
    for start in range(0, 1200, 300):
        await store.append(log.next(payloads[start : start + 300]))

    events = await store.events(log.session_id, ORG)

    assert [event.seq for event in events] == list(range(1, 1201))
    assert [event.payload for event in events] == payloads


@pytest.mark.parametrize("after_seq", [-3, 0, 255, 256, 257, 500, 599, 600, 700])
@pytest.mark.parametrize("limit", [None, -1, 0, 1, 256, 257, 1000])
async def test_a_part_of_a_log_is_what_lies_behind_after_seq_within_the_limit(
    store: SQLiteStore, after_seq: int, limit: int | None
) -> None:
    log = SessionLog()
    await store.append(log.next([{"n": n} for n in range(600)]))
    last_seq = 600 if limit is None else min(after_seq + limit, 600)

    events = await store.events(log.session_id, ORG, after_seq=after_seq, limit=limit)

    assert [event.seq for event in events] == list(range(max(after_seq, 0) + 1, last_seq + 1))


async def test_no_string_grows_with_the_log(store: SQLiteStore, home: Path) -> None:
    log = SessionLog()
    payloads = [{"n": n, "result": QUOTES} for n in range(8)]
    await store.append(log.next(payloads))
    with contextlib.closing(sqlite3.connect(home / "conductor.db", isolation_level=None)) as connection:
        # Each payload has 2 MB as JSON and 4 MB as JSON within JSON; SQLite's own limit would take a log of 250 MB.
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 16_000_000)
        events = read_events(connection, log.session_id, ORG, 0, None)
    assert [event.payload for event in events] == payloads


async def test_a_read_that_fails_does_not_speak_of_storing(store: SQLiteStore, home: Path) -> None:
    await store.append(SessionLog().next())
    with contextlib.closing(sqlite3.connect(home / "conductor.db")) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100)
        with (
            pytest.raises(StorageError, match=r"conductor\.db could not be read \(DataError: string or blob too big\)"),
            faults(store.path),
        ):
            connection.execute("SELECT group_concat(payload || payload) FROM session_events").fetchall()


async def test_a_session_deleted_between_two_pages_is_not_found(store: SQLiteStore, home: Path) -> None:
    log = SessionLog()
    await store.append(log.next([{"n": n} for n in range(300)]))
    with contextlib.closing(sqlite3.connect(home / "conductor.db", isolation_level=None)) as connection:
        statements = []

        def delete_after_the_first(statement: str) -> None:
            statements.append(statement)
            if len(statements) == 2:
                change(home, "DELETE FROM session_events WHERE session_id = ?", log.session_id)
                change(home, "DELETE FROM sessions WHERE session_id = ?", log.session_id)

        connection.set_trace_callback(delete_after_the_first)
        with pytest.raises(SessionNotFound):
            read_events(connection, log.session_id, ORG, 0, None)


DAMAGED_EVENTS: dict[str, tuple[str, object]] = {
    "no JSON": ("payload", '{"role":'),
    "no JSON object": ("payload", "[1]"),
    "no UTF-8": ("payload", b'{"role":"\xff"}'),
    "no UTF-8, as text": ("payload", "CAST(x'7b22613a22ff227d' AS TEXT)"),
    "unknown type": ("type", "message.burnt"),
    "no UTF-8 in the type": ("type", "CAST(x'ff' AS TEXT)"),
    "no UTF-8 in the time": ("created_at", "CAST(x'ff' AS TEXT)"),
}


@pytest.mark.parametrize("damage", DAMAGED_EVENTS)
async def test_a_damaged_event_is_named(store: SQLiteStore, home: Path, damage: str) -> None:
    log = SessionLog()
    await store.append(log.next([{"n": n} for n in range(300)]))
    column, value = DAMAGED_EVENTS[damage]
    raw = isinstance(value, str) and value.startswith("CAST")
    sql = f"UPDATE session_events SET {column} = {value if raw else '?'} WHERE seq = 290"
    change(home, sql, *([] if raw else [value]))

    with pytest.raises(StoreCorrupt, match=f"event 290 of session {log.session_id} is not as it was written") as caught:
        await store.events(log.session_id, ORG)
    assert caught.value.hint
    assert len(await store.events(log.session_id, ORG, limit=256)) == 256


async def test_a_large_event_that_is_damaged_is_named(store: SQLiteStore, home: Path) -> None:
    log = SessionLog()
    await store.append(log.next([{"result": QUOTES}, {"n": 2}]))
    change(home, "UPDATE session_events SET payload = payload || '}' WHERE seq = 1")
    with pytest.raises(StoreCorrupt, match=f"event 1 of session {log.session_id}") as caught:
        await store.events(log.session_id, ORG)
    assert len(str(caught.value)) < 500


READ_SESSION: dict[str, Read] = {
    "session": lambda store, log: store.session(log.session_id, ORG),
    "sessions": lambda store, _: store.sessions(ORG),
    "claim": lambda store, log: store.claim(log.session_id, ORG, "2@test"),
}
DAMAGED_SESSIONS = [
    ("status", "burning"),
    ("pause_reason", "tired"),
    ("cost_usd", "1.2.3"),
    ("cost_usd", "NaN"),
    ("cost_usd", b"1"),
    ("step_no", "seven"),
    ("input_tokens", 1.5),
    ("last_seq", b"\0"),
]


@pytest.mark.parametrize("name", READ_SESSION)
@pytest.mark.parametrize(("column", "value"), DAMAGED_SESSIONS)
async def test_a_damaged_session_is_named_with_the_column(
    store: SQLiteStore, home: Path, name: str, column: str, value: object
) -> None:
    log = SessionLog()
    await store.append(log.next())
    change(home, f"UPDATE sessions SET {column} = ?", value)
    with pytest.raises(StoreCorrupt, match=f"^{column} of session {log.session_id} is not as it was written") as caught:
        await READ_SESSION[name](store, log)
    assert caught.value.hint


async def test_a_log_of_unknown_length_is_reported_as_damage(store: SQLiteStore, home: Path) -> None:
    log = SessionLog()
    await store.append(log.next())
    change(home, "UPDATE sessions SET last_seq = 'many'")
    with pytest.raises(StoreCorrupt, match=f"^last_seq of session {log.session_id}"):
        await store.events(log.session_id, ORG)


@pytest.mark.parametrize(("column", "value"), [("status", "maybe"), ("step_no", "one"), ("arguments", "{")])
async def test_a_damaged_approval_is_named_with_its_session(
    store: SQLiteStore, home: Path, column: str, value: str
) -> None:
    log = SessionLog()
    request = log.approval()
    await store.append(log.next(requested=[request]))
    change(home, f"UPDATE approvals SET {column} = ?", value)
    named = f"^{column} of approval {request.approval_id} of session {log.session_id} is not as it was written"
    with pytest.raises(StoreCorrupt, match=named):
        await store.approval(request.approval_id, ORG)
    with pytest.raises(StoreCorrupt, match=named):
        await store.approvals(ORG)


async def test_a_decision_over_a_damaged_approval_is_refused_with_the_cause(store: SQLiteStore, home: Path) -> None:
    log = SessionLog()
    request = log.approval()
    await store.append(log.next(requested=[request]))
    change(home, "UPDATE approvals SET status = 'maybe'")
    with pytest.raises(StoreCorrupt, match=f"^status of approval {request.approval_id} of session {log.session_id}"):
        await store.append(log.next(decided=[decision(request)]))


@pytest.mark.parametrize("name", READ_SESSION)
async def test_text_that_is_no_utf_8_is_damage_and_is_not_repeated_whole(
    store: SQLiteStore, home: Path, name: str
) -> None:
    log = SessionLog()
    await store.append(log.next())
    change(home, "UPDATE sessions SET title = CAST(x'ff' || zeroblob(10000) AS TEXT)")
    with pytest.raises(StoreCorrupt, match="title") as caught:
        await READ_SESSION[name](store, log)
    assert caught.value.hint
    assert len(str(caught.value)) < 500
