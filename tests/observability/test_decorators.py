"""@audit_logged: every call is on record, or it does not happen."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from conductor_ai.errors import AuditUnavailable, InvalidInput
from conductor_ai.observability import AuditLogger, audit_logged
from conductor_ai.observability.audit import SessionSink, bind_sink
from conductor_ai.observability.redaction import REDACTED, Redactor
from conductor_ai.schemas.audit import AuditEntry, AuditRow, ToolExecutionRow, first_break
from conductor_ai.storage.sqlite import SQLiteStore

SECRET = "correct-horse-battery"


async def stored(store: SQLiteStore) -> tuple[list[AuditRow], list[ToolExecutionRow]]:
    rows, head = await store.audit_rows("default", None)
    assert first_break(rows, head) is None
    return rows, await store.tool_executions("default", None)


async def test_a_call_leaves_its_intent_its_outcome_and_its_execution(store: SQLiteStore, audit: AuditLogger) -> None:
    @audit_logged(category="data", tool_name="web_fetch", logger=audit)
    async def fetch_data(url: str, *more: int, timeout_s: float = 5.0, **options: Any) -> dict[str, Any]:
        """Fetch data."""
        rows, executions = await stored(store)
        assert [row.action for row in rows] == ["started"]
        assert executions == []
        return {"data": url}

    assert await fetch_data("https://x.test", 1, 2, depth=3) == {"data": "https://x.test"}

    rows, [call] = await stored(store)
    assert [(row.category, row.action) for row in rows] == [("data", "started"), ("data", "completed")]
    started, completed = (json.loads(row.metadata) for row in rows)
    arguments = {"url": "https://x.test", "more": [1, 2], "timeout_s": 5.0, "options": {"depth": 3}}
    assert started == {"call_id": call.call_id, "tool_name": "web_fetch", "input": arguments}
    assert completed == {
        "call_id": call.call_id,
        "tool_name": "web_fetch",
        "success": True,
        "execution_time_ms": call.execution_time_ms,
    }
    assert (call.tool_name, json.loads(call.input), call.success, call.error) == ("web_fetch", arguments, True, None)
    assert json.loads(call.output or "") == {"data": "https://x.test"}
    assert call.execution_time_ms > 0
    assert (fetch_data.__name__, fetch_data.__doc__) == ("fetch_data", "Fetch data.")


async def test_an_exception_passes_through_and_is_recorded(store: SQLiteStore, audit: AuditLogger) -> None:
    failure = ValueError(f"no such page: {SECRET}")

    @audit_logged(category="data", logger=audit)
    async def fetch() -> None:
        raise failure

    with pytest.raises(ValueError, match="no such page") as caught:
        await fetch()
    assert caught.value is failure
    rows, [call] = await stored(store)
    assert [row.action for row in rows] == ["started", "failed"]
    assert (call.tool_name, call.success, call.output) == ("fetch", False, None)
    assert call.error == f"ValueError: no such page: {REDACTED}"


async def test_the_arguments_are_recorded_as_they_were_before_the_call(store: SQLiteStore, audit: AuditLogger) -> None:
    @dataclass
    class Query:
        words: list[str]

    class Page(BaseModel):
        url: str

    class Crawler:
        @audit_logged(category="data", logger=audit)
        async def crawl(self, query: Query, page: Page, raw: bytes, token: str) -> set[int]:
            query.words.clear()
            return {7}

    await Crawler().crawl(Query(["a"]), Page(url="u"), b"\0", token=SECRET)
    _, [call] = await stored(store)
    assert json.loads(call.input) == {
        "query": {"words": ["a"]},
        "page": {"url": "u"},
        "raw": "b'\\x00'",
        "token": REDACTED,
    }
    assert json.loads(call.output or "") == "{7}"


async def test_a_value_without_a_repr_and_an_error_without_a_text_are_recorded(
    store: SQLiteStore, audit: AuditLogger
) -> None:
    class Broken(Exception):
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

        __str__ = __repr__

    @audit_logged(category="data", logger=audit)
    async def act(value: object) -> None:
        raise Broken

    with pytest.raises(Broken):
        await act(Broken())
    _, [call] = await stored(store)
    assert json.loads(call.input) == {"value": "<Broken whose repr failed>"}
    assert call.error == "Broken: its message could not be read"


async def test_a_cancelled_call_is_recorded_as_cancelled(store: SQLiteStore, audit: AuditLogger) -> None:
    running = asyncio.Event()

    @audit_logged(category="data", logger=audit)
    async def wait_for_ever() -> None:
        running.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(wait_for_ever())
    async with asyncio.timeout(5):
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    rows, [call] = await stored(store)
    assert [row.action for row in rows] == ["started", "cancelled"]
    assert (call.success, call.error) == (False, "CancelledError")


async def test_a_cancel_during_the_recording_of_the_outcome_waits_for_it() -> None:
    recording, go_on = asyncio.Event(), asyncio.Event()
    recorded: list[str] = []

    async def record(entries: list[AuditEntry], executions: list[ToolExecutionRow]) -> None:
        if entries[0].action == "completed":
            recording.set()
            await go_on.wait()
        recorded.extend(entry.action for entry in entries)

    @audit_logged(category="data")
    async def act() -> str:
        return "done"

    with bind_sink(SessionSink("acme", "s1", Redactor(), record)):
        task = asyncio.create_task(act())
    async with asyncio.timeout(5):
        await recording.wait()
        task.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert recorded == ["started", "completed"]


async def test_what_cannot_be_recorded_does_not_happen(store: SQLiteStore, audit: AuditLogger) -> None:
    happened = []

    @audit_logged(category="data", logger=audit)
    async def act() -> None:
        happened.append(True)

    await store.close()
    with pytest.raises(AuditUnavailable):
        await act()
    assert not happened


@pytest.mark.parametrize("fails", [False, True])
async def test_an_outcome_that_cannot_be_recorded_is_an_error(
    store: SQLiteStore, audit: AuditLogger, fails: bool
) -> None:
    @audit_logged(category="data", logger=audit)
    async def act() -> str:
        await store.close()
        if fails:
            raise ValueError("first")
        return "done"

    with pytest.raises(AuditUnavailable) as caught:
        await act()
    assert isinstance(caught.value.__context__, ValueError) is fails


async def test_arguments_that_do_not_fit_are_refused_before_anything_is_recorded(
    store: SQLiteStore, audit: AuditLogger
) -> None:
    @audit_logged(category="data", logger=audit)
    async def act(one: int) -> None:
        pass

    with pytest.raises(TypeError, match=r"act\(\): missing a required argument"):
        await act()  # type: ignore[call-arg]
    assert await stored(store) == ([], [])


async def test_while_a_session_is_driven_calls_belong_to_it() -> None:
    rows: list[tuple[list[AuditEntry], list[ToolExecutionRow]]] = []

    async def record(entries: list[AuditEntry], executions: list[ToolExecutionRow]) -> None:
        rows.append((entries, executions))

    @audit_logged(category="data")
    async def act() -> str:
        return SECRET

    with bind_sink(SessionSink("acme", "s1", Redactor([SECRET]), record)):
        assert await act() == SECRET
    [([started], []), ([completed], [call])] = rows
    assert (started.action, completed.action) == ("started", "completed")
    assert (call.org_id, call.session_id, call.output) == ("acme", "s1", f'"{REDACTED}"')


def test_a_function_that_is_not_async_is_refused() -> None:
    with pytest.raises(InvalidInput, match="fetch is not one") as caught:

        @audit_logged(category="data")  # type: ignore[arg-type]
        def fetch() -> None:
            pass

    assert caught.value.hint == "write `async def fetch`"


async def test_without_any_setup_rows_go_to_the_default_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDUCTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)

    @audit_logged(category="data", tool_name="web_fetch")
    async def fetch_data(url: str) -> dict[str, str]:
        return {"data": SECRET}

    assert await fetch_data("https://x.test") == {"data": SECRET}
    from conductor_ai.wiring import default_runtime

    runtime = await default_runtime()
    [call] = await runtime.store.tool_executions("default", None)
    assert (call.tool_name, call.output) == ("web_fetch", json.dumps({"data": REDACTED}, separators=(",", ":")))
