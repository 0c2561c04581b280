"""Answers by a schema: taken as text or as a call, given back once, then a failure; on every wire, after a resume."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, field_validator

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.conductor import Conductor, StartRequest
from conductor_ai.errors import InvalidInput, InvalidTool
from conductor_ai.providers.scripted import Cue, Line, Moment, Script, call, say, together
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.schemas.steps import StepType
from conductor_ai.tools.registry import ToolRegistry
from tests.agents.conftest import TASK, Bench, Gate, Tool, answering
from tests.agents.house import CLAUDE, DEEPSEEK, FLASH, TOOL_USE, opened_house
from tests.servers import anthropic as anthropic_server
from tests.servers import chat_completions as chat_server
from tests.servers import gemini as gemini_server

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"count": {"type": "integer", "minimum": 1}, "names": {"type": "array", "items": {"type": "string"}}},
    "required": ["count"],
    "additionalProperties": False,
}
GOOD = {"count": 3, "names": ["Alma"]}
BAD = {"count": 0}


class Visit(BaseModel):
    day: date
    guests: int = Field(gt=0)

    @field_validator("guests")
    @classmethod
    def _even(cls, guests: int) -> int:
        if guests % 2:
            raise ValueError("guests come in pairs")
        return guests


def final(answer: dict[str, Any]) -> Cue:
    return call("final_answer", answer)


async def answered(bench: Bench, script: Script, **options: Any) -> AgentSession:
    runner = await bench.runner(script, [Tool("look", answering("seen"))], response_schema=SCHEMA, **options)
    return await runner.run(TASK)


async def test_the_call_of_the_answer_tool_is_the_answer(bench: Bench) -> None:
    session = await answered(bench, [call("look"), final(GOOD)])
    assert (session.status, session.output) == (SessionStatus.COMPLETED, GOOD)
    assert session.final_answer == '{"count":3,"names":["Alma"]}'
    shown = session.to_dict()
    assert shown["output"] == GOOD and shown["steps"][-1]["output"] == GOOD
    assert session.steps[-1].type is StepType.FINAL_ANSWER and session.steps[-1].tool_calls[0].success
    assert (await bench.types(session.session_id))[-2:] == ["tool.completed", "session.completed"]


@pytest.mark.parametrize(
    "text",
    ['{"count": 3.0, "names": ["Alma"]}', ' \n```json\n{"count": 3, "names": ["Alma"]}\n```\n'],
    ids=["bare", "fenced"],
)
async def test_a_text_that_is_json_and_fits_is_an_answer(bench: Bench, text: str) -> None:
    session = await answered(bench, [say(text)])
    assert session.output == GOOD
    assert type(session.output["count"]) is int


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (final(BAD), "count: 0 is less than the minimum of 1"),
        (final({}), '"count" is a required property'),
        (say("There are three."), "it is not one JSON object"),
        (say("[3]"), "it is not one JSON object"),
        (say('{"count": 3} {"count": 3}'), "it is not one JSON object"),
        (say('{"count": 3, "more": 1}'), "Additional properties are not allowed ('more' was unexpected)"),
    ],
    ids=["call", "empty call", "prose", "list", "two objects", "text"],
)
async def test_an_answer_that_does_not_fit_is_given_back_once(bench: Bench, wrong: Cue, problem: str) -> None:
    told: list[str] = []

    def mended(moment: Moment) -> Line:
        told.append(moment.replies[0].content if moment.replies else moment.prompt)
        return Line("", (("final_answer", GOOD),))

    session = await answered(bench, [wrong, mended])
    assert session.output == GOOD
    rejected = [event for event in await bench.events(session.session_id) if event.type.value == "answer.rejected"]
    assert len(rejected) == 1 and problem in rejected[0].payload["problem"] and problem in told[0]


async def test_an_empty_answer_is_given_back_too(bench: Bench) -> None:
    lines = iter([Line(""), Line('{"count": 3, "names": ["Alma"]}')])
    session = await answered(bench, lambda moment: next(lines))
    assert session.output == GOOD


@pytest.mark.parametrize("second", [final(BAD), say("no")], ids=["call", "text"])
async def test_a_second_answer_that_does_not_fit_is_a_typed_failure(bench: Bench, second: Cue) -> None:
    session = await answered(bench, [final(BAD), call("look"), second, final(GOOD)])
    assert (session.status, session.output) == (SessionStatus.FAILED, None)
    failed = (await bench.events(session.session_id))[-1].payload
    assert (failed["code"], failed["resumable"]) == ("answer_invalid", False)
    runner = await bench.runner(
        [final(BAD)] * 3 + [final(GOOD)], [Tool("look", answering("seen"))], response_schema=SCHEMA
    )
    after = await runner.continue_session(session.session_id, "Try again.")
    assert after.output == GOOD


async def test_beside_other_calls_an_answer_is_not_taken(bench: Bench) -> None:
    tool = Tool("look", answering("seen"))
    runner = await bench.runner([together(call("look"), final(GOOD)), final(GOOD)], [tool], response_schema=SCHEMA)
    session = await runner.run(TASK)
    assert session.output == GOOD and len(tool.calls) == 1
    assert [one.outcome for one in session.steps[0].tool_calls] == ["succeeded", "not_run"]


async def test_a_pydantic_model_checks_with_its_own_validators_and_is_what_comes_out(bench: Bench) -> None:
    told: list[str] = []

    def mended(moment: Moment) -> Line:
        told.append(moment.replies[0].content)
        return Line("", (("final_answer", {"day": "2026-02-01", "guests": 4}),))

    runner = await bench.runner([final({"day": "2026-02-01", "guests": 3}), mended], response_schema=Visit)
    session = await runner.run(TASK)
    assert session.output == Visit(day=date(2026, 2, 1), guests=4)
    assert "guests come in pairs" in told[0]
    assert (await bench.runtime.states.view(session.session_id, "default")).output == {"day": "2026-02-01", "guests": 4}


async def test_a_session_keeps_its_schema_where_another_process_resumes_it(bench: Bench) -> None:
    gate = Gate()
    gate.open.set()
    script = [call("look"), final(BAD), final(GOOD)]
    tool = Tool("look", gate)
    runner = await bench.runner(script, [tool], response_schema=SCHEMA, limits={"max_steps": 2})
    paused = await runner.run(TASK)
    assert paused.status is SessionStatus.PAUSED
    runtime = await bench.open(script)
    registry = ToolRegistry()
    registry.register(tool)
    conductor = Conductor(runtime, registry, runtime.catalog, default_model=lambda: "demo/scripted")
    session = await conductor.resume(paused.session_id, limits={"max_steps": 9})
    assert session.output == GOOD


async def test_a_request_carries_schema_and_parameters(bench: Bench) -> None:
    runtime = await bench.open([final(GOOD)])
    conductor = Conductor(runtime, ToolRegistry(), runtime.catalog, default_model=lambda: "demo/scripted")
    session = await conductor.start(
        StartRequest(messages=TASK, response_schema=SCHEMA, parameters={"temperature": "0.5"})
    )
    session = await conductor.run(session.session_id)
    assert session.output == GOOD
    created = (await bench.events(session.session_id))[0].payload
    assert created["response_schema"] == SCHEMA
    assert created["parameters"] == {"temperature": 0.5, "reasoning_effort": None}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "array"}, "must describe an object"),
        ({"type": "object", "properties": {"a": {"type": "nothing"}}}, "is not a JSON schema that can be used"),
        ({"type": "object", "$ref": "https://example.com/s.json"}, "references outside the schema are refused"),
        ({"type": "object", "default": {1, 2}}, "is not JSON data"),
        (int, "must be a JSON schema or a Pydantic model"),
        ("{}", "must be a JSON schema or a Pydantic model"),
    ],
    ids=["array", "broken", "reference", "no data", "type", "text"],
)
def test_a_schema_that_cannot_be_used_is_refused_at_once(schema: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match="response_schema") as refused:
        AgentRunner("demo/scripted", registry=ToolRegistry(), response_schema=schema)
    assert said in str(refused.value)


def test_a_tool_cannot_take_the_name_of_the_answer_tool() -> None:
    with pytest.raises(InvalidTool, match="final_answer"):
        ToolRegistry().register(Tool("final_answer", answering(1)))


async def test_on_every_wire_beside_tools_the_answer_fits(tmp_path: Path) -> None:
    by_call = "final_answer"
    async with opened_house(tmp_path) as house:
        house.claude.will_answer(body=anthropic_server.reply([TOOL_USE], "tool_use"))
        house.flash.will_answer(body=gemini_server.reply([{"functionCall": {"name": "look", "args": {}}}]))
        look = chat_server.tool_call("call_1", "look", "{}")
        house.deepseek.will_answer(
            body=chat_server.reply({"role": "assistant", "content": None, "tool_calls": [look]}, "tool_calls")
        )
        block = {"type": "tool_use", "id": "toolu_9", "name": by_call, "input": GOOD}
        house.claude.will_answer(body=anthropic_server.reply([block], "tool_use"))
        house.flash.will_answer(body=gemini_server.reply([{"functionCall": {"name": by_call, "args": GOOD}}]))
        done = chat_server.tool_call("call_9", by_call, '{"count": 3, "names": ["Alma"]}')
        house.deepseek.will_answer(
            body=chat_server.reply({"role": "assistant", "content": None, "tool_calls": [done]}, "tool_calls")
        )
        for model in (CLAUDE, FLASH, DEEPSEEK):
            session = await (await house.runner(model, response_schema=SCHEMA)).run(TASK)
            assert session.output == GOOD, model
