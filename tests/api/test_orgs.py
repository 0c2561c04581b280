"""An org's own affairs over HTTP: limits, keys, usage, audit; and what the server offers."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema_rs
import pytest

from conductor_ai.api import create_app
from conductor_ai.providers.scripted import say
from conductor_ai.settings import Settings
from tests.api.conftest import RUN, Floor, serving


async def test_limits_are_set_one_by_one_and_taken_away(floor: Floor) -> None:
    server = await floor.open([])

    await server.ask("PATCH", "/org", {"max_usd_per_day": "2.50", "requests_per_minute": 600})
    changed = await server.ask("PATCH", "/org", {"requests_per_minute": None, "max_running_sessions": 3})
    read = await server.ask("GET", "/org")

    assert changed.data == read.data
    assert read.data["limits"] == {
        "requests_per_minute": None,
        "max_running_sessions": 3,
        "max_usd_per_day": "2.5",
        "max_usd_per_month": None,
        "retention_days": None,
    }


@pytest.mark.parametrize(
    "body", [{"retention_days": 0}, {"max_usd_per_day": "lots"}, {"requests_per_minute": 1.5}], ids=str
)
async def test_a_limit_that_cannot_be_is_refused(floor: Floor, body: dict[str, Any]) -> None:
    server = await floor.open([])

    assert (await server.ask("PATCH", "/org", body)).code == "invalid_input"


TAKEN = ("0.000000001", "1000000000", "1000000000.00", "999999999.999999999999", "0.50", "007.5", 1, 0.25, 1e-9, 10**9)
REFUSED = (
    *("1e-3000000", "1e-999990", "1e3", "1E9", "Infinity", "NaN", "", "0", "0.0", "-1", "+5", " 5", "5 ", "5.", ".5"),
    *("0.0000000001", "0.0000000009", "0.0000000000001", "0.1234567890123", "1000000000.1", "1000000001", "1_000"),
    *("10000000000", "1" * 40, "\u0663", "5\n", 0, -1, 1e-10, 1e-400, 10**9 + 1, 1e300, True, [1]),
)


@pytest.mark.parametrize("name", ["max_usd_per_day", "max_usd_per_month"])
async def test_money_is_taken_as_the_document_says(floor: Floor, name: str) -> None:
    server = await floor.open([])
    document = (await server.ask("GET", "/openapi.json")).data
    schema = document["components"]["schemas"]["OrgLimitsBody"]["properties"][name]

    value: Any
    for value in TAKEN:
        answer = await server.ask("PATCH", "/org", {name: value})
        assert answer.status == 200 and jsonschema_rs.is_valid(schema, value), (value, answer.data)
        assert Decimal(answer.data["limits"][name]) == Decimal(str(value))
    last = (await server.ask("GET", "/org")).data
    for value in REFUSED:
        answer = await server.ask("PATCH", "/org", {name: value})
        assert answer.code == "invalid_input" and not jsonschema_rs.is_valid(schema, value), value
        assert (await server.ask("GET", "/org")).data == last


async def test_a_sessions_money_has_the_bounds_of_an_orgs(floor: Floor) -> None:
    server = await floor.open([say("Hello.")])

    for value in ("1e-3000000", "1000000001", "0.0000000001", "1e3"):
        refused = await server.ask("POST", "/agents/run", {**RUN, "limits": {"max_cost_usd": value}})
        assert (refused.status, refused.code) == (422, "invalid_input"), value
    assert (await server.ask("GET", "/agents")).data["items"] == []


async def test_two_changes_of_different_limits_at_once_both_hold(floor: Floor) -> None:
    server = await floor.open([])

    for round_ in range(1, 11):
        daily, hourly = await asyncio.gather(
            server.ask("PATCH", "/org", {"max_usd_per_day": round_}),
            server.ask("PATCH", "/org", {"requests_per_minute": 6000 + round_}),
        )
        assert (daily.status, hourly.status) == (200, 200)
        limits = (await server.service.store.org("default")).limits
        assert (limits.max_usd_per_day, limits.requests_per_minute) == (Decimal(round_), 6000 + round_)


async def test_a_rotation_tells_when_the_old_key_ends(floor: Floor) -> None:
    server = await floor.open([])
    admin = await server.new_key(org_id="acme")
    made = (await server.ask("POST", "/keys", {"scopes": ["read"]}, key=admin)).data

    rotated = (await server.ask("POST", f"/keys/{made['key_id']}/rotate", key=admin)).data

    listed = {key["key_id"]: key for key in (await server.ask("GET", "/keys", key=admin)).data["items"]}
    grace = datetime.fromisoformat(rotated["old_key_expires_at"]) - datetime.fromisoformat(rotated["created_at"])
    assert listed[made["key_id"]]["expires_at"] == rotated["old_key_expires_at"]
    assert grace <= timedelta(days=1) < grace + timedelta(minutes=1)
    assert (made["in_place_of"], rotated["in_place_of"]) == (None, made["key_id"])


async def test_a_key_is_made_shown_once_rotated_and_revoked(floor: Floor) -> None:
    server = await floor.open([])
    admin = await server.new_key(org_id="acme")

    made = await server.ask("POST", "/keys", {"name": "crm", "scopes": ["read"]}, key=admin)
    key_id, key = made.data["key_id"], made.data["key"]
    reads = await server.ask("GET", "/agents", key=key)
    runs = await server.ask("POST", "/agents/run", RUN, key=key)
    rotated = await server.ask("POST", f"/keys/{key_id}/rotate", key=admin)
    revoked = await server.ask("DELETE", f"/keys/{key_id}", key=admin)
    listed = (await server.ask("GET", "/keys", key=admin)).data["items"]

    assert (made.status, made.data["org_id"], made.data["scopes"]) == (201, "acme", ["read"])
    assert (reads.status, runs.status) == (200, 403)
    assert rotated.status == 201 and rotated.data["key"] != key and rotated.data["scopes"] == ["read"]
    assert revoked.data["revoked_at"] and (await server.ask("GET", "/agents", key=key)).status == 401
    assert (await server.ask("GET", "/agents", key=rotated.data["key"])).status == 200
    assert len(listed) == 3 and all("key" not in item and key not in str(item) for item in listed)


@pytest.mark.parametrize(
    "body",
    [
        {"scopes": []},
        {"scopes": ["root"]},
        {"scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"},
        {"scopes": "read"},
    ],
    ids=str,
)
async def test_a_key_that_cannot_be_is_refused(floor: Floor, body: dict[str, Any]) -> None:
    server = await floor.open([])

    assert (await server.ask("POST", "/keys", body)).code == "invalid_input"


async def test_usage_is_told_by_day_and_model(floor: Floor) -> None:
    server = await floor.open([say("Hello.")])
    session = await server.stopped(await server.run())
    day = session["created_at"][:10]

    [row] = (await server.ask("GET", "/usage")).data["items"]
    before = (await server.ask("GET", f"/usage?day_from=2001-01-01&day_before={'2001-02-01'}")).data["items"]

    assert (row["day"], row["model"], row["calls"], row["cost_usd"]) == (day, "demo/scripted", 1, "0")
    assert before == []


async def test_a_period_that_cannot_be_is_refused(floor: Floor) -> None:
    server = await floor.open([])
    empty = "day_from=2001-01-02&day_before=2001-01-02"

    for query in ("day_from=x", "day_from=2001-01-01", empty, "day_before=0001-01-01", "day_from=9999-12-31"):
        assert (await server.ask("GET", f"/usage?{query}")).code == "invalid_input", query


async def test_the_audit_comes_in_pages_and_says_who(floor: Floor) -> None:
    server = await floor.open([say("Hello.")])
    key = await server.new_key(org_id="acme")
    session_id = await server.run(key)
    await server.stopped(session_id, key)

    every = (await server.ask("GET", "/audit?limit=200", key=key)).data["items"]
    first = (await server.ask("GET", "/audit?limit=2", key=key)).data
    rest = (await server.ask("GET", f"/audit?limit=200&cursor={first['next_cursor']}", key=key)).data
    of_session = (await server.ask("GET", f"/audit?session_id={session_id}", key=key)).data["items"]

    assert [*first["items"], *rest["items"]] == every and rest["next_cursor"] is None
    assert {row["session_id"] for row in of_session} == {session_id}
    assert {row["session_id"] for row in every} == {session_id, None}
    assert key not in str(every)


async def test_where_a_file_lies_on_the_server_is_not_told(tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    folder.mkdir()
    (folder / "good.toml").write_text('name = "good"\ndescription = "It works."\ninstructions = "Be good."\n')
    (folder / "broken.toml").write_text('name = "other"\ndescription = "It does not."\ninstructions = "Hm."\n')
    app = create_app(Settings(conductor_home=tmp_path / "home", conductor_agents_dir=folder))
    async with (
        serving(app) as port,
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}/definitions") as reply,
    ):
        text = await reply.text()

    found = {agent["name"]: agent for agent in json.loads(text)["items"]}
    assert found["good"]["error"] is None and found["good"]["instructions"] == "Be good."
    assert found["broken"]["error"].startswith("name must be 'broken'") and str(tmp_path) not in text


async def test_tools_models_and_agents_are_listed(floor: Floor) -> None:
    server = await floor.open([])

    tools = (await server.ask("GET", "/tools")).data["items"]
    models = (await server.ask("GET", "/models")).data["items"]
    agents = await server.ask("GET", "/definitions")

    assert {tool["name"]: tool["requires_approval"] for tool in tools} == {"send_email": True, "wait": False}
    sonnet = next(model for model in models if model["id"] == "claude-sonnet-4-5-20250929")
    assert (sonnet["provider"], sonnet["price"]["input"]) == ("anthropic", "3")
    assert (agents.status, agents.data) == (200, {"items": [], "next_cursor": None})
