"""Whose figure a call's cost is."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from conductor_ai.model_catalog import Catalog
from conductor_ai.schemas.costs import UNKNOWN_COST, CallCost, CostSource
from conductor_ai.schemas.messages import ModelResponse, StopReason, WireTurn
from conductor_ai.schemas.usage import Usage
from conductor_ai.wiring.costs import call_cost

TOKENS = Usage(1_000_000, 1_000_000)
CACHED = Usage(0, 1_000_000, 1_000_000)
OURS = date(2026, 11, 22)
PROVIDER, CATALOG, GENAI_PRICES = CostSource.PROVIDER, CostSource.CATALOG, CostSource.GENAI_PRICES


def cost_of(
    asked: str,
    usage: Usage | None = TOKENS,
    *,
    answered_by: str | None = None,
    billed: str | None = None,
    catalog: Catalog | None = None,
) -> CallCost:
    catalog = catalog or Catalog.load()
    model = catalog.get_model(asked)
    response = ModelResponse(
        content="",
        tool_calls=(),
        stop_reason=StopReason.END_TURN,
        usage=usage,
        wire=WireTurn(model.provider, b"{}"),
        answered_by=answered_by or model.wire_id,
        billed_cost_usd=None if billed is None else Decimal(billed),
    )
    return call_cost(catalog, model, response)


def test_a_bill_comes_before_every_price_list() -> None:
    assert cost_of("deepseek/deepseek-v3.2", billed="0.000123") == (Decimal("0.000123"), PROVIDER, None)
    assert cost_of("deepseek/deepseek-v3.2", None, billed="0") == (Decimal(0), PROVIDER, None)


@pytest.mark.parametrize("billed", ["NaN", "-1", "Infinity"])
def test_a_bill_that_is_no_amount_is_none(billed: str) -> None:
    assert cost_of("deepseek/deepseek-v3.2", billed=billed) == (Decimal("0.64"), CATALOG, OURS)


def test_a_model_of_the_price_list_alone_is_priced_by_it() -> None:
    cost = cost_of("claude-opus-4-8")
    assert (cost.usd, cost.source, cost.price_as_of) == (Decimal(30), GENAI_PRICES, OURS)


def test_the_price_list_steps_in_where_the_catalog_lacks_a_figure(tmp_path: Path) -> None:
    extra = tmp_path / "models.toml"
    extra.write_text('[models."claude-opus-4-8"]\nprice = { input = 4, output = 20 }\n')
    catalog = Catalog.load(extra)
    uncached = cost_of("claude-opus-4-8", catalog=catalog)
    cached = cost_of("claude-opus-4-8", CACHED, catalog=catalog)
    assert (uncached.usd, uncached.source) == (Decimal(24), CATALOG)
    assert (cached.usd, cached.source) == (Decimal("25.5"), GENAI_PRICES)
    assert cost_of("moonshotai/kimi-k2", CACHED) == UNKNOWN_COST  # neither has a figure for cached tokens


def test_a_model_that_a_file_names_without_a_price_has_that_of_the_list(tmp_path: Path) -> None:
    extra = tmp_path / "models.toml"
    extra.write_text('[models."claude-opus-4-8"]\ncontext_window = 100_000\n')
    cost = cost_of("claude-opus-4-8", catalog=Catalog.load(extra))
    assert (cost.usd, cost.source) == (Decimal(30), GENAI_PRICES)


def test_tokens_that_nobody_counted_cost_nobody_knows_what() -> None:
    assert cost_of("claude-sonnet-5-5", None) == UNKNOWN_COST
    assert cost_of("local/mine", None) == (Decimal(0), CATALOG, None)


@pytest.mark.parametrize(
    ("asked", "answered_by", "usd", "source"),
    [
        ("claude-sonnet-5-5", "claude-haiku-4-5", "6", CATALOG),
        ("claude-sonnet-5-5", "claude-sonnet-5-5-20261001", "12", CATALOG),
        ("claude-sonnet-5-5", "somebody-else", "12", CATALOG),
        ("deepseek/deepseek-chat-v3", "deepseek/deepseek-v3.2", "0.64", CATALOG),
        ("moonshotai/kimi-k2", "moonshotai/kimi-k2-0905", "3.10", CATALOG),
        ("qwen/qwen3-235b-a22b", "qwen/qwen3-235b-a22b-2507", "0.64", GENAI_PRICES),
        ("claude-opus-4-8", "claude-opus-4-1", "90", GENAI_PRICES),
        ("local/mine", "claude-opus-5-5", "0", CATALOG),
    ],
)
def test_the_price_is_that_of_the_model_that_answered(
    asked: str, answered_by: str, usd: str, source: CostSource
) -> None:
    cost = cost_of(asked, answered_by=answered_by)
    assert (cost.usd, cost.source) == (Decimal(usd), source)


def test_a_name_of_the_users_own_keeps_its_price_when_its_wire_id_answers(tmp_path: Path) -> None:
    extra = tmp_path / "models.toml"
    extra.write_text(
        '[models.house]\nprovider = "anthropic"\nwire_id = "claude-opus-5-5"\nprice = { input = 1, output = 2 }\n'
    )
    catalog = Catalog.load(extra)
    assert cost_of("house", answered_by="claude-opus-5-5", catalog=catalog).usd == Decimal(3)
    assert cost_of("claude-sonnet-5-5", answered_by="claude-opus-5-5", catalog=catalog).usd == Decimal(24)
