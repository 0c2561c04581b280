"""What every adapter makes of a stream that goes wrong: an error of its own class, never an answer."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from conductor_ai.errors import (
    MalformedReply,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    TruncatedReply,
)
from conductor_ai.providers.base import Provider
from conductor_ai.providers.failures import Timeouts
from conductor_ai.schemas.deltas import TextDelta
from conductor_ai.schemas.messages import ModelResponse
from tests.conftest import fail_after
from tests.providers.lines import MODEL, Line
from tests.providers.stream_lines import Streamed, streamed_items
from tests.providers.stream_wires import COMMENT
from tests.servers.provider_server import KEY, Repeated, Step, Then

_A_TEXT = re.compile(rb'("(?:text|content)": ?)"[^"]+"')
STATUSES = (204, 307, 400, 401, 402, 403, 404, 408, 409, 413, 418, 422, 429, 500, 502, 503, 504, 529)


async def read_into(items: list[Any], provider: Provider, line: Line) -> None:
    stream = provider.stream(line.request())
    while True:
        items.append(await anext(stream))


async def told_before_failing(provider: Provider, line: Line) -> tuple[list[Any], ProviderError]:
    """The items that came, and the error that ended them."""
    items: list[Any] = []
    async with fail_after(20):
        with pytest.raises(ProviderError) as caught:
            await read_into(items, provider, line)
    error = caught.value
    assert (error.provider, error.model) == (line.wire.name, MODEL)
    assert not any(isinstance(item, ModelResponse) for item in items)
    assert "\n" not in str(error)
    assert KEY not in str(error)
    return items, error


async def failed(line: Line, *steps: Step, headers: dict[str, str] | None = None) -> tuple[list[Any], ProviderError]:
    line.server.will_stream(*steps, headers=headers)
    return await told_before_failing(line.provider, line)


def facts(error: ProviderError) -> dict[str, Any]:
    return {"kind": type(error), "said": str(error), **vars(error)}


@pytest.mark.parametrize("status", STATUSES)
async def test_a_refusal_is_the_one_of_the_whole_call(streamed: Streamed, status: int) -> None:
    line, _ = streamed
    body = {"error": {"message": f"no, {KEY}", "type": "x"}}
    for _ in ("whole", "streamed"):
        line.server.will_answer(status, body, headers={"retry-after": "7", "request-id": "req_1"})
    with pytest.raises(ProviderError) as caught:
        await line.ask()
    items, error = await told_before_failing(line.provider, line)
    assert items == []
    assert facts(error) == facts(caught.value)


async def test_a_connection_that_breaks_before_the_reply_is_unavailable(streamed: Streamed) -> None:
    line, _ = streamed
    line.server.will_reset()
    items, error = await told_before_failing(line.provider, line)
    assert (items, type(error)) == ([], ProviderUnavailable)


@pytest.mark.parametrize(
    ("timeouts", "said"),
    [(Timeouts(first_byte_s=0.1), "no reply"), (Timeouts(total_s=0.1), "no complete reply")],
    ids=["silence", "all of it"],
)
async def test_the_wait_for_the_reply_has_its_limits(streamed: Streamed, timeouts: Timeouts, said: str) -> None:
    line, _ = streamed
    line.server.will_stall()
    _, error = await told_before_failing(line.reconnected(timeouts=timeouts).provider, line)
    assert type(error) is ProviderTimeout
    assert said in str(error)


@pytest.mark.parametrize("ending", [Then.CUT, Then.RESET], ids=["cut", "reset"])
async def test_a_stream_cut_after_any_event_is_truncated(streamed: Streamed, ending: Then) -> None:
    line, stream = streamed
    for body in (stream.rich[0], stream.wire.says("Grüß Gott")):
        events = stream.events(body)
        for sent in range(len(events)):
            _, error = await failed(line, *events[:sent], ending)
            assert type(error) is TruncatedReply, sent


async def test_a_stream_cut_within_any_event_is_truncated(streamed: Streamed) -> None:
    line, stream = streamed
    events = stream.events(stream.rich[0])
    for sent, event in enumerate(events[: len(events) - stream.may_lack]):
        for cut in (1, len(event) // 2, len(event) - 2):
            _, error = await failed(line, *events[:sent], event[:cut], Then.CUT)
            assert type(error) is TruncatedReply, (sent, cut)


async def test_a_reply_that_ends_in_order_without_its_last_event_is_truncated(streamed: Streamed) -> None:
    line, stream = streamed
    for body in (stream.rich[0], stream.wire.says("Grüß Gott")):
        events = stream.events(body)
        for sent in range(len(events) - stream.may_lack):
            _, error = await failed(line, *events[:sent])
            assert type(error) is TruncatedReply, sent


async def test_what_was_told_before_a_cut_has_been_told(streamed: Streamed) -> None:
    line, stream = streamed
    events = stream.events(stream.wire.says("The first of many words."))
    whole = await streamed_items(line, *events)
    items, _ = await failed(line, *events[: -2 - stream.may_lack])
    assert 0 < len(items) < len(whole)
    assert items == whole[: len(items)]


async def test_silence_within_a_stream_times_out(streamed: Streamed) -> None:
    line, stream = streamed
    events = stream.events(stream.rich[0])
    hasty = line.reconnected(timeouts=Timeouts(idle_s=0.1))
    for sent in (0, 2):
        line.server.will_stream(*events[:sent], Then.SILENCE)
        _, error = await told_before_failing(hasty.provider, line)
        assert type(error) is ProviderTimeout
        assert "stalled for 0.1 s" in str(error)


async def test_keep_alives_are_no_progress(streamed: Streamed) -> None:
    line, stream = streamed
    events = stream.events(stream.rich[0])
    hasty = line.reconnected(timeouts=Timeouts(progress_s=0.15))
    for sent, piece in ((0, COMMENT), (2, COMMENT), (2, stream.keep_alive)):
        sending = line.server.will_stream(*events[:sent], Repeated(piece))
        _, error = await told_before_failing(hasty.provider, line)
        assert type(error) is ProviderTimeout
        assert "stalled for 0.15 s" in str(error)
        async with fail_after(10):
            await sending.over.wait()
        assert sending.client_left


@pytest.mark.parametrize(
    "event",
    [b"data: {not json\n\n", b'data: {"a":\n\n', b"data: []\n\n", b"data: 7\n\n", b"data: \xff\n\n", b"data: null\n\n"],
    ids=["no JSON", "half", "list", "number", "no text", "null"],
)
async def test_an_event_that_cannot_be_read_is_malformed(streamed: Streamed, event: bytes) -> None:
    line, stream = streamed
    events = stream.events(stream.rich[0])
    for sent in (0, 2):
        _, error = await failed(line, *events[:sent], event, *events[sent:])
        assert type(error) is MalformedReply


async def test_a_piece_that_is_no_text_is_malformed_and_not_told(streamed: Streamed) -> None:
    line, stream = streamed
    events = stream.events(stream.wire.says("Words, and words."))
    odd = [_A_TEXT.sub(rb"\1 5", event) for event in events]
    assert odd != events
    items, error = await failed(line, *odd)
    assert type(error) is MalformedReply
    assert not [item for item in items if isinstance(item, TextDelta)]


async def test_an_event_without_an_end_is_malformed(streamed: Streamed) -> None:
    line, stream = streamed
    _, error = await failed(line, *stream.events(stream.rich[0])[:2], b"data: ", Repeated(b"x" * 2**20, every_s=0))
    assert type(error) is MalformedReply
    assert "larger than" in str(error)


async def test_an_error_after_the_200_is_typed(streamed: Streamed) -> None:
    line, stream = streamed
    events = stream.events(stream.rich[0])
    for name, (event, kind) in stream.errors.items():
        for sent in (0, 2, len(events) - 1 - stream.may_lack):
            # The delay is of the answer that began: nobody asked for it when the error came.
            _, error = await failed(line, *events[:sent], event, Then.SILENCE, headers={"retry-after": "9"})
            assert type(error) is kind, (name, sent)
            assert error.status != 200
            if isinstance(error, RateLimited) and stream.wire.name != "gemini":
                assert error.retry_after_s is None


async def test_an_error_in_plain_json_is_typed(streamed: Streamed) -> None:
    line, stream = streamed
    events = stream.events(stream.rich[0])
    for name, (event, kind) in stream.errors.items():
        if stream.wire.name == "openrouter" and name.startswith("finish_reason"):
            continue  # said by a chunk of a choice, in the shape that only a stream has
        body = event.partition(b"data: ")[2].strip()
        line.server.will_answer(200, body)
        _, error = await told_before_failing(line.provider, line)
        assert type(error) is kind, name
        plain = json.dumps(json.loads(body), indent=1).encode()
        for sent in (0, 2):
            _, error = await failed(line, *events[:sent], plain)
            assert type(error) is kind, (name, sent)


async def test_an_answer_in_plain_json_after_events_is_no_answer(streamed: Streamed) -> None:
    line, stream = streamed
    body = json.dumps(stream.wire.says("x")).encode()
    _, error = await failed(line, *stream.events(stream.rich[0])[:2], body)
    assert type(error) is TruncatedReply


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/event-stream", b"<html>\n<p>Sign in to the network</p>\n"),
        ("text/html", b"<html>"),
        ("application/json", b"<html>"),
        ("application/json", b""),
        ("application/json", b"[]"),
        ("text/event-stream", b'{"a":'),
    ],
    ids=["page as a stream", "page", "page as JSON", "nothing as JSON", "list", "half"],
)
async def test_what_is_neither_a_stream_nor_an_answer_is_malformed(streamed: Streamed, kind: str, body: bytes) -> None:
    line, _ = streamed
    line.server.will_answer(200, body, headers={"content-type": kind})
    _, error = await told_before_failing(line.provider, line)
    assert type(error) is MalformedReply


async def test_a_connection_serves_again_after_a_failure(streamed: Streamed) -> None:
    line, stream = streamed
    events = stream.events(stream.wire.says("back"))
    expected = await streamed_items(line, *events)
    await failed(line, *events[:1], Then.CUT)
    assert await streamed_items(line, *events) == expected


async def test_many_streams_at_once_keep_apart(streamed: Streamed) -> None:
    line, stream = streamed
    texts = [f"Answer {number} of many." for number in range(20)]
    gates = [asyncio.Event() for _ in texts]
    for text, gate in zip(texts, gates, strict=True):
        first, *rest = stream.events(stream.wire.says(text))
        line.server.will_stream(first, gate, *rest)

    async def read() -> str:
        return (await line.stream())[1].content

    async with fail_after(20):
        reading = [asyncio.create_task(read()) for _ in texts]
        for gate in reversed(gates):
            gate.set()
        assert sorted(await asyncio.gather(*reading)) == sorted(texts)
