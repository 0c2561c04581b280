"""The contract of `SessionStore`: appends, fences, reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from copy import deepcopy
from decimal import Decimal

import pytest

from conductor_ai.errors import (
    ApprovalAlreadyDecided,
    ApprovalNotFound,
    CancelRequested,
    OwnershipLost,
    SessionNotFound,
    StorageError,
    StoreUnavailable,
)
from conductor_ai.schemas.approvals import ApprovalStatus
from conductor_ai.schemas.audit import AuditEntry, first_break
from conductor_ai.schemas.events import EventType
from conductor_ai.schemas.ids import new_id, utc_now
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.schemas.usage import Usage
from conductor_ai.storage.base import Append, QueuedMessage, SessionFilter, SessionStore
from tests.storage.conftest import OpenStore, owner_in
from tests.storage.session_log import ORG, SessionLog, decision

TOMBSTONE = AuditEntry("session", "deleted", '{"by":"ann"}')
SURROGATE = "\ud800"


async def test_events_handed_over_without_waiting_are_stored_in_call_order_without_a_gap(store: SessionStore) -> None:
    log = SessionLog()
    appends = [store.append(log.next([{"n": n}])) for n in range(300)]  # more than one batch takes

    await asyncio.gather(*appends)

    events = await store.events(log.session_id, ORG)
    assert [(event.seq, event.payload) for event in events] == [(n + 1, {"n": n}) for n in range(300)]
    assert {event.type for event in events} == {EventType.MESSAGE_ADDED}
    assert [event.seq for event in await store.events(log.session_id, ORG, after_seq=298)] == [299, 300]


async def test_an_awaited_append_is_there_for_another_store(store: SessionStore, open_store: OpenStore) -> None:
    log = SessionLog(title="Qualify leads")
    await store.append(log.next(step_no=7, error="overloaded", cost_usd=Decimal("1E-7")))

    record = await (await open_store()).session(log.session_id, ORG)

    assert record.title == "Qualify leads"
    assert record.error == "overloaded"
    assert record.step_no == 7
    assert record.status is SessionStatus.RUNNING
    assert record.usage == Usage(10, 20, 3, 4, 5)
    assert record.cost_usd == Decimal("0.0000001")
    assert (record.owner_epoch, record.owner, record.last_seq) == (1, owner_in(store, "1@test"), 2)
    assert (record.audit_seq, record.audit_head) == (log.head.seq, log.head.hash)


async def test_an_unknown_cost_stays_unknown(store: SessionStore) -> None:
    log = SessionLog()
    await store.append(log.next(cost_usd=None))
    assert (await store.session(log.session_id, ORG)).cost_usd is None


async def test_whoever_was_claimed_away_from_writes_nothing_more(store: SessionStore, open_store: OpenStore) -> None:
    old = SessionLog()
    await store.append(old.next())
    other = await open_store()
    record = await other.claim(old.session_id, ORG, "2@test")
    new = old.resumed(record)

    with pytest.raises(OwnershipLost):
        await store.append(old.next([{"from": "old"}]))
    await other.append(new.next([{"from": "new"}]))

    assert (record.owner_epoch, record.owner) == (2, owner_in(other, "2@test"))
    events = await store.events(old.session_id, ORG)
    assert [event.payload.get("from") for event in events] == [None, None, "new"]
    audit, _ = await store.audit_rows(ORG, old.session_id)
    assert len(audit) == 4


async def test_a_fenced_session_drops_out_of_a_batch_and_the_others_commit(
    store: SessionStore, open_store: OpenStore
) -> None:
    logs = [SessionLog() for _ in range(20)]
    await asyncio.gather(*[store.append(log.next()) for log in logs])
    await (await open_store()).claim(logs[7].session_id, ORG, "2@test")

    outcomes = await asyncio.gather(*[store.append(log.next()) for log in logs], return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [OwnershipLost if n == 7 else bool for n in range(20)]
    lengths = [len(await store.events(log.session_id, ORG)) for log in logs]
    assert lengths == [2 if n == 7 else 4 for n in range(20)]


async def test_an_append_behind_what_is_stored_is_refused(store: SessionStore) -> None:
    log = SessionLog()
    stale = log.next()
    await store.append(stale)
    with pytest.raises(OwnershipLost):
        await store.append(stale)
    assert len(await store.events(log.session_id, ORG)) == 2


def poisoned(append: Append, **columns: object) -> Append:
    return append._replace(audit=(append.audit[0]._replace(**columns), *append.audit[1:]))  # type: ignore[arg-type]


POISONS: list[dict[str, object]] = [{"category": None}, {"action": SURROGATE}, {"chain_seq": 2**70}, {"id": None}]


@pytest.mark.parametrize("column", POISONS, ids=str)
async def test_one_append_that_cannot_be_stored_harms_no_other(store: SessionStore, column: dict[str, object]) -> None:
    logs = [SessionLog() for _ in range(10)]
    await asyncio.gather(*[store.append(log.next()) for log in logs])

    appends = [log.next() for log in logs]
    appends[4] = poisoned(appends[4], **column)
    first = [store.append(append) for append in appends]
    second = [store.append(log.next()) for log in logs]
    outcomes = await asyncio.gather(*first, *second, return_exceptions=True)

    failed = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, StorageError)]
    assert failed == [4, 14]  # and what follows it in its session, with the cause: nobody took the session over
    assert str(outcomes[14]) == str(outcomes[4])
    lengths = [len(await store.events(log.session_id, ORG)) for log in logs]
    assert lengths == [2 if n == 4 else 6 for n in range(10)]


async def test_a_session_goes_on_after_an_append_that_could_not_be_stored(store: SessionStore) -> None:
    log = SessionLog()
    await store.append(log.next())
    with pytest.raises(StorageError):
        await store.append(log.next(step_no=2**70))

    resumed = log.resumed(await store.claim(log.session_id, ORG, "1@test"))
    await store.append(resumed.next())
    await store.append(resumed.next())

    assert [event.seq for event in await store.events(log.session_id, ORG)] == [1, 2, 3, 4, 5, 6]


async def test_events_that_would_leave_a_gap_are_refused(store: SessionStore) -> None:
    log = SessionLog()
    whole = log.next([{"n": 1}, {"n": 2}, {"n": 3}])
    holed = Append(whole.session_id, 1, 0, (whole.events[0], whole.events[2]), whole.projection, created=whole.created)
    with pytest.raises(StorageError, match="does not continue"):
        await store.append(holed)
    with pytest.raises(SessionNotFound):
        await store.session(log.session_id, ORG)


async def test_a_session_is_created_once(store: SessionStore) -> None:
    log = SessionLog()
    await store.append(log.next())
    with pytest.raises(OwnershipLost):
        await store.append(SessionLog(session_id=log.session_id, org_id="other").next())
    assert (await store.session(log.session_id, ORG)).org_id == ORG


async def test_an_append_to_a_deleted_session_is_refused(store: SessionStore) -> None:
    log = SessionLog()
    await store.append(log.next())
    await store.delete_session(log.session_id, ORG, TOMBSTONE)
    with pytest.raises(OwnershipLost):
        await store.append(log.next())


async def test_a_request_to_cancel_is_told_to_the_next_append(store: SessionStore, open_store: OpenStore) -> None:
    log = SessionLog()
    assert await store.append(log.next()) is False
    await (await open_store()).request_cancel(log.session_id, ORG, "ann")
    assert await store.append(log.next()) is True
    await store.request_cancel(log.session_id, ORG, "bob")  # the first one counts
    record = await store.session(log.session_id, ORG)
    assert record.cancel_requested_at is not None and record.cancel_requested_by == "ann"
    assert await store.cancel_requests() == [(log.session_id, "ann")]


async def test_a_request_to_cancel_ends_with_the_session(store: SessionStore) -> None:
    log = SessionLog()
    await store.append(log.next())
    await store.request_cancel(log.session_id, ORG, "ann")
    assert await store.append(log.next(status=SessionStatus.CANCELLED)) is True
    await store.request_cancel(log.session_id, ORG, "ann")  # too late: there is nothing to stop
    assert await store.append(log.next()) is False


@pytest.mark.parametrize("status", [SessionStatus.COMPLETED, SessionStatus.FAILED])
async def test_a_session_that_is_being_cancelled_ends_in_no_other_way(
    store: SessionStore, open_store: OpenStore, status: SessionStatus
) -> None:
    log, other = SessionLog(), SessionLog()
    await asyncio.gather(store.append(log.next()), store.append(other.next()))
    await (await open_store()).request_cancel(log.session_id, ORG, "ann")

    before = deepcopy(log)
    ended = await asyncio.gather(
        store.append(log.next(status=status)), store.append(other.next(status=status)), return_exceptions=True
    )
    assert [type(outcome) for outcome in ended] == [CancelRequested, bool]
    assert (await store.session(log.session_id, ORG)).status is SessionStatus.RUNNING
    assert await store.append(before.next(status=SessionStatus.CANCELLED)) is True  # its owner still is

    record = await store.session(log.session_id, ORG)
    assert (record.status, record.last_seq) == (SessionStatus.CANCELLED, 4)
    rows, head = await store.audit_rows(ORG, log.session_id)
    assert first_break(rows, head) is None


async def test_an_end_behind_an_append_on_its_way_is_refused_alone(store: SessionStore) -> None:
    log = SessionLog()
    await store.append(log.next())
    await store.request_cancel(log.session_id, ORG, "ann")

    store.append_later(log.next())
    with pytest.raises(CancelRequested):
        await store.append(log.next(status=SessionStatus.COMPLETED))

    assert (await store.session(log.session_id, ORG)).last_seq == 4


async def test_sessions_are_listed_newest_first_within_the_org(store: SessionStore) -> None:
    logs = [SessionLog() for _ in range(4)]
    for log in logs:
        await store.append(log.next())
    await store.append(SessionLog(org_id="other").next())
    await store.append(logs[1].next(status=SessionStatus.COMPLETED))

    newest_first = [log.session_id for log in reversed(logs)]
    assert [record.session_id for record in await store.sessions(ORG)] == newest_first
    assert [record.session_id for record in await store.sessions(ORG, limit=2)] == newest_first[:2]
    completed = await store.sessions(ORG, SessionFilter(status=SessionStatus.COMPLETED))
    assert completed == [await store.session(logs[1].session_id, ORG)]


async def test_what_people_and_models_write_survives_nul_and_lone_surrogates(store: SessionStore) -> None:
    log = SessionLog(title=f"a\0b{SURROGATE}c")
    payload = {"content": f"nul \0 surrogate {SURROGATE} snowman \u2603", SURROGATE: ["\0"]}
    execution = log.execution(tool_name=f"x{SURROGATE}", error="\0")
    await store.append(log.next([payload], error=f"bad {SURROGATE}", executions=[execution]))

    assert [event.payload for event in await store.events(log.session_id, ORG)] == [payload]
    record = await store.session(log.session_id, ORG)
    assert (record.title, record.error) == ("a\ufffdb\ufffdc", "bad \ufffd")
    (stored,) = await store.tool_executions(ORG, log.session_id)
    assert (stored.tool_name, stored.error) == ("x\ufffd", "\ufffd")


async def test_a_payload_of_10_mb_comes_back_whole(store: SessionStore) -> None:
    log = SessionLog()
    payload = {"result": "0123456789\n\u00e9" * 1_000_000}
    await store.append(log.next([payload]))
    assert [event.payload for event in await store.events(log.session_id, ORG)] == [payload]


async def test_tool_executions_come_back_as_given_oldest_first(store: SessionStore) -> None:
    log = SessionLog()
    rows = [log.execution(), log.execution(error="refused"), log.execution()]
    await store.append(log.next(executions=rows[:2]))
    await store.append(log.next(executions=rows[2:]))
    assert await store.tool_executions(ORG, log.session_id) == rows


async def test_a_decision_is_taken_once(store: SessionStore) -> None:
    log = SessionLog()
    request = log.approval()
    await store.append(log.next(requested=[request], status=SessionStatus.WAITING_APPROVAL))
    assert await store.approval(request.approval_id, ORG) == request

    await store.append(log.next(decided=[decision(request)]))
    with pytest.raises(ApprovalAlreadyDecided):
        await store.append(log.next(decided=[decision(request, ApprovalStatus.DENIED)]))

    decided = await store.approval(request.approval_id, ORG)
    assert (decided.status, decided.decided_by, decided.reason) == (ApprovalStatus.APPROVED, "ann", "looks right")
    assert len(await store.events(log.session_id, ORG)) == 4


async def test_an_approval_of_an_action_inside_a_tool_names_it(store: SessionStore) -> None:
    log = SessionLog()
    whole, inside = log.approval(), log.approval(action="mail: send \u2603")
    await store.append(log.next(requested=[whole, inside], status=SessionStatus.WAITING_APPROVAL))
    assert [record.action for record in await store.approvals(ORG)] == [None, "mail: send \u2603"]
    assert await store.approval(inside.approval_id, ORG) == inside
    assert inside.arguments_hash != whole.arguments_hash


async def test_what_was_approved_may_still_turn_void(store: SessionStore) -> None:
    log = SessionLog()
    request = log.approval()
    await store.append(log.next(requested=[request], decided=[decision(request)]))
    await store.append(log.next(decided=[decision(request, ApprovalStatus.VOID)]))
    assert (await store.approval(request.approval_id, ORG)).status is ApprovalStatus.VOID


async def test_a_decision_over_another_sessions_approval_is_refused(store: SessionStore) -> None:
    asking, other = SessionLog(), SessionLog()
    request = asking.approval()
    await store.append(asking.next(requested=[request]))
    with pytest.raises(ApprovalNotFound):
        await store.append(other.next(decided=[decision(request)]))


async def test_approvals_are_listed_oldest_first(store: SessionStore) -> None:
    logs = [SessionLog() for _ in range(3)]
    requests = [log.approval() for log in logs]
    for log, request in zip(logs, requests, strict=True):
        await store.append(log.next(requested=[request]))
    await store.append(logs[0].next(decided=[decision(requests[0])]))

    ids = [request.approval_id for request in requests]
    assert [record.approval_id for record in await store.approvals(ORG)] == ids
    pending = await store.approvals(ORG, status=ApprovalStatus.PENDING)
    assert [record.approval_id for record in pending] == ids[1:]
    assert await store.approvals(ORG, session_id=logs[2].session_id) == requests[2:]
    assert await store.approvals("other") == []


READS: dict[str, Callable[[SessionStore, str, str], Awaitable[object]]] = {
    "session": lambda store, session_id, org: store.session(session_id, org),
    "events": lambda store, session_id, org: store.events(session_id, org),
    "claim": lambda store, session_id, org: store.claim(session_id, org, "1@test"),
    "request_cancel": lambda store, session_id, org: store.request_cancel(session_id, org, "ann"),
    "delete_session": lambda store, session_id, org: store.delete_session(session_id, org, TOMBSTONE),
    "approvals": lambda store, session_id, org: store.approvals(org, session_id=session_id),
    "audit_rows": lambda store, session_id, org: store.audit_rows(org, session_id),
    "tool_executions": lambda store, session_id, org: store.tool_executions(org, session_id),
    "queued_messages": lambda store, session_id, org: store.queued_messages(session_id, org),
    "enqueue_message": lambda store, session_id, org: store.enqueue_message(
        QueuedMessage(new_id(), session_id, org, "{}", utc_now())
    ),
}


@pytest.mark.parametrize("name", READS)
async def test_another_orgs_session_is_not_found_and_untouched(store: SessionStore, name: str) -> None:
    log = SessionLog()
    await store.append(log.next())
    before = await store.session(log.session_id, ORG)
    for session_id, org in ((log.session_id, "other"), ("nothing", ORG), (f"\0{SURROGATE}", SURROGATE)):
        with pytest.raises(SessionNotFound):
            await READS[name](store, session_id, org)
    assert await store.session(log.session_id, ORG) == before


async def test_another_orgs_approval_is_not_found(store: SessionStore) -> None:
    log = SessionLog()
    request = log.approval()
    await store.append(log.next(requested=[request]))
    for approval_id, org in ((request.approval_id, "other"), ("nothing", ORG), (SURROGATE, ORG)):
        with pytest.raises(ApprovalNotFound):
            await store.approval(approval_id, org)


async def test_closing_stores_what_was_handed_over(open_store: OpenStore) -> None:
    log = SessionLog()
    store = await open_store()
    appends = [store.append(log.next([{"n": n}])) for n in range(50)]

    await store.close()

    assert len(await (await open_store()).events(log.session_id, ORG)) == 50
    assert [await append for append in appends] == [False] * 50
    with pytest.raises(StorageError, match="closed"):
        await store.append(log.next())


async def test_an_append_for_later_is_stored_in_its_turn(store: SessionStore) -> None:
    log = SessionLog()
    for n in range(0, 300, 3):
        store.append_later(log.next([{"n": n}]))
        store.append_later(log.next([{"n": n + 1}]))
        await store.append(log.next([{"n": n + 2}]))
    assert [event.payload for event in await store.events(log.session_id, ORG)] == [{"n": n} for n in range(300)]


async def test_closing_stores_what_was_left_for_later(open_store: OpenStore) -> None:
    log = SessionLog()
    store = await open_store()
    for n in range(50):
        store.append_later(log.next([{"n": n}]))
    await store.close()
    assert len(await (await open_store()).events(log.session_id, ORG)) == 50


async def test_an_append_for_later_that_fails_fails_the_next_with_its_cause(store: SessionStore) -> None:
    log = SessionLog()
    await store.append(log.next())
    store.append_later(poisoned(log.next(), category=None))
    store.append_later(log.next())
    with pytest.raises(StorageError, match=r"(?i)not.null") as caught:
        await store.append(log.next())
    assert not isinstance(caught.value, OwnershipLost)
    assert len(await store.events(log.session_id, ORG)) == 2


async def test_an_append_for_later_to_a_closed_store_is_logged_and_fails_the_next(
    open_store: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    log = SessionLog()
    store = await open_store()
    await store.append(log.next())
    await store.close()

    store.append_later(log.next([{"n": 3}]))

    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage().endswith(f"was closed: message.added 3 of session {log.session_id} not stored")
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.append(log.next())
    assert len(await (await open_store()).events(log.session_id, ORG)) == 2


async def test_an_append_is_stored_even_where_its_waiter_was_cancelled(store: SessionStore) -> None:
    log = SessionLog()
    store.append(log.next()).cancel()
    await store.append(log.next())
    assert len(await store.events(log.session_id, ORG)) == 4


async def test_two_stores_exclude_each_other_from_driving(open_store: OpenStore) -> None:
    log = SessionLog()
    one, two, three = await open_store(), await open_store(), await open_store()

    assert one.try_lock(log.session_id) is True
    assert one.try_lock(log.session_id) is False
    assert two.try_lock(log.session_id) is False
    two.unlock(log.session_id)  # not its own
    assert two.try_lock(log.session_id) is False
    await three.close()  # drops nothing of the others
    one.unlock(log.session_id)
    assert two.try_lock(log.session_id) is True
    await two.close()
    assert one.try_lock(log.session_id) is True
