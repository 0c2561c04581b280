"""Readers of event streams whose connections break anywhere, and readers who come late: all get the whole log."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from random import Random

import aiohttp
import pytest

from tests.chaos.load import ENDS
from tests.conftest import fail_after
from tests.service.conftest import House, opened
from tests.service.contents import Contents
from tests.service.door import Door, Frame, frame_of, together
from tests.service.model import Model

SESSIONS = 10
PER_KEY = 10
SEED = 20261123
MOST_BYTES = 3000
STEPS = 12
READ_S = 400


class TooManyStreams(Exception):
    """Of one key, as far as the server knows."""


async def part(door: Door, session_id: str, after: int, at_most: int) -> list[Frame]:
    """What arrives of a stream before its connection breaks, after so many bytes."""
    headers = {"Authorization": f"Bearer {door.key}", "Last-Event-ID": str(after)}
    # A connection of its own, which ends with it: what is on its way is lost.
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{door.url}/agents/{session_id}/events", headers=headers) as reply,
    ):
        if reply.status == 429:
            raise TooManyStreams
        assert reply.status == 200, await reply.text()
        held = b""
        while len(held) < at_most and (piece := await reply.content.readany()):
            held += piece
        whole = held[:at_most].split(b"\n\n")[:-1]
    frames = (frame_of(text) for text in whole)
    return [frame for frame in frames if frame is not None and frame.id is not None]


async def read(door: Door, session_id: str, random: Random) -> tuple[list[Frame], int]:
    """All events that a reader was given over all its connections, and how many those were."""
    seen: list[Frame] = []
    connections = 0
    while not seen or seen[-1].event not in ENDS:
        connections += 1
        after = seen[-1].id or 0 if seen else 0
        try:
            seen += await part(door, session_id, after, random.randrange(1, MOST_BYTES))
        except TooManyStreams:  # the server has not yet noticed that others are gone
            await asyncio.sleep(0.05)
    return seen, connections


@pytest.mark.usefixtures("takes_minutes")
@pytest.mark.parametrize("readers", [40, pytest.param(500, marks=pytest.mark.slow)])
async def test_readers_cut_at_any_byte_miss_nothing_and_see_nothing_twice(house: House, readers: int) -> None:
    house.model.thinks_s = 0.1
    random = Random(SEED)
    doors = [await house.as_org("acme") for _ in range(readers // PER_KEY)]
    program = "; ".join([*(["call look_up a, look_up b"] * STEPS), "stream 50"])
    sessions = await together(*(doors[0].start(program, tools=["look_up"]) for _ in range(SESSIONS)))

    async with fail_after(READ_S):
        seen = await asyncio.gather(
            *(
                read(doors[number // PER_KEY], sessions[number % SESSIONS], Random(random.random()))
                for number in range(readers)
            )
        )

    logs = {session_id: await doors[0].events(session_id) for session_id in sessions}
    assert {len(log) for log in logs.values()} == {2 + STEPS * 5 + 2}
    for number, (frames, _) in enumerate(seen):
        assert frames == logs[sessions[number % SESSIONS]], f"reader {number}"
    connections = sum(count for _, count in seen)
    print(f"{readers} readers, {connections} connections")
    assert connections > 5 * readers


async def test_a_reader_who_comes_when_all_is_over_gets_the_whole_log(
    contents: Contents, model: Model, effects_file: Path
) -> None:
    async with opened(contents, model, effects_file) as house:
        door = await house.as_org("acme")
        program = "; ".join(["call look_up a, look_up b"] * 70)
        session_id = await door.start(program, tools=["look_up"], limits={"max_steps": 100})
        async with fail_after(60), aclosing(door.stream(session_id)) as stream:
            first = [frame async for frame in stream if frame.id is not None]
    assert len(first) == 2 + 70 * 5 + 2, "more than anybody keeps outside the log"

    async with opened(contents, model, effects_file) as later:
        late = later.door.with_key(door.key)
        assert await late.events(session_id) == first
        assert await late.events(session_id, after=137) == first[137:]
        assert await late.events(session_id, after=first[-1].id) == []
