"""The loop over real HTTP: each provider from message to answer, failures, money, and a model that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.errors import InvalidTransition
from conductor_ai.schemas.session import PauseReason
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring import Runtime, open_runtime
from tests.agents.conftest import TASK, Tool, answering
from tests.conftest import fail_after
from tests.providers.wires import WIRES, Wire
from tests.servers import FakeAnthropic, FakeLocal, FakeOpenRouter, ProviderServer
from tests.servers import anthropic as anthropic_server
from tests.servers import chat_completions as chat_server
from tests.servers.provider_server import KEY

MODELS = {
    "anthropic": "claude-sonnet-4-5-20250929",
    "gemini": "gemini-3.8-flash",
    "openrouter": "deepseek/deepseek-chat-v3",
    "local": "local/mine",
}


class Desk:
    """Opens runtimes against one server, over one home."""

    def __init__(self, home: Path, stack: AsyncExitStack) -> None:
        self._home = home
        self._stack = stack
        self.runtime: Runtime

    async def runner(self, server: ProviderServer, model: str, **options: Any) -> AgentRunner:
        url = str(server.url)
        settings = Settings(
            conductor_home=self._home,
            anthropic_api_key=SecretStr(KEY),
            google_api_key=SecretStr(KEY),
            openrouter_api_key=SecretStr(KEY),
            local_llm_api_key=SecretStr(KEY),
            anthropic_base_url=url,
            gemini_base_url=url,
            openrouter_base_url=url,
            local_llm_base_url=url,
            conductor_model_attempts=1,
        )
        self.runtime = await self._stack.enter_async_context(open_runtime(settings))
        registry = ToolRegistry()
        registry.register(Tool("look", answering({"found": 3})))
        return AgentRunner(model, ["look"], registry, runtime=self.runtime, **options)

    async def serve(self, kind: type[ProviderServer]) -> Any:
        return await self._stack.enter_async_context(kind())


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with AsyncExitStack() as stack:
        yield Desk(tmp_path / "home", stack)


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_a_session_goes_from_message_over_tool_to_answer(desk: Desk, wire: Wire) -> None:
    server = await desk.serve(wire.server)
    server.will_answer(body=wire.calls([("call_1", "look", {})]))
    server.will_answer(body=wire.says("Three."))
    runner = await desk.runner(server, MODELS[wire.name])

    session = await runner.run(TASK)

    assert session.final_answer == "Three."
    assert wire.violation(server.requests[1].json) is None
    assert session.usage.output_tokens > 0


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_another_process_goes_on_with_the_same_conversation(desk: Desk, wire: Wire) -> None:
    server = await desk.serve(wire.server)
    server.will_answer(body=wire.calls([("call_1", "look", {})]))
    server.will_answer(body=wire.calls([("call_2", "look", {})]))
    server.will_answer(body=wire.says("Three."))
    first = await desk.runner(server, MODELS[wire.name], limits={"max_steps": 2})
    session = await first.run(TASK)
    assert session.pause_reason is PauseReason.MAX_STEPS
    await desk.runtime.store.close()
    second = await desk.runner(server, MODELS[wire.name])

    resumed = await second.resume(session.session_id, limits={"max_steps": 9})

    assert resumed.final_answer == "Three."
    key = "contents" if wire.name == "gemini" else "messages"
    before, after = (_unmarked(server.requests[number].json[key]) for number in (1, 2))
    assert after[: len(before)] == before
    assert wire.violation(server.requests[2].json) is None


def _unmarked(turns: Any) -> Any:
    """The turns without the mark that says where a prompt may be cached: it moves on to the newest."""
    if isinstance(turns, list):
        return [_unmarked(turn) for turn in turns]
    if isinstance(turns, dict):
        return {name: _unmarked(value) for name, value in turns.items() if name != "cache_control"}
    return turns


async def test_an_outage_fails_the_session_and_resume_goes_on_where_it_was(desk: Desk) -> None:
    server = await desk.serve(FakeAnthropic)
    server.will_answer(body=anthropic_server.reply([_use("look")], "tool_use"))
    server.will_answer(529, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})
    server.will_say("Three.")
    runner = await desk.runner(server, MODELS["anthropic"])

    failed = await runner.run(TASK)
    assert failed.status == "failed"
    assert failed.error is not None
    resumed = await runner.resume(failed.session_id)

    assert resumed.final_answer == "Three."
    assert len(server.requests) == 3


async def test_a_refused_answer_can_only_be_followed_by_a_new_message(desk: Desk) -> None:
    server = await desk.serve(FakeAnthropic)
    server.will_answer(body=anthropic_server.reply([], "refusal"))
    server.will_say("Better.")
    runner = await desk.runner(server, MODELS["anthropic"])

    refused = await runner.run(TASK)
    assert refused.status == "failed"
    with pytest.raises(InvalidTransition):
        await runner.resume(refused.session_id)
    continued = await runner.continue_session(refused.session_id, "Something else, then.")

    assert continued.final_answer == "Better."


async def test_calls_of_a_cut_answer_do_not_run(desk: Desk) -> None:
    server = await desk.serve(FakeAnthropic)
    server.will_answer(body=anthropic_server.reply([_use("look")], "max_tokens"))
    server.will_say("Sorry.")
    runner = await desk.runner(server, MODELS["anthropic"])

    session = await runner.run(TASK)

    assert session.status == "completed"
    assert session.steps[0].tool_calls[0].outcome == "not_run"
    assert "cut" in (session.steps[0].tool_calls[0].error or "")


async def test_a_turn_that_the_provider_paused_goes_back_and_is_gone_on_with(desk: Desk) -> None:
    server = await desk.serve(FakeAnthropic)
    server.will_answer(body=anthropic_server.reply([{"type": "text", "text": "Searching"}], "pause_turn"))
    server.will_say("Found.")
    runner = await desk.runner(server, MODELS["anthropic"])

    session = await runner.run(TASK)

    assert session.final_answer == "Found."
    assert server.requests[1].json["messages"][-1]["content"] == [{"type": "text", "text": "Searching"}]


async def test_arguments_that_are_no_json_are_told_to_the_model(desk: Desk) -> None:
    server = await desk.serve(FakeLocal)
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{day: tomorrow"}}
    server.will_answer(
        body=chat_server.reply({"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls")
    )
    server.will_say("Sorry.")
    runner = await desk.runner(server, MODELS["local"])

    session = await runner.run(TASK)

    [made] = session.steps[0].tool_calls
    assert (made.outcome, session.final_answer) == ("not_run", "Sorry.")
    assert "{day: tomorrow" in (made.error or "")


async def test_an_empty_answer_for_no_reason_fails_and_can_be_asked_again(desk: Desk) -> None:
    server = await desk.serve(FakeLocal)
    server.will_answer(body=chat_server.reply({"role": "assistant", "content": ""}, "weird"))
    server.will_say("Now.")
    runner = await desk.runner(server, MODELS["local"])

    failed = await runner.run(TASK)
    resumed = await runner.resume(failed.session_id)

    assert (failed.status, resumed.final_answer) == ("failed", "Now.")
    assert len(server.requests[1].json["messages"]) == len(server.requests[0].json["messages"])


async def test_reasoning_is_kept_in_the_log(desk: Desk) -> None:
    server = await desk.serve(FakeOpenRouter)
    message = {"role": "assistant", "content": "Hi.", "reasoning": "They greet me."}
    server.will_answer(body=chat_server.reply(message))
    runner = await desk.runner(server, MODELS["openrouter"])

    session = await runner.run(TASK)

    events = await desk.runtime.store.events(session.session_id, "default")
    assert events[2].payload["reasoning"] == "They greet me."


async def test_a_model_without_a_successor_that_is_gone_is_the_end(desk: Desk) -> None:
    server = await desk.serve(FakeLocal)
    server.will_answer(404, {"error": {"message": "model not found"}})
    runner = await desk.runner(server, MODELS["local"])

    session = await runner.run(TASK)

    assert (session.status, len(server.requests)) == ("failed", 1)


async def test_a_token_limit_pauses_once_it_is_reached(desk: Desk) -> None:
    server = await desk.serve(FakeAnthropic)
    server.will_answer(body=anthropic_server.reply([_use("look")], "tool_use"))
    server.will_say("Three.")
    runner = await desk.runner(server, MODELS["anthropic"], limits={"max_tokens": 15})

    paused = await runner.run(TASK)
    assert (paused.pause_reason, paused.usage.total_tokens) == (PauseReason.MAX_TOKENS, 15)
    resumed = await runner.resume(paused.session_id, limits={"max_tokens": 100})

    assert resumed.final_answer == "Three."


async def test_money_is_reserved_before_a_call_and_settled_after(desk: Desk) -> None:
    server = await desk.serve(FakeAnthropic)
    server.will_answer(body=anthropic_server.reply([_use("look")], "tool_use"))
    server.will_say("Three.")
    limits = {"max_cost_usd": "0.01", "max_output_tokens": 100}
    runner = await desk.runner(server, MODELS["anthropic"], limits=limits)

    session = await runner.run(TASK)

    # Two calls of 10 prompt and 5 answer tokens at 3 and 15 dollars a million.
    assert (session.status, session.cost_usd) == ("completed", Decimal("0.00021"))


async def test_a_call_that_could_break_the_money_limit_is_not_made(desk: Desk) -> None:
    server = await desk.serve(FakeAnthropic)
    limits = {"max_cost_usd": "0.01", "max_output_tokens": 1000}
    runner = await desk.runner(server, MODELS["anthropic"], limits=limits)

    session = await runner.run(TASK)

    assert session.pause_reason is PauseReason.MAX_COST
    assert server.requests == []


async def test_a_call_that_ends_without_saying_counts_as_what_it_may_have_cost(desk: Desk) -> None:
    server = await desk.serve(FakeAnthropic)
    server.will_cut(b'{"id": "msg_01"', 5)
    server.will_say("Three.")
    limits = {"max_cost_usd": "0.015", "max_output_tokens": 500}
    runner = await desk.runner(server, MODELS["anthropic"], limits=limits)

    failed = await runner.run(TASK)
    paused = await runner.resume(failed.session_id)
    raised = await runner.resume(failed.session_id, limits={"max_cost_usd": "1"})

    assert failed.status == "failed"
    assert paused.pause_reason is PauseReason.MAX_COST
    assert raised.final_answer == "Three."


async def test_without_usage_a_limited_session_is_charged_the_bound(desk: Desk) -> None:
    server = await desk.serve(FakeAnthropic)
    body = anthropic_server.reply([{"type": "text", "text": "Hi."}])
    del body["usage"]
    server.will_answer(body=body)
    limits = {"max_cost_usd": "1", "max_output_tokens": 100}
    runner = await desk.runner(server, MODELS["anthropic"], limits=limits)

    session = await runner.run(TASK)

    assert session.final_answer == "Hi."
    assert session.cost_usd is not None
    assert session.cost_usd > Decimal("0.0015")  # the answer alone may have been 100 tokens


async def test_a_raised_answer_limit_reaches_the_next_request(desk: Desk) -> None:
    server = await desk.serve(FakeAnthropic)
    server.will_answer(body=anthropic_server.reply([_use("look")], "tool_use"))
    server.will_say("Three.")
    runner = await desk.runner(server, MODELS["anthropic"], limits={"max_steps": 1, "max_output_tokens": 100})
    session = await runner.run(TASK)

    await runner.resume(session.session_id, limits={"max_steps": 5, "max_output_tokens": 200})

    assert [request.json["max_tokens"] for request in server.requests] == [100, 200]


async def test_a_cut_answer_is_in_the_log_and_is_no_answer(desk: Desk) -> None:
    server = await desk.serve(FakeAnthropic)
    server.will_answer(body=anthropic_server.reply([{"type": "text", "text": "The first half of"}], "max_tokens"))
    runner = await desk.runner(server, MODELS["anthropic"])

    session = await runner.run(TASK)

    assert (session.status, session.final_answer) == ("failed", None)
    assert session.steps[-1].content == "The first half of"
    assert "final_answer" not in session.to_dict()["steps"][-1]


async def test_a_money_limit_can_be_lifted(desk: Desk) -> None:
    server = await desk.serve(FakeAnthropic)
    server.will_say("Hi.")
    runner = await desk.runner(server, MODELS["anthropic"], limits={"max_cost_usd": "0.0001"})
    paused = await runner.run(TASK)

    resumed = await runner.resume(paused.session_id, limits={"max_cost_usd": None})

    assert resumed.final_answer == "Hi."


async def test_a_provider_that_bills_is_believed(desk: Desk) -> None:
    server = await desk.serve(FakeOpenRouter)
    body = next(wire for wire in WIRES if wire.name == "openrouter").says("Hi.")
    body["usage"]["cost"] = 0.000123
    server.will_answer(body=body)
    runner = await desk.runner(server, MODELS["openrouter"])

    session = await runner.run(TASK)

    assert session.cost_usd == Decimal("0.000123")
    assert session.to_dict()["cost_usd"] == "0.000123"


async def test_a_model_that_is_gone_is_replaced_by_its_successor_once(desk: Desk) -> None:
    server = await desk.serve(FakeAnthropic)
    gone = {"type": "error", "error": {"type": "not_found_error", "message": "model: claude-sonnet-4-5-20250929"}}
    server.will_answer(404, gone)
    server.will_say("Here I am.")
    runner = await desk.runner(server, MODELS["anthropic"])

    session = await runner.run(TASK)

    successor = desk.runtime.model(MODELS["anthropic"]).successor
    assert session.final_answer == "Here I am."
    assert [request.json["model"] for request in server.requests] == [MODELS["anthropic"], successor]
    assert session.steps[0].model == successor


async def test_a_successor_that_is_gone_too_is_the_end(desk: Desk) -> None:
    server = await desk.serve(FakeAnthropic)
    for _ in range(3):
        server.will_answer(404, {"type": "error", "error": {"type": "not_found_error", "message": "no such model"}})
    runner = await desk.runner(server, MODELS["anthropic"])

    session = await runner.run(TASK)

    assert (session.status, len(server.requests)) == ("failed", 2)


async def test_cancelling_during_a_model_call_ends_the_call(desk: Desk) -> None:
    server = await desk.serve(FakeAnthropic)
    server.will_stall()
    runner = await desk.runner(server, MODELS["anthropic"])
    session = await runner.start_session(TASK)
    task = asyncio.create_task(runner.drive(session.session_id))

    async with fail_after(5):
        await server.arrived.wait()
        cancelled = await runner.cancel(session.session_id)
        assert (await task).status == "cancelled"

    assert cancelled.status == "cancelled"


def _use(name: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}
