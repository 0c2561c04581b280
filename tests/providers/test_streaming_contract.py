"""What every adapter keeps when it streams: the answer that the whole call would have given, told piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conductor_ai.providers.assembly import deltas_of
from conductor_ai.providers.failures import Timeouts
from conductor_ai.schemas import json_text
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
from conductor_ai.schemas.messages import ModelResponse
from tests.conftest import fail_after
from tests.providers.lines import FIND, connected
from tests.providers.stream_lines import STREAMS, Streamed, streamed_items, unnamed_calls
from tests.providers.stream_wires import COMMENT, StreamWire
from tests.providers.stream_wires_gemini import GEMINI_STREAM
from tests.providers.wires import Body
from tests.servers.provider_server import Repeated, Sending

WITH_A_LAST_EVENT = tuple(stream for stream in STREAMS if stream is not GEMINI_STREAM)
"""On the other, the end of the reply is what says that all has come."""


def bodies(stream: StreamWire) -> list[Body]:
    wire = stream.wire
    calls = wire.calls([("call_1", "find", {"what": "x"}), ("call_2", "find", {"what": "y"})])
    return [wire.says("Grüß Gott"), calls, wire.usage[0], *(body for body, _ in wire.stops.values()), *stream.rich]


def check_told(deltas: list[Delta], response: ModelResponse) -> None:
    """The pieces, joined, are the answer."""
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == response.content
    assert "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta)) == response.reasoning
    begun = [delta for delta in deltas if isinstance(delta, ToolCallStart)]
    assert begun == [ToolCallStart(index, call.name) for index, call in enumerate(response.tool_calls)]
    for index, call in enumerate(response.tool_calls):
        own = [delta for delta in deltas if isinstance(delta, ToolCallStart | ToolArguments | ToolCallEnd)]
        first, *between, last = [delta for delta in own if delta.call_index == index]
        assert (type(first), type(last)) == (ToolCallStart, ToolCallEnd)
        text = "".join(piece.text for piece in between if isinstance(piece, ToolArguments))
        if call.raw_arguments is not None:
            assert text == call.raw_arguments
        else:
            assert json_text.loads(text or "{}") == call.arguments
    stops = [delta for delta in deltas if isinstance(delta, Stop)]
    assert stops == [Stop(response.stop_reason)]
    counted = [delta.usage for delta in deltas if isinstance(delta, UsageUpdate)]
    assert (counted[-1] if counted else None) == response.usage


async def test_the_answer_is_the_one_that_the_whole_call_gives(streamed: Streamed) -> None:
    line, stream = streamed
    for body in bodies(stream):
        line.server.will_answer(body=body, headers={"request-id": "req_1"})
        line.server.will_stream(*stream.events(body), headers={"request-id": "req_1"})
        whole = await line.ask(tools=(FIND,))
        deltas, response = await line.stream(tools=(FIND,))
        assert unnamed_calls(response) == unnamed_calls(whole)
        check_told(deltas, response)


async def test_the_answer_comes_in_pieces(streamed: Streamed) -> None:
    line, stream = streamed
    gate = asyncio.Event()
    first, *rest = stream.events(stream.wire.says("The first words come before the last are written."))
    line.server.will_stream(first, *rest[:-2], gate, *rest[-2:])
    seen: list[Any] = []
    async with fail_after(10):
        async for item in line.provider.stream(line.request()):
            seen.append(item)
            if isinstance(item, TextDelta):
                gate.set()  # the server waits for the first piece to be seen here
    assert len([item for item in seen if isinstance(item, TextDelta)]) > 2


@pytest.mark.parametrize("end", [b"\r\n", b"\r"], ids=["CR LF", "CR"])
async def test_lines_may_end_in_any_way(streamed: Streamed, end: bytes) -> None:
    line, stream = streamed
    for body in [stream.wire.says("Grüß Gott"), *stream.rich]:
        expected = await streamed_items(line, *stream.events(body))
        ended = [event.replace(b"\n", end) for event in stream.events(body)]
        assert same(await streamed_items(line, *ended), expected)


async def test_what_may_stand_between_events_changes_nothing(streamed: Streamed) -> None:
    line, stream = streamed
    events = stream.events(stream.rich[0])
    expected = await streamed_items(line, *events)
    for skipped in stream.skipped:
        between = [piece for event in events[:-1] for piece in (event, skipped)]
        assert same(shown(await streamed_items(line, *between, events[-1])), shown(expected)), skipped


async def test_every_byte_may_come_alone(streamed: Streamed) -> None:
    line, stream = streamed
    events = stream.events(stream.rich[0])
    raw = b"".join(events)
    assert any(byte > 127 for byte in raw)
    expected = await streamed_items(line, *events)
    async with fail_after(30):
        assert same(await streamed_items(line, *(raw[at : at + 1] for at in range(len(raw)))), expected)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
async def test_any_cut_into_chunks_gives_the_same_items(streamed: Streamed, data: st.DataObject) -> None:
    line, stream = streamed
    body = data.draw(st.sampled_from(bodies(stream)))
    raw = b"".join(stream.events(body))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=12)))
    chunks = [raw[start:end] for start, end in pairwise([0, *cuts, len(raw)])]
    assert same(await streamed_items(line, *chunks), await streamed_items(line, *stream.events(body)))


async def test_huge_arguments_arrive_whole(streamed: Streamed) -> None:
    line, stream = streamed
    arguments = {"what": "ü" * 500_000 + "🚗", "n": list(range(1000))}
    line.server.will_stream(*stream.events(stream.wire.calls([("call_1", "find", arguments)])))
    deltas, response = await line.stream(tools=(FIND,))
    assert response.tool_calls[0].arguments == arguments
    check_told(deltas, response)


async def test_an_answer_in_one_piece_is_told_like_a_stream(streamed: Streamed) -> None:
    line, stream = streamed
    for body in bodies(stream):
        line.server.will_answer(body=body)
        line.server.will_answer(body=body)
        line.server.will_answer(body=body, headers={"content-type": "text/event-stream"})
        whole = unnamed_calls(await line.ask())
        for _ in ("as JSON", "as what it is not"):
            deltas, response = await line.stream()
            assert unnamed_calls(response) == whole
            assert deltas == list(deltas_of(response))
            check_told(deltas, response)


async def test_the_connection_serves_again_after_a_stream(streamed: Streamed) -> None:
    line, stream = streamed
    events = stream.events(stream.wire.says("x"))
    for _ in range(3):
        line.server.will_stream(*events)
        await line.stream()
    assert len({seen.peer for seen in line.server.requests}) == 1


@pytest.mark.parametrize("stream", WITH_A_LAST_EVENT, ids=lambda stream: stream.name)
async def test_an_answer_that_is_whole_waits_for_nothing(stream: StreamWire, http: aiohttp.ClientSession) -> None:
    async with connected(stream.wire, http) as line, fail_after(10):
        sending = line.server.will_stream(*stream.events(stream.wire.says("x")), Repeated(COMMENT))
        assert (await line.stream())[1].content == "x"
        await sending.over.wait()
        assert sending.client_left


async def test_closing_early_closes_the_connection(streamed: Streamed) -> None:
    line, stream = streamed
    sending = line.server.will_stream(
        *stream.events(stream.wire.says("An answer of many more words."))[:-2], Repeated(COMMENT)
    )
    items = line.provider.stream(line.request())
    async with fail_after(10):
        await anext(items)
        await items.aclose()
        await sending.over.wait()
    assert sending.client_left


async def test_cancelling_the_reader_closes_the_connection(streamed: Streamed) -> None:
    line, stream = streamed
    sending = line.server.will_stream(
        *stream.events(stream.wire.says("An answer of many more words."))[:-2], Repeated(COMMENT)
    )
    told = asyncio.Event()

    async def read() -> None:
        async for _ in line.provider.stream(line.request()):
            told.set()

    async with fail_after(10):
        reader = asyncio.create_task(read())
        await told.wait()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await sending.over.wait()
    assert sending.client_left


async def test_a_slow_reader_slows_the_service(streamed: Streamed) -> None:
    line, stream = streamed
    events = stream.events(stream.wire.says("x" * 30_000))
    filler = b": " + b"x" * 2**16 + b"\n\n"  # what lies between is as good as any other: bytes
    sending = line.server.will_stream(*events[:5], *[filler, events[5]] * 500, *events[6:])
    items = line.provider.stream(line.request())
    async with fail_after(30):
        await anext(items)
        at_rest = await written_at_rest(sending)
        rest = [item async for item in items]
    assert at_rest < 16 * 2**20 < sending.written
    assert isinstance(rest[-1], ModelResponse)


async def written_at_rest(sending: Sending) -> int:
    """What the server could send before it was stopped: nothing more goes out, though it has many turns."""
    quiet, before = 0, -1
    while quiet < 200:
        quiet = quiet + 1 if sending.written == before else 0
        before = sending.written
        await asyncio.sleep(0)
    return before


async def test_the_time_in_which_nobody_reads_does_not_count(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, stream = streamed
    patient = line.reconnected(timeouts=Timeouts(progress_s=60, idle_s=60, total_s=900))
    events, gate = stream.events(stream.wire.says("An answer of many more words.")), asyncio.Event()
    sending = line.server.will_stream(*events[:4], gate, *events[4:])
    items = patient.provider.stream(line.request())
    async with fail_after(10):
        await anext(items)
        await written_at_rest(sending)
    loop = asyncio.get_running_loop()
    now = loop.time
    monkeypatch.setattr(loop, "time", lambda: now() + 1000)
    async with fail_after(10):
        rest = asyncio.create_task(all_of(items))
        await written_at_rest(sending)  # the reader waits by now
        gate.set()
        assert isinstance((await rest)[-1], ModelResponse)
    monkeypatch.undo()


async def all_of(items: AsyncGenerator[Any]) -> list[Any]:
    return [item async for item in items]


def same(left: list[Any], right: list[Any]) -> bool:
    return list(map(repr, left)) == list(map(repr, right))


def shown(items: list[Any]) -> list[Any]:
    """Without counts, which may come as often as the service likes."""
    return [item for item in items if not isinstance(item, UsageUpdate)]
