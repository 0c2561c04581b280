"""Models in order: where one fails another goes on with the session, and the log says why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.errors import InvalidInput, MissingKey
from conductor_ai.schemas.events import Event, EventType
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring import Runtime, open_runtime
from tests.agents.conftest import TASK, Tool, answering
from tests.providers.wires import ANTHROPIC, GEMINI, OPENROUTER
from tests.servers import FakeAnthropic, FakeGemini, FakeOpenRouter, ProviderServer
from tests.servers import anthropic as anthropic_server
from tests.servers.provider_server import KEY

CLAUDE, FLASH, DEEPSEEK = "claude-sonnet-4-5-20250929", "gemini-3.8-flash", "deepseek/deepseek-chat-v3"
SIGNED = {"type": "thinking", "thinking": "Let me look.", "signature": "c2lnbmVk"}
NOW = {"retry-after": "0"}


class House:
    """Three providers on loopback, over one home."""

    def __init__(self, home: Path, stack: AsyncExitStack) -> None:
        self._home, self._stack = home, stack
        self.runtime: Runtime
        self.claude, self.flash, self.deepseek = FakeAnthropic(), FakeGemini(), FakeOpenRouter()

    async def runner(self, *models: str, **options: Any) -> AgentRunner:
        settings = Settings(
            conductor_home=self._home,
            anthropic_api_key=SecretStr(KEY),
            google_api_key=SecretStr(KEY),
            openrouter_api_key=SecretStr(KEY),
            anthropic_base_url=self.claude.url,
            gemini_base_url=self.flash.url,
            openrouter_base_url=self.deepseek.url,
        )
        self.runtime = await self._stack.enter_async_context(open_runtime(settings))
        registry = ToolRegistry()
        registry.register(Tool("look", answering({"found": 3})))
        return AgentRunner(models=models, tools=["look"], registry=registry, runtime=self.runtime, **options)

    async def events(self, session_id: str) -> list[Event]:
        return await self.runtime.store.events(session_id, "default")

    async def switches(self, session_id: str) -> list[tuple[str, str, str]]:
        events = [event for event in await self.events(session_id) if event.type is EventType.MODEL_SWITCHED]
        return [(one.payload["from_model"], one.payload["to_model"], one.payload["code"]) for one in events]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        house = House(tmp_path / "home", stack)
        for server in (house.claude, house.flash, house.deepseek):
            await stack.enter_async_context(server)
        yield house


def down(server: ProviderServer, status: int = 503, times: int = 4) -> None:
    """As many refusals as a call has attempts, each to be repeated at once."""
    for _ in range(times):
        server.will_answer(status, {"error": {"message": "overloaded", "code": status, "status": "X"}}, NOW)


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
    with pytest.raises(InvalidInput, match="list of names"):
        AgentRunner(models="demo/scripted")
    runner = await house.runner(CLAUDE, "local/none")
    with pytest.raises(MissingKey, match="LOCAL_LLM_BASE_URL"):
        await runner.run(TASK)
    assert await house.runtime.store.sessions("default") == []
