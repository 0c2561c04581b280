"""A session's event stream: whole, live, resumable, bounded, and ended with its key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from conductor_ai.api import event_stream
from conductor_ai.api.house import Call, House
from conductor_ai.api.tickets import TICKET_S, Tickets
from conductor_ai.errors import StoreUnavailable, Unauthorized
from conductor_ai.providers.scripted import say
from conductor_ai.schemas.orgs import Caller, Scope
from conductor_ai.settings import Settings
from conductor_ai.storage.hot_memory import MemoryHotState
from tests.api.conftest import ASKS, WAITS, Floor, Server
from tests.conftest import fail_after

WHOLE = ["session.created", "message.added", "model.completed", "session.completed"]


def events(frames: list[dict[str, str]]) -> list[tuple[int, str]]:
    return [(int(frame["id"]), frame["event"]) for frame in frames if "id" in frame]


async def test_the_log_comes_whole_in_order_and_ends(floor: Floor) -> None:
    server = await floor.open([say("Hello.")])
    session_id = await server.run()

    async with server.stream(session_id) as frames:
        found = await frames.rest()
    head = frames.reply.headers

    assert events(found) == list(enumerate(WHOLE, start=1))
    assert head["Content-Type"].startswith("text/event-stream") and head["Cache-Control"] == "no-store"
    assert any("retry" in frame for frame in found)
    data = json.loads(next(frame["data"] for frame in found if frame.get("id") == "2"))
    assert (data["session_id"], data["seq"], data["type"]) == (session_id, 2, "message.added")
    assert data["payload"]["content"] == "Do it." and data["created_at"]


async def test_a_reader_goes_on_behind_what_it_has_seen(floor: Floor) -> None:
    server = await floor.open([say("Hello.")])
    session_id = await server.run()
    await server.stopped(session_id)

    for seen in range(5):
        async with server.stream(session_id, headers={"Last-Event-ID": str(seen)}) as frames:
            by_header = await frames.rest()
        async with server.stream(session_id, query=f"?last_event_id={seen}") as frames:
            by_query = await frames.rest()

        assert events(by_header) == events(by_query) == list(enumerate(WHOLE, start=1))[seen:]


async def test_an_event_id_that_is_not_there_yet_counts_as_the_newest(floor: Floor) -> None:
    server = await floor.open([*WAITS, say("Hello.")])
    session_id = await server.run()
    await floor.gate.entered.wait()

    async with server.stream(session_id, headers={"Last-Event-ID": "999"}) as frames:
        floor.gate.open.set()
        running = events(await frames.rest())
    async with server.stream(session_id, headers={"Last-Event-ID": "999"}) as frames:
        stopped = events(await frames.rest())

    async with server.stream(session_id) as frames:
        log = events(await frames.rest())
    assert stopped == [] and log[-1][1] == "session.completed"
    assert running == log[len(log) - len(running) :]


async def test_what_is_no_event_id_is_refused(floor: Floor) -> None:
    server = await floor.open([say("Hello.")])
    session_id = await server.run()

    for bad in ("-1", "x", "1.5", "9" * 16, "\u00b2"):
        reply = await server.ask("GET", f"/agents/{session_id}/events", headers={"Last-Event-ID": bad})
        assert reply.code == "invalid_input", bad


async def test_pieces_of_the_answer_come_live_and_without_an_id(floor: Floor) -> None:
    server = await floor.open([WAITS[0], say("A long answer in many pieces.")])
    session_id = await server.run()
    async with server.stream(session_id) as frames:
        await frames.until("tool.started")
        floor.gate.open.set()
        found = await frames.rest()

    deltas = [json.loads(frame["data"]) for frame in found if frame.get("event") == "delta"]
    text = "".join(item["payload"].get("text", "") for item in deltas if item["payload"]["kind"] == "text")
    assert text == "A long answer in many pieces."
    assert all("id" not in frame for frame in found if frame.get("event") in ("delta", "live"))
    assert {"delta", "live"} <= {frame.get("event") for frame in found}
    assert found[-1]["event"] == "session.completed"


async def test_a_stream_that_fails_says_so_and_ends(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await floor.open([say("Hello.")])
    session_id = await server.run()
    await server.stopped(session_id)
    follow = server.service.follow

    async def cut(*args: Any, **named: Any) -> AsyncGenerator[dict[str, Any]]:
        yield await anext(follow(*args, **named))
        raise StoreUnavailable("the database is away")

    monkeypatch.setattr(server.service, "follow", cut)
    async with server.stream(session_id) as frames:
        *_, first, last = await frames.rest()

    assert first["event"] == "session.created"
    assert last["event"] == "error" and "id" not in last
    assert json.loads(last["data"])["code"] == "store_unavailable"


async def test_an_unknown_session_is_a_problem_and_no_stream(floor: Floor) -> None:
    server = await floor.open([])

    assert (await server.ask("GET", "/agents/nothing/events")).code == "session_not_found"


async def test_a_stream_waits_for_an_approval_and_says_that_it_lives(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.02)
    server = await floor.open(ASKS)
    async with server.stream(await server.run()) as frames:
        await frames.until("approval.requested")
        async with fail_after(20):
            assert await frames.next() == await frames.next() == {"": ""}


async def test_a_reader_that_leaves_stops_nothing_and_leaves_nothing(floor: Floor) -> None:
    server = await floor.open(WAITS)
    session_id = await server.run()
    async with server.stream(session_id) as frames:
        await frames.until("tool.started")
        assert await _open_streams(server) == 1

    await _until_no_stream_is_open(server)
    floor.gate.open.set()
    assert (await server.stopped(session_id))["status"] == "completed"


async def test_a_key_has_at_most_twenty_streams(floor: Floor) -> None:
    server = await floor.open(ASKS)
    key, other = await server.new_key(), await server.new_key()
    session_id = await server.run(key)
    async with AsyncExitStack() as stack:
        for _ in range(20):
            await stack.enter_async_context(server.stream(session_id, key=key))
        refused = await server.ask("GET", f"/agents/{session_id}/events", key=key)
        await stack.enter_async_context(server.stream(session_id, key=other))

    assert (refused.status, refused.code) == (429, "too_many_requests") and "Retry-After" in refused.headers
    await _until_no_stream_is_open(server, key)
    async with server.stream(session_id, key=key) as frames:
        await frames.until("approval.requested")


async def test_a_revoked_key_ends_its_streams(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "RECHECK_S", 0.02)
    server = await floor.open(ASKS)
    record, key = await server.service.keys.create("default", scopes=list(Scope), by="test")
    another = await server.new_key()
    session_id = await server.run(another)
    ticket = (await server.ask("POST", f"/agents/{session_id}/events/ticket", key=key)).data["ticket"]

    async with (
        server.stream(session_id, key=key) as by_key,
        server.stream(session_id, query=f"?ticket={ticket}", headers={"X-Forwarded-For": "10.0.0.1"}) as by_ticket,
        server.stream(session_id, key=another) as by_another,
    ):
        await by_key.until("approval.requested")
        await server.service.keys.revoke(record.key_id, "default", by="test")
        for frames in (by_key, by_ticket):
            last = (await frames.rest())[-1]
            assert last["event"] == "error" and json.loads(last["data"])["code"] == "unauthorized"
        assert await _open_streams(server, another) == 1
        await by_another.until("approval.requested")


async def test_the_first_key_ends_the_streams_of_who_has_none(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "RECHECK_S", 0.02)
    server = await floor.open(ASKS)
    async with server.stream(await server.run()) as keyless:
        await keyless.until("approval.requested")
        await server.new_key()
        await keyless.rest()


@pytest.mark.parametrize("end", ["revoked", "expired", "another was made"])
async def test_a_ticket_opens_nothing_once_whoever_has_it_would_not_be_let_in(floor: Floor, end: str) -> None:
    server = await floor.open([say("Hello.")])
    keys, key, key_id = server.service.keys, None, ""
    if end != "another was made":
        record, key = await keys.create("default", scopes=list(Scope), by="test")
        key_id = record.key_id
    session_id = await server.run(key)
    await server.stopped(session_id, key)
    tickets = [(await server.ask("POST", f"/agents/{session_id}/events/ticket", key=key)).data["url"] for _ in range(2)]
    before = await server.ask("GET", tickets[0])

    if end == "revoked":
        await keys.revoke(key_id, "default", by="test")
    elif end == "expired":
        await keys.rotate(key_id, "default", by="test", grace_s=0)
    else:
        await server.new_key()
    after = await server.ask("GET", tickets[1])

    assert before.status == 200 and b"session.completed" in before.data
    assert (after.status, after.code) == (401, "unauthorized")


async def test_a_ticket_opens_one_stream_of_its_session_once(floor: Floor) -> None:
    server = await floor.open([say("Hello.")], app_env="production")
    key = await server.new_key(org_id="acme")
    session_id, other = await server.run(key), await server.run(key)
    made = await server.ask("POST", f"/agents/{session_id}/events/ticket", key=key)
    path = made.data["url"]

    elsewhere = await server.ask("GET", path.replace(session_id, other))
    not_a_stream = await server.ask("GET", path.replace("/events", ""))
    forged = await server.ask("GET", f"{path[:-4]}AAAA")
    opened = await server.ask("GET", path)
    again = await server.ask("GET", path)

    assert (made.status, made.data["expires_in_s"]) == (201, 60)
    assert [reply.code for reply in (elsewhere, not_a_stream, forged, again)] == ["unauthorized"] * 4
    assert opened.status == 200 and b"session.completed" in opened.data


async def test_a_ticket_lasts_a_minute(floor: Floor) -> None:
    keys = (await floor.open([])).service.keys
    record, _ = await keys.create("acme", scopes=[Scope.READ], by="test")
    now = 1_000_000.0
    tickets, hot = Tickets(clock=lambda: now), MemoryHotState()
    made = [tickets.make("s", Caller("acme", key_id=record.key_id)) for _ in range(2)]

    now += TICKET_S
    assert await tickets.caller(made[0], "s", hot, keys) == Caller("acme", frozenset({Scope.READ}), record.key_id)
    now += 0.1
    with pytest.raises(Unauthorized):
        await tickets.caller(made[1], "s", hot, keys)


async def test_a_reader_that_takes_nothing_costs_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "RECHECK_S", 600.0)  # this house has no keys to look at
    house = House(Settings())
    made = 0

    async def items() -> AsyncGenerator[dict[str, Any]]:
        nonlocal made
        for number in range(1, 5001):
            made = number
            yield {"type": "model.delta", "payload": {"text": "x" * 1000}}

    blocked = asyncio.Event()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            blocked.set()
            await asyncio.Event().wait()

    call = Call(house, "id", Caller("default"), b"")
    stream = event_stream.EventStream(items(), call, lambda: None)
    answering = asyncio.create_task(stream({"type": "http"}, asyncio.Event().wait, send))  # type: ignore[arg-type]
    async with fail_after(20):
        await blocked.wait()
        counts = [-1]
        while counts[-1] != made:
            counts.append(made)
            for _ in range(1000):
                await asyncio.sleep(0)
    answering.cancel()
    await asyncio.gather(answering, return_exceptions=True)

    assert 0 < made < 1000


async def _until_no_stream_is_open(server: Server, key: str | None = None) -> None:
    async with fail_after(20):
        while await _open_streams(server, key):
            pass


async def _open_streams(server: Server, key: str | None = None) -> int:
    figures = (await server.ask("GET", "/metrics", key=key)).data.decode()
    return int(float(figures.partition("\nconductor_event_streams ")[2].split("\n")[0]))
