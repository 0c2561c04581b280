"""`conductor models`: what can be asked, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from conductor_ai.cli.options import AsJSON

if TYPE_CHECKING:
    from conductor_ai.model_catalog import ModelInfo


def list_models(as_json: AsJSON = False) -> int:
    """List models with their prices in US dollars per million tokens. Others of a known provider work, too."""
    from conductor_ai.cli.output import say_json, say_table
    from conductor_ai.cli.text import money
    from conductor_ai.model_catalog import Catalog
    from conductor_ai.settings import Settings

    models = Catalog.load(Settings.load().models_file).list_models()
    if as_json:
        say_json([_as_dict(model) for model in models])
        return 0
    rows = []
    for model in models:
        price = model.price
        cost = "unknown" if price is None else f"{money(price.input)} / {money(price.output)}"
        retires = str(model.retires_on or "")
        rows.append((model.id, model.name, model.provider.value, f"{model.context_window:,}", cost, retires))
    say_table(("model", "name", "provider", "window", "price in / out", "retires"), rows, shorten=("name",))
    return 0


def _as_dict(model: ModelInfo) -> dict[str, Any]:
    price = model.price
    return {
        "id": model.id,
        "name": model.name,
        "provider": model.provider.value,
        "wire_id": model.wire_id,
        "vendor": model.vendor,
        "origin": model.origin,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "vision": model.vision,
        "native_tools": model.native_tools,
        "budget": model.budget.value,
        "price": price
        and {
            "input": _figure(price.input),
            "output": _figure(price.output),
            "cache_read": _figure(price.cache_read),
            "cache_write": _figure(price.cache_write),
            "source": price.source,
            "as_of": price.as_of and price.as_of.isoformat(),
        },
        "retires_on": model.retires_on and model.retires_on.isoformat(),
        "successor": model.successor,
    }


def _figure(dollars: Decimal | None) -> str | None:
    return None if dollars is None else format(dollars, "f")


COMMANDS: dict[str, Callable[..., Any]] = {"list": list_models}
