"""Locks on a real file, within one process; `test_sqlite_store` has other processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conductor_ai.errors import StoreUnavailable
from conductor_ai.storage.sqlite import SQLiteStore
from conductor_ai.storage.sqlite.locks import FileLocks


@pytest.fixture
def locks(tmp_path: Path) -> Iterator[FileLocks]:
    opened = FileLocks(tmp_path / "locks")
    yield opened
    opened.close()


def test_a_closed_lock_file_locks_nothing_and_leaves_alone_what_has_its_number(tmp_path: Path) -> None:
    locks = FileLocks(tmp_path / "locks")
    locks.close()
    # The system gives away the lowest free number: these have that of the closed file among them.
    others = [os.open(tmp_path / f"other{n}", os.O_RDWR | os.O_CREAT) for n in range(3)]
    try:
        with pytest.raises(StoreUnavailable, match="was closed"):
            locks.try_lock("a")
        with pytest.raises(StoreUnavailable, match="was closed"):
            locks.holder("a")
        locks.unlock("a")
        locks.close()
        for fd in others:
            os.fstat(fd)  # still open
    finally:
        for fd in others:
            os.close(fd)


def test_one_that_is_closed_takes_nothing_by_way_of_another_that_is_open(tmp_path: Path, locks: FileLocks) -> None:
    closed = FileLocks(tmp_path / "locks")
    closed.close()
    with pytest.raises(StoreUnavailable):
        closed.try_lock("a")
    assert locks.holder("a") is None
    assert locks.try_lock("a") is True


async def test_a_closed_store_drives_nothing(home: Path) -> None:
    store = await SQLiteStore.open(home)
    await store.close()
    with pytest.raises(StoreUnavailable, match="was closed"):
        store.try_lock("session")
    with pytest.raises(StoreUnavailable, match="was closed"):
        store.lock_holder("session")
    store.unlock("session")


def test_the_holder_within_this_process_is_this_process(tmp_path: Path, locks: FileLocks) -> None:
    other = FileLocks(tmp_path / "locks")
    assert other.try_lock("a") is True
    assert locks.holder("a") == os.getpid()
    assert locks.holder("b") is None
    other.close()
    assert locks.holder("a") is None
