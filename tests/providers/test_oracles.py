"""The providers' own SDKs as oracles: the same bytes mean the same to them and to us, and so do our requests."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
from google import genai
from google.genai import types

from conductor_ai.schemas.messages import StopReason
from tests.providers.lines import FIND, HELLO, Line, connected, own_turn, replies_to
from tests.providers.wires import ANTHROPIC, GEMINI, LOCAL, OPENROUTER, WIRES, Body, Wire
from tests.servers import anthropic as anthropic_server
from tests.servers import chat_completions as chat_server
from tests.servers import gemini as gemini_server
from tests.servers.provider_server import KEY

pytestmark = [
    # The SDKs' own slips, of no concern here.
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:A_REASON_OF_NEXT_YEAR is not a valid FinishReason:UserWarning"),
]


@dataclass(frozen=True)
class Heard:
    """What an SDK made of a reply. `prompt_tokens` is all that went in, cached or not."""

    text: str
    calls: list[tuple[str, Any]]
    stop: str | None
    prompt_tokens: int
    output_tokens: int


async def ask_anthropic(url: str, **request: Any) -> Heard:
    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=url, max_retries=0) as client:
        request = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}], **request}
        message = await client.messages.create(**request)
    usage = message.usage
    cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    return Heard(
        "".join(block.text for block in message.content if block.type == "text"),
        [(block.name, block.input) for block in message.content if block.type == "tool_use"],
        message.stop_reason,
        usage.input_tokens + cached,
        usage.output_tokens,
    )


async def ask_gemini(url: str, **request: Any) -> Heard:
    client = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=url, api_version="v1beta"))
    try:
        request = {"model": "m", "contents": "Hello", **request}
        reply = await client.aio.models.generate_content(**request)
    finally:
        await client.aio.aclose()
        client.close()
    candidate = (reply.candidates or [types.Candidate()])[0]
    parts = (candidate.content.parts if candidate.content else None) or []
    usage = reply.usage_metadata
    assert usage is not None
    return Heard(
        "".join(part.text or "" for part in parts if not part.thought),
        [(part.function_call.name or "", part.function_call.args) for part in parts if part.function_call],
        candidate.finish_reason.value if candidate.finish_reason else None,
        usage.prompt_token_count or 0,
        (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0),
    )


async def ask_openai(url: str, **request: Any) -> Heard:
    async with openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0) as client:
        request = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], **request}
        completion = await client.chat.completions.create(**request)
    choice, usage = completion.choices[0], completion.usage
    assert usage is not None
    return Heard(
        choice.message.content or "",
        [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls or ()],
        choice.finish_reason,
        usage.prompt_tokens,
        usage.completion_tokens,
    )


ORACLES: dict[str, Callable[..., Awaitable[Heard]]] = {
    "anthropic": ask_anthropic,
    "gemini": ask_gemini,
    "openrouter": ask_openai,
    "local": ask_openai,
}
RICH: dict[str, list[Body]] = {
    "anthropic": [
        anthropic_server.reply(
            [
                {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"},
                {"type": "text", "text": "Let me "},
                {"type": "text", "text": "look."},
                {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"what": "ü", "n": [1, 0.5, None]}},
                {"type": "tool_use", "id": "toolu_2", "name": "find", "input": {}},
            ],
            "tool_use",
        )
    ],
    "gemini": [
        gemini_server.reply(
            [
                {"text": "Hm.", "thought": True},
                {"text": "Look.", "thoughtSignature": "Cg=="},
                {"functionCall": {"name": "find", "args": {"what": "ü", "n": [1, 0.5, None]}, "id": "g1"}},
                {"functionCall": {"name": "find", "args": {}}},
            ],
            thoughtsTokenCount=7,
        ),
        {
            "candidates": [{"content": {}, "finishReason": "SAFETY"}],
            "usageMetadata": {"promptTokenCount": 5},
        },
        {
            "candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}],
            "usageMetadata": {"promptTokenCount": 5, "thoughtsTokenCount": 95},
        },
    ],
    "openrouter": [
        chat_server.reply(
            {
                "role": "assistant",
                "content": "Look.",
                "reasoning": "Hm.",
                "tool_calls": [
                    chat_server.tool_call("functions.find:0", "find", '{"what": "ü", "n": [1, 0.5, null]}'),
                    chat_server.tool_call("functions.find:1", "find", "{}"),
                ],
            },
            "tool_calls",
            cost=0.001,
        )
    ],
    "local": [chat_server.reply({"role": "assistant", "content": None, "reasoning_content": "Hm."}, "length")],
}


def bodies(wire: Wire) -> list[Body]:
    calls = wire.calls([("call_1", "find", {"what": "x"}), ("call_2", "find", {"what": "y"})])
    return [wire.says("Grüß Gott"), calls, wire.usage[0], *RICH[wire.name], *(body for body, _ in wire.stops.values())]


def stops_as_theirs(wire: Wire, theirs: str | None, ours: StopReason, called: bool) -> bool:
    """Our stop reason is the one of the table for theirs; beside calls, an ordinary end or none means tool use."""
    if called and theirs in (None, "stop", "STOP"):
        return ours is StopReason.TOOL_USE
    if theirs == "tool_calls" and not called:
        return ours is StopReason.OTHER
    known = wire.stops.get(theirs or "")
    return ours is (known[1] if known else StopReason.OTHER)


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_the_sdk_reads_the_same_out_of_the_same_bytes(wire: Wire, http: aiohttp.ClientSession) -> None:
    async with connected(wire, http) as line:
        for body in bodies(wire):
            line.server.will_answer(body=body)
            line.server.will_answer(body=body)
            ours, theirs = await line.ask(), await ORACLES[wire.name](line.server.url)
            assert ours.content == theirs.text
            assert [(call.name, call.arguments) for call in ours.tool_calls] == theirs.calls
            assert stops_as_theirs(wire, theirs.stop, ours.stop_reason, bool(ours.tool_calls)), theirs.stop
            usage = ours.usage
            assert usage is not None
            assert usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens == theirs.prompt_tokens
            assert usage.output_tokens == theirs.output_tokens


async def our_request(line: Line, reply: Body) -> Any:
    """The second request of a conversation with one tool call, and the assistant turn in it."""
    line.server.will_answer(body=reply)
    line.server.will_answer(body=line.wire.says("ok"))
    line.server.will_answer(body=line.wire.says("ok"))
    turn = own_turn(await line.ask(tools=(FIND,)))
    replies = ["found", "nothing"][: len(turn.tool_calls)]
    await line.ask(HELLO, turn, replies_to(turn, *replies), tools=(FIND,), instructions="Sys", model="m")
    return line.server.requests[-1].json


async def test_the_anthropic_sdk_sends_the_same_request(anthropic_line: Line) -> None:
    reply = RICH["anthropic"][0]
    ours = await our_request(anthropic_line, reply)
    mark = {"cache_control": {"type": "ephemeral"}}
    await ask_anthropic(
        anthropic_line.server.url,
        system=[{"type": "text", "text": "Sys", **mark}],
        tools=[{"name": "find", "description": "Find things.", "input_schema": FIND.parameters, **mark}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "Hello", **mark}]},
            {"role": "assistant", "content": reply["content"]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "found"},
                    {"type": "tool_result", "tool_use_id": "toolu_2", "content": "nothing", **mark},
                ],
            },
        ],
    )
    theirs = anthropic_line.server.requests[-1]
    assert ours == theirs.json
    assert theirs.path == anthropic_line.server.requests[0].path


async def test_the_gemini_sdk_sends_the_same_request(gemini_line: Line) -> None:
    reply = RICH["gemini"][0]
    ours = await our_request(gemini_line, reply)
    declaration = types.FunctionDeclaration(
        name="find", description="Find things.", parameters_json_schema=FIND.parameters
    )
    model_turn = types.Content.model_validate(reply["candidates"][0]["content"])
    replies = [
        types.Part(function_response=types.FunctionResponse(name="find", id="g1", response={"output": "found"})),
        types.Part(function_response=types.FunctionResponse(name="find", response={"output": "nothing"})),
    ]
    await ask_gemini(
        gemini_line.server.url,
        contents=[
            types.Content(role="user", parts=[types.Part(text="Hello")]),
            model_turn,
            types.Content(role="user", parts=replies),
        ],
        config=types.GenerateContentConfig(
            system_instruction="Sys",
            max_output_tokens=100,
            tools=[types.Tool(function_declarations=[declaration])],
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        ),
    )
    theirs = gemini_line.server.requests[-1].json
    theirs["systemInstruction"].pop("role", None)  # the SDK says who gives the instructions; the API does not ask
    declared = theirs["tools"][0]["functionDeclarations"][0]
    if "parameters_json_schema" in declared:  # JSON of a protocol buffer: both spellings are one field
        declared["parametersJsonSchema"] = declared.pop("parameters_json_schema")
    assert ours == theirs
    assert gemini_line.server.requests[-1].path == gemini_line.server.requests[-2].path


@pytest.mark.parametrize("wire", [OPENROUTER, LOCAL], ids=lambda wire: wire.name)
async def test_the_openai_sdk_sends_the_same_request(wire: Wire, http: aiohttp.ClientSession) -> None:
    async with connected(wire, http) as line:
        reply = RICH["openrouter"][0]
        ours = await our_request(line, reply)
        function = {"name": "find", "description": "Find things.", "parameters": FIND.parameters}
        await ask_openai(
            line.server.url,
            max_tokens=100,
            tools=[{"type": "function", "function": function}],
            messages=[
                {"role": "system", "content": "Sys"},
                {"role": "user", "content": "Hello"},
                reply["choices"][0]["message"],
                {"role": "tool", "tool_call_id": "functions.find:0", "content": "found"},
                {"role": "tool", "tool_call_id": "functions.find:1", "content": "nothing"},
            ],
        )
        ours.pop("provider", None)  # OpenRouter's own, which this SDK does not know
        assert ours == line.server.requests[-1].json


@pytest.mark.parametrize("wire", [ANTHROPIC, GEMINI], ids=lambda wire: wire.name)
async def test_the_sdk_refuses_what_we_refuse(wire: Wire, http: aiohttp.ClientSession) -> None:
    async with connected(wire, http) as line:
        line.server.will_answer(529 if wire is ANTHROPIC else 503, {"error": {"message": "overloaded"}})
        with pytest.raises((anthropic.APIStatusError, genai.errors.APIError)) as caught:
            await ORACLES[wire.name](line.server.url)
        assert "overloaded" in str(caught.value)
