"""Answers by a schema where other rules meet them: other calls, limits, secrets, refusals, a model that takes over."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.errors import InvalidInput
from conductor_ai.providers.scripted import Cue, Line, Moment, call, say, together
from conductor_ai.schemas.session import PauseReason, SessionStatus
from conductor_ai.schemas.steps import StepType
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring import open_runtime
from tests.agents.conftest import TASK, Bench, Tool, answering
from tests.agents.house import CLAUDE, DEEPSEEK, FLASH, House, down, opened_house
from tests.providers.wires import ANTHROPIC, GEMINI, OPENROUTER
from tests.schemas.pictures import png
from tests.servers import chat_completions as chat_server
from tests.servers import gemini as gemini_server
from tests.tools.web.sites import http, serving

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"count": {"type": "integer", "minimum": 1}},
    "required": ["count"],
    "additionalProperties": False,
}
SECRET = "sk-canary-1234567890abcdef"
R1 = "deepseek/deepseek-r1"


class Count(BaseModel):
    count: int


class Node(BaseModel):
    name: str
    children: list[Node] = []


class Key(BaseModel):
    key: str = Field(pattern="^sk-")


def final(answer: dict[str, Any]) -> Cue:
    return call("final_answer", answer)


def answer_call(arguments: str, finish_reason: str = "tool_calls") -> dict[str, Any]:
    made = chat_server.tool_call("call_1", "final_answer", arguments)
    return chat_server.reply({"role": "assistant", "content": None, "tool_calls": [made]}, finish_reason)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened_house(tmp_path) as opened:
        yield opened


async def code_of(house: House, session_id: str) -> str:
    code: str = (await house.events(session_id))[-1].payload["code"]
    return code


async def test_of_several_answers_in_one_turn_the_first_that_fits_is_taken(bench: Bench) -> None:
    runner = await bench.runner([together(final({}), final({"count": 2}), final({"count": 3}))], response_schema=SCHEMA)
    session = await runner.run(TASK)
    assert session.output == {"count": 2}
    assert [one.outcome for one in session.steps[0].tool_calls] == ["not_run", "succeeded", "not_run"]


async def test_an_answer_that_is_never_given_alone_ends_the_session(bench: Bench) -> None:
    tool = Tool("look", answering("seen"))
    runner = await bench.runner(
        lambda _: Line("", (("look", {}), ("final_answer", {"count": 3}))), [tool], response_schema=SCHEMA
    )
    session = await runner.run(TASK)
    assert (session.status, len(tool.calls)) == (SessionStatus.FAILED, 2)
    assert "never given alone" in (session.error or "")
    assert session.steps[0].rejected is not None and "other calls stand beside it" in session.steps[0].rejected


async def test_an_answer_to_an_earlier_message_is_not_shown_as_one_to_the_last(bench: Bench) -> None:
    for script in ([final({"count": 3})], [say('{"count": 3}')]):
        runner = await bench.runner(script, response_schema=SCHEMA)
        session = await runner.run(TASK)
        failed = await runner.continue_session(session.session_id, "And now?")  # the script has no more to say
        assert (failed.status, failed.output, failed.final_answer) == (SessionStatus.FAILED, None, None)
        assert "output" not in failed.to_dict()
        assert failed.steps[-1].type is StepType.FINAL_ANSWER


async def test_a_completed_session_that_is_resumed_still_has_its_model(bench: Bench) -> None:
    runner = await bench.runner([final({"count": 3})], response_schema=Count)
    session = await runner.run(TASK)
    assert (await runner.resume(session.session_id)).output == Count(count=3)


async def test_a_model_that_holds_itself_is_a_schema(bench: Bench) -> None:
    tree = {"name": "a", "children": [{"name": "b", "children": []}]}
    runner = await bench.runner([final({"children": [{}]}), final(tree)], response_schema=Node)
    assert (await runner.run(TASK)).output == Node(name="a", children=[Node(name="b")])


async def test_a_secret_in_an_answer_is_out_of_it_before_it_is_judged(tmp_path: Path) -> None:
    settings = Settings(conductor_home=tmp_path / "home", anthropic_api_key=SecretStr(SECRET))
    for line in (say(f'{{"key": "{SECRET}"}}'), final({"key": SECRET})):
        async with open_runtime(settings, script=[line, say('{"key": "sk-none"}')]) as runtime:
            runner = AgentRunner("demo/scripted", [], ToolRegistry(), response_schema=Key, runtime=runtime)
            session = await runner.run(TASK)
        assert session.output == Key(key="sk-none")
        assert SECRET not in str(session.to_dict())


async def test_no_tool_is_on_record_as_run_for_an_answer(bench: Bench) -> None:
    runner = await bench.runner([final({}), final({"count": 3})], response_schema=SCHEMA)
    await runner.run(TASK)
    with sqlite3.connect(bench.settings.conductor_home / "conductor.db") as connection:
        assert connection.execute("SELECT * FROM tool_executions").fetchall() == []
    connection.close()


async def test_an_answer_that_came_at_the_deadline_is_taken_either_way(bench: Bench) -> None:
    def late(line: Line) -> Any:
        def script(moment: Moment) -> Line:
            time.sleep(0.05)  # the model's time, which the deadline does not cut
            return line

        return script

    for line in (Line("", (("final_answer", {"count": 3}),)), Line('{"count": 3}')):
        runner = await bench.runner(late(line), response_schema=SCHEMA, limits={"deadline_s": 0.04})
        assert (await runner.run(TASK)).output == {"count": 3}


async def test_a_limit_on_steps_holds_between_an_answer_and_its_repair(bench: Bench) -> None:
    runner = await bench.runner([say("no"), final({"count": 3})], response_schema=SCHEMA, limits={"max_steps": 1})
    session = await runner.run(TASK)
    assert session.pause_reason is PauseReason.MAX_STEPS
    session = await runner.resume(session.session_id, limits={"max_steps": 2})
    assert session.output == {"count": 3}


async def test_a_call_that_cannot_be_read_uses_up_no_repair(house: House) -> None:
    unreadable = gemini_server.reply([], "MALFORMED_FUNCTION_CALL")
    look = GEMINI.calls([("", "look", {})])
    for body in (unreadable, look, unreadable, look, GEMINI.says('{"count": 0}'), GEMINI.says('{"count": 2}')):
        house.flash.will_answer(body=body)
    session = await (await house.runner(FLASH, response_schema=SCHEMA)).run(TASK)
    assert session.output == {"count": 2}, session.error


@pytest.mark.parametrize(
    ("finish_reason", "code"), [("content_filter", "answer_refused"), ("length", "answer_cut")], ids=["refused", "cut"]
)
async def test_an_answer_that_was_ended_early_is_not_asked_for_again(
    house: House, finish_reason: str, code: str
) -> None:
    for body in (
        answer_call('{"count": 3}', finish_reason),
        chat_server.reply({"role": "assistant", "content": '{"count": 3'}, finish_reason),
    ):
        house.deepseek.will_answer(body=body)
        session = await (await house.runner(DEEPSEEK, response_schema=SCHEMA)).run(TASK)
        assert (session.status, await code_of(house, session.session_id)) == (SessionStatus.FAILED, code)
    assert len(house.deepseek.requests) == 2


async def test_calls_of_the_answer_tool_can_be_told_to_a_model_that_needs_none(house: House) -> None:
    await house.runner(DEEPSEEK)
    house.deepseek.will_answer(body=answer_call('{"count": 0}'))
    down(house.deepseek)
    house.claude.will_answer(body=ANTHROPIC.says('{"count": 2}'))
    runner = AgentRunner(
        models=[DEEPSEEK, CLAUDE], registry=ToolRegistry(), response_schema=SCHEMA, runtime=house.runtime
    )
    session = await runner.run(TASK)
    assert session.output == {"count": 2}, session.error
    sent = house.claude.requests[-1].json
    assert sent["output_config"]["format"]["type"] == "json_schema"
    assert [tool["name"] for tool in sent["tools"]] == ["final_answer"]


async def test_a_model_driven_by_text_answers_by_schema_or_fails_as_others_do(house: House) -> None:
    unreadable = "Thought: so\nAction: final_answer\nAction Input: {count: }"
    mended = ["Final Answer: three", 'Final Answer: {"count": 3}']
    for texts, output in ((mended, {"count": 3}), ([unreadable] * 3, None)):
        for text in texts:
            house.deepseek.will_answer(body=OPENROUTER.says(text))
        session = await (await house.runner(R1, response_schema=SCHEMA)).run(TASK)
        assert session.output == output, session.error
    assert await code_of(house, session.session_id) == "answer_invalid"


async def test_an_image_is_not_fetched_for_a_session_that_cannot_take_it(bench: Bench) -> None:
    async with serving({"/dot.png": http(body=png(), kind="image/png")}) as site:
        bench.settings = bench.settings.model_copy(update={"conductor_fetch_grants": site.grant})
        runner = await bench.runner([say("a"), say("b")])
        session = await runner.run(TASK)
        message = {"role": "user", "content": [{"type": "image", "url": f"{site.url}/dot.png"}]}
        with pytest.raises(InvalidInput, match="cannot read images"):
            await runner.continue_session(session.session_id, message)
        assert site.paths == []


async def test_a_runner_asks_for_each_session_as_that_one_needs(house: House) -> None:
    await house.runner(CLAUDE)
    for _ in range(3):
        house.claude.will_answer(body=ANTHROPIC.says('{"count": 2}'))
    alone, with_another = (
        AgentRunner(models=models, registry=ToolRegistry(), response_schema=SCHEMA, runtime=house.runtime)
        for models in ([CLAUDE], [CLAUDE, FLASH])
    )
    await alone.run(TASK)
    session = await with_another.run(TASK)
    assert (await alone.continue_session(session.session_id, "And now?")).output == {"count": 2}
    sent = [[tool["name"] for tool in request.json.get("tools", ())] for request in house.claude.requests]
    assert sent == [[], ["final_answer"], ["final_answer"]]
