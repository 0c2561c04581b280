"""Several hot states on one Redis, as several processes have it, and a Redis that is away, comes back, or hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio import Redis

from conductor_ai.storage.hot_redis import RedisHotState
from conductor_ai.storage.redis_relay import MAX_KNOWN
from tests.conftest import fail_after
from tests.crash.log_reader import until
from tests.services.fault_proxy import FaultProxy
from tests.services.redis import RedisServer

Opener = Callable[[str], Awaitable[RedisHotState]]


@pytest.fixture
async def opened() -> AsyncIterator[Opener]:
    """Opens hot states, and closes them."""
    async with AsyncExitStack() as stack:

        async def open_one(url: str) -> RedisHotState:
            hot = await RedisHotState.open(url)
            stack.push_async_callback(hot.close)
            return hot

        yield open_one


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A connection beside ours, to see what is on the server."""
    async with Redis.from_url(redis_url) as client:
        yield client


async def subscribed(here: RedisHotState, there: RedisHotState, session_id: str) -> AsyncIterator[dict[str, Any]]:
    """Subscribe `here`; returns once it is known `there`."""
    await until(lambda: not there.watched(session_id))
    items = here.subscribe(session_id)
    await until(lambda: there.watched(session_id))
    return items


async def read(items: AsyncIterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    async with fail_after(10):
        return [await anext(items) for _ in range(count)]


async def told(true: Callable[[], Awaitable[bool]]) -> None:
    """As `until`, where one has to ask."""
    async with fail_after(20):
        while not await true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def works(hot: RedisHotState) -> None:
    """Return once it is in order."""

    async def in_order() -> bool:
        return await hot.problem() is None

    await told(in_order)


async def test_what_one_process_publishes_reaches_the_others_in_order_and_once(redis_url: str, opened: Opener) -> None:
    one, two, three = [await opened(redis_url) for _ in range(3)]
    elsewhere = [await subscribed(one, two, "s1"), await subscribed(three, one, "s2")]
    here = two.subscribe("s1")
    await until(lambda: one.watched("s1"))
    sent = [{"seq": n, "text": "\0\ud800\n"} for n in range(500)]
    for item in sent:
        two.publish("s1", item)
    two.publish("s1", {"type": "model.delta"})

    assert await read(here, 501) == [*sent, {"type": "model.delta"}]
    assert await read(elsewhere[0], 501) == [*sent, {"type": "model.delta"}]
    one.publish("s1", {"from": "one"})
    one.publish("s2", {"from": "one, to s2"})
    assert await read(here, 1) == await read(elsewhere[0], 1) == [{"from": "one"}]
    assert await read(elsewhere[1], 1) == [{"from": "one, to s2"}]


async def test_nothing_is_sent_for_nobody_nor_for_this_process_alone(
    redis_url: str, redis: Redis, opened: Opener
) -> None:
    here, there = await opened(redis_url), await opened(redis_url)
    items = here.subscribe("s1")
    await until(lambda: there.watched("s1"))
    marks = await subscribed(there, here, "marks")
    for n in range(3):  # what is published before it is known that nobody listens may be sent
        here.publish("s1", {"n": n})
        here.publish("marks", {"n": n})
        await read(marks, 1)
    await until(lambda: not there.watched("s2"))
    async with redis.monitor() as wire, fail_after(10):
        for n in range(3, 103):
            assert here.watched("s1") is True and there.watched("s2") is False
            here.publish("s1", {"n": n})
            there.publish("s2", {"n": n})
        here.publish("marks", {"n": 3})
        seen: list[str] = []
        while not seen or "live:marks" not in seen[-1]:
            seen.append((await wire.next_command())["command"])

    assert not [command for command in seen if "live:s" in command]
    assert [item["n"] for item in await read(items, 103)] == list(range(103))


async def test_five_hundred_subscribers_share_one_connection_that_listens(
    redis_url: str, redis: Redis, opened: Opener
) -> None:
    here, there = await opened(redis_url), await opened(redis_url)
    followed = [await subscribed(here, there, "s0")] + [here.subscribe(f"s{n}") for n in range(1, 500)]
    await until(lambda: there.watched("s499"))

    async def all_joined() -> bool:
        return sum(n for _, n in await redis.pubsub_numsub(*(f"conductor:0:live:s{n}" for n in range(500)))) == 500

    await told(all_joined)
    for n in range(500):
        there.publish(f"s{n}", {"n": n})

    assert [(await read(items, 1))[0]["n"] for items in followed] == list(range(500))
    listening = [client for client in await redis.client_list() if int(client["sub"]) > 0]
    assert sorted(int(client["sub"]) for client in listening) == [1, 501]


async def test_a_channel_is_left_once_its_last_subscriber_is_gone(redis_url: str, redis: Redis, opened: Opener) -> None:
    here, there = await opened(redis_url), await opened(redis_url)
    items, idle = await subscribed(here, there, "s1"), await subscribed(here, there, "s2")
    del items, idle

    async def none_hears() -> bool:
        there.publish("s1", {"n": 1})
        return not there.watched("s1")

    await told(none_hears)

    async def none_left() -> bool:
        return not await redis.pubsub_channels("conductor:0:live:*")

    await told(none_left)


async def test_a_request_to_cancel_is_told_in_every_process(redis_url: str, redis: Redis, opened: Opener) -> None:
    one, two = await opened(redis_url), await opened(redis_url)
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    one.on_cancel(lambda session_id: heard.put_nowait(("one", session_id)))
    two.on_cancel(lambda session_id: heard.put_nowait(("two", session_id)))
    await one.request_cancel("s1")
    async with fail_after(5):
        assert [await heard.get(), await heard.get()] == [("one", "s1"), ("two", "s1")]

    assert (await one.cancel_requested("s1"), await two.cancel_requested("s1")) == (True, True)
    assert 0 < await redis.ttl("conductor:cancel:s1") <= 3600
    await two.clear_cancel("s1")
    assert (await one.cancel_requested("s1"), await two.cancel_requested("s1")) == (False, False)
    assert heard.empty()


async def test_snapshots_and_counters_are_shared_and_expire(redis_url: str, redis: Redis, opened: Opener) -> None:
    one, two = await opened(redis_url), await opened(redis_url)
    await one.put_snapshot("s1", {"status": "running"})
    assert await two.snapshot("s1") == {"status": "running"}
    assert [await hot.take("org1", limit=3, window_s=60) for hot in (one, two, one)] == [None] * 3
    assert await two.take("org1", limit=3, window_s=60) is not None

    keys = [key.decode() async for key in redis.scan_iter()]
    assert len(keys) >= 2 and all(key.startswith("conductor:") for key in keys)
    assert all([0 < await redis.ttl(key) <= 3600 for key in keys])


async def test_what_strangers_write_ends_no_stream_and_is_no_snapshot(
    redis_url: str, redis: Redis, opened: Opener
) -> None:
    here, there = await opened(redis_url), await opened(redis_url)
    items = await subscribed(here, there, "s1")
    for junk in (b"", b"\xff\xfe", b"x\nnot json\n[1]\n\xff", b"x\n"):
        await redis.publish("conductor:0:live:s1", junk)
        await redis.publish("conductor:0:control", junk)
    there.publish("s1", {"n": 1})
    assert await read(items, 1) == [{"n": 1}]
    for junk in (b"", b"\xff", b"[1]"):
        await redis.set("conductor:snapshot:s1", junk)
        assert await here.snapshot("s1") is None


async def use_all(hot: RedisHotState) -> None:
    """Everything that could raise or wait where there is no Redis."""
    async with fail_after(10):
        hot.publish("s9", {"n": 1})
        await hot.request_cancel("s9")
        assert await hot.cancel_requested("s9") is True
        await hot.clear_cancel("s9")
        assert await hot.cancel_requested("s9") is False
        await hot.put_snapshot("s9", {"n": 1})
        assert await hot.snapshot("s9") is None
        assert await hot.take("s9", limit=1_000_000, window_s=60) is None


async def reached(publisher: RedisHotState, items: AsyncIterator[dict[str, Any]]) -> None:
    """Return once what is published now arrives: the other process has to come back too."""
    async with fail_after(20):
        arrived = asyncio.ensure_future(anext(items))
        while not arrived.done():
            publisher.publish("probe", {"type": "probe"})
            await asyncio.wait([arrived], timeout=0.01)


async def test_redis_killed_and_restarted_again_and_again_is_done_without_and_used_again(
    redis_server: RedisServer, opened: Opener
) -> None:
    here, there = await opened(redis_server.url), await opened(redis_server.url)
    local, remote, probes = here.subscribe("s1"), there.subscribe("s1"), there.subscribe("probe")
    seqs = iter(range(1, 1000))

    async def publish(count: int) -> None:
        for _ in range(count):
            here.publish("s1", {"seq": next(seqs)})
            await asyncio.sleep(0)

    for _ in range(5):
        publishing = asyncio.create_task(publish(150))
        await asyncio.to_thread(redis_server.kill)
        await publishing
        await use_all(here)
        assert await here.problem() is not None
        await asyncio.to_thread(redis_server.start)
        await works(here)
        await works(there)
        await reached(here, probes)
        await here.put_snapshot("s1", {"kept": True})
        assert await there.snapshot("s1") == {"kept": True}

    assert [item["seq"] for item in await read(local, 750)] == list(range(1, 751))
    await there.close()
    seen = [item["seq"] async for item in remote]
    assert seen == sorted(set(seen))


async def test_a_redis_that_is_away_at_the_start_is_used_once_it_is_there(
    redis_server: RedisServer, opened: Opener
) -> None:
    await asyncio.to_thread(redis_server.stop)
    hot = await opened(redis_server.url)
    assert await hot.problem() == "Redis cannot be reached: Connection refused"
    assert hot.watched("s1") is False
    await use_all(hot)
    await asyncio.to_thread(redis_server.start)
    await works(hot)
    await hot.put_snapshot("s1", {"n": 1})
    assert await hot.snapshot("s1") == {"n": 1}


async def test_a_redis_that_hangs_or_resets_connections_is_done_without_and_used_again(
    redis_url: str, opened: Opener, fault_proxy: Callable[[str], FaultProxy]
) -> None:
    proxy = fault_proxy(redis_url)
    here, there = await opened(proxy.url), await opened(redis_url)
    items, probes = here.subscribe("s1"), here.subscribe("probe")
    await reached(there, probes)
    await asyncio.to_thread(proxy.stall)
    await use_all(here)
    assert await here.problem() == "Redis does not answer in time"
    here.publish("s1", {"n": 1})
    assert await read(items, 1) == [{"n": 1}]
    await asyncio.to_thread(proxy.heal)
    await works(here)
    for _ in range(20):
        await asyncio.to_thread(proxy.cut, reset=True)
        here.publish("s1", {"n": 2})
    await works(here)
    await reached(there, probes)


async def test_a_redis_that_lets_nobody_in_or_write_says_so_and_harms_nobody(
    redis_server: RedisServer, opened: Opener
) -> None:
    async with Redis.from_url(redis_server.url) as client:
        admin: Any = client
        await admin.execute_command("ACL", "SETUSER", "deaf", "on", ">deaf", "~*", "+@all", "resetchannels")
        await admin.execute_command("ACL", "SETUSER", "mute", "on", ">mute", "~*", "&*", "+@all", "-set", "-publish")
        deaf, mute = [await opened(f"redis://{name}:{name}@127.0.0.1:{redis_server.port}") for name in ("deaf", "mute")]
        allowed = await opened(redis_server.url)
        for hot in (deaf, mute):
            await use_all(hot)
            assert "does not allow" in str(await hot.problem())
        items = allowed.subscribe("s1")
        await until(lambda: mute.watched("s1"))

        async def given_up() -> bool:
            mute.publish("s1", {"n": 1})
            return not mute.watched("s1")

        await told(given_up)
        allowed.publish("s1", {"n": 2})
        assert await read(items, 1) == [{"n": 2}]

        await admin.execute_command("ACL", "SETUSER", "mute", "+@all")
        await admin.config_set("maxmemory", 1)
        await use_all(mute)
        assert await mute.problem() == "Redis has used up its memory"
        await admin.config_set("maxmemory", 0)
        assert await mute.problem() is None


async def test_what_is_known_of_sessions_is_bounded(redis_url: str, opened: Opener) -> None:
    here, there = await opened(redis_url), await opened(redis_url)
    items = await subscribed(here, there, "s0")
    for n in range(1, MAX_KNOWN + 10):
        there.watched(f"s{n}")
    await until(lambda: not there.watched(f"s{MAX_KNOWN}"))
    assert there.watched("s0") is True  # forgotten, and so to be asked about
    await until(lambda: not there.watched("s1"))
    there.publish("s0", {"n": 1})
    assert await read(items, 1) == [{"n": 1}]


async def test_a_connection_that_died_without_a_word_is_noticed_by_its_silence(
    redis_url: str, opened: Opener, fault_proxy: Callable[[str], FaultProxy], caplog: pytest.LogCaptureFixture
) -> None:
    proxy = fault_proxy(redis_url)
    hot = await opened(proxy.url)
    await asyncio.to_thread(proxy.stall)
    await until(lambda: "Redis does not answer in time" in caplog.text)
    async with fail_after(5):
        assert await hot.problem() == "Redis does not answer in time"
    await asyncio.to_thread(proxy.heal)
    await works(hot)


async def test_a_request_that_was_honoured_while_redis_was_away_is_not_made_again(
    redis_url: str, opened: Opener, fault_proxy: Callable[[str], FaultProxy]
) -> None:
    proxy = fault_proxy(redis_url)
    hot = await opened(proxy.url)
    await hot.request_cancel("s1")
    await asyncio.to_thread(proxy.refuse)
    await hot.request_cancel("s2")
    await hot.clear_cancel("s1")
    await asyncio.to_thread(proxy.heal)
    await works(hot)
    assert [await hot.cancel_requested(one) for one in ("s1", "s2")] == [False, False]


async def test_closing_leaves_no_task_and_no_connection(
    redis_url: str, redis: Redis, fault_proxy: Callable[[str], FaultProxy]
) -> None:
    proxy = fault_proxy(redis_url)
    tasks = asyncio.all_tasks()
    one, two = await RedisHotState.open(redis_url), await RedisHotState.open(proxy.url)
    items = one.subscribe("s1")
    await until(lambda: two.watched("s1"))
    await asyncio.gather(*(hot.take("org1", limit=100, window_s=60) for hot in (one, two) for _ in range(20)))
    await asyncio.to_thread(proxy.stall)
    async with fail_after(10):
        await one.close()
        await two.close()
    assert [item async for item in items] == []
    assert asyncio.all_tasks() == tasks
    assert one.watched("s1") is False and await one.problem() is not None
    await asyncio.to_thread(proxy.heal)

    async def alone() -> bool:
        return len(await redis.client_list()) == 1

    await told(alone)


async def test_what_was_published_last_is_sent_before_the_end(redis_url: str, opened: Opener) -> None:
    here, there = await opened(redis_url), await RedisHotState.open(redis_url)
    items = await subscribed(here, there, "s1")
    there.publish("s1", {"seq": 1})
    await there.close()
    assert await read(items, 1) == [{"seq": 1}]
