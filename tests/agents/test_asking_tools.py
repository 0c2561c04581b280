"""A tool that asks a person in the middle of its work: it stops, waits as a row, and starts again once approved."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from conductor_ai.conductor import StartRequest
from conductor_ai.providers.scripted import call, say, together
from conductor_ai.sdk.context import current_context
from conductor_ai.sdk.security.approval import require_approval
from tests.agents.conftest import TASK, Bench, Gate, Tool
from tests.agents.machine import ACTION, RUN, Machine, approved, conducted, outcomes, waiting
from tests.conftest import fail_after


async def test_the_call_waits_for_exactly_this_and_leaves_no_result(bench: Bench) -> None:
    machine = Machine()
    conductor = await conducted(bench, RUN, machine.tool)

    session_id, approval = await waiting(conductor)

    assert (approval.tool_name, approval.action) == ("machine", ACTION)
    assert approval.arguments == '{"code":"1 + 1","shell":false}'
    assert (len(machine.begun), machine.ran) == (1, [])
    assert (await bench.types(session_id))[-2:] == ["tool.started", "approval.requested"]
    assert await bench.runtime.store.tool_executions("default", session_id) == []
    again = await conductor.resume(session_id)
    assert (again.status, len(machine.begun)) == ("waiting_approval", 1)


async def test_once_approved_it_starts_again_from_its_beginning_and_goes_through(bench: Bench) -> None:
    machine = Machine()
    conductor = await conducted(bench, RUN, machine.tool)
    session_id, _ = await waiting(conductor)

    session = await approved(conductor, session_id)

    assert (session.final_answer, outcomes(session)) == ("Computed.", ["succeeded"])
    assert machine.ran == ["1 + 1"]
    assert machine.begun == [{"code": "1 + 1"}] * 2
    assert (await bench.types(session_id))[3:10] == [
        "tool.started",
        "approval.requested",
        "approval.decided",
        "session.resumed",
        "tool.started",
        "tool.completed",
        "model.completed",
    ]
    assert len(await bench.runtime.store.tool_executions("default", session_id)) == 1


async def test_the_key_of_the_call_is_the_same_both_times(bench: Bench) -> None:
    keys: list[str] = []
    act = Machine().run_code

    async def body(arguments: dict[str, Any]) -> Any:
        keys.append(current_context().idempotency_key)
        return await act("x")

    conductor = await conducted(bench, RUN, Tool("machine", body, effect="once"))
    session_id, _ = await waiting(conductor)
    await approved(conductor, session_id)

    assert len(keys) == 2
    assert len(set(keys)) == 1


async def test_denied_it_is_refused_with_the_reason_and_does_not_start_again(bench: Bench) -> None:
    machine = Machine()
    conductor = await conducted(bench, RUN, machine.tool)
    session_id, approval = await waiting(conductor)

    await conductor.decide(approval.approval_id, "denied", by="ann", reason="not on a Sunday")
    session = await conductor.resume(session_id)

    assert (session.status, outcomes(session)) == ("completed", ["refused"])
    assert "not on a Sunday" in (session.steps[0].tool_calls[0].error or "")
    assert (len(machine.begun), machine.ran) == (1, [])


async def test_another_process_takes_the_approved_call_up(bench: Bench) -> None:
    session_id, approval = await waiting(await conducted(bench, RUN, Machine().tool))
    machine = Machine()
    elsewhere = await conducted(bench, RUN, machine.tool)

    await elsewhere.decide(approval.approval_id, "approved", by="bob")
    session = await elsewhere.resume(session_id)

    assert (session.final_answer, machine.ran) == ("Computed.", ["1 + 1"])


async def test_what_asks_for_something_else_the_second_time_is_asked_about_anew(bench: Bench) -> None:
    machine = Machine()
    codes = iter(["harmless", "evil", "evil"])

    async def body(arguments: dict[str, Any]) -> Any:
        return await machine.run_code(next(codes))

    conductor = await conducted(bench, RUN, Tool("machine", body, effect="once"))
    session_id, first = await waiting(conductor)
    assert json.loads(first.arguments)["code"] == "harmless"

    asked_anew = await approved(conductor, session_id)

    assert (asked_anew.status, machine.ran) == ("waiting_approval", [])
    [second] = await conductor.approvals(session_id=session_id)
    assert json.loads(second.arguments)["code"] == "evil"
    session = await approved(conductor, session_id)
    assert (session.status, machine.ran) == ("completed", ["evil"])


async def test_the_same_function_under_another_category_is_something_else(bench: Bench) -> None:
    ran: list[str] = []
    categories = iter(["reading", "deleting", "deleting"])

    async def act(path: str) -> None:
        ran.append(path)

    async def body(arguments: dict[str, Any]) -> None:
        await require_approval(category=next(categories))(act)("x")

    conductor = await conducted(bench, RUN, Tool("machine", body, effect="once"))
    session_id, _ = await waiting(conductor)

    asked_anew = await approved(conductor, session_id)

    assert (asked_anew.status, ran) == ("waiting_approval", [])
    assert [approval.action for approval in await conductor.approvals()] == ["deleting: act"]


@pytest.mark.parametrize("codes", [["a", "b"], ["a", "a"]])
async def test_two_questions_in_one_call_are_asked_one_after_the_other(bench: Bench, codes: list[str]) -> None:
    machine = Machine(effect="idempotent")
    conductor = await conducted(bench, [call("machine", {"codes": codes}), say("Computed.")], machine.tool)
    session_id, first = await waiting(conductor)

    half = await approved(conductor, session_id)
    [second] = await conductor.approvals(session_id=session_id)
    session = await approved(conductor, session_id)

    asked = [json.loads(approval.arguments)["code"] for approval in (first, second)]
    assert (half.status, session.status, asked) == ("waiting_approval", "completed", codes)
    assert machine.ran == [codes[0], *codes]
    assert outcomes(session) == ["succeeded"]


async def test_a_once_tool_that_asks_again_is_not_started_again(bench: Bench) -> None:
    machine = Machine()
    conductor = await conducted(bench, [call("machine", {"codes": ["a", "b"]}), say("Computed.")], machine.tool)
    session_id, _ = await waiting(conductor)

    session = await approved(conductor, session_id)

    assert (session.status, outcomes(session), machine.ran) == ("completed", ["unknown"], ["a"])
    assert "it asked for more (code_execution: run_code), which did not run" in str(
        session.steps[0].tool_calls[0].error
    )
    [execution] = await bench.runtime.store.tool_executions("default", session_id)
    assert not execution.success


async def test_a_denied_second_question_ends_the_call_that_is_on_record(bench: Bench) -> None:
    machine = Machine(effect="idempotent")
    conductor = await conducted(bench, [call("machine", {"codes": ["a", "b"]}), say("Computed.")], machine.tool)
    session_id, _ = await waiting(conductor)
    await approved(conductor, session_id)

    [second] = await conductor.approvals(session_id=session_id)
    await conductor.decide(second.approval_id, "denied", by="ann")
    session = await conductor.resume(session_id)

    assert (outcomes(session), machine.ran, len(machine.begun)) == (["refused"], ["a"], 2)
    [execution] = await bench.runtime.store.tool_executions("default", session_id)
    assert "refused code_execution: run_code in this call" in str(execution.error)


@pytest.mark.parametrize("cancels", [False, True])
async def test_a_question_is_not_lost_when_its_step_is_interrupted(bench: Bench, cancels: bool) -> None:
    machine, gate = Machine(), Gate()
    cues = [together(call("machine", {"code": "1"}), call("slow")), say("Computed.")]
    conductor = await conducted(bench, cues, machine.tool, Tool("slow", gate, effect="read"))
    started = await conductor.start(StartRequest(messages=TASK))
    run = asyncio.create_task(conductor.run(started.session_id))
    async with fail_after(5):
        await gate.entered.wait()
        await machine.asked.wait()
        if cancels:
            session = await conductor.cancel(started.session_id)
            await run
            assert (outcomes(session)[0], machine.ran) == ("not_run", [])
            return
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    gate.open.set()
    session = await approved(conductor, started.session_id)
    assert (session.status, outcomes(session), machine.ran) == ("completed", ["succeeded", "succeeded"], ["1"])


async def test_facts_from_before_the_question_are_kept(bench: Bench) -> None:
    machine = Machine()

    async def body(arguments: dict[str, Any]) -> Any:
        current_context().record(read_from="https://example.com")
        return await machine.run_code("1")

    conductor = await conducted(bench, RUN, Tool("machine", body, effect="once"))
    session_id, _ = await waiting(conductor)

    rows, _ = await bench.runtime.store.audit_rows("default", session_id)
    [row] = [row for row in rows if row.action == "approval.requested"]
    assert json.loads(row.metadata)["facts"] == {"read_from": "https://example.com"}


async def test_questions_asked_at_once_in_one_call_come_before_a_person_one_by_one(bench: Bench) -> None:
    machine = Machine()

    async def body(arguments: dict[str, Any]) -> Any:
        return await asyncio.gather(machine.run_code("a"), machine.run_code("b"))

    conductor = await conducted(bench, RUN, Tool("machine", body, effect="idempotent"))
    session_id, _ = await waiting(conductor)

    half = await approved(conductor, session_id)
    session = await approved(conductor, session_id)

    assert (half.status, session.status) == ("waiting_approval", "completed")
    assert machine.ran[-2:] == ["a", "b"]
