"""Sessions over HTTP: start, look, list, go on, cancel, delete, approve."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conductor_ai.providers.scripted import Moment, call, say
from conductor_ai.schemas.orgs import Scope
from tests.api.conftest import ASKS, RUN, WAITS, Floor, Server
from tests.conftest import fail_after

FIELDS = {
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


async def test_a_run_is_accepted_once_it_is_durable(floor: Floor) -> None:
    server = await floor.open([say("Hello.")])

    started = await server.ask("POST", "/agents/run", {**RUN, "metadata": {"ticket": "4711"}})
    session_id = started.data["session_id"]
    kept = await server.service.store.session(session_id, "default")
    session = await server.stopped(session_id)

    assert (started.status, started.headers["Location"]) == (202, f"/agents/{session_id}")
    assert started.data.keys() >= FIELDS and session.keys() >= FIELDS
    assert kept.session_id == session_id
    assert (session["status"], session["final_answer"], session["cost_usd"]) == ("completed", "Hello.", "0")
    assert session["metadata"] == {"ticket": "4711"}
    [step] = session["steps"]
    assert (step["step_no"], step["type"], step["content"], step["tool_calls"]) == (1, "final_answer", "Hello.", [])


async def test_what_a_person_or_a_model_may_write_comes_back(floor: Floor) -> None:
    odd = "NUL \u0000, lone \ud800, \u2028, big"
    server = await floor.open([say(lambda moment: moment.prompt)])

    session = await server.stopped(await server.run(messages=[{"role": "user", "content": odd}], tools=[]))

    assert session["final_answer"] == odd.replace("\ud800", "\ufffd")


async def test_fifty_starts_with_one_idempotency_key_are_one_session(floor: Floor) -> None:
    server = await floor.open([say("Hello.")])
    keyed = {"Idempotency-Key": "order 66"}

    replies = await asyncio.gather(*(server.ask("POST", "/agents/run", RUN, headers=keyed) for _ in range(50)))
    reordered = dict(reversed(RUN.items()))
    again = await server.ask("POST", "/agents/run", reordered, headers=keyed)
    other = await server.ask("POST", "/agents/run", {**RUN, "instructions": "Be brief."}, headers=keyed)

    assert {reply.status for reply in replies} == {202}
    assert len({reply.data["session_id"] for reply in [*replies, again]}) == 1
    assert (other.status, other.code) == (409, "idempotency_conflict")
    assert len((await server.ask("GET", "/agents")).data["items"]) == 1


async def test_one_key_at_two_places_is_two_requests(floor: Floor) -> None:
    server = await floor.open([say("One."), say("Two."), say("Three.")])
    first, second = await server.run(), await server.run()
    for session_id in (first, second):
        await server.stopped(session_id)
    keyed = {"Idempotency-Key": "k"}

    sent = await server.ask("POST", f"/agents/{first}/messages", {"content": "more"}, headers=keyed)
    other = await server.ask("POST", f"/agents/{second}/messages", {"content": "more"}, headers=keyed)

    assert (sent.status, other.status) == (202, 409)


async def test_lists_come_in_pages_newest_first(floor: Floor) -> None:
    server = await floor.open([say("Hello.")])
    made = [await server.run() for _ in range(5)]

    pages = [(await server.ask("GET", "/agents?limit=2")).data]
    while (cursor := pages[-1]["next_cursor"]) is not None:
        pages.append((await server.ask("GET", f"/agents?limit=2&cursor={cursor}")).data)

    assert [item["session_id"] for page in pages for item in page["items"]] == made[::-1] and len(pages) == 3
    assert "steps" not in pages[0]["items"][0]


async def test_a_list_is_filtered(floor: Floor) -> None:
    server = await floor.open([say("Hello.")])
    session = await server.stopped(await server.run())
    created = session["created_at"].replace("+00:00", "Z")

    async def found(query: str) -> int:
        return len((await server.ask("GET", f"/agents?{query}")).data["items"])

    assert await found("status=completed") == 1 and await found("status=running") == 0
    assert await found("agent=nobody") == 0
    assert await found(f"created_from={created}") == 1 and await found(f"created_before={created}") == 0


async def test_a_query_that_cannot_be_is_refused(floor: Floor) -> None:
    server = await floor.open([])
    dates = ("created_from=yesterday", "created_from=0001-01-01T00:00:00%2B14:00")
    cursors = ("cursor=%7B%7D", "cursor=W10", "cursor=eA", "cursor=" + "W1tb" * 200, f"cursor={'x' * 1001}")

    for query in ("limit=0", "limit=201", "limit=x", "status=lost", *dates, *cursors):
        assert (await server.ask("GET", f"/agents?{query}")).code == "invalid_input", query


async def test_a_cursor_is_good_for_its_own_list_and_org(floor: Floor) -> None:
    server = await floor.open([say("Hello.")])
    ours, theirs = await server.new_key(org_id="ours"), await server.new_key(org_id="theirs")
    for _ in range(2):
        await server.run(theirs)
    cursor = (await server.ask("GET", "/agents?limit=1", key=theirs)).data["next_cursor"]

    assert (await server.ask("GET", f"/agents?cursor={cursor}", key=theirs)).status == 200
    assert (await server.ask("GET", f"/agents?cursor={cursor}", key=ours)).code == "invalid_input"
    assert (await server.ask("GET", f"/audit?cursor={cursor}", key=theirs)).code == "invalid_input"


async def test_a_cancelled_session_is_cancelling_until_its_tool_has_stopped(floor: Floor) -> None:
    server = await floor.open(WAITS)
    session_id = await server.run()
    async with fail_after(20):
        await floor.gate.entered.wait()

    running = await server.ask("DELETE", f"/agents/{session_id}")
    cancelled = await server.ask("POST", f"/agents/{session_id}/cancel")
    session = await server.stopped(session_id)
    again = await server.ask("POST", f"/agents/{session_id}/cancel")

    assert (running.status, running.code, running.data["session_status"]) == (409, "session_busy", "running")
    assert (cancelled.status, cancelled.data["status"]) in ((200, "cancelled"), (202, "cancelling"))
    assert session["status"] == "cancelled" and "steps" in cancelled.data
    assert (again.status, again.code, again.data["session_status"]) == (409, "invalid_transition", "cancelled")


async def test_a_deleted_session_is_gone_and_its_audit_stays(floor: Floor) -> None:
    server = await floor.open([say("Hello.")])
    session_id = await server.run()
    await server.stopped(session_id)

    deleted = await server.ask("DELETE", f"/agents/{session_id}")

    assert (deleted.status, deleted.data) == (204, b"")
    for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
        assert (await server.ask(method, f"/agents/{session_id}{path}")).code == "session_not_found"
    rows = (await server.ask("GET", f"/audit?session_id={session_id}")).data["items"]
    assert len(rows) > 1


async def test_a_session_goes_on_with_another_message(floor: Floor) -> None:
    server = await floor.open([say("One."), say("Two."), say(lambda moment: moment.prompt)])
    session_id = await server.run()
    await server.stopped(session_id)

    text = await server.ask("POST", f"/agents/{session_id}/messages", {"content": "And then?"})
    await _second_stop(server, session_id, 2)
    parts = {"role": "user", "content": [{"type": "text", "text": "And last?"}]}
    whole = await server.ask("POST", f"/agents/{session_id}/messages", {"message": parts})
    session = await _second_stop(server, session_id, 3)

    assert (text.status, whole.status) == (202, 202)
    assert session["final_answer"] == "And last?"


@pytest.mark.parametrize(
    "body", [{}, {"content": "a", "message": {"content": "b"}}, {"message": {"role": "assistant"}}]
)
async def test_a_message_is_one_message_of_the_user(floor: Floor, body: dict[str, Any]) -> None:
    server = await floor.open([])

    assert (await server.ask("POST", "/agents/x/messages", body)).status == 422


async def test_a_running_session_refuses_a_message_or_keeps_it(floor: Floor) -> None:
    def line(moment: Moment) -> Any:
        return WAITS[0] if moment.turn == 0 else say(f"answer to {moment.prompt}")

    server = await floor.open(line)
    session_id = await server.run()
    async with fail_after(20):
        await floor.gate.entered.wait()

    refused = await server.ask("POST", f"/agents/{session_id}/messages", {"content": "now"})
    kept = await server.ask("POST", f"/agents/{session_id}/messages", {"content": "later", "when_running": "enqueue"})
    floor.gate.open.set()
    session = await _second_stop(server, session_id, 2)

    assert (refused.status, refused.code, refused.data["session_status"]) == (409, "session_busy", "running")
    assert kept.status == 202
    assert session["final_answer"] == "answer to later"


async def test_a_paused_session_is_resumed_with_a_raised_limit(floor: Floor) -> None:
    floor.gate.open.set()
    server = await floor.open(WAITS)
    session_id = await server.run(limits={"max_steps": 1})
    paused = await server.stopped(session_id)

    resumed = await server.ask("POST", f"/agents/{session_id}/resume", {"limits": {"max_steps": 5}})
    async with server.stream(session_id) as frames:
        await frames.until("session.completed")

    assert (paused["status"], paused["pause_reason"]) == ("paused", "max_steps")
    assert resumed.status == 202


async def test_a_session_that_has_ended_for_good_is_not_resumed(floor: Floor) -> None:
    server = await floor.open(WAITS)
    cancelled = await server.run()
    async with fail_after(20):
        await floor.gate.entered.wait()
    await server.ask("POST", f"/agents/{cancelled}/cancel")
    await server.stopped(cancelled)
    floor.gate.open.set()
    completed = await server.run()
    await server.stopped(completed)

    for session_id, status in ((completed, "completed"), (cancelled, "cancelled")):
        refused = await server.ask("POST", f"/agents/{session_id}/resume")
        assert (refused.status, refused.code) == (409, "invalid_transition")
        assert refused.data["session_status"] == status


async def test_an_approval_is_decided_once(floor: Floor) -> None:
    server = await floor.open(ASKS)
    run, approve = await server.new_key(Scope.RUN, Scope.READ), await server.new_key(Scope.APPROVE)
    session_id = await server.run(run)
    async with server.stream(session_id, key=run) as frames:
        await frames.until("approval.requested")
        [waiting] = (await server.ask("GET", f"/approvals?status=pending&session_id={session_id}", key=run)).data[
            "items"
        ]
        path = f"/approvals/{waiting['approval_id']}"
        decisions = await asyncio.gather(
            *(server.ask("POST", path, {"decision": "approve"}, key=approve) for _ in range(10))
        )
        denied = await server.ask("POST", path, {"decision": "deny", "reason": "no"}, key=approve)
        await frames.until("session.completed")

    assert (waiting["tool_name"], waiting["arguments"]) == ("send_email", {"to": "ann@example.org"})
    assert {(reply.status, reply.data["status"]) for reply in decisions} == {(200, "approved")}
    assert (denied.status, denied.code) == (409, "approval_already_decided")
    assert floor.sent.calls == [{"to": "ann@example.org"}]
    assert (await server.ask("GET", path, key=run)).data["status"] == "approved"
    assert (await server.ask("GET", "/approvals?status=pending", key=run)).data["items"] == []


async def test_a_denial_comes_with_its_reason(floor: Floor) -> None:
    server = await floor.open([ASKS[0], say(lambda moment: moment.replies[0].content)])
    session_id = await server.run()
    async with server.stream(session_id) as frames:
        await frames.until("approval.requested")
        [waiting] = (await server.ask("GET", "/approvals")).data["items"]
        await server.ask("POST", f"/approvals/{waiting['approval_id']}", {"decision": "deny", "reason": "not to Ann"})
        await frames.until("session.completed")

    assert "not to Ann" in (await server.ask("GET", f"/agents/{session_id}")).data["final_answer"]
    assert floor.sent.calls == []


async def test_approvals_come_in_pages_oldest_first(floor: Floor) -> None:
    server = await floor.open([call("send_email", {"to": "ann@example.org"})])
    for _ in range(3):
        async with server.stream(await server.run()) as frames:
            await frames.until("approval.requested")

    every = (await server.ask("GET", "/approvals")).data["items"]
    first = (await server.ask("GET", "/approvals?limit=2")).data
    second = (await server.ask("GET", f"/approvals?limit=2&cursor={first['next_cursor']}")).data

    assert [*first["items"], *second["items"]] == every and len(every) == 3
    assert second["next_cursor"] is None


async def _second_stop(server: Server, session_id: str, answers: int) -> dict[str, Any]:
    """The session once it has completed so many times."""
    seen = "0"
    async with fail_after(20):
        while answers:  # a stream ends with the newest answer, though another message may wait
            async with server.stream(session_id, query=f"?last_event_id={seen}") as frames:
                found = [frame for frame in await frames.rest() if "id" in frame]
            answers -= sum(frame["event"] == "session.completed" for frame in found)
            seen = found[-1]["id"] if found else seen
    session: dict[str, Any] = (await server.ask("GET", f"/agents/{session_id}")).data
    return session
