"""No key of one org reaches anything of another: every route is attacked, and answers as if there were nothing."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from conductor_ai.schemas.ids import new_id
from tests.service.attacks import ATTACKS, FILE, OURS, Attack, Prey, Request, everywhere
from tests.service.conftest import House
from tests.service.contents import Rows, of_org
from tests.service.door import Answer, Door
from tests.storage.session_log import stored_file

THEIRS = "org-a"
MARK = "xyzzy-of-org-a"
CHANGES = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+(\+00:00|Z)"
    r'|cond_dev_[A-Za-z0-9_-]+|"key_id":"[a-z0-9]{8}"|_ms":[0-9.]+'
)
"""Of an answer: ids, times and keys that are new each time."""


async def prey_of(house: House, door: Door, ours: str, ticket: str) -> Prey:
    """An org with a session in each state, and its mark in whatever it wrote."""
    first = {
        "messages": [{"role": "user", "content": f"call look_up {MARK}; say {MARK}"}],
        "metadata": {"mark": MARK},
        "instructions": MARK,
    }
    started = await door.ask("POST", "/agents/run", first, headers={"Idempotency-Key": f"key-{MARK}"})
    completed = await door.stopped(started.json["session_id"])
    waiting, approval_id = await door.waiting(f"call send {MARK}")
    paused = await door.run(f"call look_up {MARK}; say {MARK}", limits={"max_steps": 1})
    assert (completed["status"], paused["status"]) == ("completed", "paused")
    for session_id in (completed["session_id"], waiting, paused["session_id"]):
        await house.service.store.put_file(session_id, THEIRS, *stored_file(FILE, MARK.encode()))
    [key] = (await door.get("/keys"))["items"]
    return Prey(
        org_id=THEIRS,
        completed=completed["session_id"],
        waiting=waiting,
        paused=paused["session_id"],
        approval_id=approval_id,
        key_id=key["key_id"],
        idempotency_key=f"key-{MARK}",
        created_at=completed["created_at"],
        ours=ours,
        ticket=ticket,
    )


def nobody(prey: Prey) -> Prey:
    """Ids of the same kind that are nobody's."""
    return Prey(
        org_id="org-c",
        completed=new_id(),
        waiting=new_id(),
        paused=new_id(),
        approval_id=new_id(),
        key_id=secrets.token_hex(4),
        idempotency_key=secrets.token_hex(8),
        created_at=prey.created_at,
        ours=prey.ours,
        ticket=prey.ticket,
    )


async def attacked(door: Door, method: str, request: Request) -> Answer:
    answer = await (door if request.has_key else door.with_key(None)).ask(
        method, request.path, request.body, headers=request.headers, query=request.query
    )
    if answer.status == 202:
        await door.stopped(answer.json["session_id"])  # what it changes, it changes now
    return answer


def told(answer: Answer, prey: Prey) -> tuple[int, dict[str, str], str]:
    """What the attacker learns from an answer beside what they said themselves."""
    status, headers, body = answer.seen(*prey.ids())
    heads = {name: CHANGES.sub("NEW", value) for name, value in headers.items()}
    if status == 202:  # a session of the attacker's own, which has come more or less far meanwhile
        return status, heads, MARK if MARK in body.decode() else ""
    if heads["content-type"].startswith("text/plain"):  # figures, which count this request too
        return status, heads, ""
    return status, heads, CHANGES.sub("NEW", body.decode())


def names(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for path, operations in document["paths"].items():
        yield from ((method.upper(), path) for method in operations)


async def test_every_route_has_its_attacks(house: House) -> None:
    document = (await house.door.ask("GET", "/openapi.json")).json

    assert set(names(document)) == ATTACKS.keys()


async def test_what_belongs_to_another_org_is_as_if_it_were_not_there(house: House) -> None:
    ours, theirs = await house.as_org(OURS), await house.as_org(THEIRS)
    own = await ours.run("say Ours.")
    ticket = (await ours.ask("POST", f"/agents/{own['session_id']}/events/ticket")).json["ticket"]
    prey = await prey_of(house, theirs, own["session_id"], ticket)
    before = of_org(house.contents, THEIRS)
    assert {table for table, rows in before.items() if rows} >= {
        "sessions",
        "session_events",
        "session_files",
        "approvals",
        "api_keys",
    }

    broken, other = [], nobody(prey)
    for (method, path), attacks in ATTACKS.items():
        for number, attack in enumerate(attacks):
            for kind, request in zip(("as it is", "X-Org-ID", "?org_id"), everywhere(attack), strict=True):
                case = f"{method} {path} {number} {kind}"
                broken += [f"{case}: {what}" async for what in wrong(ours, method, request, prey, other)]
        broken += [f"{method} {path} changed {table}" for table in changed(before, of_org(house.contents, THEIRS))]
    assert broken == []


async def wrong(door: Door, method: str, request: Attack, prey: Prey, other: Prey) -> AsyncIterator[str]:
    """What an attack brings to light, in words."""
    of_nobody = told(await attacked(door, method, request(other)), other)
    answer = await attacked(door, method, request(prey))
    seen = told(answer, prey)
    if seen != of_nobody:
        yield f"{seen}\n  but for what is not there {of_nobody}"
    if MARK in str(seen) or prey.org_id in str(seen).replace("origin", ""):
        yield f"it shows what is theirs: {seen}"
    if "X-Org-ID" in request(prey).headers and request(prey).has_key and answer.status not in (401, 403):
        yield f"X-Org-ID is answered with {answer.status}"
    if request(prey).path != answer_path(request(prey), prey) and answer.status < 400:
        yield f"it is answered with {answer.status}"


def answer_path(request: Request, prey: Prey) -> str:
    """The path without ids of theirs."""
    path = request.path
    for one in prey.ids():
        path = path.replace(one, "ID")
    return path


def changed(before: Rows, after: Rows) -> list[str]:
    return [table for table in before if before[table] != after[table]]


@pytest.mark.parametrize("header", ["X-Org-ID", "x-org-id"])
async def test_a_key_speaks_for_its_own_org_only(house: House, header: str) -> None:
    ours = await house.as_org(OURS)

    assert (await ours.ask("GET", "/agents", headers={header: OURS})).status == 200
    refused = await ours.ask("GET", "/agents", headers={header: THEIRS})
    assert (refused.status, refused.code) == (403, "forbidden")
