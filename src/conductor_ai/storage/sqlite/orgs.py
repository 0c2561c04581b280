"""Orgs, their keys and their money. Those that write are each called in a transaction of their own."""

# ruff: noqa: S608  only names that stand in this package are put into SQL; values are always bound
from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from conductor_ai.errors import KeyNotFound
from conductor_ai.schemas.audit import AuditEntry
from conductor_ai.schemas.ids import utc_now
from conductor_ai.schemas.orgs import KeyRecord, OrgRecord
from conductor_ai.storage.money import MOST_NANOUSD, Period, day_and_month, most_nanousd, nanousd, usd_of
from conductor_ai.storage.rows import (
    KEY_COLUMNS,
    LIMIT_COLUMNS,
    ORG_COLUMNS,
    amount,
    changed_limits,
    has_money_limit,
    key_record,
    key_values,
    limit_values,
    moment,
    org_record,
    storable,
)
from conductor_ai.storage.sqlite.changes import append_org_audit

_ORG = f"SELECT {', '.join(ORG_COLUMNS)} FROM orgs WHERE org_id = ?"
_KEY = f"SELECT {', '.join(KEY_COLUMNS)}, digest FROM api_keys WHERE key_id = ?"
_SET_LIMITS = f"""
INSERT INTO orgs (org_id, {", ".join(LIMIT_COLUMNS)}, created_at, updated_at) VALUES ({", ".join("?" * 8)})
ON CONFLICT (org_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in LIMIT_COLUMNS)},
    updated_at = excluded.updated_at
"""
_SPENT = "SELECT exact_sum(cost_usd) FROM model_calls WHERE org_id = ? AND created_at >= ? AND created_at < ?"


def read_org(connection: sqlite3.Connection, org_id: str) -> OrgRecord:
    row = connection.execute(_ORG, (storable(org_id),)).fetchone()
    return OrgRecord(storable(org_id)) if row is None else org_record(row)


def set_limits(connection: sqlite3.Connection, org_id: str, changes: Mapping[str, Any], entry: AuditEntry) -> OrgRecord:
    org_id = storable(org_id)
    before = connection.execute(_ORG, (org_id,)).fetchone()
    limits = changed_limits(before, changes)
    now = utc_now()
    connection.execute(_SET_LIMITS, (org_id, *limit_values(limits), now, now))
    if limits.limits_money and not has_money_limit(before):
        _count_what_nobody_asked_for(connection, org_id, now)
    append_org_audit(connection, org_id, [entry], [])
    return read_org(connection, org_id)


def add_key(connection: sqlite3.Connection, key: KeyRecord, digest: bytes, entry: AuditEntry) -> None:
    columns = (*KEY_COLUMNS, "digest")
    connection.execute(
        f"INSERT INTO api_keys ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
        (*key_values(key), digest),
    )
    append_org_audit(connection, storable(key.org_id), [entry], [])


def has_keys(connection: sqlite3.Connection) -> bool:
    (found,) = connection.execute("SELECT EXISTS (SELECT 1 FROM api_keys)").fetchone()
    return bool(found)


def read_key(connection: sqlite3.Connection, key_id: str) -> tuple[KeyRecord, bytes] | None:
    row = connection.execute(_KEY, (storable(key_id),)).fetchone()
    return None if row is None else (key_record(row[:-1]), row[-1])


def revoke_key(connection: sqlite3.Connection, key_id: str, org_id: str, entry: AuditEntry) -> KeyRecord:
    key = _key_of(connection, key_id, org_id)
    return key if key.revoked_at is not None else _ended(connection, key, "revoked_at", utc_now(), entry)


def expire_key(connection: sqlite3.Connection, key_id: str, org_id: str, at: str, entry: AuditEntry) -> KeyRecord:
    key, at = _key_of(connection, key_id, org_id), moment(at)
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= at):
        return key
    return _ended(connection, key, "expires_at", at, entry)


def key_used(connection: sqlite3.Connection, key_id: str, at: str) -> None:
    connection.execute("UPDATE api_keys SET last_used_at = ? WHERE key_id = ?", (moment(at), storable(key_id)))


def count_running(connection: sqlite3.Connection, org_id: str) -> int:
    sql = "SELECT count(*) FROM sessions WHERE org_id = ? AND status IN ('queued', 'running', 'cancelling')"
    (found,) = connection.execute(sql, (storable(org_id),)).fetchone()
    return int(found)


def read_committed(connection: sqlite3.Connection, org_id: str, at: str) -> tuple[Decimal, Decimal]:
    day, month = (_committed(connection, storable(org_id), period) for period in day_and_month(at))
    return usd_of(day), usd_of(month)


def reserve(connection: sqlite3.Connection, org_id: str, usd: Decimal, at: str) -> bool:
    org_id, wanted = storable(org_id), nanousd(usd)
    periods = day_and_month(at)
    committed = [_committed(connection, org_id, period) + wanted for period in periods]
    limits = read_org(connection, org_id).limits
    if any(nano > most for nano, most in zip(committed, most_nanousd(limits), strict=True)):
        return False
    for period, nano in zip(periods, committed, strict=True):
        _commit(connection, org_id, period, nano)
    return True


def settle(connection: sqlite3.Connection, org_id: str, reserved_usd: Decimal, spent_usd: Decimal, at: str) -> None:
    org_id, difference = storable(org_id), nanousd(spent_usd) - nanousd(reserved_usd)
    for period in day_and_month(at):
        stored = _stored(connection, org_id, period)
        if stored is not None:  # else the ledger tells, when somebody first asks for money in this period
            _commit(connection, org_id, period, max(0, min(stored + difference, MOST_NANOUSD)))


def _key_of(connection: sqlite3.Connection, key_id: str, org_id: str) -> KeyRecord:
    found = read_key(connection, key_id)
    if found is None or found[0].org_id != storable(org_id):
        raise KeyNotFound(f"no key {storable(key_id)}", hint="`conductor keys list` shows those there are")
    return found[0]


def _ended(connection: sqlite3.Connection, key: KeyRecord, column: str, at: str, entry: AuditEntry) -> KeyRecord:
    connection.execute(f"UPDATE api_keys SET {column} = ? WHERE key_id = ?", (at, key.key_id))
    append_org_audit(connection, key.org_id, [entry], [])
    return _key_of(connection, key.key_id, key.org_id)


def _count_what_nobody_asked_for(connection: sqlite3.Connection, org_id: str, at: str) -> None:
    """While no limit was set, calls were made without asking: periods that had begun before that know too little."""
    for period in day_and_month(at):
        stored = _stored(connection, org_id, period)
        if stored is not None:
            _commit(connection, org_id, period, max(stored, _in_ledger(connection, org_id, period)))


def _committed(connection: sqlite3.Connection, org_id: str, period: Period) -> int:
    stored = _stored(connection, org_id, period)
    return _in_ledger(connection, org_id, period) if stored is None else stored


def _stored(connection: sqlite3.Connection, org_id: str, period: Period) -> int | None:
    sql = "SELECT committed_nanousd FROM org_spending WHERE org_id = ? AND period = ?"
    row = connection.execute(sql, (org_id, period.name)).fetchone()
    return None if row is None else int(row[0])


def _in_ledger(connection: sqlite3.Connection, org_id: str, period: Period) -> int:
    (usd,) = connection.execute(_SPENT, (org_id, period.begins, period.ends)).fetchone()
    return nanousd(amount(usd, f"what org {org_id} spent in {period.name}"))


def _commit(connection: sqlite3.Connection, org_id: str, period: Period, nano: int) -> None:
    connection.execute(
        "INSERT INTO org_spending (org_id, period, committed_nanousd) VALUES (?, ?, ?)"
        " ON CONFLICT (org_id, period) DO UPDATE SET committed_nanousd = excluded.committed_nanousd",
        (org_id, period.name, nano),
    )
