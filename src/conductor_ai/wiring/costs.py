"""What a model call cost: the provider's own bill, else its tokens at the best price that is known."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from conductor_ai.model_catalog import Catalog, ModelInfo, Price, cost_usd, listed_price
from conductor_ai.schemas.costs import UNKNOWN_COST, CallCost, CostSource
from conductor_ai.schemas.messages import ModelResponse


def call_cost(catalog: Catalog, asked: ModelInfo, response: ModelResponse) -> CallCost:
    """The cost of one answer to a call of `asked`, by the model that answered.

    The catalog's price comes before that of genai-prices, which also steps in where the catalog has no figure for a
    kind of token that the call used. Without token counts only a model that bills nobody has a known cost.
    """
    billed = response.billed_cost_usd
    if billed is not None and billed.is_finite() and billed >= 0:
        return CallCost(billed, CostSource.PROVIDER)
    model = catalog.answering(asked, response.answered_by)
    if response.usage is None:
        price = model.price
        return _called(Decimal(0), price) if price is not None and price.is_free else UNKNOWN_COST
    for price in _prices(model):
        cost = cost_usd(response.usage, price)
        if cost is not None:
            return _called(cost, price)
    return UNKNOWN_COST


def _prices(model: ModelInfo) -> Iterator[Price]:
    price = model.price
    if price is not None:
        yield price
    listed = listed_price(model)  # only looked for where the first did not do: it may have to be loaded
    if listed is not None:
        yield listed


def _called(cost: Decimal, price: Price) -> CallCost:
    return CallCost(cost, CostSource(price.listed_in), price.as_of)
