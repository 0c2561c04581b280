"""The contract of `OrgStore`: orgs, their keys, their money."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from decimal import Decimal

import pytest

from conductor_ai.errors import InvalidInput, KeyNotFound, StorageError, StoreCorrupt
from conductor_ai.schemas.audit import AuditEntry, first_break
from conductor_ai.schemas.ids import utc_now
from conductor_ai.schemas.orgs import ALL_SCOPES, KeyRecord, OrgLimits, OrgRecord, Scope
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.schemas.usage import Usage
from conductor_ai.storage.base import Store, UsageRow
from tests.storage.conftest import OpenStore, Tamper
from tests.storage.session_log import ORG, SessionLog

AT = "2026-11-23T10:00:00.000000+00:00"
NEXT_DAY = "2026-11-24T00:00:00.000000+00:00"
NEXT_MONTH = "2026-12-01T00:00:00.000000+00:00"
DONE = AuditEntry("org", "done", "{}")


def usd(text: str) -> Decimal:
    return Decimal(text)


async def limited(store: Store, *, org_id: str = ORG, day: str | None = None, month: str | None = None) -> None:
    await store.set_org_limits(org_id, {"max_usd_per_day": day, "max_usd_per_month": month}, DONE)


async def spent(store: Store, *costs: str | None, at: str = AT, org_id: str = ORG) -> None:
    """As calls that nobody asked money for: only the ledger has them."""
    calls = [None if cost is None else usd(cost) for cost in costs]
    await store.append(SessionLog(org_id=org_id).next([{"usd": cost} for cost in costs], calls=calls, at=at))


async def actions(store: Store, org_id: str = ORG) -> list[str]:
    rows, head = await store.audit_rows(org_id, None)
    assert first_break(rows, head) is None
    return [row.action for row in rows]


async def test_any_id_is_an_org_without_limits(store: Store) -> None:
    assert await store.org("nobody's") == OrgRecord("nobody's")
    assert await store.orgs() == []


async def test_limits_come_back_as_they_were_set(store: Store, open_store: OpenStore) -> None:
    limits = OrgLimits(
        requests_per_minute=60,
        max_running_sessions=7,
        max_usd_per_day=usd("1.50"),
        max_usd_per_month=usd("0.000000001"),
        retention_days=30,
    )
    first = await store.set_org_limits(ORG, limits.to_dict(), DONE._replace(action="first"))
    second = await store.set_org_limits(ORG, {"max_usd_per_day": None}, DONE._replace(action="second"))

    assert first.limits == limits
    assert first.created_at == first.updated_at is not None
    assert second.limits == replace(limits, max_usd_per_day=None)
    assert (second.created_at, second.org_id) == (first.created_at, ORG)
    assert await (await open_store()).org(ORG) == second
    assert await actions(store) == ["first", "second"]


async def test_changes_of_different_limits_at_once_all_hold(store: Store, open_store: OpenStore) -> None:
    stores = (store, await open_store())
    wanted = {"requests_per_minute": 60, "max_running_sessions": 7, "max_usd_per_day": "1.5", "retention_days": 30}

    await asyncio.gather(
        *(stores[n % 2].set_org_limits(ORG, {name: value}, DONE) for n, (name, value) in enumerate(wanted.items()))
    )

    assert (await store.org(ORG)).limits == OrgLimits().with_changes(wanted)


@pytest.mark.parametrize("damage", ["max_usd_per_day = 0", "max_usd_per_month = '1e-999'", "retention_days = -1"])
async def test_an_org_whose_limits_cannot_be_read_harms_no_other_and_can_be_repaired(
    store: Store, tamper: Tamper, damage: str
) -> None:
    name = damage.partition(" ")[0]
    await limited(store, day="5", month="50")
    await store.set_org_limits(ORG, {"retention_days": 9}, DONE)
    await limited(store, day="1", org_id="fine")
    await store.add_key(a_key("k1", "with-a-key"), b"", DONE)
    tamper(f"UPDATE orgs SET {damage} WHERE org_id = '{ORG}'")

    with pytest.raises(StoreCorrupt) as caught:
        await store.org(ORG)
    listed = {org.org_id: org for org in await store.orgs()}
    with pytest.raises(StoreCorrupt):
        await store.set_org_limits(ORG, {"requests_per_minute": 5}, DONE)
    with pytest.raises(StoreCorrupt):
        await store.set_org_limits(ORG, {}, DONE)
    repaired = await store.set_org_limits(ORG, {name: 3}, DONE._replace(action="repaired"))

    assert caught.value.hint == f"set it anew: conductor orgs set {ORG} --{name.replace('_', '-')} N"
    assert listed.keys() == {ORG, "fine", "with-a-key"}
    assert [org.org_id for org in listed.values() if org.problem] == [ORG]
    assert name in str(listed[ORG].problem) and listed[ORG].to_dict()["limits"] is None
    assert listed["fine"] == await store.org("fine")
    expected = OrgLimits(max_usd_per_day=usd("5"), max_usd_per_month=usd("50"), retention_days=9)
    assert repaired.limits == expected.with_changes({name: 3})
    assert (await actions(store))[-1] == "repaired"


async def test_a_limit_that_cannot_be_is_not_stored(store: Store) -> None:
    for changes in ({"max_usd_per_day": "1e-3000000"}, {"max_usd_per_month": "0.0000000001"}, {"other": 1}):
        with pytest.raises(InvalidInput):
            await store.set_org_limits(ORG, changes, DONE)
    assert await store.orgs() == []
    assert await actions(store) == []


async def test_whether_a_key_was_ever_made_is_told(store: Store) -> None:
    assert not await store.has_keys()
    await store.add_key(a_key("k1", "any", expires_at="2001-01-01T00:00:00.000000+00:00"), b"", DONE)
    assert await store.has_keys()


async def test_orgs_are_those_with_limits_or_keys_by_id(store: Store) -> None:
    await store.set_org_limits("b", {"retention_days": 1}, DONE)
    for key_id, org_id in (("1", "c"), ("2", "a"), ("3", "c"), ("4", "b")):
        await store.add_key(a_key(key_id, org_id), b"digest", DONE)
    assert await store.orgs() == [OrgRecord("a"), await store.org("b"), OrgRecord("c")]


def a_key(key_id: str, org_id: str = ORG, **values: object) -> KeyRecord:
    record = KeyRecord(key_id, org_id, "", ALL_SCOPES, utc_now(), "ann")
    return replace(record, **values)  # type: ignore[arg-type]


async def test_a_key_comes_back_with_its_digest_and_nothing_lost(store: Store, open_store: OpenStore) -> None:
    key = a_key("k1", name="it's \0 \ud800", scopes=frozenset({Scope.RUN, Scope.READ}), expires_at=AT, in_place_of="k0")
    digest = bytes(range(32))
    await store.add_key(key, digest, DONE)
    stored = replace(key, name="it's \ufffd \ufffd")
    assert await (await open_store()).key("k1") == (stored, digest)
    assert await store.keys(ORG) == [stored]
    assert await store.key("k2") is None
    assert await actions(store) == ["done"]


async def test_keys_are_listed_oldest_first_within_the_org(store: Store) -> None:
    keys = [a_key(key_id) for key_id in ("z", "a", "m")]
    for key in keys:
        await store.add_key(key, b"", DONE)
    await store.add_key(a_key("other", "other"), b"", DONE)
    assert await store.keys(ORG) == keys


async def test_an_id_is_given_to_one_key_only(store: Store) -> None:
    await store.add_key(a_key("k1"), b"first", DONE)
    with pytest.raises(StorageError):
        await store.add_key(a_key("k1", "other"), b"second", DONE)
    assert await store.key("k1") == ((await store.keys(ORG))[0], b"first")
    assert await actions(store, "other") == []


async def test_a_key_is_revoked_once(store: Store) -> None:
    await store.add_key(a_key("k1"), b"", DONE)
    revoked = await store.revoke_key("k1", ORG, DONE._replace(action="revoked"))
    again = await store.revoke_key("k1", ORG, DONE._replace(action="again"))
    assert revoked.revoked_at is not None
    assert again == revoked
    assert await store.keys(ORG) == [revoked]
    assert await actions(store) == ["done", "revoked"]


async def test_an_expiry_only_ever_comes_nearer(store: Store) -> None:
    for key in (a_key("open"), a_key("ending", expires_at=NEXT_DAY), a_key("ended", revoked_at=AT)):
        await store.add_key(key, b"", DONE)
    assert (await store.expire_key("open", ORG, NEXT_MONTH, DONE)).expires_at == NEXT_MONTH
    assert (await store.expire_key("open", ORG, AT, DONE)).expires_at == AT
    assert (await store.expire_key("ending", ORG, NEXT_MONTH, DONE)).expires_at == NEXT_DAY
    assert (await store.expire_key("ended", ORG, NEXT_MONTH, DONE)).expires_at is None
    assert len(await actions(store)) == 3 + 2


@pytest.mark.parametrize("org_id", [ORG, "other"])
async def test_a_key_of_another_org_or_of_none_is_not_found(store: Store, org_id: str) -> None:
    key = a_key("k1", "mine")
    await store.add_key(key, b"", DONE)
    for key_id in ("k1", "k2", "'; --", "\0\ud800"):
        with pytest.raises(KeyNotFound):
            await store.revoke_key(key_id, org_id, DONE)
        with pytest.raises(KeyNotFound):
            await store.expire_key(key_id, org_id, AT, DONE)
    assert await store.keys("mine") == [key]
    assert await actions(store, org_id) == []


async def test_the_last_use_of_a_key_is_kept(store: Store) -> None:
    await store.add_key(a_key("k1"), b"", DONE)
    await store.key_used("k1", AT)
    await store.key_used("unknown", AT)
    assert [key.last_used_at for key in await store.keys(ORG)] == [AT]


async def test_running_are_those_that_are_queued_driven_or_being_cancelled(store: Store) -> None:
    for status in SessionStatus:
        await store.append(SessionLog().next(status=status))
    await store.append(SessionLog(org_id="other").next())
    assert await store.running_sessions(ORG) == 3
    assert await store.running_sessions("nobody's") == 0


async def test_usage_is_counted_by_day_and_model_without_an_error_of_rounding(store: Store) -> None:
    await spent(store, "0.1", "0.2", None, "1E-7")
    await spent(store, "3", at="2026-11-23T23:59:59.999999+00:00")
    await spent(store, None, at=NEXT_DAY)
    await spent(store, "5", at="2026-11-25T00:00:00.000000+00:00")
    await spent(store, "7", org_id="other")

    rows = await store.usage(ORG, day_from="2026-11-23", day_before="2026-11-25")

    assert rows == [
        UsageRow("2026-11-23", "model-1", 5, Usage(50, 100, 15, 20, 25), usd("3.3000001"), 1),
        UsageRow("2026-11-24", "model-1", 1, Usage(10, 20, 3, 4, 5), usd("0"), 1),
    ]
    assert await store.usage(ORG, day_from="2026-11-25", day_before="2026-11-25") == []


async def test_what_is_reserved_counts_for_the_day_and_the_month(store: Store) -> None:
    await limited(store, day="1", month="1.5")
    assert await store.reserve_usd(ORG, usd("0.6"), AT) is True
    assert await store.reserve_usd(ORG, usd("0.400000001"), AT) is False
    assert await store.reserve_usd(ORG, usd("0.4"), AT) is True
    assert await store.committed_usd(ORG, AT) == (usd("1"), usd("1"))
    assert await store.reserve_usd(ORG, usd("0.51"), NEXT_DAY) is False
    assert await store.committed_usd(ORG, NEXT_DAY) == (usd("0"), usd("1"))
    assert await store.reserve_usd(ORG, usd("0.5"), NEXT_DAY) is True
    assert await store.reserve_usd(ORG, usd("1"), NEXT_MONTH) is True
    assert await store.committed_usd("other", AT) == (usd("0"), usd("0"))


async def test_what_was_reserved_gives_way_to_what_was_spent(store: Store) -> None:
    await limited(store, day="1")
    await store.reserve_usd(ORG, usd("0.9"), AT)
    await store.settle_usd(ORG, usd("0.9"), usd("0.25"), AT)
    assert await store.committed_usd(ORG, AT) == (usd("0.25"), usd("0.25"))
    await store.settle_usd(ORG, usd("0"), usd("0.05"), AT)
    assert await store.committed_usd(ORG, AT) == (usd("0.3"), usd("0.3"))
    assert await store.reserve_usd(ORG, usd("0.71"), AT) is False
    assert await store.reserve_usd(ORG, usd("0.7"), AT) is True


async def test_more_may_be_spent_than_was_reserved_and_then_nothing_is_left(store: Store) -> None:
    await limited(store, day="1")
    await store.reserve_usd(ORG, usd("0.5"), AT)
    await store.settle_usd(ORG, usd("0.5"), usd("1.5"), AT)
    assert await store.committed_usd(ORG, AT) == (usd("1.5"), usd("1.5"))
    assert await store.reserve_usd(ORG, usd("0"), AT) is False


async def test_amounts_are_rounded_up_and_limits_down(store: Store) -> None:
    await limited(store, day="0.0000000029")
    assert await store.reserve_usd(ORG, usd("0.0000000011"), AT) is True
    assert await store.committed_usd(ORG, AT) == (usd("2E-9"), usd("2E-9"))
    assert await store.reserve_usd(ORG, usd("1E-30"), AT) is False
    await store.settle_usd(ORG, usd("0.0000000011"), usd("1E-30"), AT)
    assert await store.committed_usd(ORG, AT) == (usd("1E-9"), usd("1E-9"))


@pytest.mark.parametrize("amount", ["-0.01", "NaN", "Infinity"])
async def test_what_is_no_amount_is_refused(store: Store, amount: str) -> None:
    with pytest.raises(InvalidInput):
        await store.reserve_usd(ORG, usd(amount), AT)
    with pytest.raises(InvalidInput):
        await store.settle_usd(ORG, usd("0"), usd(amount), AT)


async def test_without_a_limit_everything_may_be_reserved(store: Store) -> None:
    assert await store.reserve_usd(ORG, usd("1000000"), AT) is True
    await store.settle_usd(ORG, usd("1000000"), usd("2"), AT)
    assert await store.committed_usd(ORG, AT) == (usd("2"), usd("2"))


async def test_a_period_begins_with_what_the_ledger_says_was_spent_in_it(store: Store) -> None:
    await spent(store, "0.1", None, "0.2000000001")
    await spent(store, "0.5", at="2026-11-01T00:00:00.000000+00:00")
    for outside in ("2026-10-31T23:59:59.999999+00:00", NEXT_MONTH):
        await spent(store, "100", at=outside)
    await spent(store, "100", org_id="other")
    assert await store.committed_usd(ORG, AT) == (usd("0.300000001"), usd("0.800000001"))

    await limited(store, day="1", month="1")
    assert await store.reserve_usd(ORG, usd("0.2"), AT) is False
    assert await store.reserve_usd(ORG, usd("0.1"), AT) is True
    assert await store.committed_usd(ORG, AT) == (usd("0.400000001"), usd("0.900000001"))
    await spent(store, "0.05")
    assert await store.committed_usd(ORG, AT) == (usd("0.400000001"), usd("0.900000001"))


async def test_what_was_spent_while_no_limit_was_set_counts_once_one_is(store: Store) -> None:
    now = utc_now()
    await limited(store, day="5", month="5")
    await store.reserve_usd(ORG, usd("0.5"), now)
    await store.set_org_limits(ORG, {"max_usd_per_day": None, "max_usd_per_month": None}, DONE)
    await spent(store, "2", "1", at=now)
    await limited(store, month="4")
    assert await store.committed_usd(ORG, now) == (usd("3"), usd("3"))
    assert await store.reserve_usd(ORG, usd("1.1"), now) is False


async def test_fifty_reservations_at_once_never_exceed_the_limit(store: Store, open_store: OpenStore) -> None:
    await limited(store, day="1", month="2")
    await spent(store, "0.05")
    stores = (store, await open_store())

    held = await asyncio.gather(*[stores[n % 2].reserve_usd(ORG, usd("0.1"), AT) for n in range(50)])
    assert sum(held) == 9
    assert await store.committed_usd(ORG, AT) == (usd("0.95"), usd("0.95"))

    held = await asyncio.gather(*[stores[n % 2].reserve_usd(ORG, usd("0.05"), AT) for n in range(20)])
    assert sum(held) == 1


async def test_reserving_and_settling_at_once_ends_with_what_was_spent(store: Store, open_store: OpenStore) -> None:
    await limited(store, day="1")
    stores = (store, await open_store())
    chance = random.Random(7)

    async def call(n: int, cost: Decimal) -> Decimal:
        here, there = stores[n % 2], stores[(n + 1) % 2]
        if not await here.reserve_usd(ORG, usd("0.2"), AT):
            return usd("0")
        assert (await there.committed_usd(ORG, AT))[0] <= 1
        await there.settle_usd(ORG, usd("0.2"), cost, AT)
        return cost

    costs = [Decimal(chance.randrange(1, 200)).scaleb(-3) for _ in range(50)]
    paid = await asyncio.gather(*[call(n, cost) for n, cost in enumerate(costs)])
    total = sum(paid, usd("0"))
    assert 0 < total <= 1
    assert await store.committed_usd(ORG, AT) == (total, total)
