"""A session as it is watched: events and pieces of answers, in order, at the reader's pace."""

from __future__ import annotations

import asyncio
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
        await feed.room()
        feed.put({"number": number})
    waiting = asyncio.ensure_future(feed.room())
    await asyncio.sleep(0)
    assert not waiting.done()

    assert await feed.next() == {"number": 0}
    async with fail_after(5):
        await waiting


async def test_only_a_session_that_is_watched_is_streamed(house: House) -> None:
    runner = await house.runner(FLASH)
    for watcher in (None, lambda item: None):
        house.flash.will_answer(body=GEMINI.says("Hi."))
        session = await runner.run(TASK, on_event=watcher)
        assert session.final_answer == "Hi.", session.error

    asked = [seen.path.rpartition(":")[2] for seen in house.flash.requests]
    assert asked == ["generateContent", "streamGenerateContent"]
