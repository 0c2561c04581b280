"""The files of a session, as its tools use them: there for later calls and other processes, bounded, on record."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest
from pydantic import SecretStr

from conductor_ai.conductor import StartRequest
from conductor_ai.errors import ConductorError, InvalidInput
from conductor_ai.providers.scripted import call, say
from conductor_ai.sdk.context import SessionFile, SessionFiles, current_context
from conductor_ai.sdk.files import MAX_FILE_BYTES
from tests.agents.conftest import TASK, Bench, Body, Tool
from tests.agents.machine import conducted
from tests.conftest import fail_after

SECRET = "sk-planted-2f0a9c81d4e7"


def files() -> SessionFiles:
    found = current_context().files
    assert found is not None
    return found


async def facts_of(bench: Bench, session_id: str) -> dict[str, Any]:
    """Of the one tool call's audit row."""
    rows, _ = await bench.runtime.store.audit_rows("default", session_id)
    [row] = [row for row in rows if row.action == "tool.completed"]
    facts: dict[str, Any] = json.loads(row.metadata)["facts"]
    return facts


async def ran(bench: Bench, *bodies: Body) -> str:
    """The id of a session whose tools `t0`, `t1` and so on were called in turn, and succeeded."""
    tools = [Tool(f"t{n}", body) for n, body in enumerate(bodies)]
    runner = await bench.runner([*[call(f"t{n}") for n in range(len(bodies))], say("Done.")], tools)
    session = await runner.run(TASK)
    errors = [one.error for step in session.steps for one in step.tool_calls]
    assert (session.final_answer, errors) == ("Done.", [None] * len(bodies))
    return session.session_id


async def test_what_one_call_writes_a_later_one_reads(bench: Bench) -> None:
    async def write(arguments: dict[str, Any]) -> None:
        await files().write("data/sales.csv", b"day,sold\n")
        await files().write("data/sales.csv", b"day,sold\n1,2\n")
        await files().write("odd", b"\0\xff", media_type="application/x-odd")

    async def read(arguments: dict[str, Any]) -> list[str]:
        assert await files().read("data/sales.csv") == b"day,sold\n1,2\n"
        return [file.name for file in await files().list()]

    session_id = await ran(bench, write, read)

    csv, odd = await bench.runtime.store.files(session_id, "default")
    digest = hashlib.sha256(b"day,sold\n1,2\n").hexdigest()
    assert csv == SessionFile("data/sales.csv", "text/csv", 13, digest, csv.created_at, 1, csv.call_id)
    assert (odd.name, odd.media_type) == ("odd", "application/x-odd")


async def test_the_audit_row_of_the_call_names_what_it_stored(bench: Bench) -> None:
    async def write(arguments: dict[str, Any]) -> None:
        current_context().record(backend="test")
        await files().write("a.txt", b"1")
        await files().write("a.txt", b"2")
        await files().write("b.txt", b"3")

    facts = await facts_of(bench, await ran(bench, write))

    digests = {name: hashlib.sha256(content).hexdigest() for name, content in (("a.txt", b"2"), ("b.txt", b"3"))}
    assert facts == {"backend": "test", "stored_files": digests}


async def test_what_was_stored_stays_where_the_call_then_fails(bench: Bench) -> None:
    async def fail(arguments: dict[str, Any]) -> None:
        await files().write("a.txt", b"1")
        raise ValueError("no luck")

    runner = await bench.runner([call("t"), say("Done.")], [Tool("t", fail)])
    session = await runner.run(TASK)

    assert [file.name for file in await bench.runtime.store.files(session.session_id, "default")] == ["a.txt"]
    assert list((await facts_of(bench, session.session_id))["stored_files"]) == ["a.txt"]


async def test_the_audit_row_of_a_call_that_was_cancelled_has_its_facts(bench: Bench) -> None:
    stored = asyncio.Event()

    async def hang(arguments: dict[str, Any]) -> None:
        await files().write("a.txt", b"1")
        stored.set()
        await asyncio.Event().wait()

    conductor = await conducted(bench, [call("t"), say("Done.")], Tool("t", hang, effect="once"))
    session_id = (await conductor.start(StartRequest(messages=TASK))).session_id
    async with fail_after(20):
        running = asyncio.create_task(conductor.run(session_id))
        await stored.wait()
        await conductor.cancel(session_id)
        session = await running

    assert session.status == "cancelled"
    assert list((await facts_of(bench, session_id))["stored_files"]) == ["a.txt"]


async def test_another_process_that_goes_on_has_the_files(bench: Bench) -> None:
    async def write(arguments: dict[str, Any]) -> None:
        await files().write("a.txt", b"kept")

    async def read(arguments: dict[str, Any]) -> str:
        return (await files().read("a.txt")).decode()

    script = [call("write"), call("read"), say("Done.")]
    tools = [Tool("write", write), Tool("read", read)]
    paused = await (await bench.runner(script, tools, limits={"max_steps": 1})).run(TASK)
    session = await (await bench.runner(script, tools)).resume(paused.session_id, limits={"max_steps": 9})

    assert session.steps[1].tool_calls[0].result == "kept"


async def test_a_session_sees_its_own_files_only(bench: Bench) -> None:
    async def write(arguments: dict[str, Any]) -> list[str]:
        names = [file.name for file in await files().list()]
        await files().write("a.txt", b"1")
        return names

    first = await ran(bench, write)
    second = await ran(bench, write)

    for session_id in (first, second):
        events = await bench.events(session_id)
        assert [event.payload["result"] for event in events if event.type == "tool.completed"] == [[]]


@pytest.mark.parametrize(
    ("name", "content", "media_type"),
    [
        ("../up.txt", b"", None),
        ("/etc/passwd", b"", None),
        ("nul\0", b"", None),
        ("a.txt", b"", "text/html; charset=utf-8"),
        ("a.txt", b"", "text/html\r\nX: y"),
        ("a.bin", bytes(MAX_FILE_BYTES + 1), None),
        (f"{SECRET}.txt", b"", None),
        ("a.txt", f"key={SECRET}".encode(), None),
    ],
    ids=["up", "absolute", "nul", "parameters", "head", "large", "secret name", "secret"],
)
async def test_what_no_session_may_have_is_refused_and_said_why(
    bench: Bench, name: str, content: bytes, media_type: str | None
) -> None:
    seen: list[ConductorError] = []

    async def write(arguments: dict[str, Any]) -> None:
        try:
            await files().write(name, content, media_type)
        except InvalidInput as exc:
            seen.append(exc)

    bench.settings = bench.settings.model_copy(update={"anthropic_api_key": SecretStr(SECRET)})
    session_id = await ran(bench, write)

    [refusal] = seen
    assert SECRET not in str(refusal)
    assert await bench.runtime.store.files(session_id, "default") == []


async def test_a_file_that_is_not_there_is_the_models_to_read(bench: Bench) -> None:
    async def read(arguments: dict[str, Any]) -> None:
        await files().read("nothing.txt")

    runner = await bench.runner([call("t"), say("Done.")], [Tool("t", read)])
    session = await runner.run(TASK)

    [failed] = session.steps[0].tool_calls
    assert "has no file 'nothing.txt'" in str(failed.error)


async def test_outside_a_session_there_are_none(bench: Bench) -> None:
    async def look(arguments: dict[str, Any]) -> bool:
        return current_context().files is None

    conductor = await conducted(bench, [say("Done.")], Tool("t", look))
    assert (await conductor.call_tool("t", {})).result is True
