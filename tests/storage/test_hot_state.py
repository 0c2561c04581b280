"""The contract of `HotState`."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from conductor_ai.storage.base import HotState
from conductor_ai.storage.hot_memory import MAX_BEHIND, MemoryHotState


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory"])
async def hot(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[HotState]:
    state = MemoryHotState(clock=clock)
    yield state
    await state.close()


async def take(items: AsyncIterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(5):
        return [await anext(items) for _ in range(count)]


async def test_every_subscriber_gets_what_is_published_from_then_on(hot: HotState) -> None:
    hot.publish("s1", {"n": 0})
    one, two, other = hot.subscribe("s1"), hot.subscribe("s1"), hot.subscribe("s2")
    hot.publish("s1", {"n": 1, "text": "\0\ud800"})
    hot.publish("s1", {"n": 2})
    hot.publish("s2", {"n": 3})

    assert await take(one, 2) == [{"n": 1, "text": "\0\ud800"}, {"n": 2}]
    assert await take(two, 2) == [{"n": 1, "text": "\0\ud800"}, {"n": 2}]
    assert await take(other, 1) == [{"n": 3}]


async def test_a_session_is_watched_for_as_long_as_somebody_is_subscribed(hot: HotState) -> None:
    assert hot.watched("s1") is False
    one, two = hot.subscribe("s1"), hot.subscribe("s1")
    assert (hot.watched("s1"), hot.watched("s2")) == (True, False)
    del one
    gc.collect()
    assert hot.watched("s1") is True
    del two
    gc.collect()
    assert hot.watched("s1") is False


async def test_nobody_watches_what_was_closed(hot: HotState) -> None:
    items = hot.subscribe("s1")
    await hot.close()
    hot.publish("s1", {"n": 1})
    assert hot.watched("s1") is False
    async with asyncio.timeout(5):
        assert [item async for item in items] == []


async def test_what_is_published_is_json_where_somebody_watches(hot: HotState) -> None:
    hot.publish("s1", {"open": {1, 2}})
    items = hot.subscribe("s1")
    with pytest.raises(TypeError):
        hot.publish("s1", {"open": {1, 2}})
    hot.publish("s1", {"n": 1})
    assert await take(items, 1) == [{"n": 1}]


async def test_a_subscriber_that_waits_is_woken(hot: HotState) -> None:
    items = hot.subscribe("s1")
    waiting = asyncio.ensure_future(take(items, 2))
    await asyncio.sleep(0)
    hot.publish("s1", {"n": 1})
    hot.publish("s1", {"n": 2})
    assert await waiting == [{"n": 1}, {"n": 2}]


async def test_a_subscriber_that_falls_behind_loses_the_oldest(hot: HotState) -> None:
    items = hot.subscribe("s1")
    for n in range(MAX_BEHIND + 5):
        hot.publish("s1", {"n": n})
    assert [item["n"] for item in await take(items, MAX_BEHIND)] == list(range(5, MAX_BEHIND + 5))


async def test_subscribers_share_no_object(hot: HotState) -> None:
    one, two = hot.subscribe("s1"), hot.subscribe("s1")
    item = {"tool": {"name": "find"}}
    hot.publish("s1", item)
    item["tool"]["name"] = "changed"
    (first,) = await take(one, 1)
    first["tool"]["name"] = "changed again"
    assert await take(two, 1) == [{"tool": {"name": "find"}}]


async def test_one_dropped_subscription_takes_nothing_from_the_others() -> None:
    hot = MemoryHotState()
    one, two = hot.subscribe("s1"), hot.subscribe("s1")
    del one
    gc.collect()
    hot.publish("s1", {"n": 1})
    assert await take(two, 1) == [{"n": 1}]
    del two
    gc.collect()
    hot.publish("s1", {"n": 2})
    fresh = hot.subscribe("s1")
    hot.publish("s1", {"n": 3})
    assert await take(fresh, 1) == [{"n": 3}]


async def test_closing_ends_subscriptions_after_what_waits(hot: HotState) -> None:
    items, idle = hot.subscribe("s1"), hot.subscribe("s2")
    hot.publish("s1", {"n": 1})
    await hot.close()
    async with asyncio.timeout(5):
        assert [item async for item in items] == [{"n": 1}]
        assert [item async for item in idle] == []
        assert [item async for item in hot.subscribe("s1")] == []


async def test_a_request_to_cancel_stays_until_it_is_cleared(hot: HotState) -> None:
    assert await hot.cancel_requested("s1") is False
    await hot.request_cancel("s1")
    assert await hot.cancel_requested("s1") is True
    assert await hot.cancel_requested("s2") is False
    await hot.clear_cancel("s1")
    await hot.clear_cancel("s2")
    assert await hot.cancel_requested("s1") is False


async def test_a_snapshot_is_kept_for_its_time(hot: HotState, clock: Clock) -> None:
    view = {"status": "running", "steps": [1]}
    await hot.put_snapshot("s1", view)
    await hot.put_snapshot("s2", view, ttl_s=10)
    view["steps"] = []
    clock.now += 11
    assert await hot.snapshot("s1") == {"status": "running", "steps": [1]}
    assert await hot.snapshot("s2") is None
    clock.now += 3600
    assert await hot.snapshot("s1") is None
    assert await hot.snapshot("never") is None


async def test_an_expired_snapshot_may_be_replaced(hot: HotState, clock: Clock) -> None:
    for n in range(200):
        await hot.put_snapshot(f"s{n}", {"n": n}, ttl_s=10)
    clock.now += 11
    for n in range(200):
        await hot.put_snapshot(f"s{n}", {"n": -n}, ttl_s=10)
    assert await hot.snapshot("s7") == {"n": -7}


async def test_a_snapshot_is_json_and_nothing_else(hot: HotState) -> None:
    with pytest.raises(TypeError):
        await hot.put_snapshot("s1", {"open": {1, 2}})
