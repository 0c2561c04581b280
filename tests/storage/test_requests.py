"""The contract of `SessionStore`: what callers' requests leave behind, and what sweeps find."""

from __future__ import annotations

import asyncio

import pytest

from conductor_ai.errors import IdempotencyKeyUsed, OwnershipLost, SessionNotFound
from conductor_ai.schemas.audit import AuditEntry, first_break
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.storage.base import IdempotencyMark, Runnable, Store
from tests.storage.conftest import OpenStore, Tamper
from tests.storage.session_log import ORG, SessionLog, decision

S = SessionStatus
MARK = IdempotencyMark("caller's key", "a" * 64)
TOMBSTONE = AuditEntry("session", "deleted", '{"by":"ann"}')
SET = AuditEntry("org", "org.limits_set", "{}")
LONG_AGO = "2020-02-03T04:05:06.000007+00:00"


async def test_an_idempotency_key_says_what_it_was_used_for(store: Store) -> None:
    log = SessionLog()
    assert await store.idempotent(ORG, MARK.key) is None
    await store.append(log.next(idempotency=MARK))
    assert await store.idempotent(ORG, MARK.key) == (MARK, log.session_id)
    assert await store.idempotent("other", MARK.key) is None


async def test_of_fifty_starts_with_one_key_one_is_stored(store: Store, open_store: OpenStore) -> None:
    stores = (store, await open_store())
    logs = [SessionLog() for _ in range(50)]

    outcomes = await asyncio.gather(
        *[stores[n % 2].append(log.next(idempotency=MARK)) for n, log in enumerate(logs)], return_exceptions=True
    )

    (won,) = [log for log, outcome in zip(logs, outcomes, strict=True) if outcome is False]
    refusals = [outcome for outcome in outcomes if isinstance(outcome, IdempotencyKeyUsed)]
    assert len(refusals) == 49
    assert {(refusal.session_id, refusal.request_hash) for refusal in refusals} == {(won.session_id, "a" * 64)}
    assert [record.session_id for record in await store.sessions(ORG)] == [won.session_id]


async def test_another_org_may_use_the_same_key(store: Store) -> None:
    await store.append(SessionLog().next(idempotency=MARK))
    log = SessionLog(org_id="other")
    await store.append(log.next(idempotency=MARK))
    assert await store.idempotent("other", MARK.key) == (MARK, log.session_id)


async def test_a_used_key_is_told_of_even_where_the_fence_does_not_hold(store: Store) -> None:
    log = SessionLog()
    continued = IdempotencyMark("second", "b" * 64)
    await store.append(log.next())
    late = log.resumed(await store.session(log.session_id, ORG))
    await store.append(log.next(idempotency=continued))
    with pytest.raises(IdempotencyKeyUsed) as caught:
        await store.append(late.next(idempotency=continued))
    assert (caught.value.session_id, caught.value.request_hash) == (log.session_id, "b" * 64)


async def test_an_append_that_is_refused_uses_up_no_key(store: Store) -> None:
    log = SessionLog()
    await store.append(log.next())
    late = log.resumed(await store.session(log.session_id, ORG))
    await store.append(log.next())
    with pytest.raises(OwnershipLost):
        await store.append(late.next(idempotency=MARK))
    assert await store.idempotent(ORG, MARK.key) is None


async def test_queued_messages_come_back_oldest_first_until_one_is_delivered(store: Store) -> None:
    log = SessionLog()
    await store.append(log.next())
    first, second = log.message('{"content":"nul \\u0000 surrogate \\ud800"}'), log.message()
    await store.enqueue_message(first)
    await store.enqueue_message(second, MARK)
    assert await store.queued_messages(log.session_id, ORG) == [first, second]
    assert await store.idempotent(ORG, MARK.key) == (MARK, log.session_id)

    await store.append(log.next(delivered=[first.message_id]))
    assert await store.queued_messages(log.session_id, ORG) == [second]


async def test_a_message_is_queued_once_under_one_key(store: Store) -> None:
    log = SessionLog()
    await store.append(log.next())
    outcomes = await asyncio.gather(
        *[store.enqueue_message(log.message(), MARK) for _ in range(20)], return_exceptions=True
    )
    assert sum(isinstance(outcome, IdempotencyKeyUsed) for outcome in outcomes) == 19
    assert len(await store.queued_messages(log.session_id, ORG)) == 1


async def test_a_message_for_no_session_uses_up_no_key(store: Store) -> None:
    with pytest.raises(SessionNotFound):
        await store.enqueue_message(SessionLog().message(), MARK)
    assert await store.idempotent(ORG, MARK.key) is None


async def test_a_message_that_was_taken_is_not_delivered_again(store: Store) -> None:
    log = SessionLog()
    await store.append(log.next())
    message = log.message()
    await store.enqueue_message(message)
    await store.append(log.next(delivered=[message.message_id]))
    late = log.resumed(await store.claim(log.session_id, ORG, "2@test"))
    with pytest.raises(OwnershipLost):
        await store.append(late.next(delivered=[message.message_id]))
    assert len(await store.events(log.session_id, ORG)) == 4


async def test_discarded_messages_are_forgotten_within_the_org_only(store: Store) -> None:
    log = SessionLog()
    await store.append(log.next())
    message = log.message()
    await store.enqueue_message(message)
    await store.discard_messages(log.session_id, "other", discarded)
    assert await store.queued_messages(log.session_id, ORG) == [message]
    await store.discard_messages(log.session_id, ORG, discarded)
    assert await store.queued_messages(log.session_id, ORG) == []
    assert (await store.audit_rows("other", None))[0] == []


async def test_of_what_waits_one_message_can_be_discarded_and_the_org_s_chain_says_how_many_were(store: Store) -> None:
    log = SessionLog()
    await store.append(log.next())
    messages = [log.message() for _ in range(4)]
    for message in messages:
        await store.enqueue_message(message)
    for _ in range(2):  # the second time it is gone
        await store.discard_messages(log.session_id, ORG, discarded, message_id=messages[1].message_id)
    assert await store.queued_messages(log.session_id, ORG) == [messages[0], *messages[2:]]

    await store.discard_messages(log.session_id, ORG, discarded)

    rows, head = await store.audit_rows(ORG, None)
    assert [row.metadata for row in rows] == ['{"messages":1}', '{"messages":3}']
    assert first_break(rows, head) is None


async def test_deleting_a_session_frees_its_keys_and_its_messages_and_keeps_the_ledger(store: Store) -> None:
    log, other = SessionLog(), SessionLog()
    await store.append(log.next(idempotency=MARK, calls=[None], at=LONG_AGO))
    await store.append(other.next())
    await store.enqueue_message(log.message())
    kept = other.message()
    await store.enqueue_message(kept)

    await store.delete_session(log.session_id, ORG, TOMBSTONE)

    assert await store.idempotent(ORG, MARK.key) is None
    with pytest.raises(SessionNotFound):
        await store.queued_messages(log.session_id, ORG)
    assert await store.queued_messages(other.session_id, ORG) == [kept]
    (usage,) = await store.usage(ORG, day_from="2020-02-03", day_before="2020-02-04")
    assert usage.calls == 1


def discarded(count: int) -> AuditEntry:
    return AuditEntry("session", "messages.discarded", f'{{"messages":{count}}}')


async def stored(store: Store, status: SessionStatus, *, org_id: str = ORG, at: str | None = None) -> SessionLog:
    log = SessionLog(org_id=org_id)
    await store.append(log.next(status=status, at=at))
    return log


async def test_runnable_are_those_that_wait_for_a_driver_oldest_first(store: Store) -> None:
    logs = {status: await stored(store, status, org_id=status.value) for status in S}
    waiting = SessionLog()
    await store.append(waiting.next(requested=[waiting.approval()], status=S.WAITING_APPROVAL))
    marked = await stored(store, S.PAUSED)
    await store.request_cancel(marked.session_id, ORG, "ann")
    with_message = {status: await stored(store, status) for status in S}
    for log in with_message.values():
        await store.enqueue_message(log.message())

    found = await store.runnable(limit=100)

    undriven = (S.QUEUED, S.RUNNING, S.WAITING_APPROVAL, S.CANCELLING)
    expected = [logs[status] for status in undriven] + [marked]
    expected += [with_message[status] for status in (*undriven, S.COMPLETED, S.FAILED)]
    assert [one.session_id for one in found] == [log.session_id for log in expected]
    assert found[0] == Runnable("queued", logs[S.QUEUED].session_id, S.QUEUED)
    assert await store.runnable(limit=3) == found[:3]


async def test_a_session_is_runnable_once_all_its_approvals_are_decided(store: Store) -> None:
    log = SessionLog()
    requests = [log.approval(), log.approval()]
    await store.append(log.next(requested=requests, status=S.WAITING_APPROVAL))
    await store.append(log.next(decided=[decision(requests[0])], status=S.WAITING_APPROVAL))
    assert await store.runnable(limit=9) == []
    await store.append(log.next(decided=[decision(requests[1])], status=S.WAITING_APPROVAL))
    assert await store.runnable(limit=9) == [Runnable(ORG, log.session_id, S.WAITING_APPROVAL)]


async def test_what_another_store_drives_is_not_runnable_until_that_is_closed(
    store: Store, open_store: OpenStore
) -> None:
    gone, other = await open_store(), await open_store()
    free, log = await stored(gone, S.RUNNING), await stored(gone, S.RUNNING)
    await gone.close()
    assert other.try_lock(log.session_id)
    await other.claim(log.session_id, ORG, "2@test")

    assert [one.session_id for one in await store.runnable(limit=1)] == [free.session_id]
    await other.close()
    assert {one.session_id for one in await store.runnable(limit=9)} == {log.session_id, free.session_id}


async def test_expired_are_those_that_rest_for_longer_than_their_org_keeps_them(store: Store) -> None:
    logs = [await stored(store, status, at=LONG_AGO) for status in S]
    await stored(store, S.COMPLETED)
    other = await stored(store, S.COMPLETED, org_id="other", at="2019-01-01T00:00:00.000000+00:00")
    await store.set_org_limits("other", {"retention_days": 1}, SET)
    await store.set_org_limits("patient", {"retention_days": 1_000_000}, SET)
    await stored(store, S.COMPLETED, org_id="patient", at=LONG_AGO)
    await store.set_org_limits(ORG, {"requests_per_minute": 5}, SET)

    assert await store.expired(None, limit=100) == [Runnable("other", other.session_id, S.COMPLETED)]
    found = await store.expired(30, limit=100)
    resting = {S.WAITING_APPROVAL, S.PAUSED, S.COMPLETED, S.FAILED, S.CANCELLED}
    expected = sorted(log.session_id for log, status in zip(logs, S, strict=True) if status in resting)
    assert [one.session_id for one in found] == [other.session_id, *expected]
    assert await store.expired(30, limit=2) == found[:2]
    assert await store.expired(4000 * 365, limit=100) == await store.expired(None, limit=100)


async def test_a_row_that_cannot_be_read_keeps_no_other_from_being_found(store: Store, tamper: Tamper) -> None:
    strange, marked = [await stored(store, S.COMPLETED, at=LONG_AGO) for _ in range(2)]
    plain, waits = await stored(store, S.COMPLETED, at=LONG_AGO), await stored(store, S.RUNNING)
    for log in (strange, marked):
        tamper(f"UPDATE sessions SET status = 'asleep' WHERE session_id = '{log.session_id}'")
    tamper(f"UPDATE sessions SET cancel_requested_at = created_at WHERE session_id = '{marked.session_id}'")

    assert [one.session_id for one in await store.runnable(limit=9)] == [waits.session_id]
    assert [one.session_id for one in await store.expired(30, limit=9)] == [plain.session_id]


async def test_asking_for_a_sign_of_life_is_answered(store: Store) -> None:
    await store.ping()
