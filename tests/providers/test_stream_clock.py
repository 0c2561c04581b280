"""The two limits of a stream: how long no byte may come, and how long the answer may not get on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from conductor_ai.errors import ProviderTimeout
from conductor_ai.providers.failures import Timeouts
from conductor_ai.schemas.messages import ModelResponse
from tests.conftest import fail_after
from tests.providers.stream_lines import Streamed
from tests.providers.stream_wires import COMMENT
from tests.servers.provider_server import Repeated

MINUTE = Timeouts(first_byte_s=900, idle_s=60, progress_s=60, total_s=10_000)


class LoopTime:
    """The loop's clock, and what was added to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        real = loop.time
        self._added_s = 0.0
        monkeypatch.setattr(loop, "time", lambda: real() + self._added_s)

    async def pass_by(self, seconds: float) -> None:
        """Whoever waits has waited so much longer; timers that are due go off."""
        await turns()
        self.jump(seconds)
        await turns()

    def jump(self, seconds: float) -> None:
        self._added_s += seconds


async def turns() -> None:
    """Enough of them that everybody on this loop has done what can be done."""
    for _ in range(200):
        await asyncio.sleep(0)


@pytest.fixture
async def loop_time(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LoopTime]:
    with monkeypatch.context() as patched:
        yield LoopTime(patched)


async def all_of(items: AsyncGenerator[Any]) -> list[Any]:
    async with aclosing(items):
        return [item async for item in items]


async def test_a_stream_that_gets_on_outlasts_both_limits(streamed: Streamed, loop_time: LoopTime) -> None:
    line, stream = streamed
    events = stream.events(stream.wire.says("An answer of quite a number of words."))
    gates = [asyncio.Event() for _ in events]
    steps = [step for pair in zip(gates, events, strict=True) for step in pair]
    line.server.will_stream(*steps)
    reading = asyncio.create_task(all_of(line.reconnected(timeouts=MINUTE).provider.stream(line.request())))
    for gate in gates:
        await loop_time.pass_by(25)  # one of two events may be no progress
        assert not reading.done()
        gate.set()
    async with fail_after(10):
        assert isinstance((await reading)[-1], ModelResponse)


@pytest.mark.parametrize(
    ("idle_s", "progress_s", "sent", "limit_s", "ended_after_s"),
    [
        (60, 1000, [b""] * 5, 60, 80),
        (60, 1000, [COMMENT, b"", b"", b"", b""], 60, 120),
        (60, 100, [COMMENT] * 5, 100, 120),
        (1000, 60, [b""] * 5, 60, 80),
    ],
    ids=["no byte", "no byte after some", "no progress", "no progress, and no byte"],
)
async def test_the_limit_that_is_reached_first_ends_the_stream(
    streamed: Streamed,
    loop_time: LoopTime,
    idle_s: int,
    progress_s: int,
    sent: list[bytes],
    limit_s: int,
    ended_after_s: int,
) -> None:
    line, stream = streamed
    events, gates = stream.events(stream.wire.says("An answer of words.")), [asyncio.Event() for _ in sent]
    steps = [step for pair in zip(gates, sent, strict=True) for step in pair if step]
    sending = line.server.will_stream(*events[:2], *steps, Repeated(COMMENT))
    timeouts = replace(MINUTE, idle_s=idle_s, progress_s=progress_s)
    reading = asyncio.create_task(all_of(line.reconnected(timeouts=timeouts).provider.stream(line.request())))
    for number, gate in enumerate(gates, 1):  # each piece is sent 40 seconds after the one before
        await loop_time.pass_by(40)
        assert reading.done() == (number * 40 >= ended_after_s)
        gate.set()
    with pytest.raises(ProviderTimeout, match=f"stalled for {limit_s} s"):
        await reading
    async with fail_after(10):
        await sending.over.wait()
    assert sending.client_left


async def test_a_reader_who_takes_his_time_uses_none_of_it_up(streamed: Streamed, loop_time: LoopTime) -> None:
    line, stream = streamed
    events = stream.events(stream.wire.says("An answer of quite a number of words."))
    gates = [asyncio.Event() for _ in events]
    line.server.will_stream(*[step for pair in zip(gates, events, strict=True) for step in pair])
    items = line.reconnected(timeouts=MINUTE).provider.stream(line.request())
    item = None
    while not isinstance(item, ModelResponse):
        reading = asyncio.ensure_future(anext(items))
        await turns()
        while not reading.done():
            if gates:
                gates.pop(0).set()
            await turns()
        item = await reading
        await loop_time.pass_by(1000)  # nothing is left to read, and nobody waits


async def test_bytes_that_came_while_the_loop_stood_still_are_read_first(
    streamed: Streamed, loop_time: LoopTime
) -> None:
    line, stream = streamed
    events, gate = stream.events(stream.wire.says("An answer of words.")), asyncio.Event()
    line.server.will_stream(*events[:2], gate, b"".join(events[2:]))
    reading = asyncio.create_task(all_of(line.reconnected(timeouts=MINUTE).provider.stream(line.request())))
    await turns()
    gate.set()
    await asyncio.sleep(0)  # the server writes
    loop_time.jump(1000)  # the bytes lie in the socket, unread, when the timer goes off
    async with fail_after(10):
        assert isinstance((await reading)[-1], ModelResponse)
