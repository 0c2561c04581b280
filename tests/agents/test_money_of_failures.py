"""What failed calls may have cost, while money is limited: neither forgotten nor counted where nothing was sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from conductor_ai.errors import ApprovalRequired
from conductor_ai.providers.scripted import call, say
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.sdk.security.approval import require_approval
from tests.agents.conftest import TASK, Bench, Tool
from tests.agents.house import CLAUDE, DEEPSEEK, FLASH, TOO_LONG, TOOL_USE, House, opened_house
from tests.agents.machine import approved, conducted, waiting
from tests.conftest import fail_after
from tests.providers.wires import GEMINI
from tests.servers import anthropic as anthropic_server


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened_house(tmp_path) as house:
        yield house


async def unsettled(house: House, session_id: str) -> Decimal:
    events = await house.events(session_id)
    return sum((Decimal(event.payload.get("unsettled_usd", 0)) for event in events), Decimal(0))


def sse(*events: dict[str, Any]) -> list[bytes]:
    return [b"event: %s\ndata: %s\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in events]


async def test_what_was_never_sent_costs_nothing(house: House) -> None:
    await house.claude.__aexit__()
    house.flash.will_answer(body=GEMINI.says("Hi."))
    runner = await house.runner(CLAUDE, FLASH, limits={"max_cost_usd": "0.261"})

    session = await runner.run(TASK)

    assert session.final_answer == "Hi.", session.error
    assert await unsettled(house, session.session_id) == 0


async def test_an_error_in_the_middle_of_an_answer_may_be_billed(house: House) -> None:
    usage = {"input_tokens": 500, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "model": CLAUDE, "content": [], "usage": usage}
    house.claude.will_stream(
        *sse(
            {"type": "message_start", "message": {**message, "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Once"}},
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        )
    )
    runner = await house.runner(CLAUDE, limits={"max_cost_usd": "1"})

    session = await runner.run(TASK, on_event=lambda _: None)

    assert (session.status, len(house.claude.requests)) == (SessionStatus.FAILED, 1)
    assert await unsettled(house, session.session_id) > 0


async def test_half_an_answer_in_a_whole_reply_is_not_asked_for_again(house: House) -> None:
    choice = {"message": {"role": "assistant", "content": "half"}, "finish_reason": "error", "error": {"code": 502}}
    for _ in range(4):
        house.deepseek.will_answer(body={"id": "g", "model": "m", "choices": [choice]})
    runner = await house.runner(DEEPSEEK, limits={"max_cost_usd": "1"})

    session = await runner.run(TASK)

    assert (session.status, len(house.deepseek.requests)) == (SessionStatus.FAILED, 1)
    assert await unsettled(house, session.session_id) > 0


async def test_attempts_before_a_prompt_was_too_long_are_counted(house: House) -> None:
    house.claude.will_answer(body=anthropic_server.reply([TOOL_USE], "tool_use"))
    house.claude.will_reset()
    house.claude.will_answer(400, TOO_LONG)
    runner = await house.runner(CLAUDE, limits={"max_cost_usd": "1"})

    session = await runner.run(TASK)

    assert session.status is SessionStatus.FAILED
    assert await unsettled(house, session.session_id) > 0


@pytest.mark.parametrize("cancels", [False, True])
async def test_a_wait_between_attempts_costs_nothing(house: House, cancels: bool) -> None:
    house.claude.will_answer(429, {"error": {"message": "busy"}}, {"retry-after": "20"})
    runner = await house.runner(CLAUDE, limits={"max_cost_usd": "1"})
    waits = asyncio.Event()
    session = await runner.start_session(
        TASK, on_event=lambda item: waits.set() if item["type"] == "model.retrying" else None
    )
    drive = asyncio.create_task(runner.drive(session.session_id))
    async with fail_after(5):
        await waits.wait()
        if cancels:
            await runner.cancel(session.session_id)
            await drive
        else:
            drive.cancel()
            with pytest.raises(asyncio.CancelledError):
                await drive

    assert await unsettled(house, session.session_id) == 0


async def test_no_wait_goes_beyond_the_deadline(house: House) -> None:
    house.claude.will_answer(429, {"error": {"message": "busy"}}, {"retry-after": "30"})
    runner = await house.runner(CLAUDE, limits={"deadline_s": 20})

    async with fail_after(10):
        session = await runner.run(TASK)

    assert session.status is SessionStatus.FAILED


async def test_interrupted_after_it_asked_too_late_a_once_tool_is_not_started_again(bench: Bench) -> None:
    ran: list[str] = []
    asked, leave = asyncio.Event(), asyncio.Event()

    @require_approval(category="code_execution")
    async def act(code: str) -> None:
        ran.append(code)

    async def body(arguments: dict[str, Any]) -> None:
        await act("a")
        try:
            await act("b")
        except ApprovalRequired:
            asked.set()
            await leave.wait()
            raise

    conductor = await conducted(bench, [call("machine"), say("Done.")], Tool("machine", body, effect="once"))
    session_id, approval = await waiting(conductor)
    await conductor.decide(approval.approval_id, "approved", by="ann")
    run = asyncio.create_task(conductor.resume(session_id))
    async with fail_after(5):
        await asked.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    session = await approved(conductor, session_id)

    assert (session.status, ran) == (SessionStatus.COMPLETED, ["a"])
    assert session.steps[0].tool_calls[0].outcome == "unknown"


async def test_what_was_lost_before_signatures_were_refused_is_not_forgotten(house: House) -> None:
    message = "Invalid `signature` in `thinking` block"
    house.claude.will_answer(body=anthropic_server.reply([TOOL_USE], "tool_use"))
    house.claude.will_reset()
    house.claude.will_answer(400, {"type": "error", "error": {"type": "invalid_request_error", "message": message}})
    house.claude.will_say("Three.")
    session = await (await house.runner(CLAUDE, limits={"max_cost_usd": "2"})).run(TASK)
    assert session.final_answer == "Three.", session.error
    assert len(house.claude.requests) == 4
    assert await unsettled(house, session.session_id) > Decimal("0.1")


async def test_a_failure_that_names_its_cost_is_charged_exactly_that(house: House) -> None:
    failed = {"error": {"code": 400, "message": "the host gave up"}, "usage": {"cost": 0.0123, "prompt_tokens": 9}}
    for limits in ({"max_cost_usd": "1"}, {}):
        house.deepseek.will_answer(200, failed)
        session = await (await house.runner(DEEPSEEK, limits=limits)).run(TASK)
        assert session.status is SessionStatus.FAILED
        assert await unsettled(house, session.session_id) == Decimal("0.0123")
