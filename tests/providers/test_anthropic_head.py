"""What Anthropic is told before the conversation, and images: the bytes, and that its own SDK says the same."""

from __future__ import annotations

import base64
import io
from typing import Any

import anthropic
import pytest

from conductor_ai.errors import InvalidInput
from conductor_ai.model_catalog import ReasoningStyle
from conductor_ai.providers.base import Reasoning
from conductor_ai.schemas import json_text
from conductor_ai.schemas.images import Image
from conductor_ai.schemas.messages import Message, Role, ToolCall, ToolReply
from conductor_ai.schemas.parameters import ReasoningEffort
from tests.providers.lines import FIND, HELLO, Line, own_turn, replies_to
from tests.servers.anthropic import cached_blocks, reply
from tests.servers.provider_server import KEY

OK = [{"type": "text", "text": "ok"}]
MARK = {"cache_control": {"type": "ephemeral"}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"what": "x"}}
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "EqQB+/=="}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "count": {"type": "integer", "minimum": 1}},
    "required": ["city"],
}
FORMAT = {
    "type": "json_schema",
    "schema": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "count": {"type": "integer", "description": '{"minimum":1}'},
        },
        "required": ["city"],
        "additionalProperties": False,
    },
}
HIGH = Reasoning(ReasoningEffort.HIGH, ReasoningStyle.EFFORT)
BUDGET = Reasoning(ReasoningEffort.LOW, ReasoningStyle.BUDGET, 1024)
NONE = Reasoning(ReasoningEffort.NONE, ReasoningStyle.EFFORT)
ADAPTIVE = {"type": "adaptive", "display": "summarized"}

SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "temperature": ({"temperature": 0.0}, {"temperature": 0.0}),
    "effort": ({"reasoning": HIGH}, {"thinking": ADAPTIVE, "output_config": {"effort": "high"}}),
    "effort none": ({"reasoning": NONE, "temperature": 0.5}, {"thinking": {"type": "disabled"}, "temperature": 0.5}),
    "budget": ({"reasoning": BUDGET}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
    "budget none": (
        {"reasoning": Reasoning(ReasoningEffort.NONE, ReasoningStyle.BUDGET)},
        {"thinking": {"type": "disabled"}},
    ),
    "schema": ({"answer_schema": SCHEMA}, {"output_config": {"format": FORMAT}}),
    "schema and effort": (
        {"answer_schema": SCHEMA, "reasoning": HIGH._replace(effort=ReasoningEffort.LOW), "temperature": 1.0},
        {"thinking": ADAPTIVE, "output_config": {"effort": "low", "format": FORMAT}, "temperature": 1.0},
    ),
    "a call": ({"must_call": True, "tools": (FIND,)}, {"tool_choice": {"type": "any"}}),
    "a call without thinking": (
        {"must_call": True, "tools": (FIND,), "reasoning": NONE},
        {"tool_choice": {"type": "any"}, "thinking": {"type": "disabled"}},
    ),
    "a call of nothing": ({"must_call": True}, {}),
}


@pytest.mark.parametrize("setting", SETTINGS)
async def test_a_setting_is_said_as_the_sdk_says_it(anthropic_line: Line, setting: str) -> None:
    asked, said = SETTINGS[setting]
    for _ in range(2):
        anthropic_line.server.will_answer(body=reply(OK))
    await anthropic_line.ask(model="m", max_output_tokens=4096, **asked)
    tool = {"name": "find", "description": "Find things.", "input_schema": FIND.parameters, **MARK}
    theirs: dict[str, Any] = {**said, **({"tools": [tool]} if asked.get("tools") else {})}
    hello: Any = {"role": "user", "content": [{"type": "text", "text": "Hello", **MARK}]}
    extra = {"temperature": theirs.pop("temperature")} if "temperature" in theirs else {}
    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=anthropic_line.server.url, max_retries=0) as client:
        await client.messages.create(
            model="m",
            max_tokens=4096,
            messages=[hello],
            extra_body=extra,  # this SDK has no name for it any more
            **theirs,
        )
    ours, sdk = anthropic_line.server.requests
    assert ours.json == sdk.json
    assert {name: ours.json[name] for name in said} == said
    assert "anthropic-beta" not in sdk.headers  # none of it needs a beta
    assert "anthropic-beta" not in ours.headers


async def test_what_is_left_to_the_model_is_not_said(anthropic_line: Line) -> None:
    anthropic_line.server.will_answer(body=reply(OK))
    await anthropic_line.ask()
    assert anthropic_line.server.requests[0].json.keys() == {"model", "max_tokens", "messages"}


async def test_a_stream_is_told_the_same(anthropic_line: Line) -> None:
    for _ in range(2):
        anthropic_line.server.will_answer(body=reply(OK))
    settings: dict[str, Any] = {"reasoning": HIGH, "answer_schema": SCHEMA, "tools": (FIND,), "instructions": "Sys"}
    await anthropic_line.ask(**settings)
    await anthropic_line.stream(**settings)
    whole, streamed = (seen.raw for seen in anthropic_line.server.requests)
    assert streamed == whole.removesuffix(b"}") + b',"stream":true}'


@pytest.mark.parametrize("reasoning", [HIGH, BUDGET], ids=["effort", "budget"])
@pytest.mark.parametrize("asked", [{"must_call": True, "tools": (FIND,)}, {"temperature": 0.2}], ids=["call", "cold"])
def test_what_is_refused_beside_thinking_is_never_said(
    anthropic_line: Line, reasoning: Reasoning, asked: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="a model that thinks"):
        anthropic_line.request(reasoning=reasoning, **asked)


def test_a_schema_that_cannot_be_held_to_is_refused_before_it_is_sent(anthropic_line: Line) -> None:
    free = {"type": "object", "additionalProperties": {"type": "integer"}}
    with pytest.raises(InvalidInput, match="free keys") as caught:
        anthropic_line.request(answer_schema={"type": "object", "properties": {"counts": free}})
    assert "#/properties/counts" in str(caught.value)


FOREIGN_CALL = ToolCall("c1_0", "find", {"what": "x"}, provider="gemini")
FOREIGN = (
    Message(Role.ASSISTANT, "", (FOREIGN_CALL,)),
    Message(Role.TOOL, tool_replies=(ToolReply(FOREIGN_CALL, "found"),)),
)


async def own_cycle(line: Line, *before: Message, thought: bool, reasoning: Reasoning) -> list[Message]:
    line.server.will_answer(body=reply([THINKING, CALL] if thought else [CALL], "tool_use"))
    turn = own_turn(await line.ask(*before, tools=(FIND,), max_output_tokens=4096, reasoning=reasoning), 2)
    return [*before, turn, replies_to(turn, "found")]


async def told_to_think(line: Line, *messages: Message, reasoning: Reasoning = BUDGET) -> str:
    for _ in range(2):
        line.server.will_answer(body=reply(OK))
    settings: dict[str, Any] = {"tools": (FIND,), "max_output_tokens": 4096, "reasoning": reasoning}
    await line.ask(*messages, **settings)
    await line.stream(*messages, **settings)
    whole, streamed = (seen.json for seen in line.server.requests[-2:])
    assert whole["thinking"] == streamed["thinking"]
    return str(streamed["thinking"]["type"])


async def test_a_tool_cycle_that_another_model_began_goes_on_without_thinking_by_budget(anthropic_line: Line) -> None:
    """Thinking would have to stand first in the assistant's turn, and has been left out with the other model's form."""
    assert await told_to_think(anthropic_line, HELLO, *FOREIGN) == "disabled"
    assert await told_to_think(anthropic_line, HELLO, *FOREIGN, Message(Role.USER, "Hurry up")) == "disabled"
    within = await own_cycle(anthropic_line, HELLO, *FOREIGN, thought=False, reasoning=BUDGET)
    assert await told_to_think(anthropic_line, *within) == "disabled"
    assert await told_to_think(anthropic_line, HELLO, *FOREIGN, reasoning=HIGH) == "adaptive"


async def test_thinking_by_budget_stays_on_elsewhere(anthropic_line: Line) -> None:
    over = [HELLO, *FOREIGN, Message(Role.ASSISTANT, "Found."), Message(Role.USER, "And now?")]
    assert await told_to_think(anthropic_line, *over) == "enabled"
    own = await own_cycle(anthropic_line, *over, thought=True, reasoning=BUDGET)
    assert await told_to_think(anthropic_line, *own) == "enabled"
    assert await told_to_think(anthropic_line, HELLO) == "enabled"


PIXELS = base64.b64encode(bytes(range(256))).decode()
PNG = Image("image/png", PIXELS, "https://example.com/a.png")
JPEG = Image("image/jpeg", PIXELS)
PNG_BLOCK = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXELS}}
JPEG_BLOCK = {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": PIXELS}}


@pytest.mark.parametrize(
    ("content", "blocks"),
    [
        ("What is it?", [PNG_BLOCK, JPEG_BLOCK, {"type": "text", "text": "What is it?"}]),
        ('ends in "}]}', [PNG_BLOCK, JPEG_BLOCK, {"type": "text", "text": 'ends in "}]}'}]),
        (" \n", [PNG_BLOCK, JPEG_BLOCK]),
    ],
    ids=["text", "odd text", "no text"],
)
async def test_images_stand_before_the_text_and_the_last_block_takes_the_mark(
    anthropic_line: Line, content: str, blocks: list[dict[str, Any]]
) -> None:
    anthropic_line.server.will_answer(body=reply(OK))
    await anthropic_line.ask(Message(Role.USER, content, images=(PNG, JPEG)))
    body = anthropic_line.server.requests[0].json
    assert body["messages"] == [{"role": "user", "content": [*blocks[:-1], {**blocks[-1], **MARK}]}]
    assert [block for block in cached_blocks(body) if "cache_control" in block] == [{**blocks[-1], **MARK}]


async def test_the_sdk_sends_an_image_the_same_way(anthropic_line: Line) -> None:
    for _ in range(2):
        anthropic_line.server.will_answer(body=reply(OK))
    await anthropic_line.ask(Message(Role.USER, "What?", images=(PNG,)), model="m")
    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=anthropic_line.server.url, max_retries=0) as client:
        source: Any = {"type": "base64", "media_type": "image/png", "data": io.BytesIO(bytes(range(256)))}
        content: list[Any] = [{"type": "image", "source": source}, {"type": "text", "text": "What?", **MARK}]
        await client.messages.create(model="m", max_tokens=100, messages=[{"role": "user", "content": content}])
    ours, theirs = anthropic_line.server.requests
    assert ours.json == theirs.json


def test_a_turn_with_an_image_holds_no_spare_room(anthropic_line: Line) -> None:
    encoded = anthropic_line.provider.encode_turn(Message(Role.USER, "What is it?", images=(PNG,)))
    assert encoded.__sizeof__() == json_text.exact(encoded).__sizeof__()


def test_an_image_that_was_not_fetched_is_never_sent(anthropic_line: Line) -> None:
    unfetched = Image("", "", "https://example.com/a.png?key=secret")
    with pytest.raises(ValueError, match="not fetched") as caught:
        anthropic_line.provider.encode_turn(Message(Role.USER, "What is it?", images=(PNG, unfetched)))
    assert "secret" not in str(caught.value)
