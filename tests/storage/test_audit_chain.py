"""The contract of `SessionStore`: the audit chain as stored proves what was done."""

from __future__ import annotations

import asyncio

import pytest

from conductor_ai.errors import SessionNotFound, StorageError
from conductor_ai.schemas.audit import AuditEntry, ChainHead, first_break
from conductor_ai.storage.base import SessionStore
from tests.storage.conftest import Tamper
from tests.storage.session_log import ORG, SessionLog

TOMBSTONE = AuditEntry("session", "deleted", '{"by":"ann"}')


async def test_a_sessions_chain_holds_as_stored(store: SessionStore) -> None:
    log = SessionLog()
    for _ in range(5):
        await store.append(log.next())
    rows, head = await store.audit_rows(ORG, log.session_id)
    assert [row.chain_seq for row in rows] == list(range(1, 11))
    assert head == log.head
    assert first_break(rows, head) is None


async def test_a_chain_may_be_read_while_it_grows(store: SessionStore) -> None:
    log = SessionLog()
    await store.append(log.next())

    async def grow() -> None:
        for _ in range(300):
            await store.append(log.next())

    growing = asyncio.ensure_future(grow())
    while not growing.done():
        rows, head = await store.audit_rows(ORG, log.session_id)
        assert first_break(rows, head) is None
    await growing


async def test_rows_without_a_session_are_chained_per_org(store: SessionStore) -> None:
    entry = AuditEntry("key", "created", '{"name":"\\u0000"}')
    executions = [SessionLog().execution()._replace(session_id=None)]
    assert await store.audit_rows(ORG, None) == ([], ChainHead())

    await asyncio.gather(*[store.append_org_audit(org, [entry, entry]) for org in (ORG, "other") for _ in range(3)])
    await store.append_org_audit(ORG, [entry], executions)

    for org, length in ((ORG, 7), ("other", 6)):
        rows, head = await store.audit_rows(org, None)
        assert [row.chain_seq for row in rows] == list(range(1, length + 1))
        assert first_break(rows, head) is None
    assert await store.tool_executions(ORG, None) == executions
    assert await store.tool_executions("other", None) == []


async def test_a_record_that_cannot_be_stored_leaves_the_orgs_chain_whole(store: SessionStore) -> None:
    entry = AuditEntry("key", "created", "{}")
    await store.append_org_audit(ORG, [entry])
    with pytest.raises(StorageError):
        await store.append_org_audit(ORG, [entry, AuditEntry("key", "\ud800", "{}")])
    await store.append_org_audit(ORG, [entry])
    rows, head = await store.audit_rows(ORG, None)
    assert [row.chain_seq for row in rows] == [1, 2]
    assert first_break(rows, head) is None


async def test_deleting_a_session_leaves_its_audit_trail_whole(store: SessionStore) -> None:
    log, kept = SessionLog(), SessionLog()
    request = log.approval()
    await store.append(log.next(requested=[request], executions=[log.execution()]))
    await store.append(kept.next(executions=[kept.execution()]))

    await store.delete_session(log.session_id, ORG, TOMBSTONE)

    with pytest.raises(SessionNotFound):
        await store.session(log.session_id, ORG)
    assert await store.approvals(ORG) == []
    with pytest.raises(SessionNotFound):
        await store.tool_executions(ORG, log.session_id)
    assert len(await store.tool_executions(ORG, kept.session_id)) == 1
    rows, head = await store.audit_rows(ORG, log.session_id)
    assert len(rows) == 2
    assert head == log.head
    assert first_break(rows, head) is None
    with pytest.raises(SessionNotFound):
        await store.audit_rows("other", log.session_id)
    (tombstone,), head = await store.audit_rows(ORG, None)
    assert tombstone.action == "deleted"
    assert first_break([tombstone], head) is None


@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize(
    ("tampering", "broken_at"),
    [
        ("UPDATE audit_logs SET metadata = '{}' WHERE chain_seq = 3", 3),
        ("UPDATE audit_logs SET created_at = '2020-01-01' WHERE chain_seq = 6", 6),
        ("DELETE FROM audit_logs WHERE chain_seq = 4", 4),
        ("DELETE FROM audit_logs WHERE chain_seq > 4", 5),
        ("DELETE FROM audit_logs", 1),
    ],
)
async def test_tampering_with_the_database_shows(
    store: SessionStore, tamper: Tamper, tampering: str, broken_at: int, deleted: bool
) -> None:
    log = SessionLog()
    for _ in range(3):
        await store.append(log.next())
    if deleted:
        await store.delete_session(log.session_id, ORG, TOMBSTONE)

    tamper(tampering)

    rows, head = await store.audit_rows(ORG, log.session_id)
    assert first_break(rows, head) == broken_at
