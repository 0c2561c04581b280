"""The database and Redis go away again and again, in every way and under load: nothing is lost, doubled or left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest

from tests.chaos.conftest import Site
from tests.chaos.load import Load
from tests.conftest import fail_after

PEOPLE = 12
HEALED_S = 30
LONG_S = 25.0
"""Longer than a write is tried again, and than a worker counts as alive that is not heard of."""

LONG = {101, 154}
"""The faults that last so long: a stall, and a server that lets nobody in."""

SEED = 20261123
_LOOK_S = 0.02


@pytest.fixture
async def load(site: Site) -> AsyncIterator[Load]:
    running = Load(site.door, PEOPLE)
    yield running
    await running.stop()


async def harm(site: Site, random: Random, number: int) -> None:
    """One fault of the way to the database, for a moment."""
    proxy, held_s = site.database, LONG_S if number in LONG else random.uniform(0.05, 0.5)
    match number % 6:
        case 0:
            await asyncio.to_thread(proxy.cut)
        case 1:
            await asyncio.to_thread(proxy.cut, reset=True)
        case 2:
            await asyncio.to_thread(proxy.delay, random.uniform(0.01, 0.2))
            await asyncio.sleep(held_s)
        case 3:
            await asyncio.to_thread(proxy.reset_after, random.randrange(2000))
            await asyncio.sleep(held_s)
        case 4:
            await asyncio.to_thread(proxy.refuse)
            await asyncio.sleep(held_s)
        case _:
            await asyncio.to_thread(proxy.stall)
            await asyncio.sleep(held_s)
            await asyncio.to_thread(proxy.cut, reset=True)
    await asyncio.to_thread(proxy.heal)


async def some_work(site: Site, wait_s: float) -> None:
    """Return once the model was asked for something again, or after a while."""
    asked, waited_s = len(site.model.requests), 0.0
    while len(site.model.requests) < asked + PEOPLE // 2 and waited_s < wait_s:
        await asyncio.sleep(_LOOK_S)
        waited_s += _LOOK_S


async def storm(site: Site, faults: int, kills: int) -> None:
    """So many faults of the database and, among them, so many deaths of Redis, with a moment of work between."""
    random = Random(SEED)
    every = faults // kills
    for number in range(faults):
        if number % every == 0:
            await asyncio.to_thread(site.redis.kill)
        await harm(site, random, number)
        if number % every == every // 2:
            await asyncio.to_thread(site.redis.start)
        await some_work(site, random.uniform(0.1, 0.5))
    await asyncio.to_thread(site.redis.start)


@pytest.mark.usefixtures("takes_minutes")
@pytest.mark.parametrize(("faults", "kills"), [(6, 2), pytest.param(200, 20, marks=pytest.mark.slow)])
async def test_sessions_outlive_a_database_and_a_redis_that_come_and_go(
    site: Site, load: Load, faults: int, kills: int
) -> None:
    await some_work(site, 10)
    await storm(site, faults, kills)

    try:
        async with fail_after(HEALED_S):
            await load.finish()
    except TimeoutError:
        pytest.fail(f"not at their end {HEALED_S} s after healing: {site.ledger.unfinished()}")
    charged = [effect.key for effect in site.effects() if effect.tool == "charge"]
    print(f"{len(load.acknowledged)} sessions, {len(charged)} charges, {load.refused} refusals")
    assert load.acknowledged
    assert set(load.acknowledged) <= site.ledger.session_ids(), "an acknowledged session is lost"
    assert site.ledger.unfinished() == []
    assert load.broken == []
    assert len(charged) == len(set(charged)), "what must be done once was done twice"
    assert site.violations() == []
    health = await site.door.ask("GET", "/health")
    assert health.json["status"] == "ok", health.json
