"""What a request may hold, and how a refusal looks."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from conductor_ai.api.incoming import is_deeper_than
from conductor_ai.providers.scripted import say
from tests.api.conftest import RUN, WAITS, Floor
from tests.conftest import fail_after

JSON = {"Content-Type": "application/json"}


def deep(levels: int) -> bytes:
    return b'{"messages": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 65_536 + 1):
        yield b" " * 65_536


async def test_a_body_of_more_than_a_mebibyte_is_refused(floor: Floor) -> None:
    server = await floor.open([])

    declared = await server.ask("POST", "/agents/run", data=BytesIO(b" " * (2**20 + 1)), headers=JSON)
    chunked = await server.ask("POST", "/agents/run", data=chunks(2**20), headers=JSON)
    fits = await server.ask("POST", "/agents/run", data=BytesIO(b"[" + b" " * (2**20 - 2) + b"]"), headers=JSON)

    assert (declared.status, declared.code) == (chunked.status, chunked.code) == (413, "body_too_large")
    assert fits.status == 422


async def test_a_body_that_says_it_is_too_large_is_not_waited_for(floor: Floor) -> None:
    server = await floor.open([])
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(server.url).port)

    writer.write(b"POST /agents/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048577\r\n\r\n")
    try:
        async with fail_after(20):
            line = await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()

    assert line.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("route", ["cancel", "resume"])
async def test_a_request_that_breaks_off_in_its_body_is_not_carried_out(floor: Floor, route: str) -> None:
    server = await floor.open(WAITS)
    session_id = await server.run()
    await floor.gate.entered.wait()
    _, writer = await asyncio.open_connection("127.0.0.1", URL(server.url).port)

    head = f"POST /agents/{session_id}/{route} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(head.encode() + b'Content-Length: 60\r\n\r\n{"limits": {"max_')
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with fail_after(20):  # the two POSTs: the one that started it, and this one
        while (counted := _answered_posts((await server.ask("GET", "/metrics")).data.decode())).total() < 2:
            pass

    assert counted == {("/agents/run", "202"): 1, ("unmatched", "400"): 1}
    floor.gate.open.set()
    assert (await server.stopped(session_id))["status"] == "completed"


def _answered_posts(figures: str) -> Counter[tuple[str, str]]:
    found = re.findall(
        r'^conductor_http_requests_total\{method="POST",route="(.*)",status="(\d+)"} (\d+)', figures, re.M
    )
    return Counter({(route, status): int(number) for route, status, number in found})


async def test_json_deeper_than_32_levels_is_refused(floor: Floor) -> None:
    server = await floor.open([])

    assert (await server.ask("POST", "/agents/run", data=deep(33), headers=JSON)).code == "json_too_deep"
    assert (await server.ask("POST", "/agents/run", data=deep(32), headers=JSON)).code == "invalid_input"
    assert (await server.ask("POST", "/agents/run", data=BytesIO(b"[" * 2**20), headers=JSON)).code == "json_too_deep"


values = st.recursive(
    st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(values)
def test_depth_is_told_without_reading_the_json(value: Any) -> None:
    text = json.dumps(value).encode()

    assert not is_deeper_than(text, depth(value))
    assert depth(value) == 0 or is_deeper_than(text, depth(value) - 1)


async def test_what_is_no_json_is_refused(floor: Floor) -> None:
    server = await floor.open([])

    for data in (b"{", b"\xff", b'{"a": NaN}', b'{"messages": ' + b"1" * 5000 + b"}"):
        reply = await server.ask("POST", "/agents/run", data=data, headers=JSON)
        assert (reply.status, reply.code) == (400, "invalid_json"), data
    assert (await server.ask("POST", "/agents/run", data=b"", headers=JSON)).code == "invalid_input"


async def test_a_body_has_to_say_that_it_is_json(floor: Floor) -> None:
    server = await floor.open([])

    reply = await server.ask("POST", "/agents/run", data=json.dumps(RUN), headers={"Content-Type": "text/plain"})

    assert (reply.status, reply.code) == (415, "unsupported_media_type")


async def test_an_unknown_field_is_refused_and_nothing_starts(floor: Floor) -> None:
    server = await floor.open([say("Hello.")])

    for field in ("org_id", "session_id", "id", "status", "created_by", "pre_approved"):
        reply = await server.ask("POST", "/agents/run", {**RUN, field: "mine"})
        assert (reply.status, reply.code) == (422, "invalid_input")
        assert reply.data["errors"] == [{"field": field, "message": "Extra inputs are not permitted"}]
    assert (await server.ask("GET", "/agents")).data["items"] == []


STRANGE: list[tuple[str, str, Any]] = [
    ("POST", "/agents/x/messages", {"content": "more", "org_id": "theirs"}),
    ("POST", "/agents/x/messages", {"message": {"role": "user", "content": "a", "id": "1"}}),
    ("POST", "/agents/x/resume", {"status": "completed"}),
    ("POST", "/approvals/x", {"decision": "approve", "decided_by": "somebody"}),
    ("PATCH", "/org", {"org_id": "theirs"}),
    ("POST", "/keys", {"scopes": ["read"], "org_id": "theirs"}),
    ("GET", "/agents?org_id=theirs", None),
    ("GET", "/approvals?org_id=theirs", None),
    ("GET", "/audit?org_id=theirs", None),
    ("GET", "/usage?org_id=theirs", None),
]


async def test_no_route_takes_what_it_does_not_know(floor: Floor) -> None:
    server = await floor.open([])

    for method, path, body in STRANGE:
        reply = await server.ask(method, path, body)
        assert (reply.status, reply.code) == (422, "invalid_input"), (method, path)


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "messages[0].content.parts[0]"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "messages must start"),
    ({"limits": {"max_steps": 0}}, "limits.max_steps"),
    ({"limits": {"max_steps": "5"}}, "limits.max_steps"),
    ({"limits": {"max_cost_usd": "1e400"}}, "limits.max_cost_usd"),
    ({"limits": {"max_cost_usd": True}}, "limits.max_cost_usd"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"agent": "../../etc/passwd"}, "agent"),
    ({"tools": ["no such"]}, "tools[0]"),
    ({"response_schema": {"type": "string"}}, "response_schema"),
    ({"model": "gpt-5"}, "OpenAI"),
    ({"model": "demo/scripted", "models": ["demo/scripted"]}, "model"),
]


async def test_a_request_that_cannot_be_is_told_in_one_line(floor: Floor) -> None:
    server = await floor.open([])

    for fields, said in IMPOSSIBLE:
        reply = await server.ask("POST", "/agents/run", {**RUN, **fields})
        assert reply.status == 422 and said in reply.data["detail"] and "\n" not in reply.data["detail"], fields


async def test_a_secret_in_the_wrong_place_is_not_repeated(floor: Floor) -> None:
    server = await floor.open([])

    reply = await server.ask("POST", "/agents/run", {**RUN, "limits": "sk-ant-api03-verysecretindeed"})

    assert reply.status == 422 and "verysecret" not in json.dumps(reply.data)


async def test_a_problem_has_all_its_parts(floor: Floor) -> None:
    server = await floor.open([])

    reply = await server.ask("GET", "/agents/nothing", headers={"X-Request-ID": "order-66"})

    assert reply.data == {
        "type": "urn:conductor-ai:error:session_not_found",
        "title": "Session not found",
        "status": 404,
        "detail": reply.data["detail"],
        "code": "session_not_found",
        "hint": reply.data["hint"],
        "retryable": False,
        "request_id": "order-66",
    }
    assert reply.headers["X-Request-ID"] == "order-66"


async def test_a_request_id_that_could_do_harm_is_replaced(floor: Floor) -> None:
    server = await floor.open([])

    for given_id in ("", "x" * 129, "a b", "a\u00e9"):
        reply = await server.ask("GET", "/health", headers={"X-Request-ID": given_id})
        assert re.fullmatch(r"[0-9a-f-]{36}", reply.headers["X-Request-ID"])


async def test_paths_and_methods_that_are_not_there_are_problems(floor: Floor) -> None:
    server = await floor.open([])

    unknown, wrong = await server.ask("GET", "/nothing"), await server.ask("PUT", "/org")
    slash = await server.ask("GET", "/agents/")

    assert (unknown.status, unknown.code) == (slash.status, slash.code) == (404, "not_found")
    assert (wrong.status, wrong.code, wrong.headers["Allow"]) == (405, "method_not_allowed", "GET, PATCH")


async def test_an_id_that_cannot_be_is_not_found(floor: Floor) -> None:
    server = await floor.open([])

    for session_id in ("%00", "..%2F..", "%ED%A0%80", "a'%20OR%201=1--", "x" * 500):
        async with server.http.get(URL(f"{server.url}/agents/{session_id}/events", encoded=True)) as reply:
            assert reply.status == 404, session_id


async def test_a_fault_of_ours_says_nothing_but_its_number(
    floor: Floor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = await floor.open([])

    async def broken(*args: Any, **named: Any) -> Any:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(server.service, "session", broken)
    with caplog.at_level(logging.ERROR):
        reply = await server.ask("GET", "/agents/some-id", headers={"X-Request-ID": "order-67"})

    assert (reply.status, reply.code) == (500, "internal_error")
    assert "hunter2" not in json.dumps(reply.data)
    assert "order-67" in caplog.text and "hunter2" in caplog.text


async def test_each_answered_request_leaves_one_line_by_its_id_without_what_was_sent(
    floor: Floor, caplog: pytest.LogCaptureFixture
) -> None:
    server = await floor.open([say("Hello.")])
    key = await server.new_key(org_id="acme")
    with caplog.at_level(logging.INFO, "conductor_ai.api.requests"):
        await server.ask("GET", "/agents/nothing?ticket=hunter2", key=key, headers={"X-Request-ID": "order-1"})
        await server.ask("POST", "/agents/run", {"messages": "hunter2"}, key=key, headers={"X-Request-ID": "order-2"})
        await server.ask("GET", "/hunter2", headers={"X-Request-ID": "order-3", "Authorization": "Bearer hunter2"})

    lines = [record.getMessage() for record in caplog.records if record.name == "conductor_ai.api.requests"]
    kinds = [re.sub(r"in \d+\.\d ms", "in N ms", line) for line in lines]
    key_id = (await server.service.store.keys("acme"))[0].key_id
    assert kinds == [
        f"GET /agents/{{session_id}} 404 in N ms, request order-1, key {key_id}, org acme",
        f"POST /agents/run 422 in N ms, request order-2, key {key_id}, org acme",
        "GET unmatched 401 in N ms, request order-3, key -, org -",
    ]
    assert "hunter2" not in "".join(lines) and key not in "".join(lines)


async def test_registered_secrets_leave_no_error(floor: Floor) -> None:
    secret = "AIzaSyD-very-secret-value-000000000000"
    server = await floor.open([], google_api_key=secret)

    reply = await server.ask("POST", "/agents/run", {**RUN, "model": f"{secret}-nobody"})

    assert reply.code == "unknown_model" and secret not in json.dumps(reply.data)
