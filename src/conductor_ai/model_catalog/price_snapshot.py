"""Models that our own file does not list: the price list that travels inside the genai-prices package. No network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conductor_ai.model_catalog.model import DEFAULT_CONTEXT_WINDOW, ModelInfo, ModelProvider, budget_of
from conductor_ai.model_catalog.pricing import FREE, LongPromptRates, Price, Rates

if TYPE_CHECKING:
    from genai_prices import types

# Our providers that the list covers, and their names there.
_PROVIDERS: dict[ModelProvider | None, str] = {
    ModelProvider.ANTHROPIC: "anthropic",
    ModelProvider.GEMINI: "google",
    ModelProvider.OPENROUTER: "openrouter",
}

# Families that do not call tools dependably, by a word in the name.
_TEXT_ONLY = ("deepseek-r1", "distill", "qwen-2.5-coder")


def find(provider: ModelProvider | None, model_id: str) -> ModelInfo | None:
    """The model of exactly this id; None where the list has none or does not cover the provider.

    The first call in a process imports the list: about 0.6 s of CPU.
    """
    if provider is None or provider not in _PROVIDERS:
        return None
    from genai_prices import Usage, __version__, calc_price

    try:
        found = calc_price(Usage(), model_id, provider_id=_PROVIDERS[provider])
    except LookupError:
        return None
    # Their matching is by prefix and pattern: it would price a model that does not exist as its nearest relative.
    if found.model.id != model_id:
        return None
    prices = _prices(found.model, f"genai-prices {__version__}")
    direct = provider is not ModelProvider.OPENROUTER
    return ModelInfo(
        id=model_id,
        provider=provider,
        wire_id=model_id,
        name=found.model.name or model_id,
        vendor="" if direct else model_id.partition("/")[0],
        context_window=found.model.context_window or DEFAULT_CONTEXT_WINDOW,
        vision=direct,
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


def _prices(model: types.ModelInfo, source: str) -> tuple[Price, ...]:
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
        prices.append(Price(rates=rates, source=source, starts_on=starts_on, long_prompts=long_prompts))
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
