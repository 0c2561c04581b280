"""AuditLogger: rows as they are stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from conductor_ai.errors import AuditUnavailable, InvalidInput, OwnershipLost
from conductor_ai.observability import AuditLogger, AuditRecord
from conductor_ai.observability.audit import MAX_STORED_CHARS, SessionSink, bind_sink
from conductor_ai.observability.redaction import REDACTED, Redactor
from conductor_ai.schemas.audit import AuditEntry, ToolExecutionRow, first_break
from conductor_ai.schemas.ids import utc_now
from conductor_ai.storage.sqlite import SQLiteStore

SECRET = "correct-horse-battery"


def execution(audit: AuditLogger, **changes: object) -> ToolExecutionRow:
    facts: dict[str, object] = {
        "org_id": "acme",
        "session_id": "s1",
        "call_id": "c1",
        "tool_name": "look_up",
        "arguments": {"key": 1},
        "output": {"found": True},
        "execution_time_ms": 1.5,
        "success": True,
        "error": None,
        "created_at": utc_now(),
    }
    return audit.tool_execution(**(facts | changes))  # type: ignore[arg-type]


async def test_records_are_chained_in_the_chain_of_their_org(store: SQLiteStore, audit: AuditLogger) -> None:
    for number in range(3):
        await audit.log(AuditRecord(org_id="acme", category="key", action="created", metadata={"number": number}))
    await audit.log(AuditRecord(category="key", action="created"))

    rows, head = await store.audit_rows("acme", None)
    assert [(row.category, row.action, json.loads(row.metadata)["number"]) for row in rows] == [
        ("key", "created", number) for number in range(3)
    ]
    assert first_break(rows, head) is None
    assert len((await store.audit_rows("default", None))[0]) == 1


async def test_a_finished_call_leaves_a_tool_execution_too(store: SQLiteStore, audit: AuditLogger) -> None:
    await audit.log(
        AuditRecord(
            category="tool",
            action="completed",
            tool_name="look_up",
            input={"key": 1},
            output={"found": [True]},
            execution_time_ms=2.5,
            success=True,
        )
    )
    [row] = await store.tool_executions("default", None)
    assert (row.tool_name, json.loads(row.input), json.loads(row.output or ""), row.execution_time_ms, row.success) == (
        "look_up",
        {"key": 1},
        {"found": [True]},
        2.5,
        True,
    )


async def test_secrets_and_keys_reach_no_row(store: SQLiteStore, audit: AuditLogger) -> None:
    key = "sk-ant-api03-abcdefghijkl"
    await audit.log(
        AuditRecord(
            category="tool",
            action="failed",
            metadata={"header": SECRET, key: [key]},
            tool_name="look_up",
            input={"url": f"https://x.test/?token={SECRET}"},
            output=key,
            execution_time_ms=1.0,
            success=False,
            error=f"refused {SECRET} and {key}",
        )
    )
    [row], _ = await store.audit_rows("default", None)
    [call] = await store.tool_executions("default", None)
    stored = f"{row} {call}"
    assert SECRET not in stored
    assert key not in stored
    assert call.error == f"refused {REDACTED} and {REDACTED}"


async def test_nul_and_lone_surrogates_are_stored_escaped(store: SQLiteStore, audit: AuditLogger) -> None:
    text = "a\0b\ud800"
    await audit.log(
        AuditRecord(
            category="tool\0",
            action="failed",
            tool_name="t\0",
            input=text,
            metadata={text: text},
            success=False,
            error=text,
        )
    )
    [row], _ = await store.audit_rows("default", None)
    [call] = await store.tool_executions("default", None)
    assert json.loads(row.metadata)[text] == text
    assert json.loads(call.input) == text
    assert (row.category, call.tool_name, call.error) == ("tool\\u0000", "t\\u0000", "a\\u0000b\\ud800")


async def test_values_that_are_not_json_are_stored_by_their_repr(audit: AuditLogger) -> None:
    entry = audit.entry("tool", "started", {"set": {1}, "when": datetime(2026, 1, 2, tzinfo=UTC), "kind": int})
    assert json.loads(entry.metadata) == {"set": "{1}", "when": "2026-01-02T00:00:00+00:00", "kind": "<class 'int'>"}


async def test_long_output_is_cut_and_says_so(audit: AuditLogger) -> None:
    output = json.loads(execution(audit, output="x" * 200_000).output or "")
    assert output["cut"] is True
    assert output["total_chars"] == 200_002
    assert len(output["beginning"]) == MAX_STORED_CHARS
    assert len(execution(audit, error="e" * 200_000, success=False).error or "") == MAX_STORED_CHARS


@pytest.mark.parametrize("before_cut", [1, 10, len(SECRET) - 1])
async def test_a_secret_that_lies_across_the_cut_is_removed(audit: AuditLogger, before_cut: int) -> None:
    text = "x" * (MAX_STORED_CHARS - before_cut) + SECRET + "y" * 20_000
    row = execution(audit, output=text, error=text, success=False)
    cleaned = text.replace(SECRET, REDACTED)
    for stored, whole in ((row.error or "", cleaned), (json.loads(row.output or "")["beginning"], f'"{cleaned}')):
        assert whole.startswith(stored)
        assert len(stored) > MAX_STORED_CHARS - len(SECRET)


async def test_no_part_of_a_secret_moves_up_to_the_cut_when_others_before_it_shrink(audit: AuditLogger) -> None:
    row = execution(audit, error=f"{SECRET} " * 10_000, success=False)
    rest = (row.error or "").replace(f"{REDACTED} ", "")
    assert f"{REDACTED} ".startswith(rest)


async def test_a_failed_call_without_output_has_none(audit: AuditLogger) -> None:
    assert execution(audit, output=None, success=False, error="no").output is None
    assert execution(audit, output=None).output == "null"


class Recorded:
    """A session's chain: what was given to it."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.executions: list[ToolExecutionRow] = []

    async def record(self, entries: list[AuditEntry], executions: list[ToolExecutionRow]) -> None:
        self.entries += entries
        self.executions += executions


async def test_while_a_session_is_driven_records_go_to_its_chain(store: SQLiteStore, audit: AuditLogger) -> None:
    session = Recorded()
    sink = SessionSink("acme", "s1", Redactor(["a-secret-of-the-session"]), session.record)
    with bind_sink(sink):
        await audit.log(
            AuditRecord(
                category="tool",
                action="completed",
                tool_name="t",
                input=f"{SECRET} a-secret-of-the-session",
                output="a-secret-of-the-session",
                error="a-secret-of-the-session",
                success=True,
            )
        )
        await audit.log(AuditRecord(org_id="other", category="tool", action="elsewhere"))
        await audit.log(AuditRecord(session_id="s2", org_id="acme", category="tool", action="of another session"))
    await audit.log(AuditRecord(org_id="acme", category="tool", action="after"))

    assert [entry.action for entry in session.entries] == ["completed"]
    [row] = session.executions
    assert (row.org_id, row.session_id) == ("acme", "s1")
    assert json.loads(row.input) == f"{REDACTED} {REDACTED}"
    assert "a-secret" not in f"{session.entries} {session.executions}"
    acme, _ = await store.audit_rows("acme", None)
    assert [(row.action, json.loads(row.metadata).get("session_id")) for row in acme] == [
        ("of another session", "s2"),
        ("after", None),
    ]
    assert [row.action for row in (await store.audit_rows("other", None))[0]] == ["elsewhere"]


async def test_while_a_tool_is_called_outside_a_session_records_go_to_the_chain_of_its_org(audit: AuditLogger) -> None:
    org = Recorded()
    with bind_sink(SessionSink("acme", None, Redactor(), org.record)):
        await audit.log(AuditRecord(category="tool", action="completed", tool_name="t", success=True))
        await audit.log(AuditRecord(category="tool", action="of a session", session_id="s2"))

    assert [json.loads(entry.metadata).get("session_id") for entry in org.entries] == [None, "s2"]
    [row] = org.executions
    assert (row.org_id, row.session_id) == ("acme", None)


async def test_a_record_of_another_session_stays_in_the_org_that_is_at_work(
    store: SQLiteStore, audit: AuditLogger
) -> None:
    with bind_sink(SessionSink("acme", "s1", Redactor(), Recorded().record)):
        await audit.log(AuditRecord(category="tool", action="of another session", session_id="s2"))
    assert [row.action for row in (await store.audit_rows("acme", None))[0]] == ["of another session"]


async def test_a_time_of_ones_own_is_kept_beside_the_time_of_writing(store: SQLiteStore, audit: AuditLogger) -> None:
    then = datetime(2020, 1, 2, tzinfo=UTC)
    await audit.log(AuditRecord(category="import", action="lead", created_at=then))
    [row], _ = await store.audit_rows("default", None)
    assert json.loads(row.metadata)["occurred_at"] == then.isoformat()
    assert row.created_at > "2026"


async def test_what_cannot_be_stored_raises(store: SQLiteStore, audit: AuditLogger) -> None:
    await store.close()
    with pytest.raises(AuditUnavailable, match="created could not be recorded"):
        await audit.log(AuditRecord(category="key", action="created"))


async def test_a_session_that_was_taken_over_records_nothing_more(audit: AuditLogger) -> None:
    async def fenced(entries: list[AuditEntry], executions: list[ToolExecutionRow]) -> None:
        raise OwnershipLost("session s1 was taken over")

    with bind_sink(SessionSink("acme", "s1", Redactor(), fenced)), pytest.raises(AuditUnavailable, match="taken over"):
        await audit.log(AuditRecord(category="tool", action="started"))


def test_a_store_comes_with_its_redactor(store: SQLiteStore) -> None:
    with pytest.raises(InvalidInput):
        AuditLogger(store)
    with pytest.raises(InvalidInput):
        AuditLogger(redactor=Redactor())


def test_a_record_is_frozen_and_knows_its_fields() -> None:
    record = AuditRecord(category="key", action="created")
    with pytest.raises(ValidationError):
        record.action = "deleted"
    with pytest.raises(ValidationError):
        AuditRecord(category="key", action="created", sesion_id="s1")  # type: ignore[call-arg]
