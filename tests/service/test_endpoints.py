"""Each endpoint on its straight way, and the names that callers from outside rely on, to the letter."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from conductor_ai.sdk import ConductorClient
from tests.cli.console import Console
from tests.conftest import fail_after
from tests.service.conftest import MODEL, House
from tests.service.door import Door

ORG = "acme"
SESSION = {
    "session_id",
    "org_id",
    "status",
    "agent",
    "model",
    "steps",
    "final_answer",
    "usage",
    "cost_usd",
    "error",
    "created_at",
    "updated_at",
}
STEP = {"step_no", "type", "content", "tool_calls"}


@pytest.fixture
async def door(house: House) -> Door:
    return await house.as_org(ORG)


async def test_a_run_is_accepted_and_then_shown_with_its_steps(door: Door) -> None:
    body = {"messages": [{"role": "user", "content": "call look_up word; say Here."}], "tools": ["look_up"]}
    accepted = await door.ask("POST", "/agents/run", body)

    assert accepted.status == 202
    assert accepted.json.keys() >= SESSION
    session_id = accepted.json["session_id"]
    assert accepted.headers["Location"] == f"/agents/{session_id}"
    shown = await door.stopped(session_id)
    assert shown.keys() >= SESSION
    assert (shown["session_id"], shown["org_id"], shown["status"]) == (session_id, ORG, "completed")
    assert (shown["agent"], shown["model"], shown["error"]) == (None, MODEL, None)
    assert shown["final_answer"] == "Here."
    assert all(step.keys() >= STEP for step in shown["steps"])
    assert [(step["step_no"], step["type"]) for step in shown["steps"]] == [(1, "tool_call"), (2, "final_answer")]
    [call] = shown["steps"][0]["tool_calls"]
    assert (call["name"], call["arguments"], call["result"]) == ("look_up", {"word": "word"}, {"meaning": "WORD"})
    assert shown["steps"][-1]["final_answer"] == "Here."
    assert (shown["usage"]["input_tokens"], shown["usage"]["output_tokens"]) == (2000, 200)
    assert shown["cost_usd"] == "0.004"


async def test_a_run_takes_a_named_agent_a_model_instructions_limits_and_metadata(house: House, door: Door) -> None:
    named = await door.run("say Hello.", agent="clerk", metadata={"ticket": "4711"})
    assert (named["agent"], named["metadata"]) == ("clerk", {"ticket": "4711"})
    assert house.model.requests[-1]["messages"][0]["content"].startswith("Be brief.")
    offered = {tool["function"]["name"] for tool in house.model.requests[-1]["tools"]}
    assert "look_up" in offered
    assert not offered & {"charge", "send"}

    open_one = await door.run(
        "call look_up a; call look_up b",
        model=MODEL,
        tools=["look_up"],
        instructions="Be loud.",
        limits={"max_steps": 1},
    )
    assert (open_one["status"], open_one["pause_reason"], open_one["agent"]) == ("paused", "max_steps", None)
    assert house.model.requests[-1]["messages"][0]["content"].startswith("Be loud.")


async def test_the_stream_names_its_events_and_goes_on_where_a_reader_was(door: Door) -> None:
    session_id = await door.start("call look_up word; stream 5", tools=["look_up"])
    async with fail_after(30), aclosing(door.stream(session_id)) as stream:
        frames = [frame async for frame in stream]

    logged = [frame for frame in frames if frame.id is not None]
    assert [frame.event for frame in logged] == [
        "session.created",
        "message.added",
        "model.completed",
        "tool.started",
        "tool.completed",
        "model.completed",
        "session.completed",
    ]
    assert [frame.id for frame in logged] == list(range(1, 8))
    assert all(frame.data["seq"] == frame.id and frame.data["type"] == frame.event for frame in logged)
    assert {frame.event for frame in frames if frame.id is None} <= {"delta", "live"}
    assert await door.events(session_id, after=4) == logged[4:]
    assert await door.events(session_id, after=7) == []


async def test_deltas_arrive_while_the_model_speaks(house: House, door: Door) -> None:
    session_id = await door.start("hold here call look_up a; stream 3", tools=["look_up"])
    await house.model.holds["here"].has()
    async with fail_after(30), aclosing(door.stream(session_id)) as stream:
        assert (await anext(stream)).event == "session.created"
        house.model.holds["here"].release()
        deltas = [frame async for frame in stream if frame.event == "delta"]

    assert {frame.id for frame in deltas} == {None}
    pieces = [frame.data["payload"] for frame in deltas if frame.data["payload"]["kind"] == "text"]
    assert "".join(piece["text"] for piece in pieces) == "0 1 2 "


async def test_a_cancelled_run_says_so_and_cannot_be_cancelled_again(house: House, door: Door) -> None:
    session_id = await door.start("hold here say Never.")
    await house.model.holds["here"].has()

    cancelled = await door.ask("POST", f"/agents/{session_id}/cancel")
    assert cancelled.status in (200, 202)
    assert cancelled.json["status"] == ("cancelled" if cancelled.status == 200 else "cancelling")
    assert (await door.events(session_id))[-1].event == "session.cancelled"
    again = await door.ask("POST", f"/agents/{session_id}/cancel")
    assert (again.status, again.json["session_status"]) == (409, "cancelled")


async def test_a_session_goes_on_with_a_message_and_a_paused_one_with_more_steps(door: Door) -> None:
    first = await door.run("say One.")
    message = {"message": {"role": "user", "content": "say Two."}}
    sent = await door.ask("POST", f"/agents/{first['session_id']}/messages", message)
    assert (sent.status, sent.headers["Location"]) == (202, f"/agents/{first['session_id']}")
    assert (await door.stopped(first["session_id"]))["final_answer"] == "Two."

    paused = await door.run("call look_up a; say Three.", limits={"max_steps": 1})
    resumed = await door.ask("POST", f"/agents/{paused['session_id']}/resume", {"limits": {"max_steps": 5}})
    assert resumed.status == 202
    assert (await door.stopped(paused["session_id"]))["final_answer"] == "Three."


async def test_a_message_for_a_session_that_runs_is_refused_or_waits(house: House, door: Door) -> None:
    session_id = await door.start("hold here say One.")
    await house.model.holds["here"].has()
    path = f"/agents/{session_id}/messages"

    refused = await door.ask("POST", path, {"content": "say Two."})
    assert (refused.status, refused.code, refused.json["session_status"]) == (409, "session_busy", "running")
    waits = await door.ask("POST", path, {"content": "say Two.", "when_running": "enqueue"})
    assert waits.status == 202
    house.model.holds["here"].release()
    async with fail_after(30):
        while (await door.stopped(session_id))["final_answer"] != "Two.":
            continue  # a stream ends with the first answer, too


@pytest.mark.parametrize(("decision", "status", "effects"), [("approve", "approved", 1), ("deny", "denied", 0)])
async def test_a_decision_lets_the_session_go_on(
    house: House, door: Door, decision: str, status: str, effects: int
) -> None:
    session_id, approval_id = await door.waiting("call send letter; say Done.")
    [asked] = (await door.get("/approvals", status="pending"))["items"]
    assert (asked["approval_id"], asked["session_id"], asked["arguments"]) == (
        approval_id,
        session_id,
        {"word": "letter"},
    )

    decided = await door.ask("POST", f"/approvals/{approval_id}", {"decision": decision, "reason": "as agreed"})
    assert (decided.status, decided.json["status"], decided.json["reason"]) == (200, status, "as agreed")
    assert (await door.stopped(session_id))["status"] == "completed"
    assert len(house.effects()) == effects
    assert (await door.ask("POST", f"/approvals/{approval_id}", {"decision": decision})).status == 200
    assert (await door.get(f"/approvals/{approval_id}"))["status"] == status


async def test_lists_come_in_pages(door: Door) -> None:
    made = [await door.start(f"say {number}.") for number in range(5)]

    pages: list[list[str]] = []
    cursor = None
    while cursor is not None or not pages:
        page = await door.get("/agents", limit="2", **({} if cursor is None else {"cursor": cursor}))
        assert page.keys() == {"items", "next_cursor"}
        pages.append([item["session_id"] for item in page["items"]])
        cursor = page["next_cursor"]
    assert pages == [made[:2:-1], made[2:0:-1], made[:1]]


async def test_every_list_has_the_same_shape(door: Door) -> None:
    await door.waiting("call send letter")

    for path in ("/agents", "/approvals", "/tools", "/models", "/definitions", "/usage", "/audit", "/keys"):
        page = await door.get(path)
        assert page.keys() == {"items", "next_cursor"}, path
        assert page["items"], path
        assert page["next_cursor"] is None, path


async def test_what_the_server_offers(door: Door) -> None:
    tools = {tool["name"]: tool for tool in (await door.get("/tools"))["items"]}
    assert tools.keys() >= {"look_up", "charge", "send"}
    assert (tools["charge"]["effect"], tools["send"]["requires_approval"]) == ("once", True)
    assert {model["id"] for model in (await door.get("/models"))["items"]} >= {MODEL, "demo/scripted"}
    agents = {agent["name"]: agent for agent in (await door.get("/definitions"))["items"]}
    assert (agents["clerk"]["tools"], agents["clerk"]["error"]) == (["look_up"], None)


async def test_health_is_for_everybody_and_its_parts_for_those_with_a_key(house: House, door: Door) -> None:
    whole = await door.get("/health")
    assert whole["status"] == "ok"
    assert whole["version"]
    assert all(whole[part]["ok"] for part in ("database", "hot_state", "worker"))
    from_elsewhere = await house.door.ask("GET", "/health", headers={"Forwarded": "for=203.0.113.5"})
    assert (from_elsewhere.status, from_elsewhere.json) == (200, {"status": "ok"})
    assert (await door.get("/health/live"))["status"] == "ok"
    assert (await door.get("/health/ready"))["status"] == "ok"
    metrics = await door.ask("GET", "/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain")
    assert b"conductor_http_requests_total" in metrics.body
    assert ORG.encode() not in metrics.body


async def test_an_org_sees_its_limits_its_usage_and_its_audit(door: Door) -> None:
    await door.run("say One.")

    changed = await door.ask("PATCH", "/org", {"requests_per_minute": 1000, "max_usd_per_day": "2.50"})
    assert changed.status == 200
    org = await door.get("/org")
    assert (org["org_id"], org["limits"]["requests_per_minute"]) == (ORG, 1000)
    assert org["limits"]["max_usd_per_day"] == "2.5"
    [day] = (await door.get("/usage"))["items"]
    assert (day["model"], day["calls"], day["cost_usd"]) == (MODEL, 1, "0.002")
    actions = {row["action"] for row in (await door.get("/audit"))["items"]}
    assert actions >= {"key.created", "org.limits_set", "session.created", "model.completed"}


async def test_keys_are_made_rotated_and_revoked(house: House, door: Door) -> None:
    made = await door.ask("POST", "/keys", {"name": "crm", "scopes": ["read"]})
    assert made.status == 201
    key_id, key = made.json["key_id"], made.json["key"]
    assert key.startswith(f"cond_dev_{key_id}_")
    assert (await house.door.with_key(key).ask("GET", "/tools")).status == 200

    rotated = await door.ask("POST", f"/keys/{key_id}/rotate")
    assert (rotated.status, rotated.json["scopes"], rotated.json["name"]) == (201, ["read"], "crm")
    revoked = await door.ask("DELETE", f"/keys/{key_id}")
    assert revoked.json["revoked_at"] is not None
    assert (await house.door.with_key(key).ask("GET", "/tools")).status == 401
    assert (await house.door.with_key(rotated.json["key"]).ask("GET", "/tools")).status == 200
    listed = (await door.get("/keys"))["items"]
    assert {record["key_id"] for record in listed} >= {key_id, rotated.json["key_id"]}
    assert all("key" not in record for record in listed)


async def test_a_deleted_session_is_gone_but_for_its_audit(door: Door) -> None:
    session_id = (await door.run("say One."))["session_id"]

    assert (await door.ask("DELETE", f"/agents/{session_id}")).status == 204
    assert (await door.ask("GET", f"/agents/{session_id}")).code == "session_not_found"
    assert (await door.ask("GET", f"/agents/{session_id}/events")).code == "session_not_found"
    rows = (await door.get("/audit"))["items"]
    assert "session.deleted" in {row["action"] for row in rows}


async def test_a_ticket_opens_one_stream_without_a_key(house: House, door: Door) -> None:
    session_id = (await door.run("say One."))["session_id"]
    made = await door.ask("POST", f"/agents/{session_id}/events/ticket")
    assert (made.status, made.json["expires_in_s"]) == (201, 60)

    elsewhere = {"Forwarded": "for=203.0.113.5"}
    first = await house.door.ask("GET", made.json["url"], headers=elsewhere)
    assert (first.status, first.headers["Content-Type"]) == (200, "text/event-stream")
    assert b"event: session.created" in first.body
    assert (await house.door.ask("GET", made.json["url"], headers=elsewhere)).status == 401


async def test_the_plans_client_example(house: House) -> None:
    async with ConductorClient(house.url, org_id="my-org") as client:
        session = await client.run_agent(
            messages=[{"role": "user", "content": "call look_up tesla; say Found."}], tools=["look_up"]
        )
        result = await client.wait_for_completion(session.session_id)
        assert result.steps[-1]["final_answer"] == "Found."


async def test_the_command_line_makes_a_key_that_works(house: House, tmp_path: Path) -> None:
    console = Console(tmp_path)
    console.env["CONDUCTOR_HOME"] = str(house.settings.conductor_home)
    if house.settings.database_url is not None:
        console.env["DATABASE_URL"] = house.settings.database_url.get_secret_value()
    command = ("keys", "create", "--org", "my-org", "--scopes", "run,read", "--json")
    made = await asyncio.to_thread(console, *command)

    key = house.door.with_key(made.json["key"])
    assert (await key.run("say Hi."))["org_id"] == "my-org"
    assert (await key.ask("GET", "/keys")).status == 403
