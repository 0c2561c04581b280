"""The SDKs of OpenAI and Google as oracles for streams: the same bytes mean the same to them and to us.

Where they differ, a test below says so: a cut or broken stream is an answer to them, errors inside a stream have no
type or status (OpenAI's), and calls that a host does not number are mixed up or not read at all (OpenAI's).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import openai
import pytest
from google import genai
from google.genai import types
from openai.lib.streaming.chat import ChatCompletionStreamState

from conductor_ai.errors import ProviderError, ProviderUnavailable, TruncatedReply
from tests.providers.lines import Line, connected
from tests.providers.stream_wires import StreamWire
from tests.providers.stream_wires_chat import LOCAL_STREAM, OPENROUTER_STREAM
from tests.providers.stream_wires_gemini import GEMINI_STREAM
from tests.providers.test_oracles import Heard, stops_as_theirs
from tests.servers.chat_completions import DONE, chunk, event
from tests.servers.provider_server import KEY

pytestmark = [
    # The SDKs' own slips, of no concern here.
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.* is not a valid FinishReason:UserWarning"),
]


async def stream_openai(url: str) -> Heard:
    """Chunks read and joined by the SDK. Its last step, which refuses an answer that was cut short, is left out."""
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    async with openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0) as client:
        chunks = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        read = [one async for one in chunks]
    for one in read:
        state.handle_chunk(one)
    whole = state.current_completion_snapshot
    message, usage = whole.choices[0].message, whole.usage
    return Heard(
        message.content or "",
        [(call.function.name, call.function.arguments) for call in message.tool_calls or ()],
        whole.choices[0].finish_reason,
        usage.prompt_tokens if usage else 0,
        usage.completion_tokens if usage else 0,
    )


async def stream_gemini(url: str) -> Heard:
    client = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=url, api_version="v1beta"))
    try:
        chunks = await client.aio.models.generate_content_stream(model="m", contents="Hello")
        read = [one async for one in chunks]
    finally:
        await client.aio.aclose()
        client.close()
    candidates = [candidate for one in read for candidate in one.candidates or ()]
    parts = [part for candidate in candidates if candidate.content for part in candidate.content.parts or ()]
    stops = [candidate.finish_reason.value for candidate in candidates if candidate.finish_reason]
    usage = read[-1].usage_metadata or types.GenerateContentResponseUsageMetadata()
    return Heard(
        "".join(part.text or "" for part in parts if not part.thought),
        [(part.function_call.name or "", part.function_call.args or {}) for part in parts if part.function_call],
        stops[-1] if stops else None,
        usage.prompt_token_count or 0,
        (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0),
    )


ORACLES: dict[str, Callable[[str], Awaitable[Heard]]] = {
    "gemini": stream_gemini,
    "openrouter": stream_openai,
    "local": stream_openai,
}
STREAMS = (GEMINI_STREAM, OPENROUTER_STREAM, LOCAL_STREAM)


def answers(stream: StreamWire) -> list[list[bytes]]:
    wire = stream.wire
    calls = wire.calls([("call_1", "find", {"what": "x"}), ("call_2", "find", {"what": "y"})])
    bodies = [wire.says("Grüß Gott"), calls, wire.usage[0], *(body for body, _ in wire.stops.values()), *stream.rich]
    return [stream.events(body) for body in bodies]


def as_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
async def test_the_sdk_hears_the_same_in_the_same_stream(stream: StreamWire, http: aiohttp.ClientSession) -> None:
    async with connected(stream.wire, http) as line:
        for events in answers(stream):
            line.server.will_stream(*events)
            line.server.will_stream(*events)
            ours, theirs = (await line.stream())[1], await ORACLES[stream.name](line.server.url)
            assert ours.content == theirs.text
            assert [call.name for call in ours.tool_calls] == [name for name, _ in theirs.calls]
            for call, (_, arguments) in zip(ours.tool_calls, theirs.calls, strict=True):
                text = as_text(arguments)
                assert (
                    call.raw_arguments == text if call.arguments is None else call.arguments == json.loads(text or "{}")
                )
            if theirs.stop is not None:  # Gemini gives none for a blocked prompt
                assert stops_as_theirs(stream.wire, theirs.stop, ours.stop_reason, bool(ours.tool_calls)), theirs.stop
            usage = ours.usage
            counts = (0, 0) if usage is None else (usage.input_tokens + usage.cache_read_tokens, usage.output_tokens)
            written = 0 if usage is None else usage.cache_write_tokens
            assert (counts[0] + written, counts[1]) == (theirs.prompt_tokens, theirs.output_tokens)


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
async def test_the_sdks_take_a_cut_stream_for_an_answer(stream: StreamWire, http: aiohttp.ClientSession) -> None:
    """Half a sentence, with no word on why it ends there, is an answer to them and an error to us."""
    half = stream.events(stream.wire.says("All's well that ends well"))[:2]
    async with connected(stream.wire, http) as line:
        line.server.will_stream(*half)
        line.server.will_stream(*half)
        theirs = await ORACLES[stream.name](line.server.url)
        assert (theirs.text, theirs.stop) in (("All's w", None), ("All's well tha", None))
        with pytest.raises(TruncatedReply):
            await line.stream()


@pytest.mark.parametrize("stream", [OPENROUTER_STREAM, LOCAL_STREAM], ids=lambda stream: stream.name)
async def test_the_sdk_raises_where_we_raise_but_does_not_type_it(
    stream: StreamWire, http: aiohttp.ClientSession
) -> None:
    """It has one error for all of them, without a status. Google's types them as we do, and leaves its connection open,
    so that it cannot be asked here."""
    async with connected(stream.wire, http) as line:
        for name, (error, kind) in stream.errors.items():
            if name == "finish_reason":
                continue  # see below
            steps = [*stream.events(stream.wire.says("x"))[:2], error, DONE]
            line.server.will_stream(*steps)
            line.server.will_stream(*steps)
            with pytest.raises(ProviderError) as ours:
                await line.stream()
            assert type(ours.value) is kind, name
            with pytest.raises(openai.APIError) as theirs:
                await stream_openai(line.server.url)
            assert type(theirs.value) is openai.APIError


async def test_the_sdk_takes_an_answer_that_broke_for_one(openrouter_line: Line) -> None:
    steps = [chunk({"content": "half"}), chunk({"content": ""}, "error"), DONE]
    openrouter_line.server.will_stream(*steps)
    openrouter_line.server.will_stream(*steps)
    assert (await stream_openai(openrouter_line.server.url)).text == "half"
    with pytest.raises(ProviderUnavailable):
        await openrouter_line.stream()


async def test_the_sdk_mixes_up_calls_that_are_all_numbered_0(local_line: Line) -> None:
    calls = [
        {"index": 0, "id": call_id, "type": "function", "function": {"name": name, "arguments": "{}"}}
        for call_id, name in (("a", "find"), ("b", "sum"))
    ]
    steps = [*(chunk({"tool_calls": [call]}) for call in calls), chunk({}, "tool_calls"), DONE]
    local_line.server.will_stream(*steps)
    local_line.server.will_stream(*steps)
    assert (await stream_openai(local_line.server.url)).calls == [("findsum", "{}{}")]
    assert [call.name for call in (await local_line.stream())[1].tool_calls] == ["find", "sum"]


async def test_a_number_that_is_missing_breaks_the_sdk(local_line: Line) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    steps = [event({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}), chunk({}, "tool_calls"), DONE]
    local_line.server.will_stream(*steps)
    local_line.server.will_stream(*steps)
    with pytest.raises(TypeError):
        await stream_openai(local_line.server.url)
    assert [call.name for call in (await local_line.stream())[1].tool_calls] == ["find"]
