"""Messages that wait for their session: what cannot be taken is refused or discarded, and nothing else is."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from conductor_ai.agents.session_state import message_added
from conductor_ai.schemas.ids import new_id, utc_now
from conductor_ai.schemas.messages import parse_messages
from conductor_ai.storage.base import QueuedMessage
from tests.conftest import fail_after
from tests.service.conftest import House
from tests.service.door import Door

ORG = "acme"
DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
LOOK = [{"type": "text", "text": "say Seen."}, {"type": "image", "data": base64.b64encode(DOT).decode()}]


@pytest.fixture
async def door(house: House) -> Door:
    return await house.as_org(ORG)


async def queued(door: Door, session_id: str, content: Any) -> Any:
    body = {"message": {"role": "user", "content": content}, "when_running": "enqueue"}
    return await door.ask("POST", f"/agents/{session_id}/messages", body)


async def discarded(door: Door, session_id: str) -> list[dict[str, Any]]:
    """What the audit says of messages that nobody will deliver."""
    rows = (await door.get("/audit"))["items"]
    facts = [row["metadata"] for row in rows if row["action"] == "messages.discarded"]
    return [fact for fact in facts if fact["session_id"] == session_id]


async def test_an_image_is_not_queued_for_a_model_that_no_list_shows_and_that_sees_none(
    house: House, door: Door
) -> None:
    session_id = await door.start("hold a say Hi.", model="local/unlisted")
    await house.model.holds["a"].has()

    answer = await queued(door, session_id, LOOK)

    house.model.holds["a"].release()
    assert (answer.status, answer.code) == (422, "invalid_input") and b"cannot read images" in answer.body


async def test_a_message_that_fits_no_more_is_discarded_alone_and_the_audit_says_so(house: House, door: Door) -> None:
    session_id = await door.start("hold a say Hi.")
    await house.model.holds["a"].has()
    _, [seen] = parse_messages([{"role": "user", "content": LOOK}])  # from when another model drove the session
    message = QueuedMessage(new_id(), session_id, ORG, json.dumps(message_added(seen)), utc_now())
    await house.service.store.enqueue_message(message)
    for text in ("say Two.", "say Three."):
        assert (await queued(door, session_id, text)).status == 202

    house.model.holds["a"].release()
    async with fail_after(30):
        while sum(frame.event == "session.completed" for frame in await door.events(session_id)) < 3:
            pass

    log = await house.service.store.events(session_id, ORG)
    said = [event.payload["content"] for event in log if event.type == "message.added"]
    assert said == ["hold a say Hi.", "say Two.", "say Three."]
    (fact,) = await discarded(door, session_id)
    assert fact["messages"] == 1 and "cannot read images" in fact["reason"]


async def test_a_cancel_discards_what_waits_and_the_audit_says_how_much(house: House, door: Door) -> None:
    session_id = await door.start("hold a say Hi.")
    await house.model.holds["a"].has()
    for text in ("say Two.", "say Three."):
        assert (await queued(door, session_id, text)).status == 202

    await door.ask("POST", f"/agents/{session_id}/cancel")

    assert (await door.stopped(session_id))["status"] == "cancelled"
    (fact,) = await discarded(door, session_id)
    assert fact["messages"] == 2 and fact["by"].startswith("key ") and "cancelled" in fact["reason"]
