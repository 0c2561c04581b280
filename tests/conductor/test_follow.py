"""Following a session: every event once and in order, whatever becomes of the signals and of the readers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from conductor_ai.conductor.follow import Follows
from conductor_ai.errors import SessionNotFound
from conductor_ai.schemas.audit import AuditEntry
from conductor_ai.schemas.events import Event
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.storage.hot_memory import MemoryHotState
from conductor_ai.storage.sqlite import SQLiteStore
from tests.conftest import fail_after
from tests.storage.session_log import ORG, SessionLog

ANSWERED = {"step_no": 1, "tool_calls": [{"call_id": "1.1", "name": "look", "arguments": {}}]}
STATUS = {
    "session.completed": SessionStatus.COMPLETED,
    "session.failed": SessionStatus.FAILED,
    "session.cancelled": SessionStatus.CANCELLED,
    "session.paused": SessionStatus.PAUSED,
    "approval.requested": SessionStatus.WAITING_APPROVAL,
}


class CountingStore(SQLiteStore):
    """Counts how often a log is read."""

    reads = 0

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.was_read = asyncio.Event()
        self.may_read = asyncio.Event()
        self.may_read.set()

    async def events(
        self, session_id: str, org_id: str, *, after_seq: int = 0, limit: int | None = None
    ) -> list[Event]:
        self.reads += 1
        self.was_read.set()
        await self.may_read.wait()
        return await super().events(session_id, org_id, after_seq=after_seq, limit=limit)


class House:
    """One session that the test writes, and what follows it."""

    def __init__(self, store: CountingStore) -> None:
        self.store = store
        self.hot = MemoryHotState()
        self.follows = Follows(store, self.hot, poll_s=0.02)
        self.log = SessionLog()

    async def happens(self, kind: str, payload: Any = None, *, told: int = 1, step_no: int = 0) -> None:
        """An event is stored, and then told so many times."""
        append = self.log.next([payload or {}], status=STATUS.get(kind, SessionStatus.RUNNING), step_no=step_no)
        await self.store.append(append._replace(events=(append.events[0]._replace(type=kind),)))
        row = append.events[0]
        for _ in range(told):
            self.hot.publish(
                row.session_id,
                {"type": kind, "seq": row.seq, "session_id": row.session_id, "payload": payload or {}},
            )

    def is_told(self, kind: str, /, **payload: Any) -> None:
        self.hot.publish(self.log.session_id, {"type": kind, "session_id": self.log.session_id, "payload": payload})

    def reader(self, after_seq: int = 0, org_id: str = ORG) -> Any:
        return self.follows.follow(self.log.session_id, org_id, after_seq=after_seq)

    async def read(self, after_seq: int = 0) -> list[dict[str, Any]]:
        async with fail_after(20):
            return [item async for item in self.reader(after_seq)]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = await CountingStore.open(tmp_path / "home")
    yield House(store)
    await store.close()


def seqs(items: list[dict[str, Any]]) -> list[int]:
    return [item["seq"] for item in items if "seq" in item]


def kinds(items: list[dict[str, Any]]) -> list[str]:
    return [item["type"] for item in items]


@pytest.mark.parametrize("seed", range(3))
async def test_readers_cut_at_random_miss_and_double_nothing(house: House, seed: int) -> None:
    chance, total = random.Random(seed), 150
    await house.happens("session.created")

    async def write() -> list[int]:
        for _ in range(total - 2):
            house.is_told("model.delta", step_no=1, kind="text", text="x")
            await house.happens("message.added", told=chance.choice([0, 1, 1, 2]))
            await asyncio.sleep(0)
        await house.happens("session.completed", told=0)
        return []

    async def read_with_cuts() -> list[int]:
        got: list[int] = []
        while not got or got[-1] < total:
            left = chance.randint(1, 40)
            async with aclosing(house.reader(got[-1] if got else 0)) as items:
                async for item in items:
                    got += seqs([item])
                    left -= 1
                    if not left:
                        break
        return got

    async with fail_after(60):
        results = await asyncio.gather(write(), *(read_with_cuts() for _ in range(20)))

    assert all(got == list(range(1, total + 1)) for got in results[1:])


@pytest.mark.parametrize("last", ["session.completed", "session.failed", "session.cancelled", "session.paused"])
async def test_a_session_that_stopped_is_read_whole_and_a_reader_of_it_all_gets_nothing_more(
    house: House, last: str
) -> None:
    for kind in ("session.created", "message.added", last):
        await house.happens(kind)

    assert kinds(await house.read()) == ["session.created", "message.added", last]
    assert kinds(await house.read(after_seq=1)) == ["message.added", last]
    assert await house.read(after_seq=3) == []


async def test_a_continued_session_goes_on_for_whoever_has_seen_its_first_end(house: House) -> None:
    for kind in ("session.created", "session.completed", "session.resumed", "message.added"):
        await house.happens(kind)

    async with fail_after(20), aclosing(house.reader(after_seq=2)) as items:
        first, second = [await anext(items) for _ in range(2)]
        await house.happens("session.completed")
        rest = [item async for item in items]

    assert seqs([first, second, *rest]) == [3, 4, 5]
    assert seqs(await house.read()) == [1, 2, 3, 4, 5]


async def test_waiting_for_an_approval_keeps_readers(house: House) -> None:
    await house.happens("session.created")
    await house.happens("approval.requested")

    async with fail_after(20), aclosing(house.reader()) as items:
        seen = [await anext(items) for _ in range(2)]
        coming = asyncio.ensure_future(anext(items))
        for _ in range(3):  # it looks at the log again and again, and does not end
            house.store.was_read.clear()
            await house.store.was_read.wait()
        assert not coming.done()
        await house.happens("approval.decided", told=0)
        seen.append(await coming)

    assert seqs(seen) == [1, 2, 3]


async def test_live_items_come_between_events_and_never_after_what_they_are_of(house: House) -> None:
    await house.happens("session.created")
    async with fail_after(20), aclosing(house.reader()) as items:
        got = [await anext(items)]
        house.is_told("model.delta", step_no=1, kind="text", text="early")
        got.append(await anext(items))
        await house.happens("model.completed", ANSWERED, step_no=1)
        house.is_told("model.delta", step_no=1, kind="text", text="late")
        house.is_told("tool.progress", call_id="1.1", text="working")
        got += [await anext(items) for _ in range(2)]
        await house.happens("tool.completed", {"call_id": "1.1"}, step_no=1)
        house.is_told("tool.progress", call_id="1.1", text="late")
        house.is_told("model.delta", step_no=2, kind="text", text="next")
        await house.happens("session.completed", step_no=1)
        got += [item async for item in items]

    said = [item["payload"].get("text") or item["type"] for item in got]
    assert said == [
        "session.created",
        "early",
        "model.completed",
        "working",
        "tool.completed",
        "next",
        "session.completed",
    ]


async def test_a_reader_that_reads_on_in_the_log_is_told_nothing_older(house: House) -> None:
    await house.happens("session.created")
    async with fail_after(20), aclosing(house.reader()) as live, aclosing(house.reader()) as late:
        await anext(live)
        await anext(late)
        house.is_told("model.delta", step_no=1, kind="text", text="a piece")
        await anext(live)
        await house.happens("model.completed", ANSWERED, step_no=1)
        await anext(live)
        for _ in range(600):  # more than is kept for a reader that does not read
            house.is_told("model.delta", step_no=2, kind="text", text="b")
            await anext(live)
        await house.happens("session.completed", step_no=1)
        rest = [item async for item in late]

    assert kinds(rest) == ["model.completed", "session.completed"]


async def test_what_came_while_a_reader_read_the_log_is_told_only_where_it_is_newer(house: House) -> None:
    await house.happens("session.created")
    async with fail_after(20), aclosing(house.reader()) as items:
        house.store.may_read.clear()
        reading = asyncio.ensure_future(anext(items))
        await house.store.was_read.wait()
        house.is_told("model.delta", step_no=1, kind="text", text="older than the answer")
        await house.happens("model.completed", ANSWERED, step_no=1)
        house.is_told("model.delta", step_no=2, kind="text", text="newer")
        await house.happens("session.completed", step_no=1, told=0)
        house.store.may_read.set()
        got = [await reading, *[item async for item in items]]

    assert kinds(got)[:2] == ["session.created", "model.completed"]
    assert seqs(got) == [1, 2, 3]
    assert "older than the answer" not in [item["payload"].get("text") for item in got]


async def test_another_orgs_session_is_not_found(house: House) -> None:
    await house.happens("session.created")

    with pytest.raises(SessionNotFound):
        await anext(house.reader(org_id="other"))
    async with fail_after(20), aclosing(house.reader()) as items:
        assert seqs([await anext(items)]) == [1]
        with pytest.raises(SessionNotFound):
            await anext(house.reader(org_id="other"))


async def test_hundreds_of_readers_of_one_session_share_its_reads(house: House) -> None:
    await house.happens("session.created")
    async with fail_after(60):
        readers = [asyncio.create_task(house.read()) for _ in range(500)]
        await asyncio.sleep(0)
        for _ in range(50):
            await house.happens("message.added")
        await house.happens("session.completed")
        results = await asyncio.gather(*readers)

    assert {tuple(seqs(items)) for items in results} == {tuple(range(1, 53))}
    assert house.store.reads < 1000  # the beginning of the log for each, and few looks for all


async def test_closing_ends_readers_and_so_does_the_end_of_the_session_itself(house: House) -> None:
    await house.happens("session.created")
    async with fail_after(20), aclosing(house.reader()) as items:
        await anext(items)
        await house.store.delete_session(house.log.session_id, ORG, AuditEntry("session", "session.deleted", "{}"))
        assert [item async for item in items] == []

    house.log = SessionLog()
    await house.happens("session.created")
    async with fail_after(20), aclosing(house.reader()) as items:
        await anext(items)
        house.follows.close()
        assert [item async for item in items] == []
    assert await house.read() == []
