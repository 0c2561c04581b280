"""AgentRunner: one behaviour of the loop a test, over a real store and the scripted model."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.agents.schemas import AgentSession, AgentStep, Message, Role
from conductor_ai.errors import InvalidInput, SessionNotFound, UnknownTool, UnpricedModel
from conductor_ai.providers.scripted import Line, Moment, call, say, together
from conductor_ai.schemas.session import PauseReason, SessionStatus
from conductor_ai.schemas.steps import StepType
from conductor_ai.sdk import ToolResult
from conductor_ai.settings import Settings
from tests.agents.conftest import TASK, Bench, Gate, Tool, answering, line
from tests.conftest import fail_after


async def test_a_session_runs_from_message_over_tool_to_answer(bench: Bench) -> None:
    tool = Tool("look", answering({"found": 3}))
    runner = await bench.runner([call("look"), say("Three.")], [tool])

    session = await runner.run([Message(Role.USER, "Do it.")])

    assert isinstance(session, AgentSession)
    assert isinstance(session.steps[0], AgentStep)
    assert session.status == "completed"
    assert session.final_answer == "Three."
    assert [step.type for step in session.steps] == ["tool_call", "final_answer"]
    assert session.steps[0].tool_calls[0].result == {"found": 3}
    assert await bench.types(session.session_id) == [
        "session.created",
        "message.added",
        "model.completed",
        "tool.started",
        "tool.completed",
        "model.completed",
        "session.completed",
    ]
    assert [event.seq for event in await bench.events(session.session_id)] == list(range(1, 8))


async def test_the_plans_loop_over_execute_step_ends(bench: Bench) -> None:
    runner = await bench.runner([call("look"), say("Done.")], [Tool("look", answering("x"))])
    session = await runner.start_session(messages=TASK, org_id="default")

    types = []
    while session.status == "running":
        step = await runner.execute_step(session.session_id)
        types.append(step.type)

    assert types == ["tool_call", "final_answer"]
    assert step.content == "Done."
    assert await runner.execute_step(session.session_id) == session.steps[-1]


async def test_parallel_calls_run_together_and_are_answered_in_call_order(bench: Bench) -> None:
    second_ran = asyncio.Event()

    async def first(arguments: dict[str, Any]) -> str:
        await second_ran.wait()
        return "first"

    async def second(arguments: dict[str, Any]) -> str:
        second_ran.set()
        return "second"

    turns: list[list[str]] = []

    def script(moment: Moment) -> Line:
        turns.append([reply.content for reply in moment.replies])
        return line([together(call("first"), call("second")), say("Both.")], moment)

    runner = await bench.runner(script, [Tool("first", first), Tool("second", second)])
    async with fail_after(5):
        session = await runner.run(TASK)

    assert session.status == "completed"
    assert turns[1] == ["first", "second"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [({"day": "tomorrow"}, "day"), ({}, "day"), ({"day": "2026-01-01", "x": 1}, "x")],
)
async def test_arguments_that_do_not_fit_are_told_to_the_model_and_the_tool_does_not_run(
    bench: Bench, arguments: dict[str, Any], part: str
) -> None:
    schema = {
        "type": "object",
        "properties": {"day": {"type": "string", "format": "date"}},
        "required": ["day"],
        "additionalProperties": False,
    }
    tool = Tool("slots", answering("x"), parameters=schema)
    runner = await bench.runner([call("slots", arguments), say("Sorry.")], [tool])

    session = await runner.run(TASK)

    [made] = session.steps[0].tool_calls
    assert made.outcome == "not_run"
    assert made.error is not None and part in made.error
    assert tool.calls == []
    assert session.status == "completed"


async def _raise(arguments: dict[str, Any]) -> Any:
    raise RuntimeError("the printer is on fire")


async def _exit(arguments: dict[str, Any]) -> Any:
    raise SystemExit(3)


async def _cancel_itself(arguments: dict[str, Any]) -> Any:
    raise asyncio.CancelledError


async def _rubbish(arguments: dict[str, Any]) -> Any:
    return ToolResult(tool_name="t", success=True, result={"x": object()})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (_raise, "RuntimeError: the printer is on fire"),
        (_exit, "SystemExit: 3"),
        (_cancel_itself, "CancelledError"),
        (_rubbish, "not JSON data"),
    ],
)
async def test_whatever_a_tool_does_is_a_result_the_model_reads(bench: Bench, body: Any, said: str) -> None:
    read: list[str] = []

    def script(moment: Moment) -> Line:
        read.extend(reply.content for reply in moment.replies)
        return line([call("t"), say("Noted.")], moment)

    runner = await bench.runner(script, [Tool("t", body)])

    session = await runner.run(TASK)

    assert session.status == "completed"
    assert session.steps[0].tool_calls[0].outcome == "failed"
    assert said in read[0]


async def test_a_tool_that_returns_no_tool_result_is_a_failed_call(bench: Bench) -> None:
    class Rubbish(Tool):
        async def run(self, arguments: dict[str, Any]) -> ToolResult:
            return 42  # type: ignore[return-value]

    runner = await bench.runner([call("t"), say("Noted.")], [Rubbish("t", answering(None))])

    session = await runner.run(TASK)

    assert session.steps[0].tool_calls[0].error == "t returned int instead of a ToolResult"


async def test_an_unknown_tool_is_named_to_the_model_with_the_nearest_one(bench: Bench) -> None:
    runner = await bench.runner([call("lock"), say("Oh.")], [Tool("look", answering(1))])

    session = await runner.run(TASK)

    assert session.steps[0].tool_calls[0].error == "there is no tool 'lock'; use look"


async def test_a_tool_that_takes_too_long_is_ended(bench: Bench) -> None:
    runner = await bench.runner(
        [together(call("read_it"), call("send_it")), say("Slow.")],
        [
            Tool("read_it", Gate(), timeout_s=0.01),
            Tool("send_it", Gate(), effect="once", timeout_s=0.01),
        ],
    )

    async with fail_after(5):
        session = await runner.run(TASK)

    read_it, send_it = session.steps[0].tool_calls
    assert (read_it.outcome, read_it.error) == ("failed", "timed out after 0.01 s")
    assert send_it.outcome == "unknown"
    assert "outcome unknown" in (send_it.error or "")


async def test_an_oversized_result_is_stored_whole_and_shown_in_part(bench: Bench) -> None:
    shown: list[str] = []

    def script(moment: Moment) -> Line:
        shown.extend(reply.content for reply in moment.replies)
        return line([call("big"), say("Big.")], moment)

    runner = await bench.runner(script, [Tool("big", answering("x" * 10_000_000))])

    session = await runner.run(TASK)

    assert len(shown[0]) < 51_000
    assert "50,000 of 10,000,000 characters shown" in shown[0]
    assert session.steps[0].tool_calls[0].result == "x" * 10_000_000


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_steps": 2}, PauseReason.MAX_STEPS),
        ({"deadline_s": 1e-9}, PauseReason.DEADLINE),
    ],
)
async def test_a_limit_pauses_and_a_raised_limit_goes_on(
    bench: Bench, limits: dict[str, Any], reason: PauseReason
) -> None:
    script = [call("look"), call("look"), call("look"), say("Done.")]
    tool = Tool("look", answering(1))
    runner = await bench.runner(script, [tool], limits=limits)

    session = await runner.run(TASK)
    assert (session.status, session.pause_reason) == (SessionStatus.PAUSED, reason)
    again = await runner.execute_step(session.session_id)
    assert again.type is StepType.PAUSED
    raised = await runner.resume(session.session_id, limits=dict.fromkeys(limits, 1000))

    assert raised.status == "completed"
    assert len(tool.calls) == 3


async def test_a_step_limit_counts_from_the_newest_message(bench: Bench) -> None:
    runner = await bench.runner([say("One."), say("Two."), say("Three.")], limits={"max_steps": 1})
    session = await runner.run(TASK)

    second = await runner.continue_session(session.session_id, "And?")
    third = await runner.continue_session(session.session_id, "And?")

    assert (second.status, third.final_answer) == ("completed", "Three.")


async def test_a_money_limit_is_refused_where_the_price_is_unknown(bench: Bench) -> None:
    bench.settings.conductor_home.mkdir(parents=True)
    (bench.settings.conductor_home / "models.toml").write_text('[models."acme/unpriced"]\nprovider = "openrouter"\n')
    bench.settings = Settings(conductor_home=bench.settings.conductor_home, openrouter_api_key=SecretStr("any"))
    runtime = await bench.open([])
    runner = AgentRunner("acme/unpriced", limits={"max_cost_usd": "1"}, runtime=runtime)
    with pytest.raises(UnpricedModel):
        await runner.run(TASK)


async def test_a_started_session_is_there_for_its_org_only(bench: Bench) -> None:
    runner = await bench.runner([say("Hi.")])
    session = await runner.run(TASK, org_id="acme")

    with pytest.raises(SessionNotFound):
        await runner.execute_step(session.session_id, org_id="other")
    assert (await runner.execute_step(session.session_id, org_id="acme")).content == "Hi."


@pytest.mark.parametrize(
    "messages",
    [[], [{"role": "assistant", "content": "x"}], [{"role": "user", "content": ""}], ["x"], [{"role": "tool"}]],
)
async def test_messages_that_make_no_conversation_are_refused(bench: Bench, messages: Any) -> None:
    runner = await bench.runner([say("Hi.")])
    with pytest.raises(InvalidInput):
        await runner.run(messages)


async def test_an_unknown_tool_name_is_refused_before_anything_runs(bench: Bench) -> None:
    with pytest.raises(UnknownTool, match="no_such"):
        AgentRunner("demo/scripted", ["no_such"])
    with pytest.raises(InvalidInput, match="list of names"):
        AgentRunner("demo/scripted", "find_dealers")


async def test_an_interrupt_pauses_and_only_what_may_be_repeated_is(bench: Bench) -> None:
    gates = {"read_it": Gate(), "send_it": Gate()}
    tools = [Tool("read_it", gates["read_it"]), Tool("send_it", gates["send_it"], effect="once")]
    runner = await bench.runner([together(call("read_it"), call("send_it")), say("Done.")], tools)
    session = await runner.start_session(TASK)
    task = asyncio.create_task(runner.drive(session.session_id))
    async with fail_after(5):
        await gates["read_it"].entered.wait()
        await gates["send_it"].entered.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    paused = await runner.execute_step(session.session_id)
    gates["read_it"].open.set()
    done = await runner.resume(session.session_id)

    assert paused.type is StepType.PAUSED
    assert done.status == "completed"
    assert [len(tool.calls) for tool in tools] == [2, 1]
    read_it, send_it = done.steps[0].tool_calls
    assert read_it.result == "through"
    assert send_it.outcome == "unknown" and "outcome unknown" in (send_it.error or "")


async def test_cancel_ends_what_runs_and_answers_every_call(bench: Bench) -> None:
    gate = Gate()
    tool = Tool("send_it", gate, effect="once")
    runner = await bench.runner([call("send_it"), say("Never.")], [tool])
    session = await runner.start_session(TASK)
    task = asyncio.create_task(runner.drive(session.session_id))
    async with fail_after(5):
        await gate.entered.wait()
        cancelled = await runner.cancel(session.session_id)
        assert (await task) is cancelled

    assert cancelled.status == "cancelled"
    assert (await bench.types(session.session_id))[-3:] == [
        "session.cancel_requested",
        "tool.completed",
        "session.cancelled",
    ]
    assert cancelled.steps[0].tool_calls[0].outcome == "unknown"
