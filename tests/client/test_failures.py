"""A client whose server, or the way to it, fails: what is asked again, what is not, and what nobody may see."""

from __future__ import annotations

import random
import traceback
from collections.abc import AsyncIterator
from typing import Any

import pytest

from conductor_ai.client import ConductorClient
from conductor_ai.errors import (
    ConductorError,
    InvalidInput,
    ServiceError,
    ServiceUnavailable,
    SessionNotFound,
    TooManyRequests,
)
from conductor_ai.schemas.session import SessionStatus
from tests.cli.model_server import ModelServer
from tests.client.proxy import Cut, FaultProxy, LoseReply, Say, Silence, fault_proxy
from tests.client.served import Served
from tests.client.test_client import TASK
from tests.conftest import fail_after
from tests.storage.session_log import stored_file

KEY = "cond_dev_00000000_SeCrEtSeCrEtSeCrEtSeCrEtSeCrEtSeCrEtSeCrEtSe"


@pytest.fixture
async def proxy(server: Served) -> AsyncIterator[FaultProxy]:
    async with fault_proxy(server.port) as before:
        yield before


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[ConductorClient]:
    async with ConductorClient(proxy.url) as opened:
        yield opened


async def sessions_of(server: Served) -> int:
    return len(await server.service.store.sessions("default"))


async def test_a_start_whose_reply_is_lost_happens_once(
    client: ConductorClient, proxy: FaultProxy, server: Served, model: ModelServer
) -> None:
    model.will_answer("It leads.")
    proxy.faults.extend([LoseReply(), Cut(40), Say(503)])

    async with fail_after(20):
        session = await client.run_agent(TASK)
        await client.wait_for_completion(session.session_id)

    keys = {line for head in proxy.requests for line in head.splitlines() if line.lower().startswith("idempotency-key")}
    assert (len(keys), await sessions_of(server), len(model.requests)) == (1, 1, 1)


async def test_a_message_whose_reply_is_lost_is_sent_once(
    client: ConductorClient, proxy: FaultProxy, model: ModelServer, server: Served
) -> None:
    model.will_answer("First.")
    model.will_answer("Second.")

    async with fail_after(20):
        session = await client.run_agent(TASK)
        await client.wait_for_completion(session.session_id)
        async with ConductorClient(proxy.url) as fresh:  # on a connection of its own
            proxy.faults.append(LoseReply())
            await fresh.continue_session(session.session_id, "And then?")
            ended = await fresh.wait_for_completion(session.session_id)

    assert [step["final_answer"] for step in ended.steps] == ["First.", "Second."]


async def test_what_was_done_before_its_reply_was_lost_counts_as_done(
    proxy: FaultProxy, model: ModelServer, server: Served
) -> None:
    model.will_hold()
    async with fail_after(20), ConductorClient(server.url) as direct:
        session = await direct.run_agent(TASK)
        async with ConductorClient(proxy.url) as cut_off:
            proxy.faults.append(LoseReply())
            await cut_off.cancel(session.session_id)
            ended = await direct.wait_for_completion(session.session_id)
        async with ConductorClient(proxy.url) as cut_off:
            proxy.faults.append(LoseReply())
            await cut_off.delete(session.session_id)
            with pytest.raises(SessionNotFound):
                await cut_off.delete(session.session_id)

    assert ended.status is SessionStatus.CANCELLED


async def test_a_key_is_never_made_twice(client: ConductorClient, proxy: FaultProxy, server: Served) -> None:
    proxy.faults.append(LoseReply())

    async with fail_after(20):
        with pytest.raises(ServiceUnavailable, match="went away"):
            await client.create_key(["read"])

    assert len(await server.service.store.keys("default")) == 1


async def test_a_file_that_is_cut_off_is_asked_for_again_and_comes_whole(
    client: ConductorClient, proxy: FaultProxy, model: ModelServer, server: Served
) -> None:
    model.will_answer("Done.")
    content = bytes(range(256)) * 2000
    async with fail_after(20):
        session = await client.run_agent(TASK)
        await client.wait_for_completion(session.session_id)
        await server.service.store.put_file(session.session_id, "default", *stored_file("a.bin", content))
        async with ConductorClient(proxy.url) as fresh:
            proxy.faults.extend([Cut(100_000), Say(503), LoseReply()])
            assert await fresh.file(session.session_id, "a.bin") == content


async def test_a_busy_server_is_asked_again_as_it_says(client: ConductorClient, proxy: FaultProxy) -> None:
    proxy.faults.extend([Say(502), Say(429, ("Retry-After: 0",)), Say(504)])

    async with fail_after(20):
        tools = await client.tools()

    assert "look_up" in {tool.name for tool in tools}
    assert len(proxy.requests) == 4


async def test_who_would_have_to_wait_long_is_told(client: ConductorClient, proxy: FaultProxy) -> None:
    proxy.faults.append(Say(429, ("Retry-After: 3600",)))

    async with fail_after(5):
        with pytest.raises(TooManyRequests) as caught:
            await client.tools()

    assert (caught.value.retry_after_s, len(proxy.requests)) == (3600.0, 1)


@pytest.mark.parametrize("status", [400, 404, 418, 500, 501])
async def test_other_failures_are_not_asked_again(client: ConductorClient, proxy: FaultProxy, status: int) -> None:
    proxy.faults.append(Say(status, ("Content-Type: text/html",), b"<h1>no</h1>"))

    async with fail_after(5):
        with pytest.raises((ServiceError, InvalidInput), match=f"the server answered {status}"):
            await client.tools()

    assert len(proxy.requests) == 1


async def test_nobody_there_is_said_after_a_bounded_number_of_attempts(unused_tcp_port: int) -> None:
    async with fail_after(20), ConductorClient(f"http://127.0.0.1:{unused_tcp_port}", max_attempts=2) as client:
        with pytest.raises(ServiceUnavailable, match=r"cannot be reached: .*refused"):
            await client.tools()


async def test_a_server_that_does_not_answer_is_left(proxy: FaultProxy) -> None:
    proxy.faults.append(Silence())

    async with fail_after(20), ConductorClient(proxy.url, timeout_s=0.2, max_attempts=1) as client:
        with pytest.raises(ServiceUnavailable, match="did not answer in time"):
            await client.tools()


async def test_a_redirect_is_not_followed_and_gets_no_key(proxy: FaultProxy, server: Served) -> None:
    async with fail_after(20), fault_proxy(server.port) as elsewhere, ConductorClient(proxy.url, api_key=KEY) as client:
        proxy.faults.append(Say(307, (f"Location: {elsewhere.url}/tools",)))
        with pytest.raises(ServiceError, match="elsewhere"):
            await client.tools()

    assert elsewhere.requests == []


@pytest.mark.parametrize(
    "fault",
    [None, Say(500), Say(307, ("Location: /",)), Say(200, (), b"no json"), Say(200, ("Content-Length: x",)), Cut(3)],
    ids=["refused", "error", "redirect", "no-json", "no-http", "cut"],
)
async def test_no_error_shows_the_key(proxy: FaultProxy, fault: Say | Cut | None) -> None:
    if fault is not None:
        proxy.faults.append(fault)
    async with fail_after(20), ConductorClient(proxy.url, api_key=KEY, max_attempts=1) as client:
        with pytest.raises(ConductorError) as caught:
            await client.tools()
        shown = [repr(client), str(vars(client)), str(caught.value), repr(caught.value), str(caught.value.hint)]
        error: BaseException | None = caught.value
        shown += traceback.format_exception(caught.value)
        while error is not None:
            shown += [repr(error), repr(vars(error))]
            error = error.__cause__ or error.__context__

    assert any(KEY in head for head in proxy.requests)
    assert not [text for text in shown if "SeCrEt" in text]


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "localhost:8000",
        "ftp://localhost",
        "http://",
        "http://user:SeCrEt@localhost",
        "http://localhost?key=SeCrEt",
        "http://localhost/#SeCrEt",
        "http://local host",
        "http://localhost:99999",
        "http://[::1",
    ],
)
def test_an_address_that_is_none_is_refused(base_url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ConductorClient(base_url)

    assert "SeCrEt" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "päss"])
def test_a_key_that_cannot_stand_in_a_header_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ConductorClient("http://localhost", api_key=key)

    assert not key or key not in str(caught.value)


async def test_an_event_stream_cut_a_hundred_times_is_whole(
    proxy: FaultProxy, server: Served, model: ModelServer
) -> None:
    words = 25
    for number in range(words):
        model.will_call(("look_up", {"word": f"w{number}"}), ("look_up", {"word": "again" * 100}))
    model.will_answer("It leads.")
    chance = random.Random(20261123)
    async with fail_after(120), ConductorClient(proxy.url) as client:
        session = await client.run_agent(TASK)
        live = [item.seq async for item in client.stream(session.session_id) if item.seq is not None]
        log = await server.service.store.events(session.session_id, "default")
        proxy.faults.extend(Cut(chance.randrange(200, 9000)) for _ in range(100))
        told: list[list[tuple[int | None, dict[str, Any]]]] = []
        while proxy.faults:
            async with ConductorClient(proxy.url) as cut_off:
                told.append([(item.seq, item.payload) async for item in cut_off.stream(session.session_id)])

    whole = [(event.seq, event.payload) for event in log]
    assert len(whole) > 4 * words
    assert live == [event.seq for event in log]
    assert told
    assert all(items == whole for items in told)


async def test_a_running_session_is_followed_through_cuts(
    client: ConductorClient, proxy: FaultProxy, server: Served, model: ModelServer
) -> None:
    for number in range(10):
        model.will_call(("look_up", {"word": f"w{number}"}))
    model.will_answer("It leads.")
    chance = random.Random(5)

    async with fail_after(60):
        session = await client.run_agent(TASK)
        proxy.faults.extend(Cut(chance.randrange(400, 3000)) for _ in range(8))
        told = [item.seq async for item in client.stream(session.session_id) if item.seq is not None]
        log = await server.service.store.events(session.session_id, "default")

    assert told == [event.seq for event in log]


async def test_waiting_does_without_a_stream(client: ConductorClient, proxy: FaultProxy, model: ModelServer) -> None:
    held = model.will_hold()

    async with fail_after(30):
        session = await client.run_agent(TASK)
        async with ConductorClient(proxy.url, max_attempts=1) as unlucky:
            proxy.faults.extend([None, Say(500)])  # the second connection is the stream's
            waiting = unlucky.wait_for_completion(session.session_id)
            await client.cancel(session.session_id)
            ended = await waiting
        held.release.set()

    assert ended.status is SessionStatus.CANCELLED
