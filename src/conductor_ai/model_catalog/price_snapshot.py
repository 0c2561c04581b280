"""Models that our own file does not list: the price list that travels inside the genai-prices package. No network."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from conductor_ai.model_catalog.ids import model_from_id
from conductor_ai.model_catalog.model import DEFAULT_CONTEXT_WINDOW, ModelInfo, ModelProvider, budget_of
from conductor_ai.model_catalog.pricing import FREE, LongPromptRates, Price, PriceList, Rates

if TYPE_CHECKING:
    from genai_prices import types

# Our providers that the list covers, and their names there.
_PROVIDERS: dict[ModelProvider | None, str] = {
    ModelProvider.ANTHROPIC: "anthropic",
    ModelProvider.GEMINI: "google",
    ModelProvider.OPENROUTER: "openrouter",
}

# The package names no date of its own: the day on which we read the figures of a version.
_READ_ON = {"0.2.3": date(2026, 11, 22)}

# Families that do not call tools dependably, by a word in the name.
_TEXT_ONLY = ("deepseek-r1", "distill", "qwen-2.5-coder")

_KEPT_LOOKUPS = 1024


def load() -> None:
    """Read the list into this process. Costs 0.2 to 0.6 s of CPU the first time: best done in a thread."""
    from genai_prices.data_snapshot import get_snapshot

    get_snapshot()


def is_loaded() -> bool:
    return "genai_prices.data" in sys.modules


def covers(provider: ModelProvider) -> bool:
    """Whether the list has models of this provider: nothing is loaded for any other."""
    return provider in _PROVIDERS


def prices_of(provider: ModelProvider | None, model_id: str) -> tuple[Price, ...]:
    """The dated prices of exactly this id; empty where the list has none or does not cover the provider.

    Loads the list where that has not been done.
    """
    if provider is None or provider not in _PROVIDERS:
        return ()
    model = _listed(_PROVIDERS[provider], model_id)
    return () if model is None else model[1]


def find(provider: ModelProvider | None, model_id: str) -> ModelInfo | None:
    """The model of exactly this id; None where the list has none or does not cover the provider.

    Loads the list where that has not been done.
    """
    if provider is None or provider not in _PROVIDERS:
        return None
    found = _listed(_PROVIDERS[provider], model_id)
    if found is None:
        return None
    model, prices = found
    # The list says nothing of what a model can do: that is told by the id alone.
    return replace(
        model_from_id(model_id, provider),
        name=model.name or model_id,
        vendor=model_id.partition("/")[0] if provider is ModelProvider.OPENROUTER else "",
        context_window=model.context_window or DEFAULT_CONTEXT_WINDOW,
        native_tools=not any(word in model_id for word in _TEXT_ONLY),
        budget=budget_of(prices),
        prices=prices,
    )


def known_ids(provider: ModelProvider | None) -> list[str]:
    """Every id of the list for one provider, to suggest from."""
    if provider not in _PROVIDERS:
        return []
    from genai_prices.data_snapshot import get_snapshot

    return [model.id for one in get_snapshot().providers if one.id == _PROVIDERS[provider] for model in one.models]


@lru_cache(maxsize=_KEPT_LOOKUPS)
def _listed(their_provider: str, model_id: str) -> tuple[types.ModelInfo, tuple[Price, ...]] | None:
    from genai_prices import Usage, __version__, calc_price

    try:
        model = calc_price(Usage(), model_id, provider_id=their_provider).model
    except LookupError:
        return None
    # Their matching is by prefix and pattern: it would price a model that does not exist as its nearest relative.
    if model.id != model_id:
        return None
    return model, _prices(model, f"genai-prices {__version__}", _READ_ON.get(__version__))


def _prices(model: types.ModelInfo, source: str, as_of: date | None) -> tuple[Price, ...]:
    """Their dated prices as ours. Empty, so unknown, as soon as one of them cannot be said in our terms."""
    from genai_prices import types

    entries: list[tuple[object, types.ModelPrice]] = (
        [(None, model.prices)]
        if isinstance(model.prices, types.ModelPrice)
        else [(entry.constraint, entry.prices) for entry in model.prices]
    )
    prices = []
    for constraint, figures in entries:
        rates, long_prompts = _rates(figures, is_free=model.id.endswith(":free"))
        if rates is None or isinstance(constraint, types.TimeOfDateConstraint):
            return ()
        starts_on = constraint.start_date if isinstance(constraint, types.StartDateConstraint) else None
        prices.append(
            Price(
                rates=rates,
                source=source,
                as_of=as_of,
                starts_on=starts_on,
                long_prompts=long_prompts,
                listed_in=PriceList.GENAI_PRICES,
            )
        )
    return tuple(prices)


def _rates(figures: types.ModelPrice, *, is_free: bool) -> tuple[Rates | None, tuple[LongPromptRates, ...]]:
    # Their price object has only the attributes that a model is billed by.
    kinds = [getattr(figures, f"{kind}_mtok", None) for kind in ("input", "output", "cache_read", "cache_write")]
    if is_free and not any(kinds):
        return FREE, ()
    if kinds[0] is None or kinds[1] is None:
        return None, ()
    starts = sorted({tier.start for kind in kinds for tier in getattr(kind, "tiers", ())})
    long_prompts = (LongPromptRates(above_tokens=start, rates=_rates_at(kinds, start)) for start in starts)
    return _rates_at(kinds, -1), tuple(long_prompts)


def _rates_at(kinds: list[Any], start: int) -> Rates:
    """The tier that begins at `start` prompt tokens; -1 is the base."""
    per_input, per_output, per_read, per_written = (_at(kind, start) for kind in kinds)
    return Rates(input=per_input, output=per_output, cache_read=per_read, cache_write=per_written)


def _at(figure: Any, start: int) -> Any:
    if not hasattr(figure, "tiers"):
        return figure
    return next((tier.price for tier in reversed(figure.tiers) if tier.start <= start), figure.base)
