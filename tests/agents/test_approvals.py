"""A person's decision: asked for with the exact arguments, used once, void when they differ."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conductor_ai.conductor import Conductor, StartRequest
from conductor_ai.errors import ApprovalAlreadyDecided, ApprovalVoid, InvalidTransition
from conductor_ai.providers.scripted import Script, call, say, together
from conductor_ai.schemas.approvals import ApprovalStatus
from conductor_ai.sdk import BaseTool
from conductor_ai.tools.registry import ToolRegistry
from tests.agents.conftest import TASK, Bench, Tool, answering, edit

SEND = [together(call("send", {"to": "ann"}), call("look")), say("Sent.")]


def _tools() -> tuple[Tool, Tool]:
    return (
        Tool("send", answering("sent"), effect="once", requires_approval=True),
        Tool("look", answering("seen")),
    )


async def _conductor(bench: Bench, script: Script, tools: tuple[BaseTool, ...]) -> Conductor:
    runtime = await bench.open(script)
    registry = ToolRegistry()
    for tool in tools:
        registry.register(tool)
    return Conductor(runtime, registry, runtime.catalog, default_model=lambda: "demo/scripted")


async def _waiting(conductor: Conductor, **options: Any) -> tuple[str, str]:
    started = await conductor.start(StartRequest(messages=TASK, **options))
    session = await conductor.run(started.session_id)
    assert session.status == "waiting_approval"
    [approval] = await conductor.approvals()
    return session.session_id, approval.approval_id


async def test_the_other_calls_run_first_and_the_session_waits_as_a_row(bench: Bench) -> None:
    send, look = _tools()
    conductor = await _conductor(bench, SEND, (send, look))

    session_id, approval_id = await _waiting(conductor)

    [approval] = await conductor.approvals(session_id=session_id)
    assert (approval.tool_name, approval.arguments) == ("send", '{"to":"ann"}')
    assert (len(send.calls), len(look.calls)) == (0, 1)
    again = await conductor.resume(session_id)
    assert again.status == "waiting_approval"
    assert [item.approval_id for item in await conductor.approvals()] == [approval_id]


async def test_an_approved_call_runs_once_on_resume(bench: Bench) -> None:
    send, look = _tools()
    conductor = await _conductor(bench, SEND, (send, look))
    session_id, approval_id = await _waiting(conductor)

    await conductor.decide(approval_id, "approved", by="ann")
    assert send.calls == []
    session = await conductor.resume(session_id)
    again = await conductor.resume(session_id)

    assert session.final_answer == again.final_answer == "Sent."
    assert send.calls == [{"to": "ann"}]
    assert len(look.calls) == 1


async def test_a_denied_call_is_told_to_the_model_with_the_reason(bench: Bench) -> None:
    send, look = _tools()
    conductor = await _conductor(bench, SEND, (send, look))
    session_id, approval_id = await _waiting(conductor)

    await conductor.decide(approval_id, "denied", by="ann", reason="not today")
    session = await conductor.resume(session_id)

    assert session.status == "completed"
    assert send.calls == []
    [refused, _] = session.steps[0].tool_calls
    assert refused.outcome == "refused"
    assert "not today" in (refused.error or "")


async def test_of_many_deciders_one_counts(bench: Bench) -> None:
    send, look = _tools()
    conductor = await _conductor(bench, SEND, (send, look))
    session_id, approval_id = await _waiting(conductor)

    outcomes = await asyncio.gather(
        *(conductor.decide(approval_id, "approved", by=f"p{number}") for number in range(10)), return_exceptions=True
    )

    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, ApprovalAlreadyDecided) for outcome in outcomes) == 9
    session = await conductor.resume(session_id)
    assert (session.status, len(send.calls)) == ("completed", 1)


async def test_a_request_whose_stored_arguments_were_changed_cannot_be_approved(bench: Bench) -> None:
    send, look = _tools()
    conductor = await _conductor(bench, SEND, (send, look))
    session_id, approval_id = await _waiting(conductor)
    edit(bench, "UPDATE approvals SET arguments = replace(arguments, 'ann', 'eve')")

    with pytest.raises(ApprovalVoid):
        await conductor.decide(approval_id, "approved", by="ann")
    asked_anew = await conductor.resume(session_id)

    assert asked_anew.status == "waiting_approval"
    assert send.calls == []
    [approval] = await conductor.approvals()
    assert (approval.approval_id == approval_id, approval.arguments) == (False, '{"to":"ann"}')


async def test_an_approval_of_other_arguments_than_the_call_has_is_void(bench: Bench) -> None:
    send, look = _tools()
    conductor = await _conductor(bench, SEND, (send, look))
    session_id, approval_id = await _waiting(conductor)
    await conductor.decide(approval_id, "approved", by="ann")
    edit(bench, "UPDATE session_events SET payload = replace(payload, 'ann', 'eve') WHERE type = 'model.completed'")

    session = await conductor.resume(session_id)

    assert session.status == "waiting_approval"
    assert send.calls == []
    [void] = await conductor.approvals(status=ApprovalStatus.VOID)
    assert void.approval_id == approval_id
    [asked_anew] = await conductor.approvals()
    assert asked_anew.arguments == '{"to":"eve"}'


async def test_two_requests_are_decided_one_by_one_and_run_once_both_are(bench: Bench) -> None:
    send, look = _tools()
    script = [together(call("send", {"to": "ann"}), call("send", {"to": "bob"})), say("Sent.")]
    conductor = await _conductor(bench, script, (send, look))
    started = await conductor.start(StartRequest(messages=TASK))
    await conductor.run(started.session_id)
    first, second = await conductor.approvals()

    await conductor.decide(first.approval_id, "approved", by="ann")
    half = await conductor.resume(started.session_id)
    await conductor.decide(second.approval_id, "denied", by="ann")
    session = await conductor.resume(started.session_id)

    assert half.status == "waiting_approval"
    assert session.status == "completed"
    assert send.calls == [{"to": "ann"}]


async def test_a_tool_approved_before_the_run_does_not_ask_and_leaves_its_decision_in_the_log(bench: Bench) -> None:
    send, look = _tools()
    conductor = await _conductor(bench, SEND, (send, look))
    started = await conductor.start(StartRequest(messages=TASK, pre_approved=["send"]))

    session = await conductor.run(started.session_id)

    assert session.status == "completed"
    assert send.calls == [{"to": "ann"}]
    assert "approval.decided" in await bench.types(started.session_id)


async def test_cancelling_a_waiting_session_voids_its_requests(bench: Bench) -> None:
    send, look = _tools()
    conductor = await _conductor(bench, SEND, (send, look))
    session_id, approval_id = await _waiting(conductor)

    with pytest.raises(InvalidTransition):
        await conductor.continue_session(session_id, "Hurry.")
    cancelled = await conductor.cancel(session_id)

    assert cancelled.status == "cancelled"
    assert await conductor.approvals() == []
    with pytest.raises((ApprovalVoid, ApprovalAlreadyDecided)):
        await conductor.decide(approval_id, "approved", by="ann")
    assert send.calls == []
