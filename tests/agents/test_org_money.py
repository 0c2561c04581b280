"""An org's budget holds over all its sessions at once, whatever their calls cost and however they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.schemas.audit import AuditEntry
from conductor_ai.schemas.ids import utc_now
from conductor_ai.schemas.session import PauseReason, SessionStatus
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring import Runtime, open_runtime
from tests.agents.conftest import TASK, Tool, answering
from tests.servers import FakeOpenRouter
from tests.servers.provider_server import KEY

DEEPSEEK = "deepseek/deepseek-chat-v3"
ANSWER = {
    "id": "gen-1",
    "object": "chat.completion",
    "created": 1,
    "model": "deepseek/deepseek-chat-v3",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Done."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 300, "completion_tokens": 700, "total_tokens": 1000},
}
ENTRY = AuditEntry("org", "org.limits_set", "{}")


@pytest.fixture
async def server() -> AsyncIterator[FakeOpenRouter]:
    async with FakeOpenRouter() as server:
        yield server


@pytest.fixture
async def runtime(tmp_path: Path, server: FakeOpenRouter) -> AsyncIterator[Runtime]:
    settings = Settings(
        conductor_home=tmp_path / "home", openrouter_api_key=SecretStr(KEY), openrouter_base_url=server.url
    )
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(open_runtime(settings))


def runner_on(runtime: Runtime, **limits: object) -> AgentRunner:
    registry = ToolRegistry()
    registry.register(Tool("look", answering({"found": 3})))
    return AgentRunner(DEEPSEEK, ["look"], registry, limits=dict(limits) or None, runtime=runtime)


async def limit(runtime: Runtime, org_id: str, usd: str) -> None:
    await runtime.store.set_org_limits(org_id, {"max_usd_per_day": usd}, ENTRY)


async def committed(runtime: Runtime, org_id: str) -> Decimal:
    await runtime.states.money.close()  # what is being settled is settled then
    day, _ = await runtime.store.committed_usd(org_id, utc_now())
    return day


async def test_fifty_sessions_at_once_never_spend_more_than_the_day_allows(
    runtime: Runtime, server: FakeOpenRouter
) -> None:
    server.will_ask(lambda seen: ANSWER, 50)
    await limit(runtime, "acme", "0.01")
    runner = runner_on(runtime, max_output_tokens=1000)
    sessions = await asyncio.gather(*(runner.run(TASK, "acme") for _ in range(50)))
    spent = sum((session.cost_usd or Decimal(0) for session in sessions), Decimal(0))
    stopped = [session for session in sessions if session.status is SessionStatus.PAUSED]
    assert 0 < spent <= Decimal("0.01")
    assert stopped and {session.pause_reason for session in stopped} == {PauseReason.ORG_BUDGET}
    assert any(session.status is SessionStatus.COMPLETED for session in sessions)
    rows = await runtime.store.usage("acme", day_from="2000-01-01", day_before="2100-01-01")
    assert sum(row.cost_usd for row in rows) == spent
    # Billionths of a dollar, rounded up for each call.
    assert 0 <= await committed(runtime, "acme") - spent <= Decimal("1e-9") * sum(row.calls for row in rows)


async def test_another_org_is_not_stopped(runtime: Runtime, server: FakeOpenRouter) -> None:
    server.will_ask(lambda seen: ANSWER, 1)
    await limit(runtime, "acme", "0.000001")
    runner = runner_on(runtime)
    assert (await runner.run(TASK, "acme")).pause_reason is PauseReason.ORG_BUDGET
    assert (await runner.run(TASK, "other")).status is SessionStatus.COMPLETED


async def test_a_paused_session_goes_on_once_the_budget_is_raised(runtime: Runtime, server: FakeOpenRouter) -> None:
    server.will_ask(lambda seen: ANSWER, 1)
    await limit(runtime, "acme", "0.000001")
    runner = runner_on(runtime)
    paused = await runner.run(TASK, "acme")
    await limit(runtime, "acme", "5")
    async with asyncio.timeout(20):
        while True:  # the raised limit is known within a second
            resumed = await runner.resume(paused.session_id, org_id="acme")
            if resumed.status is not SessionStatus.PAUSED:
                break
            await asyncio.sleep(0.05)
    assert resumed.status is SessionStatus.COMPLETED


async def test_a_refused_call_costs_the_org_nothing_and_a_lost_answer_all_it_may_have_cost(
    runtime: Runtime, server: FakeOpenRouter
) -> None:
    await limit(runtime, "acme", "1")
    runner = runner_on(runtime, max_output_tokens=1000)
    server.will_answer(400, {"error": {"message": "no", "code": 400}})
    assert (await runner.run(TASK, "acme")).status is SessionStatus.FAILED
    assert await committed(runtime, "acme") == 0
    server.will_answer(200, b"{")  # an answer that nobody can read may have been billed
    assert (await runner.run(TASK, "acme")).status is SessionStatus.FAILED
    unread = await committed(runtime, "acme")
    assert unread > Decimal("0.0005")
    server.will_reset()  # so may one that was lost on its way; the next attempt is paid for beside it
    server.will_ask(lambda seen: ANSWER, 1)
    repeated = await runner.run(TASK, "acme")
    assert repeated.status is SessionStatus.COMPLETED
    assert repeated.cost_usd is not None
    assert await committed(runtime, "acme") > unread + repeated.cost_usd + Decimal("0.0005")


async def test_an_attempt_that_the_budget_does_not_reach_for_is_not_made(
    runtime: Runtime, server: FakeOpenRouter
) -> None:
    await limit(runtime, "acme", "0.003")
    runner = runner_on(runtime, max_output_tokens=1000)
    server.will_reset()
    assert (await runner.run(TASK, "acme")).status is SessionStatus.FAILED
    assert len(server.requests) <= 1
    assert await committed(runtime, "acme") <= Decimal("0.003")
