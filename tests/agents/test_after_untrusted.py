"""`requires_approval_after_untrusted`: a tool that asks once the session has read what others wrote."""

from __future__ import annotations

from typing import Any

import pytest

from conductor_ai.conductor import StartRequest
from conductor_ai.providers.scripted import Cue, Script, call, say, together
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.sdk import BaseTool, ToolCategory, ToolDefinition, ToolResult
from tests.agents.conftest import TASK, Bench, Tool, answering
from tests.agents.machine import conducted
from tests.agents.test_provenance import ATTACK, Mail

CODE = call("code", {"code": "print(1)"})


class Code(BaseTool):
    """Runs code that may have been written by a fooled model; what it prints is from outside, too."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    @property
    def definition(self) -> ToolDefinition:
        return ToolDefinition(
            name="code",
            description="Run code.",
            category=ToolCategory.CODE,
            parameters={"type": "object", "properties": {"code": {"type": "string"}}},
            untrusted_output=True,
            requires_approval_after_untrusted=True,
        )

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        self.ran.append(arguments["code"])
        return ToolResult(tool_name="code", success=True, result="1")


async def ran(bench: Bench, script: Script, *tools: BaseTool, **options: Any) -> AgentSession:
    conductor = await conducted(bench, script, *tools)
    started = await conductor.start(StartRequest(messages=TASK, **options))
    return await conductor.run(started.session_id)


@pytest.mark.parametrize("success", [True, False], ids=["result", "error"])
async def test_it_asks_once_another_tool_has_returned_text_from_outside(bench: Bench, success: bool) -> None:
    code = Code()
    conductor = await conducted(bench, [call("mail"), CODE, say("Done.")], Mail(ATTACK, success=success), code)
    session = await conductor.run((await conductor.start(StartRequest(messages=TASK))).session_id)

    assert (session.status, code.ran) == ("waiting_approval", [])
    [approval] = await conductor.approvals()
    assert (approval.tool_name, approval.arguments) == ("code", '{"code":"print(1)"}')
    await conductor.decide(approval.approval_id, "approved", by="ann")
    session = await conductor.resume(session.session_id)
    assert (session.final_answer, code.ran) == ("Done.", ["print(1)"])


@pytest.mark.parametrize(
    ("script", "runs"),
    [
        ([CODE], 1),
        ([call("look"), CODE], 1),
        ([CODE, CODE, CODE], 3),
        ([together(call("mail"), CODE)], 1),
    ],
    ids=["at first", "a trusted result", "its own output", "a page of the same step"],
)
async def test_it_does_not_ask_before(bench: Bench, script: list[Cue], runs: int) -> None:
    """What a page of the same step says came too late to be in its arguments."""
    code, look = Code(), Tool("look", answering("seen"))

    session = await ran(bench, [*script, say("Done.")], Mail(ATTACK), look, code)

    assert (session.final_answer, len(code.ran)) == ("Done.", runs)


async def test_a_tool_without_it_is_not_asked_for(bench: Bench) -> None:
    look = Tool("look", answering("seen"))
    session = await ran(bench, [call("mail"), call("look"), say("Done.")], Mail(ATTACK), look)
    assert (session.final_answer, len(look.calls)) == ("Done.", 1)


async def test_what_was_allowed_beforehand_runs_unasked(bench: Bench) -> None:
    code = Code()
    session = await ran(bench, [call("mail"), CODE, say("Done.")], Mail(ATTACK), code, pre_approved=["code"])
    assert (session.final_answer, code.ran) == ("Done.", ["print(1)"])


async def test_another_process_that_resumes_the_session_asks_too(bench: Bench) -> None:
    script = [call("mail"), CODE, CODE, say("Done.")]
    first, second, third = Code(), Code(), Code()
    paused = await ran(bench, script, Mail(ATTACK), first, limits={"max_steps": 1})
    assert paused.status == "paused"

    conductor = await conducted(bench, script, Mail(ATTACK), second)
    session = await conductor.resume(paused.session_id, limits={"max_steps": 9})
    assert (session.status, second.ran) == ("waiting_approval", [])
    [approval] = await conductor.approvals()
    await conductor.decide(approval.approval_id, "approved", by="ann")

    conductor = await conducted(bench, script, Mail(ATTACK), third)
    session = await conductor.resume(paused.session_id)
    # The first call ran, as it was approved; the second is another, and asks anew.
    assert (session.status, third.ran) == ("waiting_approval", ["print(1)"])
    assert first.ran == second.ran == []
    assert len(await conductor.approvals()) == 1


async def test_a_refusal_is_told_to_the_model_and_nothing_runs(bench: Bench) -> None:
    code = Code()
    conductor = await conducted(bench, [call("mail"), CODE, say("Then not.")], Mail(ATTACK), code)
    session = await conductor.run((await conductor.start(StartRequest(messages=TASK))).session_id)
    [approval] = await conductor.approvals()

    await conductor.decide(approval.approval_id, "denied", by="ann", reason="the mail asked for it")
    session = await conductor.resume(session.session_id)

    [refused] = session.steps[1].tool_calls
    assert (session.final_answer, code.ran) == ("Then not.", [])
    assert "refused this call: the mail asked for it" in str(refused.error)
