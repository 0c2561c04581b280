"""Models and prices: what can be named, what it costs, and which one to take."""

from conductor_ai.model_catalog.bounds import listed_price, most_usd
from conductor_ai.model_catalog.catalog import Catalog, default_catalog, get_model, list_models, select_model
from conductor_ai.model_catalog.model import (
    Budget,
    ModelInfo,
    ModelProvider,
    ReasoningStyle,
    SchemaSupport,
    Task,
    retirement_warning,
)
from conductor_ai.model_catalog.policy import refuse_forbidden
from conductor_ai.model_catalog.pricing import LongPromptRates, Price, PriceList, Rates, cost_usd, reserve_usd

__all__ = [
    "Budget",
    "Catalog",
    "LongPromptRates",
    "ModelInfo",
    "ModelProvider",
    "Price",
    "PriceList",
    "Rates",
    "ReasoningStyle",
    "SchemaSupport",
    "Task",
    "cost_usd",
    "default_catalog",
    "get_model",
    "list_models",
    "listed_price",
    "most_usd",
    "refuse_forbidden",
    "reserve_usd",
    "retirement_warning",
    "select_model",
]
