"""Models in order: where one fails another goes on with the session, and the log says why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.errors import InvalidInput, MissingKey
from conductor_ai.schemas.events import EventType
from conductor_ai.schemas.session import SessionStatus
from tests.agents.conftest import TASK
from tests.agents.house import CLAUDE, DEEPSEEK, FLASH, GONE, SIGNED, TOOL_USE, House, down, opened_house
from tests.providers.wires import ANTHROPIC, GEMINI, OPENROUTER
from tests.servers import anthropic as anthropic_server
from tests.servers import gemini as gemini_server


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened_house(tmp_path) as house:
        yield house


async def test_a_session_goes_through_three_providers_in_the_middle_of_its_tool_cycles(house: House) -> None:
    tool_use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    house.claude.will_answer(body=anthropic_server.reply([SIGNED, tool_use], "tool_use"))
    down(house.claude, 529)
    house.flash.will_answer(body=GEMINI.calls([("", "look", {})]))
    down(house.flash)
    house.deepseek.will_answer(body=OPENROUTER.calls([("call_3", "look", {})]))
    house.deepseek.will_answer(body=OPENROUTER.says("Nine."))
    runner = await house.runner(CLAUDE, FLASH, DEEPSEEK)

    session = await runner.run(TASK)

    assert session.status is SessionStatus.COMPLETED, session.error
    assert (session.final_answer, session.model) == ("Nine.", DEEPSEEK)
    assert [step.model for step in session.steps] == [CLAUDE, FLASH, DEEPSEEK, DEEPSEEK]
    assert await house.switches(session.session_id) == [
        (CLAUDE, FLASH, "provider_unavailable"),
        (FLASH, DEEPSEEK, "provider_unavailable"),
    ]
    assert [len(server.requests) for server in (house.claude, house.flash, house.deepseek)] == [5, 5, 2]
    assert b"c2lnbmVk" in house.claude.requests[1].raw
    for server in (house.flash, house.deepseek):
        assert b"c2lnbmVk" not in b"".join(seen.raw for seen in server.requests)
    results = house.deepseek.requests[-1].json["messages"]
    assert [turn["role"] for turn in results].count("tool") == 3


async def test_who_took_over_stays_also_after_a_pause(house: House) -> None:
    down(house.claude, 529)
    house.flash.will_answer(body=GEMINI.calls([("", "look", {})]))
    house.flash.will_answer(body=GEMINI.says("Three."))
    runner = await house.runner(CLAUDE, FLASH, limits={"max_steps": 1})
    session = await runner.run(TASK)
    assert session.status is SessionStatus.PAUSED
    assert session.model == FLASH

    other = await house.runner(CLAUDE, FLASH)
    session = await other.resume(session.session_id, limits={"max_steps": 5})

    assert session.final_answer == "Three."
    assert len(house.claude.requests) == 4


async def test_what_no_other_model_can_mend_fails_at_once(house: House) -> None:
    house.claude.will_answer(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "bad"}})
    runner = await house.runner(CLAUDE, FLASH)

    session = await runner.run(TASK)

    assert session.status is SessionStatus.FAILED
    assert house.flash.requests == []
    assert await house.switches(session.session_id) == []


async def test_the_last_models_failure_is_the_sessions(house: House) -> None:
    down(house.claude, 529)
    down(house.flash)
    runner = await house.runner(CLAUDE, FLASH)

    session = await runner.run(TASK)

    assert session.status is SessionStatus.FAILED
    assert session.error is not None
    assert "gemini answered 503" in session.error


async def test_a_call_is_tried_again_and_the_log_counts_the_attempts(house: House) -> None:
    down(house.claude, 529, times=2)
    house.claude.will_answer(body=ANTHROPIC.says("Hi."))
    told: list[dict[str, Any]] = []
    runner = await house.runner(CLAUDE)

    session = await runner.run(TASK, on_event=told.append)

    assert session.final_answer == "Hi."
    [completed] = [event for event in await house.events(session.session_id) if event.type is EventType.MODEL_COMPLETED]
    assert completed.payload["attempts"] == 3
    assert [item["payload"]["attempt"] for item in told if item["type"] == "model.retrying"] == [2, 3]


async def test_money_is_reserved_at_the_price_of_whoever_takes_over(house: House) -> None:
    down(house.flash)
    runner = await house.runner(FLASH, CLAUDE, limits={"max_cost_usd": "0.03"})

    session = await runner.run(TASK)

    assert session.status is SessionStatus.PAUSED  # 8,192 tokens of Claude's answer may cost $0.12
    assert session.pause_reason == "max_cost"
    assert house.claude.requests == []


async def test_an_attempt_that_ended_unheard_counts_against_the_money(house: House) -> None:
    """Each may have been billed: two fit into the limit, a third would not."""
    for _ in range(3):
        house.claude.will_reset()
    runner = await house.runner(CLAUDE, limits={"max_cost_usd": "0.30"})  # an attempt may cost some $0.13

    session = await runner.run(TASK)

    assert session.status is SessionStatus.FAILED
    assert len(house.claude.requests) == 2
    [failed] = [event for event in await house.events(session.session_id) if event.type is EventType.SESSION_FAILED]
    assert Decimal("0.24") < Decimal(failed.payload["unsettled_usd"]) < Decimal("0.30")
    resumed = await runner.resume(session.session_id)
    assert (resumed.status, resumed.pause_reason) == (SessionStatus.PAUSED, "max_cost")


async def test_models_are_checked_before_anything_is_stored(house: House) -> None:
    with pytest.raises(InvalidInput, match="several in the order"):
        await house.runner(CLAUDE, CLAUDE)
    with pytest.raises(InvalidInput, match="several in the order"):
        await house.runner()
    with pytest.raises(InvalidInput, match="one of the two"):
        AgentRunner(CLAUDE, models=[FLASH])
    with pytest.raises(InvalidInput, match="list of names"):
        AgentRunner(models="demo/scripted")
    runner = await house.runner(CLAUDE, "local/none")
    with pytest.raises(MissingKey, match="LOCAL_LLM_BASE_URL"):
        await runner.run(TASK)
    assert await house.runtime.store.sessions("default") == []


async def test_its_own_turns_go_back_as_they_were_also_where_it_took_over_after_a_resume(house: House) -> None:
    house.claude.will_answer(body=anthropic_server.reply([TOOL_USE], "tool_use"))
    session = await (await house.runner(CLAUDE, FLASH, limits={"max_steps": 1})).run(TASK)
    down(house.claude, 529)
    signed = {"functionCall": {"name": "look", "args": {}}, "thoughtSignature": "R0VNU0lH"}
    house.flash.will_answer(body=gemini_server.reply([signed]))
    house.flash.will_answer(body=GEMINI.says("Three."))

    session = await (await house.runner(CLAUDE, FLASH)).resume(session.session_id, limits={"max_steps": 9})

    assert session.final_answer == "Three.", session.error
    assert b"R0VNU0lH" in house.flash.requests[-1].raw


async def test_thinking_of_another_model_of_the_same_provider_stays_out(house: House) -> None:
    later = {**SIGNED, "signature": "bGF0ZXI="}
    house.claude.will_answer(body=anthropic_server.reply([SIGNED, TOOL_USE], "tool_use"))
    down(house.claude, 529)
    house.claude.will_answer(body=anthropic_server.reply([later, {**TOOL_USE, "id": "toolu_2"}], "tool_use"))
    house.claude.will_answer(body=ANTHROPIC.says("Three."))

    session = await (await house.runner(CLAUDE, "claude-sonnet-5-5")).run(TASK)

    assert session.final_answer == "Three.", session.error
    last = house.claude.requests[-1].raw
    assert (b"c2lnbmVk" in last, b"bGF0ZXI=" in last) == (False, True)


async def test_a_call_that_cannot_be_read_is_asked_for_once_more(house: House) -> None:
    house.flash.will_answer(body=gemini_server.reply([], "MALFORMED_FUNCTION_CALL"))
    house.flash.will_answer(body=GEMINI.calls([("", "look", {})]))
    house.flash.will_answer(body=GEMINI.says("Three."))

    session = await (await house.runner(FLASH)).run(TASK)

    assert session.final_answer == "Three."
    told = house.flash.requests[1].json["contents"][-1]["parts"][0]["text"]
    assert told.startswith("[Your answer was not taken: the tool call in it could not be read.")
    assert [event.type.value for event in await house.events(session.session_id)].count("answer.rejected") == 1


async def test_signatures_that_do_not_hold_any_more_are_left_out(house: House) -> None:
    said = "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different one."
    later = {**SIGNED, "signature": "bGF0ZXI="}
    house.claude.will_answer(body=anthropic_server.reply([SIGNED, TOOL_USE], "tool_use"))
    house.claude.will_answer(400, {"type": "error", "error": {"type": "invalid_request_error", "message": said}})
    house.claude.will_answer(body=anthropic_server.reply([later, {**TOOL_USE, "id": "toolu_2"}], "tool_use"))
    house.claude.will_answer(body=ANTHROPIC.says("Three."))

    session = await (await house.runner(CLAUDE)).run(TASK)

    assert session.final_answer == "Three.", session.error
    with_first, without, with_new = [request.raw for request in house.claude.requests[1:]]
    assert (b"c2lnbmVk" in with_first, b"c2lnbmVk" in without, b"c2lnbmVk" in with_new) == (True, False, False)
    assert b"bGF0ZXI=" in with_new


async def test_signatures_are_left_out_once_and_no_more(house: House) -> None:
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": "Invalid `signature` in `thinking`"}}
    house.claude.will_answer(400, body)
    house.claude.will_answer(400, body)
    session = await (await house.runner(CLAUDE)).run(TASK)
    assert (session.status, len(house.claude.requests)) == (SessionStatus.FAILED, 2)
    assert (await house.events(session.session_id))[-1].payload["code"] == "signature_refused"


async def test_an_answer_that_is_none_goes_to_the_next_model(house: House) -> None:
    house.flash.will_answer(body=gemini_server.reply([], "MALFORMED_FUNCTION_CALL"))
    house.flash.will_answer(body=gemini_server.reply([], "MALFORMED_FUNCTION_CALL"))
    house.claude.will_answer(body=ANTHROPIC.says("Hi."))

    session = await (await house.runner(FLASH, CLAUDE)).run(TASK)

    assert (session.final_answer, await house.switches(session.session_id)) == (
        "Hi.",
        [(FLASH, CLAUDE, "malformed_reply")],
    )


async def test_when_all_were_down_a_resume_comes_back_to_the_first(house: House) -> None:
    down(house.claude, 529)
    down(house.flash)
    session = await (await house.runner(CLAUDE, FLASH)).run(TASK)
    assert session.status is SessionStatus.FAILED
    house.claude.will_answer(body=ANTHROPIC.says("Hi."))
    down(house.flash)

    session = await (await house.runner(CLAUDE, FLASH)).resume(session.session_id)

    assert session.final_answer == "Hi.", session.error


async def test_a_successor_keeps_the_place_of_the_model_that_is_gone(house: House) -> None:
    house.flash.will_answer(401, {"error": {"message": "no", "code": 401}})
    house.claude.will_answer(404, GONE)
    house.claude.will_answer(body=anthropic_server.reply([TOOL_USE], "tool_use"))
    session = await (await house.runner(FLASH, CLAUDE, limits={"max_steps": 1})).run(TASK)
    down(house.claude, 529)
    house.flash.will_answer(401, {"error": {"message": "no", "code": 401}})

    session = await (await house.runner(FLASH, CLAUDE)).resume(session.session_id, limits={"max_steps": 5})

    assert session.status is SessionStatus.FAILED
    asked = [seen.json["model"] for seen in house.claude.requests]
    assert asked == [CLAUDE, *["claude-sonnet-5-5"] * 5]
