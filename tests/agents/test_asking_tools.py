"""A tool that asks a person in the middle of its work: it stops, waits as a row, and starts again once approved."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from conductor_ai.conductor import Conductor, StartRequest
from conductor_ai.errors import ApprovalRequired, ApprovalVoid
from conductor_ai.providers.scripted import Script, call, say, together
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.approvals import ApprovalRecord, ApprovalStatus
from conductor_ai.sdk import BaseTool, PluginRegistry
from conductor_ai.sdk.base import ToolEffect
from conductor_ai.sdk.context import current_context
from conductor_ai.sdk.security.approval import require_approval
from conductor_ai.tools.registry import ToolRegistry
from tests.agents.conftest import TASK, Bench, Gate, Tool, answering, edit
from tests.conftest import fail_after

ACTION = "code_execution: run_code"
RUN = [call("machine", {"code": "1 + 1"}), say("Computed.")]


class Machine:
    """A tool that runs code if a person agrees. `begun` has each of its starts, `ran` what was let through."""

    def __init__(self, *, catches: bool = False, effect: ToolEffect = "once", **options: Any) -> None:
        self.begun: list[Any] = []
        self.ran: list[str] = []
        self.asked = asyncio.Event()
        self._catches = catches
        self.run_code = require_approval(category="code_execution")(self._run_code())
        self.tool = Tool("machine", self._body, effect=effect, **options)

    def _run_code(self) -> Any:
        async def run_code(code: str, shell: bool = False) -> str:
            self.ran.append(code)
            return f"ran {code}"

        return run_code

    async def _body(self, arguments: dict[str, Any]) -> Any:
        self.begun.append(arguments)
        codes = arguments["codes"] if "codes" in arguments else [arguments["code"]]
        try:
            return [await self.run_code(code) for code in codes]
        except ApprovalRequired:
            self.asked.set()
            if self._catches:
                return "all is well"
            raise


async def conducted(bench: Bench, script: Script, *tools: BaseTool) -> Conductor:
    runtime = await bench.open(script)
    registry = ToolRegistry()
    for tool in tools:
        registry.register(tool)
    return Conductor(runtime, registry, runtime.catalog, default_model=lambda: "demo/scripted")


async def waiting(conductor: Conductor, **options: Any) -> tuple[str, ApprovalRecord]:
    started = await conductor.start(StartRequest(messages=TASK, **options))
    session = await conductor.run(started.session_id)
    assert session.status == "waiting_approval", session.error
    [approval] = await conductor.approvals(session_id=session.session_id)
    return session.session_id, approval


async def approved(conductor: Conductor, session_id: str) -> AgentSession:
    """Approve all that waits, and go on."""
    for approval in await conductor.approvals(session_id=session_id):
        await conductor.decide(approval.approval_id, "approved", by="ann")
    return await conductor.resume(session_id)


def outcomes(session: AgentSession) -> list[str | None]:
    return [view.outcome for step in session.steps for view in step.tool_calls]


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
