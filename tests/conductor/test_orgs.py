"""What orgs may use: limits, and what is let in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from conductor_ai.conductor.orgs import Orgs
from conductor_ai.errors import BudgetSpent, InvalidInput, LimitReached, TooManyRequests, TooManySessions
from conductor_ai.observability.audit import AuditLogger
from conductor_ai.observability.redaction import Redactor
from conductor_ai.schemas import json_text
from conductor_ai.schemas.orgs import Caller, OrgLimits, OrgRecord
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.storage.hot_memory import MemoryHotState
from conductor_ai.storage.sqlite import SQLiteStore
from tests.storage.session_log import ORG, SessionLog

CALLER = Caller(ORG)


class Clock:
    def __init__(self) -> None:
        self.seconds = datetime(2026, 11, 30, 23, 59, tzinfo=UTC).timestamp()

    def __call__(self) -> float:
        return self.seconds

    def text(self) -> str:
        return datetime.fromtimestamp(self.seconds, UTC).isoformat(timespec="microseconds")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    opened = await SQLiteStore.open(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def orgs_over(store: SQLiteStore, clock: Clock) -> Orgs:
    return Orgs(store, MemoryHotState(), AuditLogger(store, Redactor()), clock=clock)


@pytest.fixture
def orgs(store: SQLiteStore, clock: Clock) -> Orgs:
    return orgs_over(store, clock)


async def test_limits_are_replaced_one_by_one_and_the_audit_says_by_whom(orgs: Orgs, store: SQLiteStore) -> None:
    first = await orgs.set_limits(ORG, {"max_usd_per_day": "1.50", "requests_per_minute": "60"}, by="ann")
    second = await orgs.set_limits(ORG, {"requests_per_minute": None, "retention_days": 7}, by="bob")

    assert first.limits == OrgLimits(max_usd_per_day=Decimal("1.5"), requests_per_minute=60)
    assert second.limits == OrgLimits(max_usd_per_day=Decimal("1.5"), retention_days=7)
    assert await orgs.get(ORG) == await store.org(ORG) == second
    assert await orgs.list() == [second]
    rows, _ = await store.audit_rows(ORG, None)
    assert [(row.action, json_text.loads(row.metadata)) for row in rows] == [
        ("org.limits_set", {"limits": {"requests_per_minute": 60, "max_usd_per_day": "1.5"}, "by": "ann"}),
        ("org.limits_set", {"limits": {"requests_per_minute": None, "retention_days": 7}, "by": "bob"}),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"max_sessions": 1},
        {"requests_per_minute": 0},
        {"max_running_sessions": 1.5},
        {"max_usd_per_day": "-1"},
        {"max_usd_per_day": "NaN"},
        {"retention_days": True},
        {"retention_days": 10**10},
    ],
    ids=str,
)
async def test_a_limit_that_makes_no_sense_is_refused(orgs: Orgs, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        await orgs.set_limits(ORG, changes, by="ann")
    assert await orgs.list() == []


async def test_what_cannot_be_an_org_gets_no_limits(orgs: Orgs) -> None:
    with pytest.raises(InvalidInput):
        await orgs.set_limits("two words", {"retention_days": 7}, by="ann")
    assert await orgs.get("two words") == OrgRecord("two words")


async def test_another_process_sees_a_change_within_a_second(orgs: Orgs, store: SQLiteStore, clock: Clock) -> None:
    elsewhere = orgs_over(store, clock)
    before = await elsewhere.get(ORG)
    after = await orgs.set_limits(ORG, {"retention_days": 7}, by="ann")
    assert await elsewhere.get(ORG) == before
    clock.seconds += 1
    assert await elsewhere.get(ORG) == after


async def test_requests_beyond_the_rate_are_told_when_to_come_back(orgs: Orgs) -> None:
    await orgs.set_limits(ORG, {"requests_per_minute": 3}, by="ann")
    for _ in range(3):
        await orgs.admit(CALLER)
    with pytest.raises(TooManyRequests) as caught:
        await orgs.admit(CALLER)
    assert caught.value.retry_after_s is not None
    assert 0 < caught.value.retry_after_s <= 60
    await orgs.admit(Caller("other"))


async def test_without_a_rate_everything_is_admitted(orgs: Orgs) -> None:
    for _ in range(500):
        await orgs.admit(CALLER)
    await orgs.admit_session(ORG)


async def test_a_session_beyond_the_limit_is_refused_until_one_has_stopped(orgs: Orgs, store: SQLiteStore) -> None:
    await orgs.set_limits(ORG, {"max_running_sessions": 2}, by="ann")
    logs = [SessionLog(), SessionLog()]
    for log in logs:
        await orgs.admit_session(ORG)
        await store.append(log.next())
    with pytest.raises(TooManySessions):
        await orgs.admit_session(ORG)
    await store.append(logs[0].next(status=SessionStatus.WAITING_APPROVAL))
    await orgs.admit_session(ORG)


async def test_of_fifty_starts_at_once_as_many_are_let_in_as_may_run(orgs: Orgs, store: SQLiteStore) -> None:
    await orgs.set_limits(ORG, {"max_running_sessions": 7}, by="ann")

    async def start() -> None:
        async with orgs.starting(ORG):
            await store.append(SessionLog().next())

    outcomes = await asyncio.gather(*[start() for _ in range(50)], return_exceptions=True)

    assert outcomes.count(None) == 7
    assert sum(isinstance(outcome, TooManySessions) for outcome in outcomes) == 43
    assert await store.running_sessions(ORG) == 7


async def test_a_start_that_fails_holds_up_no_other(orgs: Orgs) -> None:
    await orgs.set_limits(ORG, {"max_running_sessions": 1}, by="ann")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            async with orgs.starting(ORG):
                raise ZeroDivisionError
    async with orgs.starting("other"), orgs.starting(ORG):
        pass


@pytest.mark.parametrize(
    ("limit", "unit"), [({"max_usd_per_day": 1}, "day"), ({"max_usd_per_month": 1, "max_usd_per_day": 5}, "month")]
)
async def test_once_the_money_is_committed_no_session_starts_until_the_period_ends(
    orgs: Orgs, store: SQLiteStore, clock: Clock, limit: dict[str, Any], unit: str
) -> None:
    await orgs.set_limits(ORG, limit, by="ann")
    await store.reserve_usd(ORG, Decimal("0.9"), clock.text())
    await orgs.admit_session(ORG)
    await store.reserve_usd(ORG, Decimal("0.1"), clock.text())

    with pytest.raises(BudgetSpent, match=f"for this {unit} are spent or reserved") as caught:
        await orgs.admit_session(ORG)

    assert caught.value.retry_after_s == 60  # the last minute of November
    assert caught.value.hint == "wait until 2026-12-01 UTC, or ask for a higher limit"
    assert isinstance(caught.value, LimitReached)
    clock.seconds += 60
    await orgs.admit_session(ORG)


async def test_usage_is_what_the_ledger_has(orgs: Orgs, store: SQLiteStore, clock: Clock) -> None:
    await store.append(SessionLog().next(calls=[Decimal("0.25"), None], at=clock.text()))
    (row,) = await orgs.usage(ORG, "2026-11-30", "2026-12-01")
    assert (row.calls, row.cost_usd, row.unpriced_calls) == (2, Decimal("0.25"), 1)
