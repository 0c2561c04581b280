"""What a chat-completions request asks for: temperature, reasoning, a schema, a call, hosts; and images in turns."""

from __future__ import annotations

from typing import Any

import aiohttp
import openai
import pytest

from conductor_ai.model_catalog import ReasoningStyle
from conductor_ai.providers.answer_schema import for_strict
from conductor_ai.providers.base import Reasoning
from conductor_ai.schemas.images import Image
from conductor_ai.schemas.messages import Message, Role
from conductor_ai.schemas.parameters import ReasoningEffort
from tests.providers.lines import FIND, HELLO, Line, connected
from tests.providers.wires import LOCAL, OPENROUTER, Wire
from tests.servers.provider_server import KEY

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
# The first bytes of the two formats, in base64.
PNG = Image("image/png", "iVBORw0KGgo=")
JPEG = Image("image/jpeg", "/9j/4A==", url="https://x.example/car.jpg")
LOW = Reasoning(ReasoningEffort.LOW, ReasoningStyle.EFFORT)


async def sent(line: Line, *messages: Message, **head: Any) -> dict[str, Any]:
    """The request, which is the same whether an answer is streamed or not, except for the asking."""
    line.server.will_answer(body=line.wire.says("ok"))
    line.server.will_answer(body=line.wire.says("ok"))
    await line.ask(*messages, **head)
    await line.stream(*messages, **head)
    whole, streamed = (request.json for request in line.server.requests[-2:])
    assert streamed.pop("stream") is True
    streamed.pop("stream_options", None)
    assert streamed == whole
    body: dict[str, Any] = whole
    return body


@pytest.mark.parametrize("wire", [OPENROUTER, LOCAL], ids=lambda wire: wire.name)
async def test_the_openai_sdk_says_it_in_the_same_words(wire: Wire, http: aiohttp.ClientSession) -> None:
    async with connected(wire, http) as line:
        ours = await sent(
            line,
            Message(Role.USER, "Which car?", images=(PNG, JPEG)),
            tools=(FIND,),
            temperature=0.2,
            reasoning=LOW,
            answer_schema=SCHEMA,
            must_call=True,
            hosts=("host-b", "host-a"),
        )
        line.server.will_answer(body=wire.says("ok"))
        routing = {"order": ["host-b", "host-a"], "require_parameters": True}
        own = {"reasoning": {"effort": "low"}, "provider": routing} if wire is OPENROUTER else {}
        async with openai.AsyncOpenAI(api_key=KEY, base_url=line.server.url, max_retries=0) as client:
            await client.chat.completions.create(
                model="maker/model-1",
                max_tokens=100,
                temperature=0.2,
                tools=[
                    {
                        "type": "function",
                        "function": {"name": "find", "description": "Find things.", "parameters": FIND.parameters},
                    }
                ],
                tool_choice="required",
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
                },
                reasoning_effort=openai.omit if wire is OPENROUTER else "low",
                messages=[
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "Which car?"},
                            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                            {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/4A=="}},
                        ],
                    }
                ],
                extra_body=own,
            )
        assert ours == line.server.requests[-1].json


@pytest.mark.parametrize(
    ("reasoning", "asked", "locally"),
    [
        (LOW, {"effort": "low"}, "low"),
        (Reasoning(ReasoningEffort.HIGH, ReasoningStyle.EFFORT), {"effort": "high"}, "high"),
        (Reasoning(ReasoningEffort.MEDIUM, ReasoningStyle.BUDGET, 2000), {"max_tokens": 2000}, "medium"),
        (Reasoning(ReasoningEffort.NONE, ReasoningStyle.EFFORT), {"enabled": False}, "none"),
        (Reasoning(ReasoningEffort.NONE, ReasoningStyle.BUDGET), {"enabled": False}, "none"),
    ],
    ids=["low", "high", "budget", "none", "no budget"],
)
async def test_reasoning_is_asked_for_as_the_model_wants_to_be_told(
    openrouter_line: Line, local_line: Line, reasoning: Reasoning, asked: dict[str, Any], locally: str
) -> None:
    """A local server takes a word at most."""
    assert (await sent(openrouter_line, reasoning=reasoning))["reasoning"] == asked
    body = await sent(local_line, reasoning=reasoning)
    assert body["reasoning_effort"] == locally
    assert "reasoning" not in body


@pytest.mark.parametrize(
    ("head", "routing"),
    [
        ({"tools": (FIND,)}, {"require_parameters": True}),
        ({"answer_schema": SCHEMA}, {"require_parameters": True}),
        ({"hosts": ("a",)}, {"order": ["a"]}),
        ({"hosts": ("a",), "answer_schema": SCHEMA}, {"order": ["a"], "require_parameters": True}),
        ({"temperature": 0.5, "reasoning": LOW}, None),
    ],
    ids=["tools", "schema", "hosts", "both", "neither"],
)
async def test_hosts_are_chosen_that_take_tools_and_schema(
    openrouter_line: Line, local_line: Line, head: dict[str, Any], routing: dict[str, Any] | None
) -> None:
    assert (await sent(openrouter_line, **head)).get("provider") == routing
    assert "provider" not in await sent(local_line, **head)


async def test_a_schema_goes_to_strict_hosts_in_their_words(openrouter_line: Line, local_line: Line) -> None:
    """Keys of any name are in none of them: such a schema is asked for without strictness."""
    open_ended = {"type": "object", "properties": {"city": {"type": "string", "minLength": 1}}}
    free_keys = {"type": "object", "additionalProperties": {"type": "integer"}}

    async def asked(line: Line, schema: dict[str, Any]) -> dict[str, Any]:
        response_format = (await sent(line, answer_schema=schema))["response_format"]
        assert response_format["type"] == "json_schema"
        return dict(response_format["json_schema"])

    closed = for_strict(open_ended)
    assert closed["additionalProperties"] is False
    assert await asked(openrouter_line, open_ended) == {"name": "answer", "strict": True, "schema": closed}
    assert await asked(openrouter_line, free_keys) == {"name": "answer", "strict": False, "schema": free_keys}
    for schema in (open_ended, free_keys):
        assert await asked(local_line, schema) == {"name": "answer", "strict": True, "schema": schema}


@pytest.mark.parametrize("wire", [OPENROUTER, LOCAL], ids=lambda wire: wire.name)
async def test_a_temperature_of_zero_is_one(wire: Wire, http: aiohttp.ClientSession) -> None:
    async with connected(wire, http) as line:
        assert (await sent(line, temperature=0.0))["temperature"] == 0


@pytest.mark.parametrize("wire", [OPENROUTER, LOCAL], ids=lambda wire: wire.name)
async def test_a_call_is_not_demanded_where_there_is_no_tool(wire: Wire, http: aiohttp.ClientSession) -> None:
    async with connected(wire, http) as line:
        assert "tool_choice" not in await sent(line, must_call=True)
        assert "tool_choice" not in await sent(line, tools=(FIND,))


@pytest.mark.parametrize("wire", [OPENROUTER, LOCAL], ids=lambda wire: wire.name)
async def test_only_a_turn_with_images_is_sent_in_parts(wire: Wire, http: aiohttp.ClientSession) -> None:
    """Some servers refuse a text part without text."""
    async with connected(wire, http) as line:
        body = await sent(line, HELLO, Message(Role.ASSISTANT, "Hi"), Message(Role.USER, images=(PNG,)))
        assert [message["content"] for message in body["messages"]] == [
            "Hello",
            "Hi",
            [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}],
        ]


def test_an_image_that_was_not_fetched_is_not_sent(openrouter_line: Line) -> None:
    unfetched = Image("", "", url="https://x.example/car.jpg")
    with pytest.raises(ValueError, match="not fetched"):
        openrouter_line.provider.encode_turn(Message(Role.USER, "Which car?", images=(unfetched,)))
