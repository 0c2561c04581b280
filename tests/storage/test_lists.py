"""The contract of `SessionStore`: lists, their filters and their cursors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conductor_ai.errors import ApprovalNotFound, InvalidInput
from conductor_ai.schemas.approvals import ApprovalStatus
from conductor_ai.schemas.audit import AuditEntry, AuditRow
from conductor_ai.schemas.orgs import OrgLimits
from conductor_ai.schemas.session import SessionRecord, SessionStatus
from conductor_ai.storage.base import Cursor, SessionFilter, Store
from tests.storage.session_log import ORG, SessionLog, decision

DAY = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)
TOMBSTONE = AuditEntry("session", "deleted", '{"by":"ann"}')
HOSTILE = st.text(st.sampled_from("'\"`\\;-%_\0\ud800\u2603 abc)("), max_size=20) | st.text(max_size=20)
FEW = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def at(hours: int) -> str:
    return (DAY + timedelta(hours=hours)).isoformat(timespec="microseconds")


async def sessions_of(store: Store, count: int, *, same_time: bool = False) -> list[SessionLog]:
    """Oldest first."""
    logs = [SessionLog(agent="odd" if n % 2 else "even") for n in range(count)]
    for n, log in enumerate(logs):
        await store.append(log.next(at=at(0 if same_time else n)))
    return sorted(logs, key=lambda log: log.session_id) if same_time else logs


def cursor_of(record: SessionRecord | AuditRow) -> Cursor:
    return Cursor(record.created_at, record.session_id if isinstance(record, SessionRecord) else record.id)


def ids(records: Sequence[SessionRecord]) -> list[str]:
    return [record.session_id for record in records]


@pytest.mark.parametrize("same_time", [False, True])
async def test_pages_of_sessions_join_to_the_list(store: Store, same_time: bool) -> None:
    logs = await sessions_of(store, 7, same_time=same_time)
    await store.append(SessionLog(org_id="other").next(at=at(0)))

    pages: list[list[SessionRecord]] = [await store.sessions(ORG, limit=3)]
    while pages[-1]:
        pages.append(await store.sessions(ORG, after=cursor_of(pages[-1][-1]), limit=3))

    assert [len(page) for page in pages] == [3, 3, 1, 0]
    assert [session_id for page in pages for session_id in ids(page)] == [log.session_id for log in reversed(logs)]


async def test_sessions_are_chosen_by_status_agent_and_time(store: Store) -> None:
    logs = await sessions_of(store, 6)
    await store.append(logs[3].next(status=SessionStatus.FAILED))
    chosen: dict[SessionFilter, list[int]] = {
        SessionFilter(status=SessionStatus.FAILED): [3],
        SessionFilter(agent="odd"): [5, 3, 1],
        SessionFilter(agent="nobody"): [],
        SessionFilter(created_from=at(2), created_before=at(4)): [3, 2],
        SessionFilter(created_from="2026-03-04T11:06:07.000089+03:00"): [5, 4, 3],
        SessionFilter(created_before="2026-03-04T06:06:07.000089Z"): [0],
        SessionFilter(created_before="2026-03-04T06:06:08"): [1, 0],
        SessionFilter(status=SessionStatus.RUNNING, agent="odd", created_from=at(2)): [5],
    }
    for one, expected in chosen.items():
        assert ids(await store.sessions(ORG, one)) == [logs[n].session_id for n in expected], one
    after = cursor_of((await store.sessions(ORG))[1])
    assert ids(await store.sessions(ORG, SessionFilter(agent="odd"), after=after)) == [
        logs[3].session_id,
        logs[1].session_id,
    ]


@FEW
@given(text=HOSTILE)
async def test_hostile_text_in_a_filter_or_a_cursor_is_only_text(store: Store, text: str) -> None:
    log = SessionLog(agent=text, org_id=ORG)
    await store.append(log.next(at=at(0)))
    found = await store.sessions(ORG, SessionFilter(agent=text), limit=1000)
    assert log.session_id in ids(found)
    assert all(record.org_id == ORG for record in found)
    assert await store.sessions(f"{ORG}{text} ") == []
    assert await store.sessions(ORG, after=Cursor(at(-1), text)) == []
    assert await store.audit_log(ORG, after=Cursor(at(-1), text)) == []
    assert await store.audit_log(ORG, session_id=text) == []
    assert await store.idempotent(ORG, text) is None
    assert await store.key(text) is None
    assert (await store.org(text)).limits == OrgLimits()
    with pytest.raises(ApprovalNotFound):
        await store.approvals(ORG, after=text)


NO_TIMES = ["", "yesterday", "2026-13-01", "2026-03-04T05:06:07'", "0001-01-01T00:00:00+23:00", "\0\ud800"]
TIMED: dict[str, Callable[[Store, str], Awaitable[object]]] = {
    "cursor": lambda store, time: store.sessions(ORG, after=Cursor(time, "x")),
    "from": lambda store, time: store.sessions(ORG, SessionFilter(created_from=time)),
    "before": lambda store, time: store.sessions(ORG, SessionFilter(created_before=time)),
    "audit": lambda store, time: store.audit_log(ORG, after=Cursor(time, "x")),
    "usage": lambda store, time: store.usage(ORG, day_from=time, day_before="2026-03-04"),
}


@pytest.mark.parametrize("where", TIMED)
@pytest.mark.parametrize("time", NO_TIMES, ids=ascii)
async def test_what_is_no_time_is_refused(store: Store, where: str, time: str) -> None:
    with pytest.raises(InvalidInput, match="no time") as caught:
        await TIMED[where](store, time)
    assert caught.value.hint


async def test_pages_of_approvals_join_to_the_list(store: Store) -> None:
    log = SessionLog()
    requests = [log.approval() for _ in range(5)]
    for request in requests[:4]:
        await store.append(log.next(requested=[request], status=SessionStatus.WAITING_APPROVAL))
    other = SessionLog()
    await store.append(other.next(requested=[other.approval()]))
    await store.append(log.next(requested=requests[4:], decided=[decision(requests[1])]))

    whole = await store.approvals(ORG)
    pages = [await store.approvals(ORG, limit=4), await store.approvals(ORG, limit=4, after=whole[3].approval_id)]

    assert len(whole) == 6
    assert [len(page) for page in pages] == [4, 2]
    assert [record for page in pages for record in page] == whole
    pending = await store.approvals(
        ORG, status=ApprovalStatus.PENDING, session_id=log.session_id, after=requests[0].approval_id, limit=2
    )
    assert pending == requests[2:4]


async def test_approvals_asked_for_at_once_are_paged_in_the_order_of_their_calls(store: Store) -> None:
    log = SessionLog()
    first = log.approval()
    calls = [f"1.{n}" for n in (2, 9, 10, 11)]
    at_once = [first] + [replace(log.approval(), requested_at=first.requested_at, call_id=call) for call in calls]
    await store.append(log.next(requested=at_once))
    seen = [first]
    while page := await store.approvals(ORG, after=seen[-1].approval_id, limit=1):
        seen += page
    assert seen == at_once


async def test_another_orgs_approval_is_no_cursor(store: Store) -> None:
    log = SessionLog(org_id="other")
    request = log.approval()
    await store.append(log.next(requested=[request]))
    with pytest.raises(ApprovalNotFound):
        await store.approvals(ORG, after=request.approval_id)


async def test_the_audit_log_is_that_of_all_chains_newest_first(store: Store) -> None:
    kept, deleted, foreign = SessionLog(), SessionLog(), SessionLog(org_id="other")
    for log in (kept, deleted, foreign):
        await store.append(log.next(at=at(0)))
    await store.append(kept.next(at=at(2)))
    await store.append_org_audit(ORG, [AuditEntry("org", "first", "{}"), AuditEntry("org", "second", "{}")])
    await store.delete_session(deleted.session_id, ORG, TOMBSTONE)

    whole = await store.audit_log(ORG)

    assert [row.action for row in whole[:3]] == ["deleted", "second", "first"]
    assert [(row.session_id, row.chain_seq) for row in whole[3:5]] == [(kept.session_id, 4), (kept.session_id, 3)]
    assert {row.session_id for row in whole} == {None, kept.session_id, deleted.session_id}
    assert len(whole) == 9
    assert [row.chain_seq for row in await store.audit_log(ORG, session_id=deleted.session_id)] == [2, 1]
    assert await store.audit_log(ORG, session_id=foreign.session_id) == []
    chain, _ = await store.audit_rows(ORG, kept.session_id)
    assert await store.audit_log(ORG, session_id=kept.session_id) == chain[::-1]


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_pages_of_the_audit_log_join_to_it(store: Store, limit: int) -> None:
    for log in (SessionLog(), SessionLog(), SessionLog()):
        await store.append(log.next(at=at(0)))  # six rows of one moment, of three chains
    await store.append_org_audit(ORG, [AuditEntry("org", f"entry {n}", "{}") for n in range(5)])

    rows = await store.audit_log(ORG, limit=limit)
    while page := await store.audit_log(ORG, after=cursor_of(rows[-1]), limit=limit):
        rows += page

    assert rows == await store.audit_log(ORG)
    assert len(rows) == 11


async def test_an_audit_cursor_of_no_row_goes_on_with_what_is_older(store: Store) -> None:
    for hours in (0, 1, 2):
        await store.append(SessionLog().next(at=at(hours)))
    found = await store.audit_log(ORG, after=Cursor(at(1), "'; DROP TABLE audit_logs; --"))
    assert [row.created_at for row in found] == [at(0)] * 2
