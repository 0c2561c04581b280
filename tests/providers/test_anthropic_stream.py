"""Anthropic's stream: what only this wire has, and what the official SDK makes of the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from conductor_ai.errors import MalformedReply, ProviderError, ProviderUnavailable, RateLimited, TruncatedReply
from conductor_ai.schemas.deltas import (
    ReasoningDelta,
    Stop,
    TextDelta,
    ToolArguments,
    ToolCallEnd,
    ToolCallStart,
    UsageUpdate,
)
from conductor_ai.schemas.messages import ModelResponse, StopReason
from conductor_ai.schemas.usage import Usage
from tests.providers.lines import FIND, HELLO, Line, own_turn, replies_to
from tests.providers.stream_wires import ANTHROPIC_STREAM, anthropic_error, anthropic_event, anthropic_events
from tests.servers.anthropic import reply
from tests.servers.provider_server import KEY, Then

THINKING = {"type": "thinking", "thinking": "", "signature": ""}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {}}
TEXT = {"type": "text", "text": ""}


def message_start(**usage: Any) -> bytes:
    begun = reply([], **{"input_tokens": 10, "output_tokens": 1, **usage})
    return anthropic_event("message_start", message={**begun, "stop_reason": None})


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> Iterator[bytes]:
    yield anthropic_event("content_block_start", index=index, content_block=start)
    for delta in deltas:
        yield anthropic_event("content_block_delta", index=index, delta=delta)
    yield anthropic_event("content_block_stop", index=index)


def end(stop_reason: str | None = "end_turn", **usage: Any) -> Iterator[bytes]:
    changed = {"stop_reason": stop_reason, "stop_sequence": None}
    yield anthropic_event("message_delta", delta=changed, usage={"output_tokens": 5, **usage})
    yield anthropic_event("message_stop")


def text(piece: str) -> dict[str, Any]:
    return {"type": "text_delta", "text": piece}


def arguments(piece: str) -> dict[str, Any]:
    return {"type": "input_json_delta", "partial_json": piece}


async def stream(line: Line, *events: bytes) -> tuple[list[Any], ModelResponse]:
    line.server.will_stream(*events)
    return await line.stream(tools=(FIND,))


async def test_each_event_says_its_piece(anthropic_line: Line) -> None:
    deltas, response = await stream(
        anthropic_line,
        message_start(),
        *block(
            0, THINKING, {"type": "thinking_delta", "thinking": "Hm."}, {"type": "signature_delta", "signature": "E+/="}
        ),
        *block(1, {"type": "redacted_thinking", "data": "Emw="}),
        *block(2, TEXT, text("Let "), text("me.")),
        *block(3, CALL, arguments(""), arguments('{"wh'), arguments('at": "ü"}')),
        *block(4, {**CALL, "id": "toolu_2"}, arguments("")),
        *end("tool_use"),
    )
    assert deltas == [
        UsageUpdate(Usage(10, 1)),
        ReasoningDelta("Hm."),
        TextDelta("Let "),
        TextDelta("me."),
        ToolCallStart(0, "find"),
        ToolArguments(0, '{"wh'),
        ToolArguments(0, 'at": "ü"}'),
        ToolCallEnd(0),
        ToolCallStart(1, "find"),
        ToolCallEnd(1),
        UsageUpdate(Usage(10, 5)),
        Stop(StopReason.TOOL_USE),
    ]
    assert [call.arguments for call in response.tool_calls] == [{"what": "ü"}, {}]
    assert (response.answered_by, response.usage) == ("claude-test-1", Usage(10, 5))


async def test_a_streamed_turn_goes_back_with_its_signature(anthropic_line: Line) -> None:
    body = ANTHROPIC_STREAM.rich[0]
    anthropic_line.server.will_stream(*anthropic_events(body))
    anthropic_line.server.will_answer(body=reply([{"type": "text", "text": "ok"}]))
    turn = own_turn((await anthropic_line.stream(tools=(FIND,)))[1])
    await anthropic_line.ask(HELLO, turn, replies_to(turn, "a", "b", "c"))
    sent = anthropic_line.server.requests[-1].json["messages"][1]["content"]
    assert [block for block in sent if "thinking" in block["type"]] == body["content"][:3]


@pytest.mark.parametrize("cut", ['{"what": "x', '{"what":', "[1]x"])
async def test_arguments_that_break_off_keep_their_text(anthropic_line: Line, cut: str) -> None:
    events = [message_start(), *block(0, CALL, arguments(cut[:3]), arguments(cut[3:])), *end("max_tokens")]
    _, response = await stream(anthropic_line, *events)
    (call,) = response.tool_calls
    assert (call.arguments, call.raw_arguments) == (None, cut)
    assert response.stop_reason is StopReason.MAX_TOKENS
    anthropic_line.server.will_answer(body=reply([{"type": "text", "text": "ok"}]))
    turn = own_turn(response)
    assert (await anthropic_line.ask(HELLO, turn, replies_to(turn, "cut"))).content == "ok"


async def test_a_start_that_holds_it_all_is_told_in_one_piece(anthropic_line: Line) -> None:
    """As some gateways have it."""
    deltas, response = await stream(
        anthropic_line,
        message_start(),
        *block(0, {**TEXT, "text": "All of it"}, text(" and more")),
        *block(1, {**CALL, "input": {"what": "x"}}),
        *end("tool_use"),
    )
    assert response.content == "All of it and more"
    assert [call.arguments for call in response.tool_calls] == [{"what": "x"}]
    assert [delta for delta in deltas if isinstance(delta, TextDelta | ToolArguments)] == [
        TextDelta("All of it"),
        TextDelta(" and more"),
        ToolArguments(0, '{"what":"x"}'),
    ]


async def test_a_character_whose_halves_come_apart_is_one_again(anthropic_line: Line) -> None:
    events = [message_start(), *block(0, TEXT, text("a \ud83d"), text("\ude97!")), *end()]
    _, response = await stream(anthropic_line, *events)
    assert response.content == "a 🚗!"
    assert "🚗" in response.wire.json.decode()


async def test_deltas_of_unknown_kinds_are_skipped(anthropic_line: Line) -> None:
    events = [
        message_start(),
        *block(0, TEXT, {"type": "next_year_delta", "x": 1}, text("ok"), arguments("{}")),
        *end(),
    ]
    assert (await stream(anthropic_line, *events))[1].content == "ok"


@pytest.mark.parametrize(
    ("begun", "ended", "usage"),
    [
        ({"cache_read_input_tokens": 60}, {}, Usage(10, 5, cache_read_tokens=60)),
        ({}, {"input_tokens": 70, "cache_creation_input_tokens": 9}, Usage(70, 5, cache_write_tokens=9)),
        ({}, {"input_tokens": None, "cache_read_input_tokens": None}, Usage(10, 5)),
        ({}, {"output_tokens_details": {"thinking_tokens": 4}}, Usage(10, 5, reasoning_tokens=4)),
        ({"input_tokens": None}, {}, None),
        ({}, {"output_tokens": None}, Usage(10, 1)),
    ],
    ids=["from the start", "changed at the end", "null at the end", "thinking", "never counted", "no end"],
)
async def test_later_counts_replace_earlier_ones(
    anthropic_line: Line, begun: dict[str, Any], ended: dict[str, Any], usage: Usage | None
) -> None:
    _, response = await stream(anthropic_line, message_start(**begun), *block(0, TEXT, text("x")), *end(**ended))
    assert response.usage == usage


@pytest.mark.parametrize(
    "events",
    [
        [*end()],
        [message_start(), anthropic_event("content_block_delta", index=0, delta=text("x")), *end()],
        [message_start(), anthropic_event("content_block_stop", index=0), *end()],
        [message_start(), anthropic_event("content_block_start", index=0), *end()],
        [message_start(), *block(0, TEXT, {"type": "text_delta", "text": 7}), *end()],
        [message_start(), *block(0, CALL, {"type": "input_json_delta", "partial_json": {}}), *end()],
        [message_start(), *block(0, {"type": "tool_use"}), *end()],
    ],
    ids=["no start", "no block", "nothing to end", "no content", "no text", "no piece", "no name"],
)
async def test_events_that_do_not_fit_together_are_malformed(anthropic_line: Line, events: list[bytes]) -> None:
    anthropic_line.server.will_stream(*events)
    with pytest.raises(MalformedReply):
        await anthropic_line.stream()


async def test_an_error_event_carries_its_words_and_its_id_and_not_the_key(anthropic_line: Line) -> None:
    anthropic_line.server.will_stream(
        message_start(), anthropic_error("rate_limit_error", f"slow down, {KEY}"), Then.SILENCE
    )
    with pytest.raises(RateLimited) as caught:
        await anthropic_line.stream()
    assert str(caught.value) == "anthropic answered 429 for maker/model-1: slow down, [key]"
    assert (caught.value.request_id, caught.value.retry_after_s) == ("req_stream", None)


# What the SDK makes of the same bytes. Where the two differ, and why ours stays:
# - An error event: theirs is an APIStatusError of status 200, which no rule about statuses retries; ours has the kind
#   and the status that the event names.
# - A cut stream: theirs is the HTTP library's error, and an orderly end without message_stop is an answer; ours is a
#   TruncatedReply in both cases.
# - Arguments that break off: theirs are what can be read of them; ours keep the text, which is no call to run.
# - Half of a character in a piece: theirs fails on it, ours waits for the other half.
# - A block of nothing but white space: theirs keeps it, ours leaves it out, because it is refused when it goes back.


async def sdk_stream(line: Line, *events: bytes) -> anthropic.types.Message:
    line.server.will_stream(*events)
    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=line.server.url, max_retries=0) as client:
        request: Any = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}
        async with client.messages.stream(**request) as their_stream:
            return await their_stream.get_final_message()


def bodies_for_the_sdk() -> list[dict[str, Any]]:
    wire = ANTHROPIC_STREAM.wire
    bodies = [*ANTHROPIC_STREAM.rich, wire.says("Grüß Gott"), wire.usage[0], *(body for body, _ in wire.stops.values())]
    return [json.loads(json.dumps(body, ensure_ascii=False).replace("\ud83d", "")) for body in bodies]


async def test_the_sdk_reads_the_same_out_of_the_same_stream(anthropic_line: Line) -> None:
    for body in bodies_for_the_sdk():
        events = anthropic_events(body)
        _, ours = await stream(anthropic_line, *events)
        theirs = await sdk_stream(anthropic_line, *events)
        said = [block.text for block in theirs.content if block.type == "text" and not block.text.isspace()]
        assert ours.content == "".join(said)
        assert [(call.provider_call_id, call.name, call.arguments) for call in ours.tool_calls] == [
            (block.id, block.name, block.input) for block in theirs.content if block.type == "tool_use"
        ]
        assert ours.reasoning == "\n".join(block.thinking for block in theirs.content if block.type == "thinking")
        known = ANTHROPIC_STREAM.wire.stops.get(theirs.stop_reason or "")
        assert known is not None
        assert ours.stop_reason is known[1]
        usage = theirs.usage
        assert ours.usage is not None
        assert (ours.usage.input_tokens, ours.usage.output_tokens) == (usage.input_tokens, usage.output_tokens)
        assert ours.usage.cache_read_tokens == (usage.cache_read_input_tokens or 0)
        assert ours.usage.cache_write_tokens == (usage.cache_creation_input_tokens or 0)


async def test_the_sdk_misses_what_we_tell_apart(anthropic_line: Line) -> None:
    begun = [message_start(), *block(0, TEXT, text("half"))]
    overloaded = anthropic_error("overloaded_error")
    with pytest.raises(anthropic.APIStatusError) as theirs:
        await sdk_stream(anthropic_line, *begun, overloaded)
    assert theirs.value.status_code == 200
    assert (await sdk_stream(anthropic_line, *begun)).stop_reason is None
    cut = [message_start(), *block(0, CALL, arguments('{"what": "x", "n')), *end("max_tokens")]
    (call,) = (await sdk_stream(anthropic_line, *cut)).content
    assert call.type == "tool_use"
    assert call.input == {"what": "x"}
    with pytest.raises(UnicodeEncodeError):
        await sdk_stream(anthropic_line, message_start(), *block(0, CALL, arguments('{"a": "\ud83d')), *end())
    kinds: list[tuple[list[bytes], type[ProviderError]]] = [
        ([*begun, overloaded], ProviderUnavailable),
        (begun, TruncatedReply),
    ]
    for events, kind in kinds:
        anthropic_line.server.will_stream(*events)
        with pytest.raises(kind):
            await anthropic_line.stream()
