"""Tools that ask, among other calls, with other approvals, and when things go otherwise than they should."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from conductor_ai.conductor import StartRequest
from conductor_ai.errors import ApprovalRequired, ApprovalVoid
from conductor_ai.providers.scripted import call, say, together
from conductor_ai.schemas.approvals import ApprovalStatus
from conductor_ai.sdk import PluginRegistry
from conductor_ai.sdk.security.approval import require_approval
from tests.agents.conftest import TASK, Bench, Tool, answering, edit
from tests.agents.machine import ACTION, RUN, Machine, approved, conducted, outcomes, waiting
from tests.conftest import fail_after


async def test_a_tool_that_swallows_the_question_waits_all_the_same(bench: Bench) -> None:
    machine = Machine(catches=True)
    conductor = await conducted(bench, RUN, machine.tool)

    session_id, approval = await waiting(conductor)
    session = await approved(conductor, session_id)

    assert approval.action == ACTION
    assert (session.status, machine.ran) == ("completed", ["1 + 1"])
    assert session.steps[0].tool_calls[0].result == ["ran 1 + 1"]


async def test_a_function_tool_whose_exceptions_become_errors_waits_too(bench: Bench) -> None:
    registry = PluginRegistry()
    ran: list[str] = []

    @registry.tool(effect="once", name="machine")
    @require_approval(category="code_execution")
    async def run_code(code: str) -> str:
        """Run code."""
        ran.append(code)
        return "ran it"

    conductor = await conducted(bench, RUN, run_code)
    session_id, approval = await waiting(conductor)
    assert (approval.tool_name, approval.action, ran) == ("machine", ACTION, [])

    session = await approved(conductor, session_id)

    assert (session.steps[0].tool_calls[0].result, ran) == ("ran it", ["1 + 1"])


async def test_the_other_calls_of_the_step_run_and_are_stored_first(bench: Bench) -> None:
    machine, look = Machine(), Tool("look", answering("seen"))
    script = [together(call("machine", {"code": "x"}), call("look")), say("Computed.")]
    conductor = await conducted(bench, script, machine.tool, look)

    session_id, _ = await waiting(conductor)

    types = await bench.types(session_id)
    assert types[-1] == "approval.requested"
    assert types.count("tool.completed") == 1
    session = await approved(conductor, session_id)
    assert (len(look.calls), outcomes(session)) == (1, ["succeeded", "succeeded"])


async def test_two_calls_that_ask_wait_together(bench: Bench) -> None:
    machine = Machine()
    script = [together(call("machine", {"code": "a"}), call("machine", {"code": "b"})), say("Computed.")]
    conductor = await conducted(bench, script, machine.tool)
    started = await conductor.start(StartRequest(messages=TASK))
    await conductor.run(started.session_id)
    first, second = await conductor.approvals()

    await conductor.decide(first.approval_id, "denied", by="ann")
    half = await conductor.resume(started.session_id)
    await conductor.decide(second.approval_id, "approved", by="ann")
    session = await conductor.resume(started.session_id)

    assert (half.status, machine.ran) == ("waiting_approval", ["b"])
    assert outcomes(session) == ["refused", "succeeded"]


async def test_a_tool_that_needs_approval_as_a_whole_is_asked_about_first(bench: Bench) -> None:
    machine = Machine(requires_approval=True)
    conductor = await conducted(bench, RUN, machine.tool)
    session_id, whole = await waiting(conductor)
    assert (whole.action, machine.begun) == (None, [])

    inside = await approved(conductor, session_id)
    [approval] = await conductor.approvals(session_id=session_id)
    session = await approved(conductor, session_id)

    assert (inside.status, approval.action) == ("waiting_approval", ACTION)
    assert (session.status, machine.ran, len(machine.begun)) == ("completed", ["1 + 1"], 2)


@pytest.mark.parametrize("requires_approval", [False, True])
async def test_a_tool_approved_before_the_run_does_not_ask(bench: Bench, requires_approval: bool) -> None:
    machine = Machine(requires_approval=requires_approval)
    conductor = await conducted(bench, RUN, machine.tool)
    started = await conductor.start(StartRequest(messages=TASK, pre_approved=["machine"]))

    session = await conductor.run(started.session_id)

    assert (session.status, machine.ran, len(machine.begun)) == ("completed", ["1 + 1"], 1)
    decided = [event for event in await bench.events(started.session_id) if event.type == "approval.decided"]
    assert {event.payload["by"] for event in decided} == {"approved before the run"}
    assert await conductor.approvals(status=None) == []


@pytest.mark.parametrize(
    "change",
    ["arguments = replace(arguments, '1 + 1', '2 + 2')", "action = 'reading: look'", "action = NULL"],
)
async def test_a_stored_request_that_was_changed_cannot_be_approved(bench: Bench, change: str) -> None:
    machine = Machine()
    conductor = await conducted(bench, RUN, machine.tool)
    session_id, approval = await waiting(conductor)
    edit(bench, f"UPDATE approvals SET {change}")

    with pytest.raises(ApprovalVoid):
        await conductor.decide(approval.approval_id, "approved", by="ann")
    asked_anew = await conductor.resume(session_id)

    assert (asked_anew.status, machine.ran) == ("waiting_approval", [])
    [again] = await conductor.approvals(session_id=session_id)
    assert (again.action, json.loads(again.arguments)["code"]) == (ACTION, "1 + 1")


async def test_cancelling_voids_what_it_asks(bench: Bench) -> None:
    machine = Machine()
    conductor = await conducted(bench, RUN, machine.tool)
    session_id, approval = await waiting(conductor)

    cancelled = await conductor.cancel(session_id)

    assert (cancelled.status, outcomes(cancelled)) == ("cancelled", ["not_run"])
    [void] = await conductor.approvals(status=ApprovalStatus.VOID)
    assert void.approval_id == approval.approval_id
    assert machine.ran == []


async def test_the_audit_names_the_action(bench: Bench) -> None:
    conductor = await conducted(bench, RUN, Machine().tool)
    session_id, approval = await waiting(conductor)

    rows, _ = await bench.runtime.store.audit_rows("default", session_id)

    [requested] = [json.loads(row.metadata) for row in rows if row.action == "approval.requested"]
    assert (requested["action"], requested["arguments_hash"]) == (ACTION, approval.arguments_hash)


async def test_what_goes_on_after_its_call_has_ended_cannot_ask_and_does_not_run(bench: Bench) -> None:
    machine = Machine()
    left: list[asyncio.Task[Any]] = []
    ended = asyncio.Event()

    async def later() -> None:
        await ended.wait()
        await machine.run_code("later")

    async def body(arguments: dict[str, Any]) -> str:
        left.append(asyncio.create_task(later()))
        return "left something running"

    conductor = await conducted(bench, RUN, Tool("machine", body))
    started = await conductor.start(StartRequest(messages=TASK))
    session = await conductor.run(started.session_id)
    ended.set()

    async with fail_after(5):
        with pytest.raises(ApprovalRequired):
            await left[0]
    assert (session.status, machine.ran) == ("completed", [])


async def test_a_secret_is_not_shown_and_what_was_approved_still_runs_with_it(bench: Bench) -> None:
    secret = "canary-0123456789-abcdef"
    machine = Machine()

    async def body(arguments: dict[str, Any]) -> Any:
        return await machine.run_code(f"login {secret}")

    conductor = await conducted(bench, RUN, Tool("machine", body, effect="once"))
    bench.runtime.redactor.add(secret)
    session_id, approval = await waiting(conductor)
    assert json.loads(approval.arguments)["code"] == "login [redacted]"

    session = await approved(conductor, session_id)

    assert (session.status, machine.ran) == ("completed", [f"login {secret}"])
    assert all(secret not in str(event.payload) for event in await bench.events(session_id))
