"""What Gemini is told before the conversation, and images: the bytes, and that Google's own SDK says the same."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from google import genai
from google.genai import types

from conductor_ai.errors import InvalidInput
from conductor_ai.model_catalog import ReasoningStyle
from conductor_ai.providers.base import Reasoning
from conductor_ai.schemas import json_text
from conductor_ai.schemas.images import Image
from conductor_ai.schemas.messages import Message, Role, ToolCall, ToolReply
from conductor_ai.schemas.parameters import ReasoningEffort
from tests.providers.lines import FIND, HELLO, Line
from tests.servers.gemini import chunk, reply
from tests.servers.provider_server import KEY

# The SDK's own slip, of no concern here.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "minLength": 1}, "count": {"type": "integer", "minimum": 1}},
    "required": ["city"],
}
SENT_SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": '{"minLength":1}'},
        "count": {"type": "integer", "minimum": 1},
    },
    "required": ["city"],
}


def level(effort: ReasoningEffort) -> Reasoning:
    return Reasoning(effort, ReasoningStyle.EFFORT)


def budget(effort: ReasoningEffort, tokens: int) -> Reasoning:
    return Reasoning(effort, ReasoningStyle.BUDGET, tokens)


JSON_ANSWER = {"responseMimeType": "application/json", "responseJsonSchema": SENT_SCHEMA}
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}, {}),
    "temperature": ({"temperature": 0.0}, {"temperature": 0.0}, {"temperature": 0.0}),
    "low": (
        {"reasoning": level(ReasoningEffort.LOW)},
        {"thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True}},
        {"thinking_config": types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW, include_thoughts=True)},
    ),
    "medium": (
        {"reasoning": level(ReasoningEffort.MEDIUM)},
        {"thinkingConfig": {"thinkingLevel": "MEDIUM", "includeThoughts": True}},
        {"thinking_config": types.ThinkingConfig(thinking_level=types.ThinkingLevel.MEDIUM, include_thoughts=True)},
    ),
    "high, with a temperature": (
        {"reasoning": level(ReasoningEffort.HIGH), "temperature": 2.0},
        {"thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": True}, "temperature": 2.0},
        {
            "thinking_config": types.ThinkingConfig(thinking_level=types.ThinkingLevel.HIGH, include_thoughts=True),
            "temperature": 2.0,
        },
    ),
    "none, by level": (
        {"reasoning": level(ReasoningEffort.NONE)},
        {"thinkingConfig": {"thinkingLevel": "MINIMAL"}},
        {"thinking_config": types.ThinkingConfig(thinking_level=types.ThinkingLevel.MINIMAL)},
    ),
    "budget": (
        {"reasoning": budget(ReasoningEffort.HIGH, 2048)},
        {"thinkingConfig": {"thinkingBudget": 2048, "includeThoughts": True}},
        {"thinking_config": types.ThinkingConfig(thinking_budget=2048, include_thoughts=True)},
    ),
    "none, by budget": (
        {"reasoning": budget(ReasoningEffort.NONE, 0)},
        {"thinkingConfig": {"thinkingBudget": 0}},
        {"thinking_config": types.ThinkingConfig(thinking_budget=0)},
    ),
    "schema": (
        {"answer_schema": SCHEMA},
        JSON_ANSWER,
        {"response_mime_type": "application/json", "response_json_schema": SENT_SCHEMA},
    ),
}


async def ask_sdk(url: str, contents: Any, **config: Any) -> None:
    client = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=url, api_version="v1beta"))
    try:
        settings = types.GenerateContentConfig(max_output_tokens=100, **config)
        await client.aio.models.generate_content(model="m", contents=contents, config=settings)
    finally:
        await client.aio.aclose()
        client.close()


def in_our_spelling(sent: Any) -> Any:
    """JSON of a protocol buffer: `thinking_budget` and `thinkingBudget` are one field, both alphabets of base64 are
    read. The SDK uses the one or the other."""
    if isinstance(sent, list):
        return [in_our_spelling(item) for item in sent]
    if not isinstance(sent, dict):
        return sent
    spelled = {re.sub("_(.)", lambda found: found[1].upper(), name): value for name, value in sent.items()}
    if "mimeType" in spelled:
        spelled["data"] = spelled["data"].replace("-", "+").replace("_", "/")
    return {name: in_our_spelling(value) for name, value in spelled.items()}


@pytest.mark.parametrize("setting", SETTINGS)
async def test_a_setting_is_said_as_the_sdk_says_it(gemini_line: Line, setting: str) -> None:
    asked, said, theirs = SETTINGS[setting]
    for _ in range(2):
        gemini_line.server.will_answer(body=reply([{"text": "ok"}]))
    await gemini_line.ask(**asked)
    await ask_sdk(gemini_line.server.url, "Hello", **theirs)
    ours, sdk = (seen.json for seen in gemini_line.server.requests)
    assert ours["generationConfig"] == {"maxOutputTokens": 100, **said}
    assert ours == in_our_spelling(sdk)


async def test_a_call_can_be_asked_for_where_there_are_tools(gemini_line: Line) -> None:
    for _ in range(3):
        gemini_line.server.will_answer(body=reply([{"text": "ok"}]))
    await gemini_line.ask(must_call=True, tools=(FIND,))
    await gemini_line.ask(must_call=True)
    mode = types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY)
    declaration = types.FunctionDeclaration(
        name="find", description="Find things.", parameters_json_schema=FIND.parameters
    )
    await ask_sdk(
        gemini_line.server.url,
        "Hello",
        tools=[types.Tool(function_declarations=[declaration])],
        tool_config=types.ToolConfig(function_calling_config=mode),
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    ours, without_tools, theirs = (seen.json for seen in gemini_line.server.requests)
    assert ours["toolConfig"] == theirs["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
    assert "toolConfig" not in without_tools


async def test_what_is_left_to_the_model_is_not_said(gemini_line: Line) -> None:
    gemini_line.server.will_answer(body=reply([{"text": "ok"}]))
    await gemini_line.ask()
    body = gemini_line.server.requests[0].json
    assert body.keys() == {"generationConfig", "contents"}
    assert body["generationConfig"] == {"maxOutputTokens": 100}


async def test_a_stream_is_told_the_same(gemini_line: Line) -> None:
    gemini_line.server.will_answer(body=reply([{"text": "ok"}]))
    gemini_line.server.will_stream(chunk([{"text": "ok"}], "STOP"))
    settings: dict[str, Any] = {"reasoning": level(ReasoningEffort.LOW), "answer_schema": SCHEMA, "temperature": 0.5}
    await gemini_line.ask(**settings)
    await gemini_line.stream(**settings)
    whole, streamed = (seen.raw for seen in gemini_line.server.requests)
    assert streamed == whole


def test_a_schema_that_cannot_be_held_to_is_refused_before_it_is_sent(gemini_line: Line) -> None:
    part = {"type": "object", "properties": {"a": {"type": "string"}}}
    schema = {"type": "object", "properties": {"it": {"allOf": [part, part]}}}
    with pytest.raises(InvalidInput, match="put together out of parts") as caught:
        gemini_line.request(answer_schema=schema)
    assert "#/properties/it" in str(caught.value)


async def test_the_turn_of_another_model_goes_along_with_thinking(gemini_line: Line) -> None:
    gemini_line.server.will_answer(body=reply([{"text": "ok"}]))
    call = ToolCall("c1_0", "find", {"what": "x"}, provider_call_id="toolu_1", provider="anthropic")
    foreign = Message(Role.ASSISTANT, "Hm.", (call,))
    replies = Message(Role.TOOL, tool_replies=(ToolReply(call, "found"),))
    await gemini_line.ask(HELLO, foreign, replies, tools=(FIND,), reasoning=level(ReasoningEffort.HIGH))
    body = gemini_line.server.requests[0].json
    assert body["generationConfig"]["thinkingConfig"] == {"thinkingLevel": "HIGH", "includeThoughts": True}
    assert body["contents"][1]["parts"][1]["thoughtSignature"] == "skip_thought_signature_validator"


PIXELS = base64.b64encode(bytes(range(256))).decode()
PNG = Image("image/png", PIXELS, "https://example.com/a.png")
WEBP = Image("image/webp", PIXELS)


@pytest.mark.parametrize("content", ["What is it?", ""], ids=["text", "no text"])
async def test_images_stand_before_the_text_as_the_sdk_sends_them(gemini_line: Line, content: str) -> None:
    for _ in range(2):
        gemini_line.server.will_answer(body=reply([{"text": "ok"}]))
    await gemini_line.ask(Message(Role.USER, content, images=(PNG, WEBP)))
    parts = [types.Part.from_bytes(data=bytes(range(256)), mime_type=kind) for kind in ("image/png", "image/webp")]
    parts += [types.Part(text=content)] if content else []
    await ask_sdk(gemini_line.server.url, [types.Content(role="user", parts=parts)])
    ours, theirs = (seen.json["contents"] for seen in gemini_line.server.requests)
    assert ours[0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": PIXELS}},
        {"inlineData": {"mimeType": "image/webp", "data": PIXELS}},
        *([{"text": content}] if content else []),
    ]
    assert ours == in_our_spelling(theirs)


def test_a_turn_with_an_image_holds_no_spare_room(gemini_line: Line) -> None:
    encoded = gemini_line.provider.encode_turn(Message(Role.USER, "What is it?", images=(PNG,)))
    assert encoded.__sizeof__() == json_text.exact(encoded).__sizeof__()


def test_an_image_that_was_not_fetched_is_never_sent(gemini_line: Line) -> None:
    unfetched = Image("", "", "https://example.com/a.png?key=secret")
    with pytest.raises(ValueError, match="not fetched") as caught:
        gemini_line.provider.encode_turn(Message(Role.USER, "What is it?", images=(PNG, unfetched)))
    assert "secret" not in str(caught.value)
