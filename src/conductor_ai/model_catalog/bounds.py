"""The most that a call to a model can cost, by every price list that knows the model."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from conductor_ai.model_catalog import price_snapshot
from conductor_ai.model_catalog.model import ModelInfo
from conductor_ai.model_catalog.pricing import Price, in_force, reserve_usd


def listed_price(model: ModelInfo) -> Price | None:
    """The price of today (UTC) by genai-prices, whatever our own files say; None where it has none.

    The first look in a process may load the package, see `price_snapshot.load`.
    """
    return in_force(price_snapshot.prices_of(model.provider, model.wire_id), _today())


def most_usd(model: ModelInfo, input_tokens_bound: int, max_output_tokens: int) -> Decimal | None:
    """`reserve_usd` by the dearest price that is known; None where none is.

    Our file keeps some prices that were agreed on, and lists of today may be higher. A call that is made before
    midnight may be billed after it: tomorrow's prices count, too.
    """
    today = _today()
    lists = model.prices, price_snapshot.prices_of(model.provider, model.wire_id)
    prices = [in_force(prices, day) for prices in lists if prices for day in (today, today + timedelta(days=1))]
    return max(
        (reserve_usd(price, input_tokens_bound, max_output_tokens) for price in prices if price is not None),
        default=None,
    )


def _today() -> date:
    return datetime.now(UTC).date()
