"""What `conductor sessions show` says of money: how much, who says so, how sure it is."""

from __future__ import annotations

from decimal import Decimal

import pytest

from conductor_ai.cli.text import call_cost_text, cost_text
from conductor_ai.schemas.costs import CostSource, CostSummary, SourceCost
from tests.cli.console import Console
from tests.cli.model_server import ModelServer


def share(calls: int, usd: str, *price_dates: str) -> SourceCost:
    return SourceCost(calls, Decimal(usd), set(price_dates))


PROVIDER, CATALOG, GENAI_PRICES = CostSource.PROVIDER, CostSource.CATALOG, CostSource.GENAI_PRICES
BOUND, UNKNOWN = CostSource.BOUND, CostSource.UNKNOWN
QUARTER = Decimal("0.25")


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (CostSummary(), "$0.00"),
        (
            CostSummary({CATALOG: share(3, "0.0123", "2026-11-22")}),
            "$0.0123 (catalog prices of 2026-11-22)",
        ),
        (CostSummary({CATALOG: share(1, "0")}), "$0.00 (catalog prices)"),
        (CostSummary({PROVIDER: share(2, "2")}), "$2.00 (billed by the provider)"),
        (
            CostSummary({PROVIDER: share(1, "2"), GENAI_PRICES: share(1, "1", "2026-11-22", "2025-12-09")}),
            "$3.00 ($2.00 billed by the provider; $1.00 prices of genai-prices of 2025-12-09 and 2026-11-22)",
        ),
        (
            CostSummary({CATALOG: share(1, "1", "2026-11-22"), UNKNOWN: share(1, "0")}),
            "at least $1.00 (catalog prices of 2026-11-22; 1 call of unknown price)",
        ),
        (CostSummary({UNKNOWN: share(2, "0")}), "at least $0.00 (2 calls of unknown price)"),
        (CostSummary({BOUND: share(1, "0.5")}), "at most $0.50 (set aside where nobody named a figure)"),
        (
            CostSummary({PROVIDER: share(1, "1")}, QUARTER),
            "at most $1.25 ($1.00 billed by the provider; $0.25 set aside for calls that ended without an answer)",
        ),
    ],
    ids=["no call", "one source", "free", "billed", "two", "partly unknown", "all unknown", "bound", "unsettled"],
)
def test_the_words_say_how_sure_the_figure_is(cost: CostSummary, text: str) -> None:
    assert cost_text(cost) == text


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        (("0.0012", "catalog", "2026-11-22"), "$0.0012 (catalog, 2026-11-22)"),
        (("0.0012", "provider", None), "$0.0012 (provider)"),
        (("0.5", "bound", None), "at most $0.50 (set aside)"),
        ((None, "unknown", None), "price unknown"),
        (("1", None, None), "$1.00"),
    ],
    ids=["catalog", "provider", "bound", "unknown", "old log"],
)
def test_a_step_names_the_source_of_its_figure(figures: tuple[str | None, ...], text: str) -> None:
    assert call_cost_text(*figures) == text


def test_a_session_is_shown_with_its_cost_the_source_and_the_day_of_the_price(
    console: Console, model: ModelServer
) -> None:
    console.env |= {
        "OPENROUTER_API_KEY": "sk-test-0123456789",
        "OPENROUTER_BASE_URL": model.url,
        "CONDUCTOR_MODEL": "deepseek/deepseek-v3.2",
    }
    model.will_answer("one")
    session_id = console.here("a task", "--json").json["session_id"]
    # 1,200 tokens in and 34 out at 0.26 and 0.38 dollars a million.
    text = console.here("sessions", "show", session_id).out
    data = console.here("sessions", "show", session_id, "--json").json
    assert "\ncost    $0.000325 (catalog prices of 2026-11-22)\n" in text
    assert "$0.000325 (catalog, 2026-11-22)\n" in text
    assert (data["cost_usd"], data["cost"]["at_most_usd"]) == ("0.00032492", "0.00032492")
    assert data["cost"]["by_source"] == {"catalog": {"calls": 1, "usd": "0.00032492", "price_as_of": ["2026-11-22"]}}
    (step,) = data["steps"]
    assert (step["cost_usd"], step["cost_source"], step["price_as_of"]) == ("0.00032492", "catalog", "2026-11-22")
