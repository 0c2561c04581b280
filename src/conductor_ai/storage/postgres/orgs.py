"""Orgs, their keys and their money. Changes are made in the writer's turn, as those of `changes`."""

# ruff: noqa: S608  only names that stand in this package are put into SQL; values are always bound
from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from conductor_ai.errors import KeyNotFound, StoreUnavailable
from conductor_ai.schemas.audit import AuditEntry
from conductor_ai.schemas.ids import utc_now
from conductor_ai.schemas.orgs import KeyRecord, OrgRecord
from conductor_ai.storage.money import MOST_NANOUSD, Period, day_and_month, nanousd, usd_of
from conductor_ai.storage.postgres.changes import Recorded
from conductor_ai.storage.postgres.link import Link
from conductor_ai.storage.postgres.readers import Readers
from conductor_ai.storage.rows import (
    KEY_COLUMNS,
    LIMIT_COLUMNS,
    ORG_COLUMNS,
    changed_limits,
    has_money_limit,
    key_record,
    key_values,
    limit_values,
    moment,
    org_record,
    storable,
)

ORG = f"SELECT {', '.join(ORG_COLUMNS)} FROM orgs WHERE org_id = %(org_id)s".encode()
KEY = f"SELECT {', '.join(KEY_COLUMNS)}, digest FROM api_keys WHERE key_id = %(key_id)s".encode()
_SET_LIMITS = f"""
INSERT INTO orgs (org_id, {", ".join(LIMIT_COLUMNS)}, created_at, updated_at) VALUES ({", ".join(["%s"] * 8)})
ON CONFLICT (org_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in LIMIT_COLUMNS)},
    updated_at = excluded.updated_at
""".encode()
_ADD_KEY = f"""
INSERT INTO api_keys ({", ".join(KEY_COLUMNS)}, digest) VALUES ({", ".join(["%s"] * (len(KEY_COLUMNS) + 1))})
""".encode()
_HAS_KEYS = b"SELECT EXISTS (SELECT FROM api_keys)"
_USED = b"UPDATE api_keys SET last_used_at = %s WHERE key_id = %s"
_RUNNING = b"""
SELECT count(*) FROM sessions WHERE org_id = %(org_id)s AND status IN ('queued', 'running', 'cancelling')
"""
_PERIODS = """
SELECT * FROM (VALUES
    (%(day)s::text, %(day_begins)s::timestamptz, %(day_ends)s::timestamptz, true),
    (%(month)s::text, %(month_begins)s::timestamptz, %(month_ends)s::timestamptz, false)
) AS p(period, begins, ends, is_day)
"""
# Rounded up as `nanousd` does it.
_LEDGER = f"""
SELECT least(ceil(coalesce(sum(c.cost_usd), 0) * 1000000000), {MOST_NANOUSD})::bigint FROM model_calls c
WHERE c.org_id = %(org_id)s AND c.created_at >= p.begins AND c.created_at < p.ends
"""
# The ledger is added up only where nothing is stored: a subquery runs when it is needed.
_COMMITTED = f"""
SELECT coalesce(o.committed_nanousd, ({_LEDGER})) FROM ({_PERIODS}) p
LEFT JOIN org_spending o ON o.org_id = %(org_id)s AND o.period = p.period ORDER BY p.is_day DESC
""".encode()
_BEGIN_PERIODS = f"""
INSERT INTO org_spending (org_id, period, committed_nanousd)
SELECT %(org_id)s, p.period, ({_LEDGER}) FROM ({_PERIODS}) p ORDER BY p.period ON CONFLICT DO NOTHING
""".encode()
_CATCH_UP = f"""
UPDATE org_spending o SET committed_nanousd = greatest(o.committed_nanousd, ({_LEDGER})) FROM ({_PERIODS}) p
WHERE o.org_id = %(org_id)s AND o.period = p.period
""".encode()
# Always in the same order, so that none waits for another that waits for it.
_HELD = """
held AS MATERIALIZED (
    SELECT o.period, o.committed_nanousd FROM org_spending o
    WHERE o.org_id = %(org_id)s AND o.period IN (%(day)s, %(month)s) ORDER BY o.period FOR UPDATE
)"""
_RESERVE = f"""
WITH {_HELD},
most AS (
    SELECT %(day)s::text AS period, floor(max_usd_per_day * 1000000000) AS nano FROM orgs WHERE org_id = %(org_id)s
    UNION ALL SELECT %(month)s, floor(max_usd_per_month * 1000000000) FROM orgs WHERE org_id = %(org_id)s
),
fits AS (
    SELECT count(*) = 2 AND bool_and(h.committed_nanousd + %(nano)s::numeric <= coalesce(m.nano, {MOST_NANOUSD})) AS ok
    FROM held h LEFT JOIN most m USING (period)
),
reserved AS (
    UPDATE org_spending o SET committed_nanousd = o.committed_nanousd + %(nano)s::numeric FROM held h, fits
    WHERE fits.ok AND o.org_id = %(org_id)s AND o.period = h.period RETURNING 1
)
SELECT (SELECT count(*) FROM held), (SELECT count(*) FROM reserved)
""".encode()
_SETTLE = f"""
WITH {_HELD}
UPDATE org_spending o
SET committed_nanousd = greatest(0, least(o.committed_nanousd + %(nano)s::numeric, {MOST_NANOUSD}))
FROM held h WHERE o.org_id = %(org_id)s AND o.period = h.period
""".encode()


async def read_org(readers: Readers, org_id: str) -> OrgRecord:
    rows = await readers.read(org_id, ORG, {"org_id": storable(org_id)})
    return org_record(rows[0]) if rows else OrgRecord(storable(org_id))


def limits_change(org_id: str, changes: Mapping[str, Any], entry: AuditEntry) -> Recorded:
    org_id = storable(org_id)

    async def set_limits(link: Link) -> bool:
        # Whoever changes an org holds the head of its chain, so nobody else does it between this look and the write.
        rows = await link.run(ORG, {"org_id": org_id})
        before = rows[0] if rows else None
        limits = changed_limits(before, changes)
        now = utc_now()
        await link.run(_SET_LIMITS, (org_id, *limit_values(limits), now, now))
        if limits.limits_money and not has_money_limit(before):
            # While no limit was set, calls were made without asking: periods that had begun before know too little.
            await link.run(_CATCH_UP, _money_values(org_id, now))
        return True

    return Recorded(org_id, [entry], set_limits)


def key_addition(key: KeyRecord, digest: bytes, entry: AuditEntry) -> Recorded:
    async def add(link: Link) -> bool:
        await link.run(_ADD_KEY, (*key_values(key), digest))
        return True

    return Recorded(storable(key.org_id), [entry], add)


def revocation(key_id: str, org_id: str, entry: AuditEntry) -> Recorded:
    async def revoke(link: Link) -> bool:
        key = await _key_of(link, key_id, org_id)
        return key.revoked_at is None and await _ended(link, key, "revoked_at", utc_now())

    return Recorded(storable(org_id), [entry], revoke)


def expiry(key_id: str, org_id: str, at: str, entry: AuditEntry) -> Recorded:
    ends_at = moment(at)

    async def expire(link: Link) -> bool:
        key = await _key_of(link, key_id, org_id)
        if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= ends_at):
            return False
        return await _ended(link, key, "expires_at", ends_at)

    return Recorded(storable(org_id), [entry], expire)


async def has_keys(readers: Readers) -> bool:
    ((found,),) = await readers.ask(_HAS_KEYS)
    return bool(found)


async def read_key(readers: Readers, key_id: str) -> tuple[KeyRecord, bytes] | None:
    rows = await readers.ask(KEY, {"key_id": storable(key_id)})
    return (key_record(rows[0][:-1]), rows[0][-1]) if rows else None


async def key_used(link: Link, key_id: str, at: str) -> None:
    await link.run(_USED, (moment(at), storable(key_id)))


async def count_running(readers: Readers, org_id: str) -> int:
    ((found,),) = await readers.read(org_id, _RUNNING, {"org_id": storable(org_id)})
    return int(found)


async def read_committed(readers: Readers, org_id: str, at: str) -> tuple[Decimal, Decimal]:
    (day,), (month,) = await readers.read(org_id, _COMMITTED, _money_values(org_id, at))
    return usd_of(day), usd_of(month)


async def reserve(link: Link, org_id: str, usd: Decimal, at: str) -> bool:
    """Twice, after a lost answer, sets too much aside: a limit is kept all the same."""
    values = _money_values(org_id, at, nanousd(usd))
    held, reserved = (await link.run(_RESERVE, values))[0]
    if held < 2:
        await link.run(_BEGIN_PERIODS, values)
        _, reserved = (await link.run(_RESERVE, values))[0]
    return bool(reserved)


async def settle(link: Link, again: bool, org_id: str, reserved_usd: Decimal, spent_usd: Decimal, at: str) -> None:
    """After a lost answer only what is added is tried again: taken off twice, a limit would be passed.

    Raises: StoreUnavailable where the answer was lost; what was set aside may then stay counted.
    """
    difference = nanousd(spent_usd) - nanousd(reserved_usd)
    if again and difference < 0:
        raise StoreUnavailable(
            f"the database went away while money of org {storable(org_id)} was settled: it may stay counted as spent"
        )
    await link.run(_SETTLE, _money_values(org_id, at, difference))


async def _key_of(link: Link, key_id: str, org_id: str) -> KeyRecord:
    rows = await link.run(KEY, {"key_id": storable(key_id)})
    return own_key(key_record(rows[0][:-1]) if rows else None, key_id, org_id)


def own_key(key: KeyRecord | None, key_id: str, org_id: str) -> KeyRecord:
    """Raises: KeyNotFound where it is another org's, or nobody's."""
    if key is None or key.org_id != storable(org_id):
        raise KeyNotFound(f"no key {storable(key_id)}", hint="`conductor keys list` shows those there are")
    return key


async def _ended(link: Link, key: KeyRecord, column: str, at: str) -> bool:
    await link.run(f"UPDATE api_keys SET {column} = %s WHERE key_id = %s".encode(), (at, key.key_id))
    return True


def _money_values(org_id: str, at: str, nano: int = 0) -> dict[str, str]:
    """All text: a number would be sent with a type that depends on its size, and be another statement each time."""
    day, month = day_and_month(at)
    return {"org_id": storable(org_id), "nano": str(nano), **_period("day", day), **_period("month", month)}


def _period(name: str, period: Period) -> dict[str, str]:
    return {name: period.name, f"{name}_begins": period.begins, f"{name}_ends": period.ends}
