"""Who is not let in: no key where one is needed, every kind of wrong key, a key without the scope. And no key leaks."""

from __future__ import annotations

import asyncio
import base64
import inspect
import logging
import secrets
import socket
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from conductor_ai.api import create_app
from conductor_ai.schemas.ids import new_id
from conductor_ai.schemas.orgs import ALL_SCOPES, Scope
from tests.api.conftest import serving
from tests.conftest import fail_after
from tests.service.conftest import House
from tests.service.door import Answer, Door

ORG = "acme"
OPEN = {"/health", "/health/live", "/health/ready"}
ELSEWHERE = (
    {"Forwarded": "for=203.0.113.5"},
    {"X-Forwarded-For": "203.0.113.5"},
    {"Via": "1.1 x"},
    {"Host": "10.1.2.3"},
)
OF_THE_SERVER = {"runnable", "cancel_requests", "expired", "ping"}
"""What the service asks its store by itself, whoever calls."""


async def routes(house: House) -> list[tuple[str, str, Scope | None]]:
    """Every route with ids in its path, and the scope that it declares."""
    document = create_app(house.settings).openapi()
    return [
        (
            method.upper(),
            path.format(session_id=new_id(), approval_id=new_id(), key_id="aaaaaaaa", name="a.txt"),
            None if path in OPEN else Scope(told["x-required-scope"]),
        )
        for path, operations in document["paths"].items()
        for method, told in operations.items()
    ]


def wrong_keys(valid: str, expired: str, revoked: str) -> dict[str, str]:
    """The value of `Authorization`, by what is wrong with it."""
    body, key_id = valid[:-8], valid.split("_")[2]
    last = "0" if body[-1] != "0" else "1"
    return {
        "unknown id": f"Bearer {summed(body.replace(key_id, 'zzzzzzzz'))}",
        "wrong secret": f"Bearer {summed(body[:-1] + last)}",
        "wrong checksum": f"Bearer {body}{'0' * 8}",
        "expired": f"Bearer {expired}",
        "revoked": f"Bearer {revoked}",
        "malformed": "Bearer cond_dev_",
        "of another kind": "Bearer sk-ant-api03-0123456789",
        "two keys": f"Bearer {valid} {valid}",
        "other scheme": f"Basic {base64.b64encode(valid.encode()).decode()}",
        "no scheme": valid,
        "scheme alone": "Bearer",
        "empty": "",
        "huge": "Bearer " + "x" * 6000,
        "non-ASCII": "Bearer kéy",
    }


def summed(body: str) -> str:
    """With the checksum that a whole key has."""
    return f"{body}{zlib.crc32(body.encode()):08x}"


async def test_every_kind_of_wrong_key_gets_the_same_answer_everywhere(house: House) -> None:
    valid, revoked = await house.key(ORG), await house.key(ORG)
    await house.service.keys.revoke(revoked.split("_")[2], ORG, by="test")
    lapsed, expired = await house.service.keys.create(ORG, scopes=ALL_SCOPES, by="test")
    await house.service.keys.rotate(lapsed.key_id, ORG, by="test", grace_s=0)
    assert (await house.door.with_key(valid).ask("GET", "/tools")).status == 200

    seen: dict[str, list[str]] = {}
    for method, path, _ in await routes(house):
        for kind, authorization in wrong_keys(valid, expired, revoked).items():
            headers = {"Authorization": authorization}
            answer = await house.door.ask(method, path, data=b"{", headers=headers)
            seen.setdefault(str(answer.seen()), []).append(f"{method} {path}: {kind}")
    assert len(seen) == 1, {told: cases[0] for told, cases in seen.items()}
    [told] = seen
    assert told.startswith("(401,")


@pytest.fixture
async def unix_door(house: House) -> AsyncIterator[Door]:
    """The same service by way of a socket that has no address: nobody can say that the peer is this machine."""
    path = str(house.effects_file.with_name("api.sock"))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        connector = aiohttp.UnixConnector(path)
        async with (
            serving(create_app(house.settings, service=house.service), listening),
            aiohttp.ClientSession(connector=connector) as http,
        ):
            yield Door(http, "http://localhost")


@pytest.fixture
def asked_of_the_store(house: House, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the real store for callers, by the names of its methods."""
    asked: list[str] = []

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **options: Any) -> Any:
            if name not in OF_THE_SERVER:
                asked.append(name)
            return await method(*args, **options)

        return call

    kind = type(house.service.store)
    for name, method in inspect.getmembers(kind, inspect.iscoroutinefunction):
        monkeypatch.setattr(kind, name, counted(name, method))
    return asked


async def test_without_a_key_nobody_from_elsewhere_is_let_in_and_nothing_is_read(
    house: House, unix_door: Door, asked_of_the_store: list[str]
) -> None:
    closed = [(method, path) for method, path, scope in await routes(house) if scope is not None]
    closed += [("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/nowhere"), ("PUT", "/agents")]
    asked_of_the_store.clear()

    seen = set()
    for method, path in closed:
        answers = [await house.door.ask(method, path, data=b"[[[", headers=headers) for headers in ELSEWHERE]
        answers.append(await unix_door.ask(method, path, data=b"[[["))
        seen |= {str(answer.seen()) for answer in answers}
    assert len(seen) == 1, seen
    assert seen.pop().startswith("(401,")
    assert set(asked_of_the_store) <= {"key"}, "the id of a key that is none is looked up, as of any wrong key"


async def test_a_body_is_not_waited_for_before_its_sender_is_known(house: House) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(house.url.rpartition(":")[2]))
    head = "POST /agents/run HTTP/1.1\r\nHost: localhost\r\nVia: 1.1 x\r\nContent-Length: 1000\r\n\r\n"
    writer.write(head.encode())
    async with fail_after(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_a_key_without_the_scope_is_refused_and_one_with_it_alone_is_not(house: House) -> None:
    only = {scope: await house.as_org(ORG, scope) for scope in Scope}
    others = {scope: await house.as_org(ORG, *(ALL_SCOPES - {scope})) for scope in Scope}

    for method, path, scope in await routes(house):
        if scope is None:
            continue
        refused: Answer = await others[scope].ask(method, path, data=b"{")
        assert (refused.status, refused.code) == (403, "forbidden"), f"{method} {path}"
        assert str(scope) in refused.json["detail"]
        assert (await only[scope].ask(method, path)).status not in (401, 403), f"{method} {path}"


async def test_no_key_is_in_a_log_an_answer_an_audit_row_or_the_database(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    admin = await house.as_org(ORG)
    made = (await admin.ask("POST", "/keys", {"name": "crm", "scopes": ["read", "run"]})).json
    rotated = (await admin.ask("POST", f"/keys/{made['key_id']}/rotate")).json
    keys = [str(admin.key), made["key"], rotated["key"]]
    never_there = f"cond_dev_zzzzzzzz_{secrets.token_urlsafe(32)}"
    keys.append(f"{never_there}{zlib.crc32(never_there.encode()):08x}")

    answers = []
    for key in keys:
        door = house.door.with_key(key)
        for method, path, _ in await routes(house):
            answers.append(await door.ask(method, path, data=b"{"))
        answers.append(await door.ask("GET", f"/agents/{new_id()}", headers={"X-Org-ID": key}))
        answers.append(await house.door.ask("GET", f"/agents/{new_id()}/events", query={"ticket": key}))
    await admin.ask("DELETE", f"/keys/{made['key_id']}")
    audit = (await admin.ask("GET", "/audit")).body + (await admin.ask("GET", "/keys")).body
    pepper = (house.settings.conductor_home / "key_pepper").read_text().strip()

    # `conductor serve` keeps no access log: that would hold whatever stands in an address.
    records = [record for record in caplog.records if record.name != "uvicorn.access"]
    logged = "\n".join(f"{record.getMessage()} {vars(record)}" for record in records)
    assert records
    places = {
        "the log": logged.encode(),
        "an answer": b"".join(answer.body for answer in answers),
        "the audit": audit,
        "the database": house.contents.whole(),
    }
    assert all(key.split("_")[2].encode() in places["the database"] for key in keys[:3]), "ids are no secret"
    for place, held in places.items():
        for secret in secrets_in(keys, pepper):
            assert secret not in held, f"{place} holds {secret!r}"


def secrets_in(keys: list[str], pepper: str) -> Iterator[bytes]:
    """What nobody may find: the random part of each key as text and as bytes, in hex too, and the pepper."""
    yield from (pepper.encode(), bytes.fromhex(pepper))
    for key in keys:
        text = key.split("_", 3)[3][:-8]
        random = base64.urlsafe_b64decode(text + "=")
        yield from (text.encode(), random, random.hex().encode())
