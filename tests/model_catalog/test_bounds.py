"""The most that a call can cost, by every list that knows the model."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from genai_prices import __version__

from conductor_ai.model_catalog import (
    ModelProvider,
    Price,
    PriceList,
    Rates,
    get_model,
    list_models,
    listed_price,
    most_usd,
    price_snapshot,
    reserve_usd,
)

PLAN = ("deepseek/deepseek-chat-v3.1", "deepseek/deepseek-r1", "qwen/qwen3-235b-a22b", "moonshotai/kimi-k2")


@pytest.mark.parametrize("model_id", PLAN)
def test_the_dearer_of_our_file_and_the_price_list_counts(model_id: str) -> None:
    model = get_model(model_id)
    listed = listed_price(model)
    assert model.price is not None
    assert listed is not None
    both = {reserve_usd(price, 10_000, 1_000) for price in (model.price, listed)}
    assert len(both) == 2
    assert most_usd(model, 10_000, 1_000) == max(both)


def test_no_listed_model_is_reserved_for_below_its_own_price() -> None:
    for model in list_models():
        bound = most_usd(model, 150_000, 1_000)
        assert model.price is not None
        assert bound is not None
        assert bound >= reserve_usd(model.price, 150_000, 1_000), model.id


def test_a_price_that_goes_up_tomorrow_counts_today() -> None:
    one, two = (Rates(input=Decimal(figure), output=Decimal(figure)) for figure in (1, 2))
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    prices = (Price(rates=one, source="test"), Price(rates=two, source="test", starts_on=tomorrow))
    model = replace(get_model("local/mine"), prices=prices)
    assert most_usd(model, 1_000_000, 0) == 2


def test_what_nobody_prices_has_no_bound() -> None:
    model = replace(get_model("local/mine"), prices=())
    assert most_usd(model, 1, 1) is None


def test_a_price_of_the_list_says_so_and_when_it_was_read() -> None:
    (price,) = price_snapshot.prices_of(ModelProvider.ANTHROPIC, "claude-opus-4-8")
    assert (price.listed_in, price.source) == (PriceList.GENAI_PRICES, f"genai-prices {__version__}")
    assert price.as_of is not None, f"price_snapshot does not say when {__version__} was read"
    assert price.as_of >= date(2026, 11, 22)


def test_the_list_is_loaded_where_a_limit_needs_it_and_off_the_event_loop() -> None:
    program = """
import asyncio, sys, threading
from conductor_ai.agents.limits import prices_at_hand
from conductor_ai.model_catalog import get_model, price_snapshot
from conductor_ai.schemas.limits import Limits

threads = set()
sys.addaudithook(lambda name, args: threads.add(threading.get_ident())
                 if name == "import" and args[0].startswith("genai_prices") else None)
priced, free, limited = get_model("claude-sonnet-5-5"), get_model("local/mine"), Limits(max_cost_usd=1)
asyncio.run(prices_at_hand([priced], Limits()))
asyncio.run(prices_at_hand([free], limited))
assert not price_snapshot.is_loaded()
asyncio.run(prices_at_hand([free, priced], limited))
assert price_snapshot.is_loaded()
assert threads and threading.get_ident() not in threads
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_call_with_a_price_or_a_bill_needs_no_price_list() -> None:
    program = """
import sys
from decimal import Decimal
from conductor_ai.model_catalog import Catalog
from conductor_ai.schemas.messages import ModelResponse, StopReason, WireTurn
from conductor_ai.schemas.usage import Usage
from conductor_ai.wiring.costs import call_cost

def answer(by, **given):
    return ModelResponse("", (), StopReason.END_TURN, wire=WireTurn("x", b"{}"), answered_by=by, **given)

catalog = Catalog.load()
sonnet, kimi = catalog.get_model("claude-sonnet-5-5"), catalog.get_model("moonshotai/kimi-k2")
call_cost(catalog, sonnet, answer("some-gateway", usage=Usage(1, 1, 1, 1)))
call_cost(catalog, sonnet, answer("claude-sonnet-5-5", usage=None))
call_cost(catalog, kimi, answer("moonshotai/kimi-k2-0711-20250711", usage=Usage(1, 1, 1), billed_cost_usd=Decimal(1)))
call_cost(catalog, catalog.get_model("local/mine"), answer("whatever", usage=Usage(1, 1, 1)))
assert "genai_prices" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
