"""What a session cost: forty calls of each provider, computed anew from the bytes that the provider sent."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.schemas.costs import CostSource
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring import open_runtime
from tests.agents.conftest import TASK, Tool, answering
from tests.providers.wires import WIRES, Body
from tests.servers import FakeAnthropic, ProviderServer
from tests.servers import anthropic as anthropic_server
from tests.servers.provider_server import KEY

CALLS = 40
MODELS_FILE = """
as_of = 2026-11-20

[models."acme/tiered"]
context_window = 1_000_000
price = { input = 0.0375, output = 1.1, cache_read = 0.0035, cache_write = 0.047, long_prompts = [
    { above_tokens = 32_000, input = 0.075, output = 2.3, cache_read = 0.007, cache_write = 0.094 },
    { above_tokens = 128_000, input = 0.15, output = 4.7, cache_read = 0.014, cache_write = 0.188 },
] }

[models."acme/no-cache-figures"]
price = { input = 1, output = 2 }
"""


@dataclass
class Desk:
    """Runners against one server, over one home with a models file of the user's."""

    home: Path
    stack: AsyncExitStack

    async def serve(self, kind: type[ProviderServer]) -> Any:
        return await self.stack.enter_async_context(kind())

    async def runner(self, server: ProviderServer, model: str, **options: Any) -> AgentRunner:
        self.home.mkdir(exist_ok=True)
        (self.home / "models.toml").write_text(MODELS_FILE)
        key, url = SecretStr(KEY), server.url
        settings = Settings(
            conductor_home=self.home,
            anthropic_api_key=key,
            google_api_key=key,
            openrouter_api_key=key,
            anthropic_base_url=url,
            gemini_base_url=url,
            openrouter_base_url=url,
        )
        runtime = await self.stack.enter_async_context(open_runtime(settings))
        registry = ToolRegistry()
        registry.register(Tool("look", answering({"found": 3})))
        return AgentRunner(model, ["look"], registry, runtime=runtime, **options)

    def audited(self) -> list[dict[str, Any]]:
        """What the audit rows of model calls say, oldest first."""
        connection = sqlite3.connect(self.home / "conductor.db")
        rows = connection.execute(
            "SELECT metadata FROM audit_logs WHERE action = 'model.completed' ORDER BY chain_seq"
        ).fetchall()
        connection.close()
        return [json.loads(row[0]) for row in rows]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with AsyncExitStack() as stack:
        yield Desk(tmp_path / "home", stack)


class Counts:
    """Token counts of one call, of every size between nothing and a long prompt."""

    def __init__(self, rng: random.Random) -> None:
        self.fresh = rng.choice((0, 7, rng.randrange(90_000), rng.randrange(260_000)))
        self.read = rng.choice((0, rng.randrange(60_000), rng.randrange(200_000)))
        self.written = rng.choice((0, 0, rng.randrange(20_000)))
        self.thought = rng.choice((0, rng.randrange(3_000)))
        self.said = 1 + rng.randrange(5_000)


def _anthropic(body: Body, counts: Counts) -> None:
    body["model"] = "claude-haiku-5-5"
    body["usage"] = {
        "input_tokens": counts.fresh,
        "cache_read_input_tokens": counts.read,
        "cache_creation_input_tokens": counts.written,
        "output_tokens": counts.said + counts.thought,
    }


def _anthropic_usd(body: Body) -> Fraction:
    """Source: the price page as our file has it; cached tokens are outside `input_tokens`."""
    usage = body["usage"]
    fresh, read = usage["input_tokens"], usage["cache_read_input_tokens"]
    written, output = usage["cache_creation_input_tokens"], usage["output_tokens"]
    rates = ("0.5", "0.05", "0.625", "2.5") if fresh + read + written > 100_000 else ("0.1", "0.01", "0.125", "0.5")
    return _sum(rates, (fresh, read, written, output))


def _gemini(body: Body, counts: Counts) -> None:
    body["modelVersion"] = "gemini-3.1-pro-preview"
    body["usageMetadata"] = {
        "promptTokenCount": counts.fresh + counts.read,
        "candidatesTokenCount": counts.said,
        "totalTokenCount": counts.fresh + counts.read + counts.said + counts.thought,
        **({"cachedContentTokenCount": counts.read} if counts.read else {}),
        **({"thoughtsTokenCount": counts.thought} if counts.thought else {}),
    }


def _gemini_usd(body: Body) -> Fraction:
    """Cached tokens are inside the prompt, thoughts outside the candidates and billed like them."""
    usage = body["usageMetadata"]
    prompt, read = usage["promptTokenCount"], usage.get("cachedContentTokenCount", 0)
    output = usage["candidatesTokenCount"] + usage.get("thoughtsTokenCount", 0)
    rates = ("4", "0.4", "18") if prompt > 200_000 else ("2", "0.2", "12")
    return _sum(rates, (prompt - read, read, output))


def _openrouter(body: Body, counts: Counts) -> None:
    body["model"] = "acme/tiered"
    prompt = counts.fresh + counts.read + counts.written
    body["usage"] = {
        "prompt_tokens": prompt,
        "completion_tokens": counts.said + counts.thought,
        "total_tokens": prompt + counts.said + counts.thought,
        "prompt_tokens_details": {"cached_tokens": counts.read, "cache_write_tokens": counts.written},
        "completion_tokens_details": {"reasoning_tokens": counts.thought},
    }
    if counts.said % 3 == 0:
        body["usage"]["cost"] = round(counts.said * 0.00000137, 8)


def _openrouter_usd(body: Body) -> Fraction:
    """A bill counts as it is; else cached tokens are inside the prompt, reasoning inside the completion."""
    usage = body["usage"]
    if "cost" in usage:
        return Fraction(repr(usage["cost"]))
    prompt, details = usage["prompt_tokens"], usage["prompt_tokens_details"]
    read, written = details["cached_tokens"], details["cache_write_tokens"]
    if prompt > 128_000:
        rates = ("0.15", "0.014", "0.188", "4.7")
    elif prompt > 32_000:
        rates = ("0.075", "0.007", "0.094", "2.3")
    else:
        rates = ("0.0375", "0.0035", "0.047", "1.1")
    return _sum(rates, (prompt - read - written, read, written, usage["completion_tokens"]))


def _sum(rates: tuple[str, ...], tokens: tuple[int, ...]) -> Fraction:
    return sum((Fraction(rate) * count for rate, count in zip(rates, tokens, strict=True)), Fraction(0)) / 10**6


@dataclass(frozen=True)
class Bill:
    """One provider: how it writes counts into a reply, and what that reply costs by its own documents."""

    wire: str
    model: str
    write: Callable[[Body, Counts], None]
    usd: Callable[[Body], Fraction]
    price_as_of: str


BILLS = [
    Bill("anthropic", "claude-haiku-5-5", _anthropic, _anthropic_usd, "2026-11-22"),
    Bill("gemini", "gemini-3.1-pro-preview", _gemini, _gemini_usd, "2026-11-22"),
    Bill("openrouter", "acme/tiered", _openrouter, _openrouter_usd, "2026-11-20"),
]


@pytest.mark.parametrize("bill", BILLS, ids=lambda bill: bill.wire)
async def test_forty_calls_cost_what_their_bytes_say_to_the_last_digit(desk: Desk, bill: Bill) -> None:
    wire = next(wire for wire in WIRES if wire.name == bill.wire)
    server = await desk.serve(wire.server)
    rng = random.Random(bill.wire)
    expected = []
    for number in range(1, CALLS + 1):
        body = wire.says("Done.") if number == CALLS else wire.calls([(f"call_{number}", "look", {})])
        bill.write(body, Counts(rng))
        server.will_answer(body=body)
        expected.append((bill.usd(body), "cost" in body.get("usage", {})))
    runner = await desk.runner(server, bill.model)

    session = await runner.run(TASK)

    assert (session.final_answer, len(session.steps)) == ("Done.", CALLS)
    for told in (session.to_dict()["steps"], desk.audited()):
        assert len(told) == CALLS
        for call, (usd, billed) in zip(told, expected, strict=True):
            source = ("provider", None) if billed else ("catalog", bill.price_as_of)
            assert (Fraction(call["cost_usd"]), (call["cost_source"], call["price_as_of"])) == (usd, source)
    total = sum((usd for usd, _ in expected), Fraction(0))
    assert session.cost_usd is not None
    assert session.cost.at_most_usd is not None
    assert Fraction(session.cost_usd) == total
    assert Fraction(session.cost.at_least_usd) == Fraction(session.cost.at_most_usd) == total
    assert session.cost.by_source[CostSource.CATALOG].price_dates == {bill.price_as_of}
    with closing(sqlite3.connect(desk.home / "conductor.db")) as connection:
        in_database = connection.execute("SELECT cost_usd FROM sessions").fetchone()[0]
    assert Fraction(in_database) == total


async def test_a_call_that_nobody_can_price_leaves_the_cost_at_least_the_rest(desk: Desk) -> None:
    wire = next(wire for wire in WIRES if wire.name == "openrouter")
    server = await desk.serve(wire.server)
    bodies = [wire.calls([("call_1", "look", {})]), wire.calls([("call_2", "look", {})]), wire.says("Done.")]
    bodies[1]["usage"]["prompt_tokens_details"] = {"cached_tokens": 4}
    bodies[2]["usage"]["cost"] = 0.5
    for body in bodies:
        server.will_answer(body=body)
    runner = await desk.runner(server, "acme/no-cache-figures")

    session = await runner.run(TASK)

    assert session.cost_usd is None
    assert [(step.cost_usd, step.cost_source) for step in session.steps] == [
        ("0.00002", "catalog"),
        (None, "unknown"),
        ("0.5", "provider"),
    ]
    assert session.to_dict()["cost"] == {
        "at_least_usd": "0.50002",
        "at_most_usd": None,
        "unsettled_usd": "0",
        "by_source": {
            "provider": {"calls": 1, "usd": "0.5", "price_as_of": []},
            "catalog": {"calls": 1, "usd": "0.00002", "price_as_of": ["2026-11-20"]},
            "unknown": {"calls": 1, "usd": "0", "price_as_of": []},
        },
    }


async def test_a_bound_that_was_charged_is_called_one(desk: Desk) -> None:
    server = await desk.serve(FakeAnthropic)
    body = anthropic_server.reply([{"type": "text", "text": "Hi."}])
    del body["usage"]
    server.will_answer(body=body)
    runner = await desk.runner(server, "claude-haiku-5-5", limits={"max_cost_usd": "1", "max_output_tokens": 100})

    session = await runner.run(TASK)

    (step,) = session.steps
    assert (step.cost_source, step.price_as_of) == ("bound", None)
    assert desk.audited()[0]["cost_source"] == "bound"
    assert session.cost.at_least_usd == 0
    assert session.cost.at_most_usd == session.cost_usd == Decimal(step.cost_usd or 0)
