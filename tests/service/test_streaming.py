"""An answer comes live to whoever follows the session in the documented order: start it, then read its events."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from tests.conftest import fail_after
from tests.service.conftest import House
from tests.service.door import Door, Frame

WORDS = "".join(f"{number} " for number in range(20))
SECOND_HALF = "".join(f"{number} " for number in range(10, 20))


@pytest.fixture
async def door(house: House) -> Door:
    return await house.as_org("acme")


def live_text(frames: list[Frame]) -> str:
    pieces = [frame.data["payload"] for frame in frames if frame.event == "delta"]
    return "".join(piece["text"] for piece in pieces if piece["kind"] == "text")


async def watched_midway(house: House, door: Door, session_id: str, name: str, after: int = 0) -> list[Frame]:
    """What a reader gets who comes while the model is in the middle of its answer."""
    hold = house.model.holds[name]
    await hold.has()
    found = []
    async with fail_after(20), aclosing(door.stream(session_id, after=after)) as frames:
        async for frame in frames:
            found.append(frame)
            if frame.event == "message.added":
                hold.release()
    return found


async def test_whoever_comes_in_the_middle_of_the_first_answer_hears_it_live(house: House, door: Door) -> None:
    session_id = await door.start("break a 20")

    found = await watched_midway(house, door, session_id, "a")

    kinds = [frame.event for frame in found]
    assert WORDS.endswith(live_text(found)) and SECOND_HALF in live_text(found)
    assert kinds.index("delta") < kinds.index("model.completed") and kinds[-1] == "session.completed"
    assert found[-2].data["payload"]["content"] == WORDS


async def test_the_first_answer_to_another_message_comes_live_too(house: House, door: Door) -> None:
    session_id = (await door.run("say Hello."))["session_id"]
    seen = (await door.events(session_id))[-1].id
    message = {"message": {"role": "user", "content": "break b 20"}}
    assert (await door.ask("POST", f"/agents/{session_id}/messages", message)).status == 202

    found = await watched_midway(house, door, session_id, "b", after=seen or 0)

    assert WORDS.endswith(live_text(found)) and SECOND_HALF in live_text(found)


async def test_an_answer_that_nobody_comes_for_is_streamed_once(house: House, door: Door) -> None:
    session_id = await door.start("call look_up tea; hold c say Done.")
    await house.model.holds["c"].has()
    house.model.holds["c"].release()
    assert (await door.stopped(session_id))["status"] == "completed"

    assert [body.get("stream", False) for body in house.model.requests] == [True, False]
