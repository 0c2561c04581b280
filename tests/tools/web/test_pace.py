"""The pace at which a host is asked: what waits, what is forgotten."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from conductor_ai.tools.web.pace import MAX_HOSTS, HostPace, OneByOne
from tests.conftest import fail_after
from tests.tools.web.sites import SkippingClock


class StandingClock(SkippingClock):
    """Time that never passes by itself; `waits` says that somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.waits.set()
        await asyncio.Event().wait()


async def take_turn(pace: HostPace, host: str = "host") -> None:
    async with pace.turn(host):
        pass


async def test_whoever_leaves_while_waiting_makes_nobody_wait_longer() -> None:
    clock = StandingClock()
    pace = HostPace(interval_s=5.0, clock=clock)
    async with fail_after(10):
        await take_turn(pace)
        leaving = [asyncio.create_task(take_turn(pace)) for _ in range(8)]
        await clock.waits.wait()
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        clock.time += 5.0
        await take_turn(pace)  # at once, or it would wait for ever


async def test_starts_keep_their_distance_however_many_wait() -> None:
    clock = SkippingClock()
    pace = HostPace(interval_s=2.0, clock=clock)
    starts = []

    async def turn() -> None:
        async with pace.turn("host"):
            starts.append(clock.time)

    async with fail_after(10):
        await asyncio.gather(*(turn() for _ in range(9)))
    assert all(later - earlier >= 2.0 for earlier, later in pairwise(starts))


async def test_hosts_asked_long_ago_are_forgotten() -> None:
    clock = SkippingClock()
    pace = HostPace(interval_s=60.0, clock=clock)
    await take_turn(pace, "first")
    for number in range(MAX_HOSTS):
        await take_turn(pace, f"host-{number}")
    await take_turn(pace, "first")
    assert clock.slept == []


async def test_two_event_loops_at_once_do_not_meet_in_one_queue() -> None:
    pace = HostPace(concurrency=1, interval_s=0.0)
    async with fail_after(10), pace.turn("host"):
        queued = asyncio.create_task(take_turn(pace))
        await asyncio.sleep(0)
        await asyncio.to_thread(asyncio.run, take_turn(pace))
        assert not queued.done()
    await queued


async def test_of_many_that_begin_at_once_each_gets_a_round_of_the_loop() -> None:
    one_by_one, rounds, began = OneByOne(), 0, []

    async def count() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    async def begin() -> None:
        await one_by_one.begin()
        began.append(rounds)

    counting = asyncio.create_task(count())
    async with fail_after(10):
        await asyncio.gather(*(begin() for _ in range(50)))
    counting.cancel()
    assert len(set(began)) == 50
