"""The service's calls: what each leaves behind, and what two of them at once do not."""

from __future__ import annotations

import asyncio

import pytest

from conductor_ai.conductor import StartRequest
from conductor_ai.delivery.service import Service, WhenRunning
from conductor_ai.errors import (
    ApprovalAlreadyDecided,
    Forbidden,
    IdempotencyConflict,
    InvalidInput,
    InvalidTransition,
    SessionBusy,
    SessionNotFound,
    TooManySessions,
    UnknownTool,
)
from conductor_ai.providers.scripted import call, say
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.orgs import ALL_SCOPES, Caller, Scope
from conductor_ai.storage.base import IdempotencyMark
from conductor_ai.storage.hot_memory import MemoryHotState
from conductor_ai.tools.registry import PluginInfo
from tests.agents.conftest import Gate, Tool, answering
from tests.conftest import fail_after
from tests.delivery.conftest import CALLER, NEXT, REQUEST, SWEEP_S, Desk

SCRIPT = [call("look"), say("Done."), say("More."), say("Still more.")]
MARK = IdempotencyMark("key-1", "hash-1")
OTHER = Caller("other")


def with_key(key_id: str, *scopes: Scope) -> Caller:
    return Caller("default", frozenset(scopes), key_id)


async def running(
    desk: Desk, gate: Gate, caller: Caller = CALLER, sweep_s: float = SWEEP_S
) -> tuple[Service, AgentSession]:
    """A session whose tool has begun, and does not end before `gate` opens."""
    service = await desk.open(SCRIPT, Tool("look", gate), sweep_s=sweep_s)
    session = await service.start(REQUEST, caller=caller)
    async with fail_after(20):
        await gate.entered.wait()
    return service, session


async def waiting(desk: Desk, caller: Caller = CALLER) -> tuple[Service, AgentSession, str]:
    """A session that waits for an approval."""
    service = await desk.open(SCRIPT, Tool("look", answering(1), requires_approval=True))
    session = await service.start(REQUEST, caller=caller)
    await desk.comes_to(service, session.session_id, "approval.requested")
    [approval] = await service.approvals(caller=CALLER)
    return service, session, approval.approval_id


async def test_fifty_starts_with_one_key_make_one_session(desk: Desk) -> None:
    service = await desk.open(SCRIPT, Tool("look", answering(1)))
    await service.orgs.set_limits("default", {"max_running_sessions": 1}, by="test")

    async with fail_after(30):
        started = await asyncio.gather(
            *(service.start(REQUEST, caller=CALLER, idempotency=MARK) for _ in range(50)),
        )

    assert len({session.session_id for session in started}) == 1
    assert len(await service.sessions(caller=CALLER)) == 1
    with pytest.raises(IdempotencyConflict):
        await service.start(REQUEST, caller=CALLER, idempotency=MARK._replace(request_hash="hash-2"))
    another = await service.start(REQUEST, caller=OTHER, idempotency=MARK)  # keys are an org's own
    assert another.session_id != started[0].session_id


async def test_what_a_leaving_caller_has_started_is_driven_all_the_same(desk: Desk) -> None:
    service = await desk.open(SCRIPT, Tool("look", answering(1)), sweep_s=3600)
    starting = asyncio.create_task(service.start(REQUEST, caller=CALLER))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    again = await service.start(REQUEST, caller=CALLER)  # behind it in the store's order
    assert await desk.stopped(service, again.session_id) == "completed"
    assert await desk.all_stopped(service) == ["completed", "completed"]


async def test_an_org_with_as_many_sessions_as_it_may_have_is_refused_one_more(desk: Desk) -> None:
    gate = Gate()
    service, session = await running(desk, gate)
    await service.orgs.set_limits("default", {"max_running_sessions": 1}, by="test")

    with pytest.raises(TooManySessions):
        await service.start(REQUEST, caller=CALLER)

    gate.open.set()
    assert await desk.stopped(service, session.session_id) == "completed"
    await service.start(REQUEST, caller=CALLER)


async def test_cancelling_ends_a_tool_and_again_is_harmless_until_it_has_ended(desk: Desk) -> None:
    service, session = await running(desk, Gate())

    async with fail_after(20):
        first, second = await asyncio.gather(
            service.cancel(session.session_id, caller=CALLER), service.cancel(session.session_id, caller=CALLER)
        )

    assert {first.status, second.status} <= {"cancelling", "cancelled"}
    assert await desk.stopped(service, session.session_id) == "cancelled"
    log = await service.store.events(session.session_id, "default")
    assert [event.payload["by"] for event in log if event.type == "session.cancel_requested"] == ["keyless caller"]
    with pytest.raises(InvalidTransition):
        await service.cancel(session.session_id, caller=CALLER)
    with pytest.raises(SessionNotFound):
        await service.cancel(session.session_id, caller=OTHER)


class Stubborn(Gate):
    """Does not end because it is asked to."""

    async def __call__(self, arguments: object) -> str:
        self.entered.set()
        while not self.open.is_set():
            try:
                await self.open.wait()
            except asyncio.CancelledError:
                continue
        return "through"


async def test_a_session_is_cancelling_until_its_tool_has_stopped(desk: Desk) -> None:
    gate = Stubborn()
    service, session = await running(desk, gate)

    async with fail_after(20):
        asked = await service.cancel(session.session_id, caller=CALLER)
        shown = await service.session(session.session_id, caller=CALLER)
        [listed] = await service.sessions(caller=CALLER)
        with pytest.raises(InvalidTransition):
            await service.send(session.session_id, NEXT, caller=CALLER, when_running="enqueue")

    assert (asked.status, shown["status"], listed.status) == ("cancelling", "cancelling", "cancelling")
    gate.open.set()
    assert await desk.stopped(service, session.session_id) == "cancelled"


@pytest.mark.parametrize("shared_signals", [True, False])
async def test_a_session_of_another_process_is_cancelled(desk: Desk, shared_signals: bool) -> None:
    gate, hot = Gate(), MemoryHotState()
    driver = await desk.open(SCRIPT, Tool("look", gate), hot=hot if shared_signals else None)
    session = await driver.start(REQUEST, caller=CALLER)
    async with fail_after(20):
        await gate.entered.wait()
    other = await desk.open(SCRIPT, hot=hot if shared_signals else None)
    await other.send(session.session_id, NEXT, caller=CALLER, when_running="enqueue")

    asked = await other.cancel(session.session_id, caller=CALLER)

    assert asked.status in ("cancelling", "cancelled")
    assert await desk.stopped(other, session.session_id) == "cancelled"
    assert await other.store.queued_messages(session.session_id, "default") == []


async def cancelled_by(service: Service, session: AgentSession) -> str:
    try:
        return (await service.cancel(session.session_id, caller=CALLER)).status
    except InvalidTransition:
        return "too late"


async def test_of_cancelling_and_finishing_at_once_one_comes_true(desk: Desk) -> None:
    for wait_turns in range(8):
        gate = Gate()
        service, session = await running(desk, gate)
        gate.open.set()
        for _ in range(wait_turns * 2):
            await asyncio.sleep(0)
        async with fail_after(30):
            answers = await asyncio.gather(*(cancelled_by(service, session) for _ in range(50)))
        status = await desk.stopped(service, session.session_id)
        types = await desk.types(service, session.session_id)
        assert sum(kind in ("session.completed", "session.cancelled") for kind in types) == 1
        told = set(answers)
        if status == "completed":
            assert told == {"too late"}
        else:
            assert status == "cancelled"
            assert "cancelled" in told or "cancelling" in told
        await service.close(0)


async def test_a_running_session_refuses_a_message_or_takes_it_once_it_has_completed(desk: Desk) -> None:
    gate = Gate()
    service, session = await running(desk, gate, sweep_s=3600)
    with pytest.raises(SessionBusy):
        await service.send(session.session_id, NEXT, caller=CALLER)
    with pytest.raises(InvalidInput):
        await service.send(session.session_id, {"role": "tool", "content": "x"}, caller=CALLER, when_running="enqueue")
    for _ in range(2):  # the same request twice
        await service.send(session.session_id, NEXT, caller=CALLER, when_running="enqueue", idempotency=MARK)
    await service.send(session.session_id, {"role": "user", "content": "third"}, caller=CALLER, when_running="enqueue")

    gate.open.set()

    await desk.comes_to(service, session.session_id, "session.completed", times=3)
    log = await service.store.events(session.session_id, "default")
    assert [event.payload["content"] for event in log if event.type == "message.added"] == [
        "Do it.",
        "And then?",
        "third",
    ]
    assert await service.store.queued_messages(session.session_id, "default") == []


async def test_a_message_that_another_process_took_is_delivered_here(desk: Desk) -> None:
    gate = Gate()
    _, session = await running(desk, gate)
    other = await desk.open(SCRIPT)
    await other.send(session.session_id, NEXT, caller=CALLER, when_running="enqueue")

    gate.open.set()

    await desk.comes_to(other, session.session_id, "session.completed", times=2)


async def test_a_message_waits_while_an_approval_does(desk: Desk) -> None:
    service, session, approval_id = await waiting(desk)
    with pytest.raises(InvalidTransition):
        await service.send(session.session_id, NEXT, caller=CALLER)
    await service.send(session.session_id, NEXT, caller=CALLER, when_running="enqueue")
    await service.engine.settled("default", session.session_id)
    assert len(await service.store.queued_messages(session.session_id, "default")) == 1

    await service.decide(approval_id, "approved", caller=CALLER)

    await desk.comes_to(service, session.session_id, "session.completed", times=2)


async def test_an_ended_session_goes_on_with_a_message_once_for_each_key(desk: Desk) -> None:
    service = await desk.open(SCRIPT, Tool("look", answering(1)))
    session = await service.start(REQUEST, caller=CALLER)
    assert await desk.stopped(service, session.session_id) == "completed"
    seq = (await service.store.session(session.session_id, "default")).last_seq

    for _ in range(2):
        await service.send(session.session_id, NEXT, caller=CALLER, idempotency=MARK)

    assert await desk.stopped(service, session.session_id, after_seq=seq) == "completed"
    types = await desk.types(service, session.session_id)
    assert (types.count("message.added"), types.count("session.completed")) == (2, 2)
    with pytest.raises(IdempotencyConflict):
        await service.start(REQUEST, caller=CALLER, idempotency=MARK._replace(request_hash="else"))


async def test_a_paused_session_is_resumed_with_more(desk: Desk) -> None:
    service = await desk.open(SCRIPT, Tool("look", answering(1)))
    request = StartRequest(messages=REQUEST.messages, model="demo/scripted", limits={"max_steps": 1})
    session = await service.start(request, caller=CALLER)
    assert await desk.stopped(service, session.session_id) == "paused"
    seq = (await service.store.session(session.session_id, "default")).last_seq

    await service.resume(session.session_id, caller=CALLER, limits={"max_steps": 5})

    assert await desk.stopped(service, session.session_id, after_seq=seq) == "completed"
    with pytest.raises(InvalidTransition, match="completed already"):
        await service.resume(session.session_id, caller=CALLER)


async def test_a_session_whose_plugin_is_broken_says_so_in_the_log_and_to_whoever_resumes_it(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    dead = await desk.open(SCRIPT, Tool("look", answering(1)), sweep_s=3600)
    session = await dead.conductor.start(REQUEST)
    await dead.conductor.close()
    service = await desk.open(SCRIPT)  # without the tool
    service.conductor.plugins = [PluginInfo("office", "plugins/office", error="plugin.py:3: SyntaxError")]

    async with fail_after(20):
        while not service.engine.holds_back("default", session.session_id):
            await service.engine.sweep()
            await service.engine.settled("default", session.session_id)
    with pytest.raises(UnknownTool, match=r"plugin office was not loaded: plugin\.py:3: SyntaxError"):
        await service.resume(session.session_id, caller=CALLER)

    assert "plugin.py:3: SyntaxError" in caplog.text


async def test_a_decision_is_made_once_and_lets_the_session_go_on(desk: Desk) -> None:
    service, session, approval_id = await waiting(desk)

    async with fail_after(30):
        answers = await asyncio.gather(
            *(
                service.decide(approval_id, "approved" if number % 2 else "denied", caller=CALLER)
                for number in range(50)
            ),
            return_exceptions=True,
        )

    kept = (await service.store.approval(approval_id, "default")).status
    for number, answer in enumerate(answers):
        if ("approved" if number % 2 else "denied") == kept:
            assert getattr(answer, "status", answer) == kept
        else:
            assert isinstance(answer, ApprovalAlreadyDecided)
    assert await desk.stopped(service, session.session_id) == "completed"
    assert (await desk.types(service, session.session_id)).count("approval.decided") == 1


async def test_who_has_decided_last_finds_the_session_waiting_no_more(desk: Desk) -> None:
    service, session, approval_id = await waiting(desk)

    await service.decide(approval_id, "approved", caller=CALLER)

    assert (await service.session(session.session_id, caller=CALLER))["status"] != "waiting_approval"
    assert await desk.stopped(service, session.session_id) == "completed"


async def test_a_key_does_not_approve_what_it_has_asked_for(desk: Desk) -> None:
    requester = with_key("aaaaaaaa", Scope.RUN, Scope.APPROVE)
    service, session, approval_id = await waiting(desk, requester)

    with pytest.raises(Forbidden):
        await service.decide(approval_id, "approved", caller=requester)
    decided = await service.decide(approval_id, "approved", caller=with_key("bbbbbbbb", Scope.APPROVE))

    assert decided.decided_by == "key bbbbbbbb"
    assert await desk.stopped(service, session.session_id) == "completed"


@pytest.mark.parametrize("when_running", ["reject", "enqueue"])
async def test_a_key_does_not_approve_what_its_message_has_led_to(desk: Desk, when_running: WhenRunning) -> None:
    starter, sender, third = (with_key(letter * 8, Scope.RUN, Scope.APPROVE) for letter in "abc")
    gate = Gate()
    script = [call("wait"), say("Done."), say("More."), call("look"), say("Sent.")]
    service = await desk.open(script, Tool("wait", gate), Tool("look", answering(1), requires_approval=True))
    session_id = (await service.start(REQUEST, caller=starter)).session_id
    if when_running == "reject":
        gate.open.set()
        assert await desk.stopped(service, session_id) == "completed"
    await service.send(session_id, NEXT, caller=sender, when_running=when_running)
    gate.open.set()
    await desk.comes_to(service, session_id, "session.completed", times=2)
    await service.send(session_id, NEXT, caller=third)
    await desk.comes_to(service, session_id, "approval.requested")
    [approval] = await service.approvals(caller=CALLER)

    for asked in (starter, sender, third):
        with pytest.raises(Forbidden):
            await service.decide(approval.approval_id, "approved", caller=asked)
    decided = await service.decide(approval.approval_id, "approved", caller=with_key("dddddddd", Scope.APPROVE))

    assert decided.decided_by == "key dddddddd"
    assert await desk.stopped(service, session_id) == "completed"


async def test_a_rotated_key_and_its_successor_are_one_caller(desk: Desk) -> None:
    service = await desk.open(SCRIPT, Tool("look", answering(1), requires_approval=True))
    scopes = frozenset({Scope.RUN, Scope.APPROVE})
    first, _ = await service.keys.create("default", scopes=scopes, by="test")
    second = (await service.keys.rotate(first.key_id, "default", by="test")).record
    third = (await service.keys.rotate(second.key_id, "default", by="test")).record
    other, _ = await service.keys.create("default", scopes=scopes, by="test")
    session = await service.start(REQUEST, caller=Caller("default", scopes, second.key_id))
    await desk.comes_to(service, session.session_id, "approval.requested")
    [approval] = await service.approvals(caller=CALLER)

    for key in (first, second, third):
        with pytest.raises(Forbidden):
            await service.decide(approval.approval_id, "approved", caller=Caller("default", scopes, key.key_id))
    await service.decide(approval.approval_id, "approved", caller=Caller("default", scopes, other.key_id))

    assert await desk.stopped(service, session.session_id) == "completed"


@pytest.mark.parametrize(
    ("scopes", "decision"),
    [(ALL_SCOPES, "approved"), (frozenset({Scope.RUN, Scope.APPROVE}), "denied")],
    ids=["an-admin-approves", "anybody-denies"],
)
async def test_a_key_may_decide_on_its_own_session_where_that_opens_nothing(
    desk: Desk, scopes: frozenset[Scope], decision: str
) -> None:
    requester = Caller("default", scopes, "aaaaaaaa")
    service, session, approval_id = await waiting(desk, requester)

    decided = await service.decide(approval_id, "approved" if decision == "approved" else "denied", caller=requester)

    assert decided.status == decision
    assert await desk.stopped(service, session.session_id) == "completed"


async def test_a_long_log_is_read_once_for_many_who_ask(desk: Desk) -> None:
    service = await desk.open([*[call("look")] * 12, say("Done.")], Tool("look", answering(1)))
    session = await service.start(REQUEST, caller=CALLER)
    assert await desk.stopped(service, session.session_id) == "completed"
    whole = await service.session(session.session_id, caller=CALLER)
    kept = await service.hot.snapshot(session.session_id)
    assert kept is not None
    assert kept["view"] == whole

    kept["view"]["final_answer"] = "from the snapshot"
    await service.hot.put_snapshot(session.session_id, kept)

    assert (await service.session(session.session_id, caller=CALLER))["final_answer"] == "from the snapshot"
    with pytest.raises(SessionNotFound):
        await service.session(session.session_id, caller=OTHER)
    await service.hot.put_snapshot(session.session_id, {**kept, "last_seq": 3})  # of an earlier state
    assert await service.session(session.session_id, caller=CALLER) == whole
    await service.delete(session.session_id, caller=CALLER)
    assert await service.hot.snapshot(session.session_id) in (None, {})


async def test_a_running_session_is_not_deleted(desk: Desk) -> None:
    gate = Gate()
    service, session = await running(desk, gate)

    with pytest.raises(SessionBusy):
        await service.delete(session.session_id, caller=CALLER)

    gate.open.set()
    assert await desk.stopped(service, session.session_id) == "completed"
    with pytest.raises(SessionNotFound):
        await service.delete(session.session_id, caller=OTHER)
    await service.delete(session.session_id, caller=CALLER)


async def test_health_names_each_part(desk: Desk) -> None:
    service = await desk.open(SCRIPT)

    healthy = await service.health()
    await service.close(0)
    leaving = await service.health()

    assert healthy["status"] == "ok"
    assert all(healthy[part]["ok"] for part in ("database", "hot_state", "worker"))
    assert (leaving["status"], leaving["worker"]["ok"]) == ("degraded", False)
