"""Who ends a session is on record, whichever process drives it."""

from __future__ import annotations

from tests.service.conftest import House


async def test_a_cancel_by_way_of_another_process_says_who_asked_for_it(house: House, second_house: House) -> None:
    door = await house.as_org("acme")
    session_id = await door.start("hold a say Hi.")
    await house.model.holds["a"].has()

    await second_house.door.with_key(door.key).ask("POST", f"/agents/{session_id}/cancel")

    assert (await door.stopped(session_id))["status"] == "cancelled"
    (asked,) = [frame for frame in await door.events(session_id) if frame.event == "session.cancel_requested"]
    assert asked.data["payload"]["by"].startswith("key ")
