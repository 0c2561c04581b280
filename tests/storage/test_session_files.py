"""The contract of `FileStore`: what is kept of a session's files, for whom, and how much of it."""

from __future__ import annotations

import asyncio
import os

import pytest

from conductor_ai.errors import FileNotStored, InvalidInput, SessionNotFound, StoreCorrupt, StoreUnavailable
from conductor_ai.schemas.audit import AuditEntry
from conductor_ai.storage.base import Store
from conductor_ai.storage.files import MAX_FILE_BYTES, MAX_SESSION_BYTES, MAX_SESSION_FILES
from tests.conftest import fail_after
from tests.service.contents import Contents
from tests.storage.conftest import OpenStore, Tamper
from tests.storage.session_log import ORG, SessionLog

TOMBSTONE = AuditEntry("session", "deleted", '{"by":"ann"}')
EVERY_BYTE = bytes(range(256))


@pytest.fixture
async def log(store: Store) -> SessionLog:
    """Of a session that is stored."""
    log = SessionLog()
    await store.append(log.next())
    return log


async def put(store: Store, log: SessionLog, name: str, content: bytes = b"x") -> None:
    await store.put_file(log.session_id, log.org_id, *log.file(name, content))


async def names(store: Store, log: SessionLog) -> list[str]:
    return [file.name for file in await store.files(log.session_id, log.org_id)]


@pytest.mark.parametrize(
    ("name", "content"),
    [("empty", b""), ("a b/c/Zürich 東京.csv", EVERY_BYTE), ('it\'s %s "x" :y $1.txt', b"'; DROP TABLE sessions")],
    ids=["empty", "every byte", "quotes"],
)
async def test_a_file_comes_back_as_it_was_stored(
    store: Store, open_store: OpenStore, log: SessionLog, name: str, content: bytes
) -> None:
    file, _ = log.file(name, content)
    await store.put_file(log.session_id, ORG, file, content)

    for one in (store, await open_store()):
        assert await one.files(log.session_id, ORG) == [file]
        assert await one.file(log.session_id, ORG, name) == (file, content)


async def test_a_file_as_large_as_may_be_comes_back_whole(store: Store, log: SessionLog) -> None:
    file, content = log.file("large.bin", os.urandom(MAX_FILE_BYTES))
    async with fail_after(60):
        await store.put_file(log.session_id, ORG, file, content)
        assert await store.file(log.session_id, ORG, "large.bin") == (file, content)


async def test_files_are_listed_by_name_and_a_new_one_takes_the_place_of_the_old(store: Store, log: SessionLog) -> None:
    for name in ("b.txt", "a/z.txt", "Z.txt", "é.txt"):
        await put(store, log, name)
    second, content = log.file("b.txt", b"second", call_id="2.1")
    await store.put_file(log.session_id, ORG, second, content)

    assert await names(store, log) == ["Z.txt", "a/z.txt", "b.txt", "é.txt"]
    assert await store.file(log.session_id, ORG, "b.txt") == (second, b"second")


async def test_what_no_database_stores_alike_is_replaced(store: Store, log: SessionLog) -> None:
    file, content = log.file("a.txt", call_id="nul \0 surrogate \ud800")
    await store.put_file(log.session_id, ORG, file, content)
    [found] = await store.files(log.session_id, ORG)
    assert found.call_id == "nul \ufffd surrogate \ufffd"
    with pytest.raises(FileNotStored):
        await store.file(log.session_id, ORG, "\0\ud800")


async def test_a_name_that_is_not_there_is_told_from_a_session_that_is_not(store: Store, log: SessionLog) -> None:
    assert await store.files(log.session_id, ORG) == []
    with pytest.raises(FileNotStored) as caught:
        await store.file(log.session_id, ORG, "a.txt")
    assert caught.value.code == "file_not_found"
    for read in (store.files("nobody", ORG), store.file("nobody", ORG, "a"), put(store, SessionLog(), "a")):
        with pytest.raises(SessionNotFound):
            await read


async def test_another_org_finds_no_session_and_changes_nothing(store: Store, log: SessionLog) -> None:
    await put(store, log, "a.txt", b"ours")
    for attempt in (
        store.files(log.session_id, "other"),
        store.file(log.session_id, "other", "a.txt"),
        store.put_file(log.session_id, "other", *log.file("a.txt", b"theirs")),
        store.put_file(log.session_id, "other", *log.file("b.txt", b"theirs")),
    ):
        with pytest.raises(SessionNotFound):
            await attempt
    assert await names(store, log) == ["a.txt"]
    assert (await store.file(log.session_id, ORG, "a.txt"))[1] == b"ours"


async def test_deleting_a_session_removes_its_files_and_no_others(
    store: Store, contents: Contents, log: SessionLog
) -> None:
    other = SessionLog()
    await store.append(other.next())
    await put(store, log, "a.txt")
    await put(store, other, "a.txt")

    await store.delete_session(log.session_id, ORG, TOMBSTONE)

    with pytest.raises(SessionNotFound):
        await store.files(log.session_id, ORG)
    with pytest.raises(SessionNotFound):
        await put(store, log, "late.txt")
    assert contents.rows("SELECT session_id, name FROM session_files") == [(other.session_id, "a.txt")]


async def test_a_session_that_is_deleted_meanwhile_leaves_no_file(
    store: Store, open_store: OpenStore, contents: Contents
) -> None:
    second = await open_store()
    logs = [SessionLog() for _ in range(12)]
    await asyncio.gather(*[store.append(log.next()) for log in logs])

    outcomes = await asyncio.gather(
        *[put(second, log, "a.txt", EVERY_BYTE * 200) for log in logs],
        *[store.delete_session(log.session_id, ORG, TOMBSTONE) for log in logs],
        return_exceptions=True,
    )

    assert {type(outcome) for outcome in outcomes} <= {type(None), SessionNotFound}
    assert contents.rows("SELECT session_id FROM sessions") == []
    assert contents.rows("SELECT session_id, name FROM session_files") == []


# Limits


async def test_a_session_has_so_many_files_and_may_still_replace_one(store: Store, log: SessionLog) -> None:
    for n in range(MAX_SESSION_FILES):
        await put(store, log, f"{n}.txt")

    with pytest.raises(InvalidInput, match=f"one too many: a session may have {MAX_SESSION_FILES} files"):
        await put(store, log, "more.txt")
    await put(store, log, "7.txt", b"new")

    assert len(await names(store, log)) == MAX_SESSION_FILES
    assert (await store.file(log.session_id, ORG, "7.txt"))[1] == b"new"


async def test_all_files_of_a_session_together_have_a_bound(store: Store, log: SessionLog) -> None:
    largest = bytes(MAX_FILE_BYTES)
    async with fail_after(60):
        for n in range(MAX_SESSION_BYTES // MAX_FILE_BYTES):
            await put(store, log, f"{n}.bin", largest)

        with pytest.raises(InvalidInput, match="does not fit"):
            await put(store, log, "one-byte.bin")
        await put(store, log, "0.bin", b"small")
        await put(store, log, "one-byte.bin")

    sizes = [file.size_bytes for file in await store.files(log.session_id, ORG)]
    assert sorted(sizes) == [1, 5] + [MAX_FILE_BYTES] * (MAX_SESSION_BYTES // MAX_FILE_BYTES - 1)


async def test_a_file_beyond_its_bound_is_refused(store: Store, log: SessionLog) -> None:
    with pytest.raises(InvalidInput, match="a file may have"):
        await put(store, log, "a.bin", bytes(MAX_FILE_BYTES + 1))
    assert await names(store, log) == []


async def test_the_bound_holds_between_processes(store: Store, open_store: OpenStore, log: SessionLog) -> None:
    stores = (store, await open_store())
    for n in range(MAX_SESSION_FILES - 3):
        await put(store, log, f"{n}.txt")

    outcomes = await asyncio.gather(
        *[put(stores[n % 2], log, f"more-{n}.txt") for n in range(10)], return_exceptions=True
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["InvalidInput"] * 7 + ["NoneType"] * 3
    assert len(await names(store, log)) == MAX_SESSION_FILES


async def test_one_name_is_no_file_and_a_folder(store: Store, log: SessionLog) -> None:
    there = ["a", "a-beside", "a.d/beside", "b/c/d"]
    for name in there:
        await put(store, log, name)
    for name in ("a/b", "a/b/c", "b", "b/c", "b/c/d/e"):
        with pytest.raises(InvalidInput, match="cannot be a file and a folder"):
            await put(store, log, name)
    assert await names(store, log) == there


# Faults


async def test_a_file_that_was_edited_is_not_taken_for_the_one_that_was_stored(
    store: Store, tamper: Tamper, log: SessionLog
) -> None:
    await put(store, log, "a.txt")
    for change in ("content = 'other'", "content = 'x', sha256 = 'y'"):
        tamper(f"UPDATE session_files SET {change}")
        with pytest.raises(StoreCorrupt, match="not as it was written"):
            await store.file(log.session_id, ORG, "a.txt")


async def test_a_closed_store_says_so(store: Store, log: SessionLog) -> None:
    await store.close()
    for attempt in (put(store, log, "a.txt"), store.files(log.session_id, ORG), store.file(log.session_id, ORG, "a")):
        with pytest.raises(StoreUnavailable):
            await attempt
