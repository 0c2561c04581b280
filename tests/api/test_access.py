"""Who is let in: keys, scopes, orgs, the keyless rule, Host and Origin. Nothing is read of a request before that."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from conductor_ai.api import create_app
from conductor_ai.api.hosts import came_directly
from conductor_ai.api.incoming import Head
from conductor_ai.providers.scripted import say
from conductor_ai.schemas.orgs import Scope
from conductor_ai.settings import Settings
from tests.api.conftest import ASKS, RUN, Floor, Server, serving

OPEN = {"/health", "/health/live", "/health/ready"}
ID = "0199c3a1-6f2e-7d35-8a1c-0b5e6f7a8b9c"


async def routes(server: Server, key: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Every route of the document, with an id in its path."""
    document = (await server.ask("GET", "/openapi.json", key=key)).data
    found = [
        (method.upper(), path.replace("{session_id}", ID).replace("{approval_id}", ID).replace("{key_id}", ID), told)
        for path, operations in document["paths"].items()
        for method, told in operations.items()
    ]
    assert len(found) > 20
    return found


async def test_without_a_key_production_answers_nobody_and_reads_nothing(floor: Floor) -> None:
    server = await floor.open([], app_env="production")
    key = await server.new_key()

    answers = set()
    for method, path, _ in await routes(server, key):
        if path in OPEN:
            continue
        reply = await server.ask(method, path, data=b'{"messages": [[[[', headers={"Content-Type": "text/plain"})
        answers.add((reply.status, reply.data["detail"], reply.data["hint"], reply.headers["WWW-Authenticate"]))

    assert [status for status, *_ in answers] == [401]


@pytest.mark.parametrize(
    "presented",
    [
        "Bearer",
        "Bearer cond_dev_aaaaaaaa_" + "A" * 43 + "00000000",
        "Bearer nonsense",
        "Basic YTpi",
        "Bearer \u00e9",
        "Bearer " + "x" * 4000,
    ],
)
async def test_every_kind_of_wrong_key_gets_the_same_answer(floor: Floor, presented: str) -> None:
    server = await floor.open([])

    none = await server.ask("GET", "/agents", headers={"X-Forwarded-For": "10.0.0.1"})
    wrong = await server.ask("GET", "/agents", headers={"Authorization": presented})

    assert (wrong.status, wrong.code) == (401, "unauthorized")
    assert {**none.data, "request_id": ""} == {**wrong.data, "request_id": ""}


async def test_a_revoked_key_gets_that_answer_too(floor: Floor) -> None:
    server = await floor.open([])
    record, key = await server.service.keys.create("default", scopes=[Scope.READ], by="test")
    assert (await server.ask("GET", "/agents", key=key)).status == 200

    await server.service.keys.revoke(record.key_id, "default", by="test")

    assert (await server.ask("GET", "/agents", key=key)).code == "unauthorized"


async def test_two_authorization_headers_are_none(floor: Floor) -> None:
    server = await floor.open([])
    key = await server.new_key()

    async with server.http.get(
        f"{server.url}/agents", headers=[("Authorization", f"Bearer {key}"), ("Authorization", "Bearer other")]
    ) as reply:
        assert reply.status == 400


async def test_a_scope_opens_its_own_routes_and_no_other(floor: Floor) -> None:
    server = await floor.open([])
    keys = {scope: await server.new_key(scope) for scope in Scope}

    for method, path, told in await routes(server, keys[Scope.READ]):
        wanted = told.get("x-required-scope")
        if wanted is None:
            assert path in OPEN, path
            continue
        for scope, key in keys.items():
            if scope != wanted:
                reply = await server.ask(method, path, data=b"{", key=key)
                assert (reply.status, reply.code) == (403, "forbidden"), (method, path, scope)


async def test_a_key_speaks_for_its_own_org_only(floor: Floor) -> None:
    server = await floor.open([say("Hello.")])
    key = await server.new_key(org_id="acme")

    other = await server.ask("GET", "/agents", key=key, headers={"X-Org-ID": "default"})
    own = await server.ask("GET", "/org", key=key, headers={"X-Org-ID": "acme"})

    assert (other.status, other.code) == (403, "forbidden")
    assert own.data["org_id"] == "acme"


async def test_another_orgs_ids_are_as_unknown_as_ids_of_nothing(floor: Floor) -> None:
    server = await floor.open(ASKS)
    ours, theirs = await server.new_key(org_id="ours"), await server.new_key(org_id="theirs")
    session_id = await server.run(theirs)
    async with server.stream(session_id, key=theirs) as frames:
        await frames.until("approval.requested")
    [approval] = (await server.ask("GET", "/approvals", key=theirs)).data["items"]
    [_, record] = (await server.ask("GET", "/keys", key=theirs)).data["items"] * 2
    asked = [
        ("GET", f"/agents/{session_id}", None),
        ("DELETE", f"/agents/{session_id}", None),
        ("POST", f"/agents/{session_id}/cancel", None),
        ("POST", f"/agents/{session_id}/messages", {"content": "mine now"}),
        ("POST", f"/agents/{session_id}/resume", None),
        ("GET", f"/agents/{session_id}/events", None),
        ("POST", f"/agents/{session_id}/events/ticket", None),
        ("GET", f"/approvals?session_id={session_id}", None),
        ("GET", f"/approvals/{approval['approval_id']}", None),
        ("POST", f"/approvals/{approval['approval_id']}", {"decision": "approve"}),
        ("POST", f"/keys/{record['key_id']}/rotate", None),
        ("DELETE", f"/keys/{record['key_id']}", None),
    ]

    for method, path, body in asked:
        real = path.rpartition("=")[2] if "?" in path else path.split("/")[2]
        nothing = "aaaaaaaa" if path.startswith("/keys") else ID
        foreign = await server.ask(method, path, body, key=ours)
        unknown = await server.ask(method, path.replace(real, nothing), body, key=ours)

        assert foreign.status == 404, (method, path)
        told = str({**foreign.data, "request_id": ""}).replace(real, nothing)
        assert told == str({**unknown.data, "request_id": ""}), (method, path)
    assert (await server.ask("GET", f"/agents/{session_id}", key=theirs)).data["status"] == "waiting_approval"
    assert (await server.ask("GET", "/agents", key=ours)).data["items"] == []
    assert {row["session_id"] for row in (await server.ask("GET", "/audit", key=ours)).data["items"]} <= {None}


@pytest.mark.parametrize(
    "header",
    [
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Host", "localhost"),
        ("Forwarded", "for=127.0.0.1"),
        ("Via", "1.1 proxy"),
        ("X-Real-IP", "127.0.0.1"),
        ("Host", "10.1.2.3"),
        ("Authorization", "Bearer nonsense"),
    ],
    ids=lambda header: header[0],
)
async def test_keyless_is_only_who_came_directly_and_shows_nothing(floor: Floor, header: tuple[str, str]) -> None:
    server = await floor.open([])

    assert (await server.ask("GET", "/agents")).status == 200
    assert (await server.ask("GET", "/agents", headers=dict([header]))).status == 401


@pytest.mark.parametrize("of", ["default", "acme"])
async def test_from_the_first_key_on_nobody_is_let_in_without_one(floor: Floor, of: str) -> None:
    server = await floor.open([])
    port = server.url.rpartition(":")[2]
    as_a_silent_proxy_sends_it = {"Host": f"127.0.0.1:{port}", "Connection": "close"}
    before = await server.ask("GET", "/agents", headers=as_a_silent_proxy_sends_it)

    record, key = await server.service.keys.create(of, scopes=list(Scope), by="test")

    for org_id in ("default", "acme", "new"):
        headers = {**as_a_silent_proxy_sends_it, "X-Org-ID": org_id}
        for method, path in (("GET", "/keys"), ("POST", "/keys"), ("GET", "/agents"), ("PATCH", "/org")):
            refused = await server.ask(
                method, path, {"scopes": ["admin"]} if method == "POST" else None, headers=headers
            )
            assert (refused.status, refused.code) == (401, "unauthorized"), (method, path, org_id)
            assert "so requests from this machine need one too" in refused.data["hint"]
    assert before.status == 200
    assert [one.key_id for one in await server.service.store.keys(of)] == [record.key_id]
    assert (await server.ask("GET", "/health")).data == {"status": "ok"}
    assert (await server.ask("GET", "/agents", key=key)).status == 200


async def test_a_server_whose_last_key_is_over_is_open_to_nobody(floor: Floor) -> None:
    server = await floor.open([])
    record, _ = await server.service.keys.create("default", scopes=list(Scope), by="test")

    await server.service.keys.revoke(record.key_id, "default", by="test")

    assert (await server.ask("GET", "/agents")).status == 401


async def test_keyless_is_nobody_whose_address_is_unknown(floor: Floor, tmp_path: Path) -> None:
    server = await floor.open([])
    app = create_app(Settings(conductor_home=tmp_path), service=server.service)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "api.sock"))
        listening.listen()
        async with (
            serving(app, listening),
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(tmp_path / "api.sock"))) as http,
            http.get("http://localhost/agents") as reply,
        ):
            assert reply.status == 401


@pytest.mark.parametrize(
    ("peer", "may"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("192.0.2.7", False), ("10.0.0.1", False)],
)
def test_keyless_is_nobody_from_another_machine(peer: str, may: bool) -> None:
    assert came_directly(Head("id", host="localhost:8000"), peer) is may


async def test_keyless_names_its_org_or_is_default(floor: Floor) -> None:
    server = await floor.open([say("Hello.")])

    assert (await server.ask("GET", "/org")).data["org_id"] == "default"
    assert (await server.ask("GET", "/org", headers={"X-Org-ID": "acme"})).data["org_id"] == "acme"
    assert (await server.ask("GET", "/org", headers={"X-Org-ID": "a b"})).code == "invalid_input"


async def test_a_name_that_is_not_ours_is_misdirected_on_every_route(floor: Floor) -> None:
    server = await floor.open([])
    key = await server.new_key()

    for method, path, _ in await routes(server, key):
        reply = await server.ask(method, path, key=key, headers={"Host": "evil.example"})
        assert (reply.status, reply.code) == (421, "misdirected_request"), (method, path)
    for host in ("localhost.evil.example", "127.0.0.1.evil.example", "a@localhost", "", "localhost:x"):
        assert (await server.ask("GET", "/health", headers={"Host": host})).code == "misdirected_request", host


@pytest.mark.parametrize(
    "host", ["api.example.org", "API.example.org:8443", "localhost", "192.0.2.7", "[2001:db8::1]:80"]
)
async def test_our_names_and_plain_addresses_are_served(floor: Floor, host: str) -> None:
    server = await floor.open([], conductor_allowed_hosts="api.example.org, other.example.org")
    key = await server.new_key()

    assert (await server.ask("GET", "/agents", key=key, headers={"Host": host})).status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://app.example.org.evil.example"])
async def test_a_page_of_another_origin_may_not_call(floor: Floor, origin: str) -> None:
    server = await floor.open([say("Hello.")], conductor_cors_origins="https://app.example.org")

    started = await server.ask("POST", "/agents/run", RUN, headers={"Origin": origin})
    preflight = await server.ask("OPTIONS", "/agents", headers=_preflight(origin))

    assert (started.status, started.code) == (403, "origin_refused")
    assert preflight.status == 403 and "Access-Control-Allow-Origin" not in preflight.headers
    assert (await server.ask("GET", "/agents")).data["items"] == []


async def test_pages_of_a_listed_origin_may_call(floor: Floor) -> None:
    origin = "https://app.example.org"
    server = await floor.open([], conductor_cors_origins=f"{origin}, https://b.example.org")
    key = await server.new_key()

    preflight = await server.ask("OPTIONS", "/agents/run", headers=_preflight(origin))
    read = await server.ask("GET", "/agents", key=key, headers={"Origin": origin})
    refused = await server.ask("GET", "/agents/x", key=key, headers={"Origin": origin})

    assert (preflight.status, preflight.headers["Access-Control-Allow-Origin"]) == (204, origin)
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    for reply in (read, refused):
        assert reply.headers["Access-Control-Allow-Origin"] == origin and reply.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in read.headers


async def test_our_own_pages_may_call(floor: Floor) -> None:
    server = await floor.open([])

    reply = await server.ask("GET", "/agents", headers={"Origin": server.url})

    assert reply.status == 200 and "Access-Control-Allow-Origin" not in reply.headers


async def test_an_orgs_requests_are_counted(floor: Floor) -> None:
    server = await floor.open([])
    key = await server.new_key(org_id="acme")
    await server.service.orgs.set_limits("acme", {"requests_per_minute": 3}, by="test")

    replies = await asyncio.gather(*(server.ask("GET", "/agents", key=key) for _ in range(5)))
    refused = [reply for reply in replies if reply.status != 200]

    assert [reply.status for reply in refused] == [429, 429]
    assert refused[0].code == "too_many_requests" and refused[0].data["retryable"] is True
    assert 1 <= int(refused[0].headers["Retry-After"]) <= 60
    other = await server.new_key(org_id="other")
    assert (await server.ask("GET", "/agents", key=other)).status == 200, "another org is not concerned"


def _preflight(origin: str) -> dict[str, str]:
    return {"Origin": origin, "Access-Control-Request-Method": "POST"}
