"""What only a server can show: types, lost answers, cut connections, leases of other workers."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest

from conductor_ai.errors import (
    IdempotencyKeyUsed,
    OwnershipLost,
    SessionBusy,
    StoreUnavailable,
)
from conductor_ai.schemas.audit import AuditEntry, first_break
from conductor_ai.schemas.orgs import OrgLimits
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.storage.base import Append, IdempotencyMark
from conductor_ai.storage.postgres import PostgresStore, lease
from tests.conftest import fail_after
from tests.services.fault_proxy import FaultProxy
from tests.storage.postgres_database import Database
from tests.storage.session_log import ORG, SessionLog

S = SessionStatus
ENTRY = AuditEntry("org", "org.limits_set", "{}")
TOMBSTONE = AuditEntry("session", "deleted", "{}")
Open = Callable[..., Awaitable[PostgresStore]]
Proxy = Callable[[str], FaultProxy]
T = TypeVar("T")


@pytest.fixture
async def open_at(fault_proxy: Proxy) -> AsyncIterator[Open]:
    """Opens stores, and closes them while `fault_proxy` is still there."""
    stores: list[PostgresStore] = []

    async def open_one(url: str, **options: Any) -> PostgresStore:
        store = await PostgresStore.open(url, **options)
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        await store.close()


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    opened = Database(postgres_url)
    yield opened
    opened.close()


# Types


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/St_Johns"])
@pytest.mark.parametrize("fraction", ["000000", "100000", "000001", "999999"])
async def test_times_come_back_as_the_text_that_hashes_cover(
    postgres_url: str, database: Database, open_at: Open, zone: str, fraction: str
) -> None:
    database.run(f"ALTER DATABASE {urlsplit(postgres_url).path[1:]} SET TimeZone = '{zone}'")
    at = f"2026-03-01T23:59:59.{fraction}+00:00"
    store, log = await open_at(postgres_url), SessionLog()
    await store.append(log.next(at=at))

    rows, head = await store.audit_rows(ORG, log.session_id)

    assert first_break(rows, head) is None
    assert {row.created_at for row in rows} == {at}
    (listed,) = await store.sessions(ORG)
    assert (listed.created_at, listed.updated_at) == (at, at)
    assert await store.session(log.session_id, ORG) == listed
    assert {event.created_at for event in await store.events(log.session_id, ORG)} == {at}


async def test_json_and_money_come_back_as_they_were_written(postgres_url: str, open_at: Open) -> None:
    store, log = await open_at(postgres_url), SessionLog()
    text = '{"b": 1.50, "a":"\\u0000\\ud800" , "b":2, "large":123456789012345678901234567890}'
    execution = log.execution()._replace(input=text, output=text)
    await store.append(log.next(executions=[execution], cost_usd=Decimal("1E-12")))

    assert await store.tool_executions(ORG, log.session_id) == [execution]
    assert str((await store.session(log.session_id, ORG)).cost_usd) == "1E-12"
    assert (await store.sessions(ORG))[0].cost_usd == Decimal("0.000000000001")


async def test_a_large_event_and_a_batch_beyond_its_bound_are_stored(postgres_url: str, open_at: Open) -> None:
    store, log = await open_at(postgres_url), SessionLog()
    payloads = [{"result": '"' * 6_000_000, "n": n} for n in range(3)]
    appends = [store.append(log.next([payload])) for payload in payloads]
    await asyncio.gather(*appends)
    assert [event.payload for event in await store.events(log.session_id, ORG)] == payloads


# Lost answers and lost connections


async def test_what_was_stored_though_its_answer_was_lost_is_stored_once(
    postgres_url: str, database: Database, open_at: Open, fault_proxy: Proxy
) -> None:
    proxy = fault_proxy(postgres_url)
    store = await open_at(proxy.url)
    used, mark = IdempotencyMark("used", "a" * 64), IdempotencyMark("lost", "a" * 64)

    def life(log: SessionLog, key: IdempotencyMark) -> list[list[Append]]:
        """Batches: what follows is merged with what it follows."""
        return [
            [log.next(idempotency=key), log.next(), log.next()],
            [log.next([{"n": 1}]), log.next([], status=S.RUNNING)],
            [log.next(status=S.COMPLETED)],
        ]

    log = SessionLog()
    for before, batch in zip(life(SessionLog(), used), life(log, mark), strict=True):
        # The statement is prepared now: when its answer is lost, it was executed.
        await asyncio.gather(*[store.append(append) for append in before])
        last_seq = max(event.seq for append in batch for event in append.events)
        proxy.reset_after(0)
        answers = [store.append(append) for append in batch]
        await database.until("SELECT 1 FROM sessions WHERE session_id = %s AND last_seq = %s", log.session_id, last_seq)
        proxy.heal()
        async with fail_after(30):
            assert await asyncio.gather(*answers) == [False] * len(batch)

    assert [event.seq for event in await store.events(log.session_id, ORG)] == list(range(1, 10))
    rows, head = await store.audit_rows(ORG, log.session_id)
    assert len(rows) == 12
    assert first_break(rows, head) is None
    with pytest.raises(IdempotencyKeyUsed):
        await store.append(SessionLog().next(idempotency=mark))


async def test_a_statement_that_arrives_after_its_connection_was_given_up_is_stored_once(
    postgres_url: str, open_at: Open, fault_proxy: Proxy
) -> None:
    proxy = fault_proxy(postgres_url)
    store, logs = await open_at(proxy.url, reply_s=0.5), [SessionLog() for _ in range(5)]
    await asyncio.gather(*[store.append(log.next()) for log in logs])

    proxy.stall()
    accepted = proxy.accepted
    answers = [store.append(log.next()) for log in logs]
    async with fail_after(30):
        while proxy.accepted == accepted:  # noqa: ASYNC110  until the store tries another connection
            await asyncio.sleep(0)
        proxy.heal()  # what was held back reaches the server, beside the second try
        assert await asyncio.gather(*answers) == [False] * 5
    for log in logs:
        assert [event.seq for event in await store.events(log.session_id, ORG)] == [1, 2, 3, 4]


@pytest.mark.parametrize("reset", [False, True])
async def test_connections_cut_under_load_lose_nothing_that_was_acknowledged(
    postgres_url: str, open_at: Open, fault_proxy: Proxy, reset: bool
) -> None:
    proxy = fault_proxy(postgres_url)
    store, logs = await open_at(proxy.url), [SessionLog() for _ in range(8)]
    acknowledged = itertools.count(1)

    async def run(log: SessionLog) -> None:
        for n in range(30):
            store.append_later(log.next([{"n": 2 * n}]))
            await store.append(log.next([{"n": 2 * n + 1}]))
            if next(acknowledged) % 20 == 0:
                proxy.cut(reset=reset)

    async with fail_after(60):
        await asyncio.gather(*[run(log) for log in logs])
    assert proxy.accepted > 10
    for log in logs:
        assert [event.payload["n"] for event in await store.events(log.session_id, ORG)] == list(range(60))
        rows, head = await store.audit_rows(ORG, log.session_id)
        assert first_break(rows, head) is None


async def test_changes_whose_answer_was_lost_are_made_once(
    postgres_url: str, database: Database, open_at: Open, fault_proxy: Proxy
) -> None:
    proxy = fault_proxy(postgres_url)
    store, log, other = await open_at(proxy.url), SessionLog(), SessionLog()
    await asyncio.gather(store.append(log.next()), store.append(other.next()))

    def changes(one: SessionLog, key: str) -> list[Callable[[], Awaitable[object]]]:
        message, mark = one.message(), IdempotencyMark(key, "a" * 64)
        return [
            lambda: store.enqueue_message(message, mark),
            lambda: store.request_cancel(one.session_id, ORG, "ann"),
        ]

    shows = (
        "SELECT 1 FROM queued_messages WHERE session_id = %s",
        "SELECT 1 FROM sessions WHERE session_id = %s AND cancel_requested_at IS NOT NULL",
    )
    for prepare, change, shown in zip(changes(other, "other"), changes(log, "key"), shows, strict=True):
        await prepare()
        proxy.reset_after(0)
        answer = asyncio.ensure_future(change())
        await database.until(shown, log.session_id)
        proxy.heal()
        async with fail_after(30):
            await answer


async def test_changes_in_several_statements_are_made_once_wherever_their_connection_is_cut(
    postgres_url: str, open_at: Open, fault_proxy: Proxy
) -> None:
    proxy = fault_proxy(postgres_url)
    store, log, limits = await open_at(proxy.url), SessionLog(), OrgLimits(max_usd_per_day=Decimal(7))

    async def cut_after(answered: int, change: Awaitable[T]) -> T:
        connections = proxy.accepted
        proxy.reset_after(answered)
        answer = asyncio.ensure_future(change)
        async with fail_after(30):
            while proxy.accepted == connections and not answer.done():  # noqa: ASYNC110  until the store comes again
                await asyncio.sleep(0)
            proxy.heal()
            return await answer

    await store.set_org_limits(ORG, limits.to_dict(), ENTRY)
    await store.append(log.next())
    for answered in range(0, 500, 25):
        assert (await cut_after(answered, store.set_org_limits(ORG, limits.to_dict(), ENTRY))).limits == limits
        log = log.resumed(await cut_after(answered, store.claim(log.session_id, ORG, "me")))
        await store.append(log.next())  # whoever has claimed is not fenced off by the claim that was given up
        await store.enqueue_message(log.message())
        await cut_after(answered, store.discard_messages(log.session_id, ORG, lambda count: TOMBSTONE))
        assert await store.queued_messages(log.session_id, ORG) == []

    rows, head = await store.audit_rows(ORG, None)
    assert len(rows) == 41
    assert first_break(rows, head) is None
    assert len(await store.events(log.session_id, ORG)) == 42


async def test_a_burst_of_slow_reads_does_not_keep_a_worker_from_saying_that_it_lives(
    postgres_url: str, database: Database, open_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.02)
    store, log = await open_at(postgres_url), SessionLog()
    await store.append(log.next())

    with closing(Database(postgres_url)) as holder, holder.transaction():
        holder.run("LOCK TABLE session_events")
        reads = [asyncio.ensure_future(store.events(log.session_id, ORG)) for _ in range(20)]
        await database.until("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' HAVING count(*) >= 4")
        ((before,),) = database.run("SELECT heartbeat_at FROM workers WHERE worker_id = %s", store.worker_id)
        beat = "SELECT 1 FROM workers WHERE worker_id = %s AND heartbeat_at > %s"
        await database.until(beat, store.worker_id, before)
        assert not any(read.done() for read in reads)

    assert {len(found) for found in await asyncio.gather(*reads)} == {2}


async def test_money_is_never_taken_off_twice(
    postgres_url: str, database: Database, open_at: Open, fault_proxy: Proxy
) -> None:
    proxy, at = fault_proxy(postgres_url), "2026-11-23T10:00:00.000000+00:00"
    store = await open_at(proxy.url)
    assert await store.reserve_usd(ORG, Decimal(5), at)
    await store.settle_usd(ORG, Decimal(2), Decimal(2), at)

    proxy.reset_after(0)
    answer = asyncio.ensure_future(store.settle_usd(ORG, Decimal(2), Decimal(1), at))
    await database.until("SELECT 1 FROM org_spending WHERE committed_nanousd = 4000000000")
    proxy.heal()

    async with fail_after(30):
        with pytest.raises(StoreUnavailable, match="may stay counted"):
            await answer
        assert await store.committed_usd(ORG, at) == (Decimal(4), Decimal(4))


async def test_a_database_that_stays_away_fails_what_waits_and_what_follows_with_the_cause(
    postgres_url: str, open_at: Open, fault_proxy: Proxy
) -> None:
    proxy = fault_proxy(postgres_url)
    store, log = await open_at(proxy.url, patience_s=0.2), SessionLog()
    await store.append(log.next())

    proxy.refuse()
    store.append_later(log.next())
    async with fail_after(30):
        with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
            await store.append(log.next())
        with pytest.raises(StoreUnavailable):
            await store.ping()
        with pytest.raises(StoreUnavailable):
            await store.session(log.session_id, ORG)
    assert caught.value.retryable
    assert (urlsplit(postgres_url).password or "?") not in str(caught.value)

    proxy.heal()
    with pytest.raises(StoreUnavailable):  # not another owner: an earlier append is missing
        await store.append(log.next())
    resumed = log.resumed(await store.claim(log.session_id, ORG, "me"))
    await store.append(resumed.next())
    await store.ping()
    assert [event.seq for event in await store.events(log.session_id, ORG)] == [1, 2, 3, 4]


# Leases


async def test_a_live_worker_keeps_what_it_drives_until_it_stops_beating(
    postgres_url: str, database: Database, open_at: Open
) -> None:
    one, two = await open_at(postgres_url), await open_at(postgres_url)
    log = SessionLog()
    await one.append(log.next())
    assert (await one.session(log.session_id, ORG)).owner == one.worker_id

    with pytest.raises(SessionBusy):
        await two.claim(log.session_id, ORG, "2")
    with pytest.raises(SessionBusy):
        await two.delete_session(log.session_id, ORG, TOMBSTONE)
    assert await two.runnable(limit=9) == []
    assert await two.audit_rows(ORG, None) == ([], (await two.audit_rows("nobody", None))[1])
    await one.append(log.next())

    database.run("UPDATE workers SET heartbeat_at = now() - interval '20 s' WHERE worker_id = %s", one.worker_id)
    assert [found.session_id for found in await two.runnable(limit=9)] == [log.session_id]
    record = await two.claim(log.session_id, ORG, "2")
    assert (record.owner, record.owner_epoch) == (two.worker_id, 2)
    with pytest.raises(OwnershipLost):
        await one.append(log.next())


async def test_one_of_many_workers_takes_over_a_dead_ones_session(
    postgres_url: str, database: Database, open_at: Open
) -> None:
    dead, *others = [await open_at(postgres_url) for _ in range(4)]
    log = SessionLog()
    await dead.append(log.next())
    database.run("UPDATE workers SET heartbeat_at = now() - interval '20 s' WHERE worker_id = %s", dead.worker_id)
    claims = await asyncio.gather(*[one.claim(log.session_id, ORG, "") for one in others], return_exceptions=True)
    assert sorted(type(claim).__name__ for claim in claims) == ["SessionBusy", "SessionBusy", "SessionRecord"]


@pytest.mark.parametrize("status", [S.WAITING_APPROVAL, S.PAUSED, S.COMPLETED, S.FAILED, S.CANCELLED])
async def test_a_session_that_stops_is_free_at_once(postgres_url: str, open_at: Open, status: SessionStatus) -> None:
    one, two = await open_at(postgres_url), await open_at(postgres_url)
    log = SessionLog()
    await one.append(log.next())
    await one.append(log.next(status=status))
    assert (await one.session(log.session_id, ORG)).owner is None
    assert (await two.claim(log.session_id, ORG, "")).owner == two.worker_id


async def test_what_is_given_up_or_left_behind_by_closing_is_free(postgres_url: str, open_at: Open) -> None:
    one, two = await open_at(postgres_url), await open_at(postgres_url)
    given_up, left = SessionLog(), SessionLog()
    for log in (given_up, left):
        assert one.try_lock(log.session_id)
        await one.append(log.next())
    one.unlock(given_up.session_id)
    await one.append(left.next())  # behind it in the queue
    assert [found.session_id for found in await two.runnable(limit=9)] == [given_up.session_id]
    assert (await two.claim(given_up.session_id, ORG, "")).owner_epoch == 2
    assert two.try_lock(left.session_id) is False
    assert two.lock_holder(left.session_id) is None

    await one.close()
    assert two.try_lock(left.session_id) is True
    assert (await two.claim(left.session_id, ORG, "")).owner == two.worker_id
    with pytest.raises(StoreUnavailable):
        one.try_lock(left.session_id)


def test_importing_it_does_not_import_sqlalchemy() -> None:
    script = "import sys, conductor_ai.storage.postgres; print('sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("False\n", "")
