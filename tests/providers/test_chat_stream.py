"""Streamed chat completions: what OpenRouter and local servers share, and what only one of them has."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_ai.errors import MalformedReply, ProviderTimeout, ProviderUnavailable, RateLimited, TruncatedReply
from conductor_ai.providers import chat_completions
from conductor_ai.providers.chat_stream import ChatAssembly
from conductor_ai.providers.failures import Timeouts
from conductor_ai.providers.sse import SSEParser
from conductor_ai.schemas.deltas import (
    Delta,
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
from tests.conftest import fail_after
from tests.providers.lines import FIND, HELLO, Line, own_turn, replies_to
from tests.providers.stream_wires_chat import LOCAL_STREAM, chat_events
from tests.servers.chat_completions import DONE, chunk, event, reply
from tests.servers.provider_server import Repeated

STOP = chunk({}, "stop")


def part(
    index: int | None = None, call_id: str | None = None, name: str | None = None, arguments: Any = None
) -> dict[str, Any]:
    """A piece of a tool call, without what is None."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    given = (("index", index), ("id", call_id), ("function", function or None))
    return {key: value for key, value in given if value is not None}


def calls_chunk(*pieces: dict[str, Any]) -> bytes:
    return chunk({"tool_calls": list(pieces)})


def heard(raw: bytes, sizes: list[int]) -> tuple[list[Delta], ModelResponse | None]:
    """What comes of a stream that arrives in pieces of these sizes, and then the rest."""
    assembly = ChatAssembly(lambda *whole: chat_completions.read("local", *whole), {}, "m", may_close=True)
    parser, deltas, at = SSEParser(), [], 0
    for size in [*sizes, len(raw)]:
        for one in parser.feed(raw[at : at + size]):
            deltas += assembly.add(one) or []
        at += size
    return deltas, assembly.whole()


def keeps_the_order(deltas: list[Delta], response: ModelResponse) -> bool:
    """Every call begins, gets its arguments and ends, in the order of the answer's calls."""
    calls = range(len(response.tool_calls))
    starts = [delta for delta in deltas if isinstance(delta, ToolCallStart)]
    for index, call in enumerate(response.tool_calls):
        of_calls = (delta for delta in deltas if isinstance(delta, ToolCallStart | ToolArguments | ToolCallEnd))
        own = [delta for delta in of_calls if delta.call_index == index]
        assert [type(own[0]), type(own[-1])] == [ToolCallStart, ToolCallEnd]
        text = "".join(delta.text for delta in own[1:-1] if isinstance(delta, ToolArguments))
        if call.raw_arguments is None:
            assert json.loads(text or "{}") == call.arguments
        else:
            assert text == call.raw_arguments
    return starts == [ToolCallStart(index, response.tool_calls[index].name) for index in calls]


async def test_a_stream_is_asked_for_and_local_servers_are_asked_to_count(
    openrouter_line: Line, local_line: Line
) -> None:
    for line, options in ((openrouter_line, None), (local_line, {"include_usage": True})):
        for _ in range(2):
            line.server.will_stream(chunk({"content": "ok"}), STOP, DONE)
            line.server.will_answer(body=reply({"role": "assistant", "content": "ok"}))
            await line.stream(tools=(FIND,))
            await line.ask(tools=(FIND,))
        streamed, whole = (seen.json for seen in line.server.requests[-2:])
        assert streamed.pop("stream") is True
        assert streamed.pop("stream_options", None) == options
        assert streamed == whole
    assert openrouter_line.server.requests[-1].json["provider"] == {"require_parameters": True}


CALLS: dict[str, tuple[list[list[dict[str, Any]]], list[tuple[str | None, str, dict[str, Any]]]]] = {
    "each with its number, pieces mixed": (
        [
            [part(0, "a", "find", "")],
            [part(0, None, None, '{"x"')],
            [part(1, "b", "sum", "")],
            [part(0, None, None, ": 1}")],
            [part(1, None, None, "{}")],
        ],
        [("a", "find", {"x": 1}), ("b", "sum", {})],
    ),
    "no number": (
        [[part(None, "a", "find", '{"x":')], [part(None, None, None, " 1}")], [part(None, "b", "find", "{}")]],
        [("a", "find", {"x": 1}), ("b", "find", {})],
    ),
    "all 0 in one chunk": (
        [[part(0, "a", "find", '{"x": 1}'), part(0, "b", "find", '{"x": 2}')]],
        [("a", "find", {"x": 1}), ("b", "find", {"x": 2})],
    ),
    "all 0 in turn": (
        [[part(0, "a", "find", '{"x"')], [part(0, None, None, ": 1}")], [part(0, "b", "find", '{"x": 2}')]],
        [("a", "find", {"x": 1}), ("b", "find", {"x": 2})],
    ),
    "all 0, told apart by their ids": (
        [
            [part(0, "a", "find", '{"x"')],
            [part(0, "b", "find", '{"x"')],
            [part(0, "a", None, ": 1}")],
            [part(0, "b", None, ": 2}")],
        ],
        [("a", "find", {"x": 1}), ("b", "find", {"x": 2})],
    ),
    "all 0, no ids": (
        [[part(0, None, "find", '{"x": 1}')], [part(0, None, "find", '{"x": 2}')]],
        [(None, "find", {"x": 1}), (None, "find", {"x": 2})],
    ),
    "all 0, no ids, other names": (
        [[part(0, None, "find", "")], [part(0, None, "sum", "")]],
        [(None, "find", {}), (None, "sum", {})],
    ),
    "no number, no ids, in one chunk": (
        [[part(None, None, "find", ""), part(None, None, "find", '{"x": 1}')]],
        [(None, "find", {}), (None, "find", {"x": 1})],
    ),
    "id and name in every piece": (
        [[part(0, "a", "find", '{"x"')], [part(0, "a", "find", ": 1}")], [part(0, "a", "find", "")]],
        [("a", "find", {"x": 1})],
    ),
    "name in every piece, no id": (
        [[part(0, None, "find", '{"x"')], [part(0, None, "find", ": 1}")], [part(0, None, "find", "\n")]],
        [(None, "find", {"x": 1})],
    ),
    "id late": ([[part(0, None, "find", "{}")], [part(0, "a")]], [("a", "find", {})]),
    "id once, then empty": ([[part(0, "a", "find", "")], [part(0, "", None, "{}")]], [("a", "find", {})]),
    "a new id for each piece": (
        [[part(0, "a", "find", '{"x"')], [part(0, "z", None, ": 1}")]],
        [("a", "find", {"x": 1})],
    ),
    "name late": ([[part(0, "a", None, '{"x"')], [part(0, None, "find", ": 1}")]], [("a", "find", {"x": 1})]),
    "one id for all": (
        [[part(0, "a", "find", "{}")], [part(1, "a", "find", '{"x": 1}')]],
        [("a", "find", {}), (None, "find", {"x": 1})],
    ),
    "arguments as an object": ([[part(0, "a", "find", {"x": 1})]], [("a", "find", {"x": 1})]),
    "no arguments at all": ([[part(0, "a", "find")]], [("a", "find", {})]),
}


@pytest.mark.parametrize("case", CALLS)
async def test_calls_are_told_apart_however_a_host_numbers_them(local_line: Line, case: str) -> None:
    chunks, expected = CALLS[case]
    local_line.server.will_stream(*(calls_chunk(*pieces) for pieces in chunks), chunk({}, "tool_calls"), DONE)
    local_line.server.will_answer(body=reply({"role": "assistant", "content": "ok"}))
    deltas, response = await local_line.stream(tools=(FIND,))
    assert [(call.name, call.arguments) for call in response.tool_calls] == [call[1:] for call in expected]
    known = zip(response.tool_calls, expected, strict=True)
    assert all(call.provider_call_id == call_id for call, (call_id, _, _) in known if call_id)
    assert keeps_the_order(deltas, response)
    turn = own_turn(response)
    assert (await local_line.ask(HELLO, turn, replies_to(turn, *["found"] * len(expected)))).content == "ok"


async def test_arguments_that_are_not_json_are_kept_as_text(local_line: Line) -> None:
    local_line.server.will_stream(
        calls_chunk(part(0, "a", "find", '{"x": ')), calls_chunk(part(0, None, None, "oops")), STOP, DONE
    )
    deltas, response = await local_line.stream()
    assert (response.tool_calls[0].arguments, response.tool_calls[0].raw_arguments) == (None, '{"x": oops')
    assert response.stop_reason is StopReason.TOOL_USE  # some hosts say "stop" beside calls
    assert keeps_the_order(deltas, response)


@pytest.mark.parametrize("name", [None, ""])
async def test_a_call_without_a_name_is_malformed(local_line: Line, name: str | None) -> None:
    local_line.server.will_stream(calls_chunk(part(0, "a", name, "{}")), STOP, DONE)
    local_line.server.will_answer(body=reply({"content": None, "tool_calls": [part(0, "a", name, "{}")]}, "tool_calls"))
    for ask in (local_line.stream, local_line.ask):
        with pytest.raises(MalformedReply):
            await ask()


TEXT = {"type": "reasoning.text", "format": "f", "index": 0}
DETAILS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "text, then its signature alone": (
        [{**TEXT, "text": "Let me "}, {**TEXT, "text": "see."}, {**TEXT, "signature": "Eq+/=="}],
        [{**TEXT, "text": "Let me see.", "signature": "Eq+/=="}],
    ),
    "null signatures on the way": (
        [{**TEXT, "text": "a", "signature": None}, {**TEXT, "text": "b", "signature": "S"}],
        [{**TEXT, "text": "ab", "signature": "S"}],
    ),
    "two blocks, and one encrypted between": (
        [
            {"type": "reasoning.summary", "index": 0, "summary": "a"},
            {"type": "reasoning.summary", "index": 0, "summary": "b"},
            {"type": "reasoning.encrypted", "index": 1, "id": "rs_1", "data": "Zm9v"},
            {"type": "reasoning.summary", "index": 2, "summary": "c"},
            {"type": "reasoning.summary", "index": 2, "summary": "d"},
        ],
        [
            {"type": "reasoning.summary", "index": 0, "summary": "ab"},
            {"type": "reasoning.encrypted", "index": 1, "id": "rs_1", "data": "Zm9v"},
            {"type": "reasoning.summary", "index": 2, "summary": "cd"},
        ],
    ),
    "pieces of two blocks mixed": (
        [{**TEXT, "text": "a"}, {**TEXT, "index": 1, "text": "x"}, {**TEXT, "text": "b"}],
        [{**TEXT, "text": "ab"}, {**TEXT, "index": 1, "text": "x"}],
    ),
    "encrypted ones under one index stay apart": (
        [
            {**TEXT, "text": "a"},
            {"type": "reasoning.encrypted", "data": "Zm9v", "id": "c1", "index": 0},
            {"type": "reasoning.encrypted", "data": "YmFy", "id": "c2", "index": 0},
        ],
        [
            {**TEXT, "text": "a"},
            {"type": "reasoning.encrypted", "data": "Zm9v", "id": "c1", "index": 0},
            {"type": "reasoning.encrypted", "data": "YmFy", "id": "c2", "index": 0},
        ],
    ),
    "nothing is added to what is signed": (
        [{**TEXT, "text": "a", "signature": "S"}, {**TEXT, "text": "b"}],
        [{**TEXT, "text": "a", "signature": "S"}, {**TEXT, "text": "b"}],
    ),
    "without an index": (
        [
            {"type": "reasoning.text", "text": "a"},
            {"type": "reasoning.text", "text": "b"},
            {"type": "of.next.year", "text": "x"},
            {"type": "reasoning.text", "text": "c"},
        ],
        [
            {"type": "reasoning.text", "text": "ab"},
            {"type": "of.next.year", "text": "x"},
            {"type": "reasoning.text", "text": "c"},
        ],
    ),
    "a text of nothing": ([{**TEXT, "text": ""}, {**TEXT, "signature": "S"}], [{**TEXT, "text": "", "signature": "S"}]),
}


@pytest.mark.parametrize("case", DETAILS)
async def test_reasoning_details_go_back_as_the_complete_call_gives_them(openrouter_line: Line, case: str) -> None:
    pieces, joined = DETAILS[case]
    call = part(0, "a", "find", "{}")
    openrouter_line.server.will_stream(
        *(chunk({"reasoning_details": [piece]}) for piece in pieces), calls_chunk(call), STOP, DONE
    )
    openrouter_line.server.will_answer(body=reply({"role": "assistant", "content": "ok"}))
    turn = own_turn((await openrouter_line.stream())[1])
    await openrouter_line.ask(HELLO, turn, replies_to(turn, "found"))
    assert openrouter_line.server.requests[-1].json["messages"][1]["reasoning_details"] == joined


@pytest.mark.parametrize(
    ("deltas", "shown"),
    [
        ([{"reasoning": "Hm"}, {"reasoning": "."}], ["Hm", "."]),
        ([{"reasoning_content": "Hm"}, {"reasoning_content": "."}], ["Hm", "."]),
        ([{"reasoning": "Hm", "reasoning_content": "Hm"}, {"reasoning": ".", "reasoning_content": "."}], ["Hm", "."]),
        ([{"reasoning": None, "reasoning_content": "Hm."}], ["Hm."]),
    ],
    ids=["reasoning", "reasoning_content", "both", "null"],
)
async def test_reasoning_is_shown_once_under_whatever_name(
    local_line: Line, deltas: list[dict[str, Any]], shown: list[str]
) -> None:
    local_line.server.will_stream(*map(chunk, deltas), STOP, DONE)
    came, response = await local_line.stream()
    assert [delta.text for delta in came if isinstance(delta, ReasoningDelta)] == shown
    assert response.reasoning == "Hm."


@pytest.mark.parametrize("choices", [[], None, [{"index": 0, "delta": {"role": "assistant", "content": ""}}]])
async def test_the_bill_comes_last_beside_whatever_choices(openrouter_line: Line, choices: Any) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "cost": 0.00014625}
    bill = event({"id": "gen-1", "choices": choices, "usage": usage})
    openrouter_line.server.will_stream(chunk({"content": "ok"}, usage=None), STOP, bill, DONE)
    deltas, response = await openrouter_line.stream()
    assert UsageUpdate(Usage(input_tokens=10, output_tokens=5)) in deltas
    assert (str(response.billed_cost_usd), response.stop_reason) == ("0.00014625", StopReason.END_TURN)


async def test_counts_on_every_chunk_replace_each_other(local_line: Line) -> None:
    counted = [{"prompt_tokens": 10, "completion_tokens": count} for count in (1, 2, 2)]
    chunks = [chunk({"content": "x"}, usage=usage) for usage in counted]
    local_line.server.will_stream(*chunks, STOP, DONE)
    deltas, response = await local_line.stream()
    updates = [delta.usage.output_tokens for delta in deltas if isinstance(delta, UsageUpdate)]
    assert (updates, response.usage) == ([1, 2], Usage(input_tokens=10, output_tokens=2))


async def test_an_error_after_the_finish_is_an_error(openrouter_line: Line) -> None:
    cut = chunk({"content": "ha"}, "length")
    error = {"code": 502, "message": "Provider returned error", "metadata": {"raw": "it broke"}}
    late = chunk({"content": ""}, error=error, usage={"prompt_tokens": 10, "completion_tokens": 5, "cost": 0.01})
    openrouter_line.server.will_stream(cut, cut, late, DONE)
    with pytest.raises(ProviderUnavailable, match="it broke"):
        await openrouter_line.stream()


async def test_a_delay_that_came_with_the_200_is_no_word_on_a_later_error(openrouter_line: Line) -> None:
    late = event({"error": {"code": 429, "message": "slow"}})
    openrouter_line.server.will_stream(chunk({"content": "x"}), late, DONE, headers={"retry-after": "9"})
    with pytest.raises(RateLimited) as caught:
        await openrouter_line.stream()
    assert caught.value.retry_after_s is None


async def test_openrouter_ends_with_done_and_a_local_server_may_not(openrouter_line: Line, local_line: Line) -> None:
    """The SDK would take each of these streams for an answer."""
    for line in (openrouter_line, local_line):
        line.server.will_stream(chunk({"content": "ha"}))
        with pytest.raises(TruncatedReply):
            await line.stream()
        line.server.will_stream(chunk({"content": "all"}), DONE)
        assert (await line.stream())[1].stop_reason is StopReason.OTHER
        line.server.will_stream(chunk({"content": "all"}), STOP)
    with pytest.raises(TruncatedReply):
        await openrouter_line.stream()
    deltas, response = await local_line.stream()
    assert (deltas[-1], response.content) == (Stop(StopReason.END_TURN), "all")


async def test_an_end_without_any_choice_is_malformed(local_line: Line) -> None:
    local_line.server.will_stream(chunk(None), DONE)
    with pytest.raises(MalformedReply):
        await local_line.stream()


async def test_a_chunk_of_nothing_is_no_progress(openrouter_line: Line) -> None:
    line = openrouter_line.reconnected(timeouts=Timeouts(progress_s=0.05))
    line.server.will_stream(chunk({"content": "x"}), Repeated(chunk({"role": "assistant", "content": ""})))
    async with fail_after(10):
        with pytest.raises(ProviderTimeout):
            await line.stream()


def test_encrypted_reasoning_is_progress() -> None:
    detail = {"type": "reasoning.encrypted", "data": "Zm9v", "index": 0}
    assembly = ChatAssembly(lambda *whole: chat_completions.read("local", *whole), {}, "m", may_close=True)
    (one,) = SSEParser().feed(chunk({"reasoning_details": [detail]}))
    assert assembly.add(one) == []


async def test_an_error_inside_a_whole_200_of_a_local_server_is_an_error(local_line: Line) -> None:
    for ask in (local_line.ask, local_line.stream):
        local_line.server.will_answer(body={"error": {"code": 503, "message": "Loading model", "type": "unavailable"}})
        with pytest.raises(ProviderUnavailable, match="Loading model"):
            await ask()


async def test_a_whole_answer_in_one_event_is_read(local_line: Line) -> None:
    local_line.server.will_stream(event(reply({"role": "assistant", "content": "all"})), DONE)
    deltas, response = await local_line.stream()
    assert (deltas[0], response.content) == (TextDelta("all"), "all")


async def test_the_host_and_a_text_in_parts_are_read(openrouter_line: Line) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "odd"}]
    openrouter_line.server.will_stream(
        chunk({"content": parts}, model=""), chunk({"content": "b"}, model="other/m-2"), STOP, DONE
    )
    _, response = await openrouter_line.stream()
    assert (response.content, response.answered_by, response.request_id) == ("ab", "other/m-2", "gen-1")


RICH = b"".join(chat_events(LOCAL_STREAM.rich[0]))
WHOLE = heard(RICH, [])


@given(st.lists(st.integers(1, 60), max_size=40), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_split_of_the_bytes_gives_the_same(sizes: list[int], line_end: bytes) -> None:
    assert WHOLE[1] is not None
    assert heard(RICH.replace(b"\n", line_end), sizes) == WHOLE


@given(st.text(st.characters(), max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_any_cut_of_text_and_arguments_gives_the_complete_answer(text: str, cuts: list[int]) -> None:
    """Surrogates of one character may come apart, and lone ones stay alone."""
    arguments = json.dumps({"what": text})
    message = {
        "role": "assistant",
        "content": text,
        "reasoning_content": text,
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "find", "arguments": arguments}}],
    }
    body = json.loads(json.dumps(reply(message, "tool_calls")))
    begin = [calls_chunk(part(0, "a", "find", ""))]
    raw = [chunk({"reasoning_content": piece}) for piece in cut(text, cuts)]
    raw += [chunk({"content": piece}) for piece in cut(text, cuts)]
    raw += begin + [calls_chunk(part(0, None, None, piece)) for piece in cut(arguments, cuts)]
    raw += [chunk({}, "tool_calls"), chunk(None, usage=body["usage"]), DONE]
    deltas, response = heard(b"".join(raw), [])
    assert response == chat_completions.read("local", body, {}, "m")
    assert response is not None
    assert keeps_the_order(deltas, response)


def cut(text: str, at: list[int]) -> list[str]:
    """The text in pieces as a server would send them: cut in its JSON units, so that a surrogate pair may part."""
    units = text.encode("utf-16-le", "surrogatepass")
    marks = [0, *sorted(min(2 * mark, len(units)) for mark in at), len(units)]
    return [units[i:j].decode("utf-16-le", "surrogatepass") for i, j in pairwise(marks)]
