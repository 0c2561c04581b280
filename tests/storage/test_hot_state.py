"""The contract of `HotState`, in one process; `test_hot_redis` has what several share."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from conductor_ai.errors import MissingExtra
from conductor_ai.storage.hot_memory import MAX_BEHIND, MAX_SNAPSHOT_CHARS, MemoryHotState
from conductor_ai.storage.hot_redis import RedisHotState
from conductor_ai.storage.hot_state import HotState
from tests.conftest import fail_after
from tests.crash.log_reader import until


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["memory", "redis"])
async def hot(request: pytest.FixtureRequest) -> AsyncIterator[HotState]:
    state: HotState
    if request.param == "memory":
        state = MemoryHotState()
    else:
        state = await RedisHotState.open(request.getfixturevalue("redis_url"))
    yield state
    await state.close()


async def unwatched(hot: HotState, session_id: str) -> None:
    """Return once it is known that nobody watches; until then it may be that somebody does."""
    await until(lambda: not hot.watched(session_id))


async def read(items: AsyncIterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    async with fail_after(5):
        return [await anext(items) for _ in range(count)]


async def test_every_subscriber_gets_what_is_published_from_then_on(hot: HotState) -> None:
    hot.publish("s1", {"n": 0})
    one, two, other = hot.subscribe("s1"), hot.subscribe("s1"), hot.subscribe("s2")
    hot.publish("s1", {"n": 1, "text": "\0\ud800"})
    hot.publish("s1", {"n": 2})
    hot.publish("s2", {"n": 3})

    assert await read(one, 2) == [{"n": 1, "text": "\0\ud800"}, {"n": 2}]
    assert await read(two, 2) == [{"n": 1, "text": "\0\ud800"}, {"n": 2}]
    assert await read(other, 1) == [{"n": 3}]


async def test_a_session_is_watched_for_as_long_as_somebody_is_subscribed(hot: HotState) -> None:
    await unwatched(hot, "s1")
    one, two = hot.subscribe("s1"), hot.subscribe("s1")
    assert hot.watched("s1") is True
    await unwatched(hot, "s2")
    del one
    gc.collect()
    assert hot.watched("s1") is True
    del two
    gc.collect()
    await unwatched(hot, "s1")


async def test_nobody_watches_what_was_closed(hot: HotState) -> None:
    items = hot.subscribe("s1")
    await hot.close()
    hot.publish("s1", {"n": 1})
    assert hot.watched("s1") is False
    async with fail_after(5):
        assert [item async for item in items] == []


async def test_what_is_published_is_json_where_somebody_watches(hot: HotState) -> None:
    await unwatched(hot, "s1")
    hot.publish("s1", {"open": {1, 2}})
    items = hot.subscribe("s1")
    with pytest.raises(TypeError):
        hot.publish("s1", {"open": {1, 2}})
    hot.publish("s1", {"n": 1})
    assert await read(items, 1) == [{"n": 1}]


async def test_a_subscriber_that_waits_is_woken(hot: HotState) -> None:
    items = hot.subscribe("s1")
    waiting = asyncio.ensure_future(read(items, 2))
    await asyncio.sleep(0)
    hot.publish("s1", {"n": 1})
    hot.publish("s1", {"n": 2})
    assert await waiting == [{"n": 1}, {"n": 2}]


async def test_a_subscriber_that_falls_behind_loses_the_oldest(hot: HotState) -> None:
    items = hot.subscribe("s1")
    for n in range(MAX_BEHIND + 5):
        hot.publish("s1", {"n": n})
    assert [item["n"] for item in await read(items, MAX_BEHIND)] == list(range(5, MAX_BEHIND + 5))


async def test_subscribers_share_no_object(hot: HotState) -> None:
    one, two = hot.subscribe("s1"), hot.subscribe("s1")
    item = {"tool": {"name": "find"}}
    hot.publish("s1", item)
    item["tool"]["name"] = "changed"
    (first,) = await read(one, 1)
    first["tool"]["name"] = "changed again"
    assert await read(two, 1) == [{"tool": {"name": "find"}}]


async def test_one_dropped_subscription_takes_nothing_from_the_others(hot: HotState) -> None:
    one, two = hot.subscribe("s1"), hot.subscribe("s1")
    del one
    gc.collect()
    hot.publish("s1", {"n": 1})
    assert await read(two, 1) == [{"n": 1}]
    del two
    gc.collect()
    hot.publish("s1", {"n": 2})
    fresh = hot.subscribe("s1")
    hot.publish("s1", {"n": 3})
    assert await read(fresh, 1) == [{"n": 3}]


async def test_closing_ends_subscriptions_after_what_waits(hot: HotState) -> None:
    items, idle = hot.subscribe("s1"), hot.subscribe("s2")
    hot.publish("s1", {"n": 1})
    await hot.close()
    async with fail_after(5):
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


async def test_a_request_to_cancel_is_told_to_whoever_asked_to_be_told(hot: HotState) -> None:
    await hot.request_cancel("before")
    first: list[str] = []
    second: list[str] = []
    hot.on_cancel(first.append)
    hot.on_cancel(second.append)
    await hot.request_cancel("s1")
    await hot.request_cancel("s2")
    await hot.clear_cancel("s1")
    assert first == second == ["s1", "s2"]


async def test_a_snapshot_is_kept_for_its_time(hot: HotState) -> None:
    view = {"status": "running", "text": "\0\ud800"}
    await hot.put_snapshot("s1", view)
    await hot.put_snapshot("s2", view, ttl_s=0.05)
    view["status"] = "changed"
    async with fail_after(5):
        while await hot.snapshot("s2") is not None:  # noqa: ASYNC110 - nobody tells that it has expired
            await asyncio.sleep(0.01)
    assert await hot.snapshot("s1") == {"status": "running", "text": "\0\ud800"}
    assert await hot.snapshot("never") is None


async def test_a_snapshot_too_large_to_keep_leaves_no_older_one_behind(hot: HotState) -> None:
    await hot.put_snapshot("s1", {"n": 1})
    await hot.put_snapshot("s1", {"text": "x" * MAX_SNAPSHOT_CHARS})
    assert await hot.snapshot("s1") is None


async def test_a_snapshot_is_json_and_nothing_else(hot: HotState) -> None:
    with pytest.raises(TypeError):
        await hot.put_snapshot("s1", {"open": {1, 2}})


async def test_uses_are_counted_per_key_up_to_the_limit(hot: HotState) -> None:
    assert [await hot.take("org1", limit=2, window_s=3600) for _ in range(2)] == [None, None]
    waits = [await hot.take("org1", limit=2, window_s=3600) for _ in range(2)]
    assert all(wait is not None and 0 < wait <= 3600 for wait in waits)
    assert await hot.take("org2", limit=2, window_s=3600) is None
    assert await hot.take("org3", limit=0, window_s=60) == 60


async def test_of_many_at_once_no_more_than_the_limit_are_let_through(hot: HotState) -> None:
    answers = await asyncio.gather(*(hot.take("org1", limit=10, window_s=3600) for _ in range(50)))
    assert answers.count(None) == 10


async def test_who_waits_as_long_as_was_said_is_let_through(hot: HotState) -> None:
    assert await hot.take("org1", limit=1, window_s=1) is None
    wait_s = await hot.take("org1", limit=1, window_s=1)
    await asyncio.sleep(wait_s or 0.0)  # time is the subject, and the counters have no clock that could be passed in
    assert await hot.take("org1", limit=1, window_s=1) is None or wait_s is None  # None: the second was over already


async def test_it_works(hot: HotState) -> None:
    assert await hot.problem() is None


async def test_without_the_library_that_counts_it_is_said_what_to_install(
    hot: HotState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "limits.aio.storage", None)
    with pytest.raises(MissingExtra) as caught:
        await hot.take("org1", limit=1, window_s=1)
    assert caught.value.hint == 'pip install "conductor-ai[server]"'


async def test_in_memory_a_snapshot_and_a_request_to_cancel_expire_by_the_clock() -> None:
    clock = Clock()
    hot = MemoryHotState(clock=clock)
    await hot.put_snapshot("s1", {"n": 1})
    await hot.request_cancel("s1")
    clock.now += 3599
    assert (await hot.snapshot("s1"), await hot.cancel_requested("s1")) == ({"n": 1}, True)
    clock.now += 1
    assert (await hot.snapshot("s1"), await hot.cancel_requested("s1")) == (None, False)


async def test_in_memory_an_expired_snapshot_may_be_replaced() -> None:
    clock = Clock()
    hot = MemoryHotState(clock=clock)
    for n in range(200):
        await hot.put_snapshot(f"s{n}", {"n": n}, ttl_s=10)
    clock.now += 11
    for n in range(200):
        await hot.put_snapshot(f"s{n}", {"n": -n}, ttl_s=10)
    assert await hot.snapshot("s7") == {"n": -7}


async def test_in_memory_snapshots_are_bounded_together_and_the_oldest_goes_first() -> None:
    hot = MemoryHotState()
    view = {"text": "x" * (MAX_SNAPSHOT_CHARS - 100)}
    for n in range(80):
        await hot.put_snapshot(f"s{n}", view)
    kept = [n for n in range(80) if await hot.snapshot(f"s{n}") is not None]
    assert kept == list(range(80 - len(kept), 80)) and 60 <= len(kept) <= 64
