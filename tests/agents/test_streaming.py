"""A session as it is watched: events and pieces of answers, in order, at the reader's pace."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from conductor_ai.agents.streaming import Feed
from conductor_ai.providers.scripted import call, say
from conductor_ai.schemas.session import SessionStatus
from tests.agents.conftest import TASK, Bench, Gate, Tool, answering
from tests.agents.house import FLASH, House, opened_house
from tests.conftest import fail_after
from tests.providers.wires import GEMINI


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened_house(tmp_path) as house:
        yield house


LONG = "All work and no play makes a dull agent. " * 40


async def test_a_stream_has_every_event_and_the_answer_in_pieces(bench: Bench) -> None:
    runner = await bench.runner([call("look", {"a": 1}, text="Let me look."), say(LONG)], [Tool("look", answering(1))])

    items = [item async for item in runner.stream(TASK)]

    events = [item for item in items if "seq" in item]
    session_id = items[0]["session_id"]
    assert events == [event.to_dict() for event in await bench.events(session_id)]
    pieces = [item["payload"] for item in items if item["type"] == "model.delta" and item["payload"]["step_no"] == 2]
    assert "".join(piece["text"] for piece in pieces if piece["kind"] == "text") == LONG
    assert len(pieces) > 2
    first = [
        item["payload"]["kind"] for item in items if item["type"] == "model.delta" and item["payload"]["step_no"] == 1
    ]
    assert {"text", "tool_call_start", "tool_arguments", "tool_call_end", "stop"} <= set(first)


async def test_leaving_early_pauses_the_session(bench: Bench) -> None:
    gate = Gate()
    runner = await bench.runner([call("wait"), say("Done.")], [Tool("wait", gate)])

    async with fail_after(5), aclosing(runner.stream(TASK)) as items:
        async for item in items:
            if item["type"] == "tool.started":
                session_id = item["session_id"]
                break
    session = await bench.runtime.states.view(session_id, "default")

    assert (session.status, session.pause_reason) == (SessionStatus.PAUSED, "interrupted")


async def test_what_the_drive_raises_reaches_the_reader(bench: Bench) -> None:
    async def close_the_store(arguments: dict[str, Any]) -> str:
        await bench.runtime.store.close()
        return "closed"

    runner = await bench.runner([call("close"), say("Done.")], [Tool("close", close_the_store)])

    with pytest.raises(Exception, match="clos"):  # a StorageError, whose words are the store's
        async for _ in runner.stream(TASK):
            pass


async def test_a_reader_that_pauses_holds_the_next_piece_up() -> None:
    feed = Feed()
    for number in range(64):
        assert feed.room() is None
        feed.put({"number": number})
    room = feed.room()
    assert room is not None
    assert not room.done()

    assert feed.take() == {"number": 0}
    async with fail_after(5):
        await room


async def test_a_driver_that_waits_for_its_reader_goes_on_once_that_has_left() -> None:
    feed = Feed()
    for number in range(64):
        feed.put({"number": number})
    room = feed.room()
    assert room is not None

    feed.close()
    async with fail_after(5):
        await room
    assert feed.room() is None


async def test_a_reader_gets_what_waits_before_the_end() -> None:
    feed = Feed()
    assert feed.take() is None
    coming = feed.coming()
    assert coming is not None
    assert not coming.done()

    feed.put({"number": 0})
    feed.put({"number": 1})
    feed.close()
    async with fail_after(5):
        await coming
    assert [feed.take(), feed.take(), feed.take(), feed.coming()] == [{"number": 0}, {"number": 1}, None, None]


async def test_a_reader_that_waits_learns_of_the_end() -> None:
    feed = Feed()
    coming = feed.coming()
    assert coming is not None
    feed.close()
    async with fail_after(5):
        await coming
    assert (feed.take(), feed.coming()) == (None, None)


async def test_a_long_answer_that_comes_at_once_reaches_a_slow_reader_whole(house: House) -> None:
    words = [f"word-{number} " for number in range(300)]
    chunks: list[dict[str, Any]] = [{"candidates": [{"content": {"parts": [{"text": word}]}}]} for word in words]
    chunks[-1]["candidates"][0]["finishReason"] = "STOP"
    house.flash.will_stream(b"".join(b"data: %b\r\n\r\n" % json.dumps(chunk).encode() for chunk in chunks))
    runner = await house.runner(FLASH)

    told: list[str] = []
    async with fail_after(10):
        async for item in runner.stream(TASK):
            await asyncio.sleep(0)  # whoever drives has its turn
            if item["type"] == "model.delta" and item["payload"]["kind"] == "text":
                told.append(item["payload"]["text"])

    assert told == words
    assert item["type"] == "session.completed"


async def test_only_a_session_that_is_watched_is_streamed(house: House) -> None:
    runner = await house.runner(FLASH)
    for watcher in (None, lambda item: None):
        house.flash.will_answer(body=GEMINI.says("Hi."))
        session = await runner.run(TASK, on_event=watcher)
        assert session.final_answer == "Hi.", session.error

    asked = [seen.path.rpartition(":")[2] for seen in house.flash.requests]
    assert asked == ["generateContent", "streamGenerateContent"]
