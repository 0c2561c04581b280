"""A money limit is never exceeded while a provider bills within the bounds of what it was asked for."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.model_catalog import Catalog, ModelProvider, Price, cost_usd, price_snapshot
from conductor_ai.schemas.session import PauseReason
from conductor_ai.schemas.usage import LEAST_USD, MOST_USD_DECIMALS, Usage
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring import Runtime, open_runtime
from tests.agents.conftest import TASK, Tool, answering
from tests.servers import FakeAnthropic, FakeOpenRouter, ProviderServer
from tests.servers import anthropic as anthropic_server
from tests.servers import chat_completions as chat_server
from tests.servers.provider_server import KEY, Seen

MODELS = 24
EXAMPLES = 60
MOST_CALLS = 8
LEAST = Decimal("1e-15")
STEP = Decimal(1).scaleb(-MOST_USD_DECIMALS)
INSTRUCTIONS_FOR_TOOLS = 530
"""Tokens. Source: Anthropic, "Tool use pricing and tokens", the longest of the table."""


class Draw(NamedTuple):
    """What a call costs: parts of the most prompt and of the most output. `kind` is that of the prompt's tokens (0 new,
    1 read from a cache, 2 written to it), None the dearest. `told` False: the reply has no usage."""

    prompt: float
    output: float
    kind: int | None
    told: bool


WORST = Draw(1.0, 1.0, None, told=True)
parts = st.one_of(st.just(1.0), st.floats(0, 1))
draws = st.builds(Draw, parts, parts, st.sampled_from([None, 0, 1, 2]), st.integers(0, 9).map(bool))
plans = st.one_of(st.just([WORST]), st.lists(st.one_of(st.just(WORST), draws), min_size=1, max_size=4))


def priced_models(rng: random.Random) -> str:
    """A models file: flat and tiered prices over six orders of magnitude, some without figures for a cache."""
    entries = []
    for number in range(MODELS):
        entry = f'[models."claude-till-{number}"]\nprice = {{ {_figures(rng, cached=number % 4 > 0)}'
        if number % 2:
            tiers = sorted(rng.sample(range(500, 9_000), 2))
            listed = ", ".join(f"{{ above_tokens = {above}, {_figures(rng, cached=True)} }}" for above in tiers)
            entry += f", long_prompts = [ {listed} ]"
        entries.append(f"{entry} }}\n")
    return "\n".join(entries)


def _figures(rng: random.Random, *, cached: bool) -> str:
    kinds = ("input", "output", *(("cache_read", "cache_write") if cached else ()))
    return ", ".join(f"{kind} = {10 ** rng.uniform(-3, 3):.4f}" for kind in kinds)


class Ran(NamedTuple):
    """`billed` is the sum of the bills after each call."""

    billed: list[Decimal]
    charged: Decimal
    pause_reason: PauseReason | None


@dataclass
class Till:
    """A service that bills whatever it may: up to all that a request's bytes and the last bill allow."""

    server: ProviderServer
    runtime: Runtime
    answer: Callable[[Seen], Any] | None = None

    def say(self, seen: Seen) -> Any:
        assert self.answer is not None
        return self.answer(seen)

    async def run(self, model: str, limit: Decimal, most_output: int, plan: list[Draw]) -> Ran:
        price = self.runtime.model(model).price
        assert price is not None
        billed: list[Decimal] = []
        bound = 0

        def answer(seen: Seen) -> Any:
            nonlocal bound
            draw = plan[len(billed) % len(plan)]
            body, last = seen.json, bound
            bound = last + appended(body["messages"][-1]) if last else len(seen.raw) + INSTRUCTIONS_FOR_TOOLS
            usage = _usage(draw, bound, body["max_tokens"], price)
            # What has no price cannot be billed by it.
            billed.append((billed[-1] if billed else Decimal(0)) + (cost_usd(usage, price) or 0))
            bound = usage.total_tokens if draw.told else 0
            content = {"type": "tool_use", "id": f"toolu_{len(billed)}", "name": "look", "input": {}}
            reply = anthropic_server.reply([content], "tool_use", **_told(usage)) | {"model": model}
            if not draw.told:
                del reply["usage"]
            return reply

        self.answer = answer
        limits = {"max_cost_usd": limit, "max_output_tokens": most_output, "max_steps": MOST_CALLS}
        session = await _runner(self.runtime, model, limits).run(TASK)
        assert session.status == "paused", session.error
        assert session.cost_usd is not None
        return Ran(billed, session.cost_usd, session.pause_reason)


def appended(message: Any) -> int:
    """The bytes of a turn as it stands in the log: without the cache marks, which move from call to call."""
    for block in message["content"]:
        block.pop("cache_control", None)
    return len(json.dumps(message, separators=(",", ":")))


def _usage(draw: Draw, prompt_bound: int, output_bound: int, price: Price) -> Usage:
    prompt, output = int(prompt_bound * draw.prompt), int(output_bound * draw.output)
    kinds = [Usage(prompt, output), Usage(0, output, prompt), Usage(0, output, 0, prompt)]
    return max(kinds, key=lambda usage: cost_usd(usage, price) or 0) if draw.kind is None else kinds[draw.kind]


def _told(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
    }


def _runner(runtime: Runtime, model: str, limits: dict[str, Any]) -> AgentRunner:
    registry = ToolRegistry()
    registry.register(Tool("look", answering("row " * 300)))
    return AgentRunner(model, ["look"], registry, runtime=runtime, limits=limits)


async def _opened(home: Path, kind: type[ProviderServer], stack: AsyncExitStack) -> Till:
    (home / "models.toml").write_text(priced_models(random.Random(4)))
    server = await stack.enter_async_context(kind())
    key = SecretStr(KEY)
    given_settings = Settings(
        conductor_home=home,
        anthropic_api_key=key,
        openrouter_api_key=key,
        anthropic_base_url=server.url,
        openrouter_base_url=server.url,
    )
    till = Till(server, await stack.enter_async_context(open_runtime(given_settings)))
    server.will_ask(till.say, 100_000)
    return till


def test_no_bill_within_its_bounds_breaks_the_limit() -> None:
    seen: Counter[str] = Counter()
    with asyncio.Runner() as loop, tempfile.TemporaryDirectory() as home:
        stack = AsyncExitStack()
        till = loop.run(_opened(Path(home), FakeAnthropic, stack))

        @settings(max_examples=EXAMPLES)
        @given(
            model=st.integers(0, MODELS - 1).map(lambda number: f"claude-till-{number}"),
            most_output=st.sampled_from([1, 20, 800]),
            plan=plans,
            which=st.integers(0, MOST_CALLS - 1),
        )
        def check(model: str, most_output: int, plan: list[Draw], which: int) -> None:
            unlimited = loop.run(till.run(model, Decimal(10**9), most_output, plan))
            # The most that is too little for this call: a reserve that is a token too small makes it all the same.
            just_below = (unlimited.billed[which] - LEAST).quantize(STEP, rounding=ROUND_DOWN)
            limit = max(just_below, LEAST_USD)
            ran = loop.run(till.run(model, limit, most_output, plan))
            assert ran.charged <= limit
            assert sum(ran.billed[-1:]) <= limit
            seen["calls"] += len(ran.billed)
            seen[str(ran.pause_reason)] += 1

        try:
            check()
        finally:
            loop.run(stack.aclose())
    assert seen["calls"] > EXAMPLES / 3
    assert seen[PauseReason.MAX_COST.value] > EXAMPLES / 2


async def test_a_bill_by_the_price_list_of_today_is_reserved_for_where_our_own_file_is_cheaper(tmp_path: Path) -> None:
    model = "moonshotai/kimi-k2"
    ours = Catalog.load().get_model(model).price
    (listed,) = price_snapshot.prices_of(ModelProvider.OPENROUTER, model)
    assert ours is not None
    assert listed.output > 3 * ours.output
    billed = Decimal(0)

    def answer(seen: Seen) -> Any:
        nonlocal billed
        cost = cost_usd(Usage(input_tokens=500, output_tokens=seen.json["max_tokens"]), listed)
        assert cost is not None
        billed += cost
        call = chat_server.tool_call(f"call_{billed}", "look", "{}")
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        usage = {"prompt_tokens": 500, "completion_tokens": seen.json["max_tokens"], "cost": float(cost)}
        return chat_server.reply(message, "tool_calls", **usage) | {"model": model}

    async with AsyncExitStack() as stack:
        till = await _opened(tmp_path, FakeOpenRouter, stack)
        till.answer = answer
        for limit in (Decimal(part) / 10_000 for part in range(190, 240, 5)):  # one bill is half a cent
            billed = Decimal(0)
            session = await _runner(till.runtime, model, {"max_cost_usd": limit, "max_output_tokens": 2000}).run(TASK)
            assert session.pause_reason is PauseReason.MAX_COST
            assert session.cost_usd == billed
            assert Decimal(0) < billed <= limit
