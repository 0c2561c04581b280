"""Streamed Gemini: what only this wire has."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_ai.errors import (
    MalformedReply,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
    TruncatedReply,
)
from conductor_ai.providers import gemini_reply
from conductor_ai.providers.failures import Timeouts
from conductor_ai.providers.gemini_reply import GeminiAssembly
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
from conductor_ai.schemas.messages import Message, ModelResponse, StopReason
from conductor_ai.schemas.usage import Usage
from tests.conftest import fail_after
from tests.providers.lines import FIND, HELLO, Line, own_turn, replies_to
from tests.providers.stream_wires_gemini import GEMINI_STREAM, gemini_events
from tests.servers.gemini import chunk, event, reply
from tests.servers.provider_server import KEY, Repeated

SIGNATURE = "CsYBAVSoXO4/+=="


def heard(raw: bytes, sizes: list[int]) -> tuple[list[Delta], ModelResponse | None]:
    """What comes of a stream that arrives in pieces of these sizes, and then the rest."""
    assembly = GeminiAssembly(lambda data, _, model: gemini_reply.read(data, model), {}, "m")
    parser, deltas, at = SSEParser(), [], 0
    for size in [*sizes, len(raw)]:
        for one in parser.feed(raw[at : at + size]):
            deltas += assembly.add(one) or []
        at += size
    return deltas, assembly.whole()


async def test_a_stream_is_asked_for_in_the_address_and_with_the_same_body(gemini_line: Line) -> None:
    gemini_line.server.will_stream(chunk([{"text": "ok"}], "STOP"))
    gemini_line.server.will_answer(body=reply([{"text": "ok"}]))
    await gemini_line.stream(tools=(FIND,), model="gemini/1")
    await gemini_line.ask(tools=(FIND,), model="gemini/1")
    streamed, whole = gemini_line.server.requests
    assert streamed.path == "/v1beta/models/gemini/1:streamGenerateContent"
    assert streamed.json == whole.json
    assert streamed.headers["x-goog-api-key"] == KEY


CALL: dict[str, Any] = {"functionCall": {"name": "find", "args": {"what": "x"}}}
SIGNED_CALL: dict[str, Any] = {**CALL, "thoughtSignature": SIGNATURE}
SIGNED_NOTHING: dict[str, Any] = {"text": "", "thoughtSignature": SIGNATURE}
PARTS: dict[str, tuple[list[list[dict[str, Any]]], list[dict[str, Any]]]] = {
    "plain text is one part": ([[{"text": "a"}], [{"text": "b"}, {"text": "c"}], [{"text": ""}]], [{"text": "abc"}]),
    "so are plain thoughts, apart from text": (
        [[{"text": "a", "thought": True}], [{"text": "b", "thought": True}], [{"text": "c"}], [{"text": "d"}]],
        [{"text": "ab", "thought": True}, {"text": "cd"}],
    ),
    "a signature on an empty text stays there": (
        [[{"text": "a"}], [{"text": "b"}], [SIGNED_NOTHING]],
        [{"text": "ab"}, SIGNED_NOTHING],
    ),
    "nothing joins a signed part, on neither side": (
        [[{"text": "a"}], [{"text": "b", "thoughtSignature": SIGNATURE}], [{"text": "c"}], [{"text": "d"}]],
        [{"text": "a"}, {"text": "b", "thoughtSignature": SIGNATURE}, {"text": "cd"}],
    ),
    "two signed parts stay two": ([[SIGNED_NOTHING], [SIGNED_NOTHING]], [SIGNED_NOTHING, SIGNED_NOTHING]),
    "parallel calls are signed on the first": (
        [[{"text": "a", "thought": True}], [SIGNED_CALL], [CALL, CALL]],
        [{"text": "a", "thought": True}, SIGNED_CALL, CALL, CALL],
    ),
    "a signed thought": (
        [[{"text": "a", "thought": True, "thoughtSignature": SIGNATURE}], [{"text": "b", "thought": True}]],
        [{"text": "a", "thought": True, "thoughtSignature": SIGNATURE}, {"text": "b", "thought": True}],
    ),
    "a part of another kind, and a text with more to it": (
        [[{"text": "a"}], [{"executableCode": {"code": "1"}}], [{"text": "b", "x": 1}], [{"text": "c", "x": 1}]],
        [{"text": "a"}, {"executableCode": {"code": "1"}}, {"text": "b", "x": 1}, {"text": "c", "x": 1}],
    ),
}


@pytest.mark.parametrize("case", PARTS)
async def test_parts_go_back_as_they_came(gemini_line: Line, case: str) -> None:
    chunks, parts = PARTS[case]
    gemini_line.server.will_stream(*map(chunk, chunks[:-1]), chunk(chunks[-1], "STOP"))
    gemini_line.server.will_answer(body=reply([{"text": "ok"}]))
    deltas, response = await gemini_line.stream()
    turn = own_turn(response)
    after = [replies_to(turn, *["found"] * len(turn.tool_calls))] if turn.tool_calls else [HELLO]
    await gemini_line.ask(HELLO, turn, *after)
    assert gemini_line.server.requests[-1].json["contents"][1] == {"role": "model", "parts": parts}
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == response.content
    assert "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta)) == response.reasoning


REFUSED = "Corrupted thought signature."


def refusal(message: str) -> dict[str, Any]:
    return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}


async def signed_history(line: Line) -> list[Message]:
    """Two steps, as another model or key signed them."""
    signed_text = {"text": "b", "thoughtSignature": SIGNATURE}
    messages = [HELLO]
    for parts in ([SIGNED_NOTHING, signed_text, SIGNED_CALL, CALL], [CALL]):
        line.server.will_answer(body=reply(parts))
        turn = own_turn(await line.ask(*messages), len(messages))
        messages += [turn, replies_to(turn, *["thoughtSignature"] * len(turn.tool_calls))]
    return messages


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_signatures_that_no_longer_hold_are_replaced_once(gemini_line: Line, streamed: bool) -> None:
    messages = await signed_history(gemini_line)
    gemini_line.server.will_answer(400, refusal(REFUSED))
    gemini_line.server.will_answer(body=reply([{"text": "ok"}]))  # in one piece, whichever way it is asked
    response = (await gemini_line.stream(*messages))[1] if streamed else await gemini_line.ask(*messages)
    assert response.content == "ok"
    refused, sent = (seen.json["contents"] for seen in gemini_line.server.requests[-2:])
    standing_in = {**CALL, "thoughtSignature": "skip_thought_signature_validator"}
    assert refused[1]["parts"] == [SIGNED_NOTHING, {"text": "b", "thoughtSignature": SIGNATURE}, SIGNED_CALL, CALL]
    assert [turn["parts"] for turn in sent if turn["role"] == "model"] == [
        [{"text": "b"}, standing_in, CALL],
        [standing_in],
    ]
    assert [turn for turn in sent if turn["role"] == "user"] == [turn for turn in refused if turn["role"] == "user"]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("message", "signed", "requests"),
    [(REFUSED, True, 2), ("The input is too long.", True, 1), (REFUSED, False, 1)],
    ids=["refused again", "about something else", "nothing to replace"],
)
async def test_a_refusal_stays_one(
    gemini_line: Line, streamed: bool, message: str, signed: bool, requests: int
) -> None:
    messages = await signed_history(gemini_line) if signed else [HELLO]
    before = len(gemini_line.server.requests)
    for _ in range(2):
        gemini_line.server.will_answer(400, refusal(message))
    with pytest.raises(RequestRefused):
        await (gemini_line.stream(*messages) if streamed else gemini_line.ask(*messages))
    assert len(gemini_line.server.requests) - before == requests


async def test_a_refusal_within_an_answer_is_not_asked_again(gemini_line: Line) -> None:
    messages = await signed_history(gemini_line)
    before = len(gemini_line.server.requests)
    gemini_line.server.will_stream(chunk([{"text": "ha"}]), event(refusal(REFUSED)))
    with pytest.raises(RequestRefused):
        await gemini_line.stream(*messages)
    assert len(gemini_line.server.requests) - before == 1


async def test_a_call_comes_whole(gemini_line: Line) -> None:
    without = {"functionCall": {"name": "sum", "id": "g2"}}
    odd = {"functionCall": {"name": "find", "args": ["x"]}}
    gemini_line.server.will_stream(chunk([CALL]), chunk([without, odd]), chunk([{"text": ""}], "STOP"))
    deltas, response = await gemini_line.stream()
    assert deltas == [
        ToolCallStart(0, "find"),
        ToolArguments(0, '{"what":"x"}'),
        ToolCallEnd(0),
        ToolCallStart(1, "sum"),
        ToolCallEnd(1),
        ToolCallStart(2, "find"),
        ToolArguments(2, '["x"]'),
        ToolCallEnd(2),
        Stop(StopReason.TOOL_USE),
    ]
    assert [(call.arguments, call.raw_arguments) for call in response.tool_calls] == [
        ({"what": "x"}, None),
        ({}, None),
        (None, '["x"]'),
    ]
    assert [call.provider_call_id for call in response.tool_calls] == [None, "g2", None]


async def test_the_first_count_is_told_and_the_last_is_the_answer_s(gemini_line: Line) -> None:
    counts = [{"promptTokenCount": 9}, {"promptTokenCount": 9, "thoughtsTokenCount": 4}]
    last = {"promptTokenCount": 9, "candidatesTokenCount": 2, "thoughtsTokenCount": 5, "cachedContentTokenCount": 8}
    gemini_line.server.will_stream(
        *(chunk([{"text": "x"}], usageMetadata=count) for count in [counts[0], *counts]),
        chunk([{"text": "y"}], "STOP", usageMetadata=last),
        chunk([{"text": ""}], usageMetadata={}),
    )
    deltas, response = await gemini_line.stream()
    updates = [delta.usage for delta in deltas if isinstance(delta, UsageUpdate)]
    assert response.usage == Usage(input_tokens=1, output_tokens=7, cache_read_tokens=8, reasoning_tokens=5)
    assert updates == [Usage(input_tokens=9), response.usage]


@pytest.mark.parametrize(
    "chunks",
    [[], [chunk([{"text": "half"}])], [chunk(None)], [event({"usageMetadata": {"promptTokenCount": 7}})]],
    ids=["nothing", "text", "an empty candidate", "a count"],
)
async def test_without_a_reason_to_stop_it_was_cut(gemini_line: Line, chunks: list[bytes]) -> None:
    """The SDK takes each of these streams for an answer."""
    gemini_line.server.will_stream(*chunks)
    with pytest.raises(TruncatedReply):
        await gemini_line.stream()


@pytest.mark.parametrize("reason", ["PROHIBITED_CONTENT", "OTHER", "OF_NEXT_YEAR"])
async def test_a_blocked_prompt_has_no_candidate_and_is_filtered(gemini_line: Line, reason: str) -> None:
    blocked = event({"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 7}})
    gemini_line.server.will_stream(blocked)
    deltas, response = await gemini_line.stream()
    assert deltas == [UsageUpdate(Usage(input_tokens=7)), Stop(StopReason.CONTENT_FILTER)]
    assert (response.content, response.stop_reason) == ("", StopReason.CONTENT_FILTER)


async def test_an_answer_held_back_in_the_middle_is_filtered(gemini_line: Line) -> None:
    gemini_line.server.will_stream(chunk([{"text": "ha"}]), chunk(None, "SAFETY"))
    _, response = await gemini_line.stream()
    assert (response.content, response.stop_reason) == ("ha", StopReason.CONTENT_FILTER)


async def test_feedback_beside_an_answer_is_no_end_of_it(gemini_line: Line) -> None:
    begun = chunk([{"text": "half"}], promptFeedback={"blockReason": "OTHER"})
    gemini_line.server.will_stream(begun)
    with pytest.raises(TruncatedReply):
        await gemini_line.stream()


async def test_the_delay_of_a_late_rate_limit_is_in_its_details(gemini_line: Line) -> None:
    details = [{"@type": "x/google.rpc.RetryInfo", "retryDelay": "12s"}]
    late = event({"error": {"code": 429, "message": "quota", "details": details}})
    gemini_line.server.will_stream(chunk([{"text": "ha"}]), late)
    with pytest.raises(RateLimited) as caught:
        await gemini_line.stream()
    assert caught.value.retry_after_s == 12.0


async def test_an_error_in_plain_json_ends_a_stream_too(gemini_line: Line) -> None:
    error = json.dumps({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}, indent=2).encode()
    for before in ([], [chunk([{"text": "ha"}])]):
        gemini_line.server.will_stream(*before, error)
        with pytest.raises(ProviderUnavailable, match="overloaded"):
            await gemini_line.stream()


async def test_an_error_inside_a_whole_200_is_an_error(gemini_line: Line) -> None:
    gemini_line.server.will_answer(body={"error": {"code": 429, "message": "quota"}})
    with pytest.raises(RateLimited):
        await gemini_line.ask()


@pytest.mark.parametrize(
    "chunks",
    [
        [event([])],
        [event("text")],
        [event({"candidates": 1})],
        [event({"candidates": [{"content": {"parts": [1]}}]})],
        [chunk([{"functionCall": {"args": {}}}], "STOP")],
    ],
    ids=["a list", "a text", "a number for candidates", "a number for a part", "a call without a name"],
)
async def test_a_chunk_of_another_shape_is_malformed(gemini_line: Line, chunks: list[bytes]) -> None:
    gemini_line.server.will_stream(*chunks)
    with pytest.raises(MalformedReply):
        await gemini_line.stream()


async def test_a_chunk_that_adds_nothing_is_no_progress(gemini_line: Line) -> None:
    line = gemini_line.reconnected(timeouts=Timeouts(progress_s=0.05))
    line.server.will_stream(chunk([{"text": "x"}]), Repeated(event({"modelVersion": "gemini-test-1"})))
    async with fail_after(10):
        with pytest.raises(ProviderTimeout):
            await line.stream()


RICH = b"".join(gemini_events(GEMINI_STREAM.rich[0]))
WHOLE = heard(RICH, [])


@given(st.lists(st.integers(1, 60), max_size=40), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_split_of_the_bytes_gives_the_same(sizes: list[int], line_end: bytes) -> None:
    assert WHOLE[1] is not None
    assert heard(RICH.replace(b"\n", line_end), sizes) == WHOLE


@given(st.text(st.characters(), min_size=1, max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_any_cut_of_the_text_gives_the_complete_answer(text: str, cuts: list[int]) -> None:
    """Surrogates of one character may come apart, and lone ones stay alone."""
    thought, call = {"text": text, "thought": True}, {"functionCall": {"name": "find", "args": {"what": text}}}
    body = json.loads(json.dumps(reply([thought, {"text": text}, SIGNED_NOTHING, call])))
    units = text.encode("utf-16-le", "surrogatepass")
    marks = [0, *sorted(min(2 * mark, len(units)) for mark in cuts), len(units)]
    pieces = [units[start:end].decode("utf-16-le", "surrogatepass") for start, end in pairwise(marks)]
    raw = [chunk([{"text": piece, "thought": True}]) for piece in pieces] + [
        chunk([{"text": piece}]) for piece in pieces
    ]
    raw += [chunk([SIGNED_NOTHING]), chunk([call], "STOP", usageMetadata=body["usageMetadata"])]
    response = heard(b"".join(raw), [])[1]
    assert response == gemini_reply.read(body, "m")
