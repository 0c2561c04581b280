"""Answers that must fit a schema, from models that call tools in text or in bare JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from conductor_ai.model_catalog import ReasoningStyle
from conductor_ai.providers.base import Reasoning
from conductor_ai.providers.text_react import BareJSONCalls, TextReAct
from conductor_ai.schemas.images import Image
from conductor_ai.schemas.messages import Message, ModelResponse, Role, StopReason
from conductor_ai.schemas.parameters import ReasoningEffort
from conductor_ai.sdk.base import ToolCategory, ToolDefinition
from tests.providers.lines import FIND, HELLO, Line, connected, own_turn, replies_to
from tests.providers.wires import LOCAL, OPENROUTER, WIRES, Wire

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
FINAL = ToolDefinition(
    name="final_answer", description="Give the final answer.", category=ToolCategory.DATA, parameters=SCHEMA
)
TOOLS = (FIND, FINAL)
ANSWER = '{"city": "Köln"}'


@pytest.fixture
async def r1(http: aiohttp.ClientSession) -> AsyncIterator[Line]:
    async with connected(OPENROUTER, http) as made:
        yield replace(made, provider=TextReAct(made.provider))


@pytest.fixture
async def coder(http: aiohttp.ClientSession) -> AsyncIterator[Line]:
    async with connected(LOCAL, http) as made:
        yield replace(made, provider=BareJSONCalls(made.provider))


async def said(line: Line, text: str, **head: Any) -> ModelResponse:
    line.server.will_answer(body=line.wire.says(text))
    return await line.ask(**head)


def calls_of(response: ModelResponse) -> list[tuple[str, Any]]:
    return [(call.name, call.arguments) for call in response.tool_calls]


async def test_only_tools_become_text(r1: Line) -> None:
    reasoning = Reasoning(ReasoningEffort.LOW, ReasoningStyle.EFFORT)
    wishes = {"temperature": 0.2, "reasoning": reasoning, "answer_schema": SCHEMA, "hosts": ("a", "b")}
    await said(r1, "ok", tools=TOOLS, must_call=True, **wishes)
    await said(r1, "ok", **wishes)
    with_tools, without = (request.json for request in r1.server.requests)
    with_tools["messages"] = [turn for turn in with_tools["messages"] if turn["role"] != "system"]
    assert with_tools == without
    assert without.keys() >= {"temperature", "reasoning", "response_format", "provider"}


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_no_wire_is_asked_for_a_call_of_a_tool_that_it_is_not_shown(
    wire: Wire, http: aiohttp.ClientSession
) -> None:
    async with connected(wire, http) as made:
        line = replace(made, provider=TextReAct(made.provider))
        await said(line, "ok", tools=TOOLS, must_call=True)
        await said(line, "ok", tools=TOOLS)
        demanded, free = (request.json.keys() for request in line.server.requests)
        assert demanded == free


@pytest.mark.parametrize("must_call", [True, False], ids=["must", "may"])
async def test_a_model_that_must_call_is_offered_no_other_end(r1: Line, must_call: bool) -> None:
    await said(r1, "ok", tools=TOOLS, must_call=must_call, instructions="Be brief.")
    text = r1.server.requests[0].json["messages"][0]["content"]
    assert ("Final Answer: your answer" in text, "Each of your answers must use a tool" in text) == (
        not must_call,
        must_call,
    )
    assert text.index("Be brief.") < text.index("Action Input:") < text.index("- find: ") < text.index("- final_answer")


@pytest.mark.parametrize(
    "text",
    [
        f"Thought: I know.\nAction: final_answer\nAction Input: {ANSWER}",
        f"Action: final_answer({ANSWER})",
        f"Action: `final_answer`\nAction Input:\n```json\n{ANSWER}\n```",
        f'Action:\n{{"action": "final_answer", "action_input": {ANSWER}}}',
        f'{{"name": "final_answer", "arguments": {ANSWER}}}',
        f"Action: final_answer\nAction Input: {ANSWER}\nFinal Answer: {ANSWER}",
    ],
    ids=["our form", "as a function", "fenced", "JSON action", "bare JSON", "said twice"],
)
async def test_the_answer_may_be_a_call_of_the_answer_tool(r1: Line, text: str) -> None:
    response = await said(r1, text, tools=TOOLS)
    assert calls_of(response) == [("final_answer", {"city": "Köln"})]
    assert response.stop_reason is StopReason.TOOL_USE


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (f"Final Answer: {ANSWER}", ANSWER),
        (f"Thought: I know.\nFinal Answer:\n{ANSWER}\n", ANSWER),
        (f"Final_Answer: {ANSWER}", ANSWER),
        (f"Final Answer: ```json\n{ANSWER}\n```", f"```json\n{ANSWER}\n```"),
        (ANSWER, ANSWER),
        (f"```json\n{ANSWER}\n```", f"```json\n{ANSWER}\n```"),
        ('Final Answer: {"name": "find", "arguments": {"what": "x"}}', '{"name": "find", "arguments": {"what": "x"}}'),
        ('{"name": "Bob", "arguments": {"what": "x"}}', '{"name": "Bob", "arguments": {"what": "x"}}'),
        ('{"city": "Köln", "note": "Action: find"}', '{"city": "Köln", "note": "Action: find"}'),
    ],
    ids=["labelled", "after a thought", "underlined", "fenced", "bare", "bare fenced", "a call", "a name", "a mark"],
)
async def test_the_answer_may_be_json_text(r1: Line, text: str, content: str) -> None:
    response = await said(r1, text, tools=TOOLS)
    assert (response.content, response.tool_calls, response.stop_reason) == (content, (), StopReason.END_TURN)


async def test_an_answer_that_was_not_taken_is_told_as_an_observation(r1: Line) -> None:
    turn = own_turn(await said(r1, 'Action: final_answer\nAction Input: {"town": "Köln"}', tools=TOOLS))
    r1.server.will_answer(body=r1.wire.says(f"Final Answer: {ANSWER}"))
    response = await r1.ask(HELLO, turn, replies_to(turn, "city is missing", is_error=True), tools=TOOLS)
    assert response.content == ANSWER
    assert r1.server.requests[-1].json["messages"][-1] == {
        "role": "user",
        "content": "Observation (c1_0, final_answer, failed): city is missing",
    }


async def test_images_go_to_a_model_that_is_driven_by_text(r1: Line) -> None:
    seen = Message(Role.USER, "Which car?", images=(Image("image/png", "iVBORw0KGgo="),))
    inner = r1.wire.connect(r1.http, r1.server.url, None)
    assert r1.provider.encode_turn(seen) == inner.encode_turn(seen) != inner.encode_turn(seen._replace(images=()))


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        f"```json\n{ANSWER}\n```",
        "[]",
        '{"tool_calls": []}',
        '{"name": "Bob", "arguments": {"what": "x"}}',
        '{"name": "find", "city": "Köln"}',
        '{"name": "find", "input": "x", "city": "Köln"}',
        '[{"name": "find", "arguments": {}}, {"city": "Köln"}]',
        '{"type": "find", "parameters": {"what": "x"}}',
    ],
    ids=["plain", "fenced", "empty list", "no calls", "a name", "no arguments", "more", "half a list", "a type"],
)
async def test_bare_json_is_an_answer(coder: Line, text: str) -> None:
    response = await said(coder, text, tools=TOOLS, answer_schema=SCHEMA)
    assert (response.content, response.tool_calls, response.stop_reason) == (text, (), StopReason.END_TURN)
    assert json.loads(response.wire.json) == {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ('{"name": "find", "arguments": {"what": "x"}}', "find", {"what": "x"}),
        (f'{{"name": "final_answer", "parameters": {ANSWER}}}', "final_answer", {"city": "Köln"}),
    ],
    ids=["a tool", "the answer tool"],
)
async def test_bare_json_in_the_shape_of_a_call_of_an_offered_tool_is_that_call(
    coder: Line, text: str, name: str, arguments: dict[str, Any]
) -> None:
    response = await said(coder, text, tools=TOOLS, answer_schema=SCHEMA)
    assert (calls_of(response), response.content) == ([(name, arguments)], "")
    unoffered = await said(coder, text, answer_schema=SCHEMA)
    assert (unoffered.content, unoffered.tool_calls) == (text, ())


async def test_a_local_model_with_tools_of_its_own_is_asked_for_everything(coder: Line) -> None:
    await said(coder, ANSWER, tools=TOOLS, must_call=True, answer_schema=SCHEMA, temperature=0.2)
    body = coder.server.requests[0].json
    assert (body["tool_choice"], body["temperature"]) == ("required", 0.2)
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
