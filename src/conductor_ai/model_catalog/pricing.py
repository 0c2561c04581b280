"""What a model call costs: exact US dollars from token counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Context, Decimal
from enum import StrEnum
from typing import Protocol

from conductor_ai.errors import InvalidInput

MAX_DECIMALS = 24
MAX_USD_PER_MILLION = Decimal(1_000_000)

# Wide enough that no product of a token count and a figure within the two bounds above is ever rounded.
_EXACT = Context(prec=60)

# Figures as whole numbers of 10**exponent dollars per token: input, output, cache read, cache write.
_Units = tuple[int, int, int | None, int | None]


class TokenCounts(Protocol):
    """The four billed counts of `schemas.usage.Usage`, which never overlap. A protocol, because the catalog stands
    beside `schemas` and imports nothing from it."""

    @property
    def input_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def cache_read_tokens(self) -> int: ...
    @property
    def cache_write_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """US dollars per million tokens, one figure per kind of token; None where the price list has none."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None

    def __post_init__(self) -> None:
        for name, figure in zip(("input", "output", "cache_read", "cache_write"), self.figures(), strict=True):
            if figure is None:
                continue
            if not (figure.is_finite() and 0 <= figure <= MAX_USD_PER_MILLION):
                raise InvalidInput(f"{name} must be US dollars per million tokens, 0 or more, got {figure}")
            if _decimals(figure) > MAX_DECIMALS:
                raise InvalidInput(f"{name} must have at most {MAX_DECIMALS} decimals, got {figure}")

    def figures(self) -> tuple[Decimal, Decimal, Decimal | None, Decimal | None]:
        return self.input, self.output, self.cache_read, self.cache_write


@dataclass(frozen=True, slots=True, kw_only=True)
class LongPromptRates:
    """The rates of a whole call whose prompt, cached part included, has more than `above_tokens` tokens."""

    above_tokens: int
    rates: Rates

    def __post_init__(self) -> None:
        if self.above_tokens < 1:
            raise InvalidInput(f"above_tokens must be 1 or more, got {self.above_tokens}")


class PriceList(StrEnum):
    """Where a price stands."""

    CATALOG = "catalog"
    """In a file of models, ours or the user's."""
    GENAI_PRICES = "genai-prices"
    """In the package of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One entry of a price list.

    `as_of` is the day the figures were read from `source`, None where only the source's version is known. `starts_on`
    is the first day they hold, None for always. `long_prompts` is empty for a flat price.
    """

    rates: Rates
    source: str
    as_of: date | None = None
    starts_on: date | None = None
    long_prompts: tuple[LongPromptRates, ...] = ()
    listed_in: PriceList = PriceList.CATALOG
    _exponent: int = field(init=False, repr=False, compare=False)
    _tiers: tuple[tuple[int, _Units], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tiers = [(-1, self.rates)] + [(tier.above_tokens, tier.rates) for tier in self.long_prompts]
        if [above for above, _ in tiers] != sorted({above for above, _ in tiers}):
            raise InvalidInput("long_prompts must go from short to long")
        decimals = max(_decimals(figure) for _, rates in tiers for figure in rates.figures() if figure is not None)
        # Computed once, so that pricing a call is integer arithmetic. The class is frozen, hence object.__setattr__.
        object.__setattr__(self, "_exponent", -decimals - 6)
        object.__setattr__(self, "_tiers", tuple((above, _units(rates, decimals)) for above, rates in tiers))

    def to_dict(self) -> dict[str, str | None]:
        """JSON data: the rates of short prompts as exact text."""
        names = ("input", "output", "cache_read", "cache_write")
        figures = {name: _figure(rate) for name, rate in zip(names, self.rates.figures(), strict=True)}
        return {**figures, "source": self.source, "as_of": None if self.as_of is None else self.as_of.isoformat()}

    @property
    def is_free(self) -> bool:
        """Whether no call can cost anything."""
        return not any(rate for _, rates in self._tiers for rate in rates)

    @property
    def input(self) -> Decimal:
        return self.rates.input

    @property
    def output(self) -> Decimal:
        return self.rates.output

    @property
    def cache_read(self) -> Decimal | None:
        return self.rates.cache_read

    @property
    def cache_write(self) -> Decimal | None:
        return self.rates.cache_write


def cost_usd(usage: TokenCounts, price: Price) -> Decimal | None:
    """Price one model call.

    Args:
        usage: Token counts of one call, as billed. A sum over calls is priced wrongly where long prompts cost more.
    Returns: US dollars, exact: round once, where the figure is shown. None where the call read from or wrote to a
        cache and `price` has no figure for that: an unknown cost is never guessed. Who enforces a limit then keeps
        what `reserve_usd` set aside, or takes the provider's own figure.
    """
    read, written = usage.cache_read_tokens, usage.cache_write_tokens
    prompt = usage.input_tokens + read + written
    per_input, per_output, per_read, per_written = price._tiers[0][1]
    for above, units in price._tiers[1:]:
        if prompt > above:
            per_input, per_output, per_read, per_written = units
    total = usage.input_tokens * per_input + usage.output_tokens * per_output
    if read:
        if per_read is None:
            return None
        total += read * per_read
    if written:
        if per_written is None:
            return None
        total += written * per_written
    return Decimal(total).scaleb(price._exponent, _EXACT)


def reserve_usd(price: Price, input_tokens_bound: int, max_output_tokens: int) -> Decimal:
    """The most one call can cost by this price list: every prompt token at the dearest known kind, the whole output.

    Args:
        input_tokens_bound: At least the prompt's tokens, cached or not.
        max_output_tokens: What the request allows, reasoning included.
    Returns: US dollars. At least `cost_usd` of any call within the two bounds, where that is known.
    """
    totals = [
        input_tokens_bound * max(per_input, per_read or 0, per_written or 0) + max_output_tokens * per_output
        for above, (per_input, per_output, per_read, per_written) in price._tiers
        if input_tokens_bound > above
    ]
    return Decimal(max(totals)).scaleb(price._exponent, _EXACT)


def in_force(prices: Sequence[Price], day: date) -> Price | None:
    """The price that holds on `day`, of dated ones, oldest first; None where none does."""
    for price in reversed(prices):
        if price.starts_on is None or price.starts_on <= day:
            return price
    return None


def _figure(rate: Decimal | None) -> str | None:
    return None if rate is None else format(rate.normalize(_EXACT), "f")


def _decimals(figure: Decimal) -> int:
    exponent = figure.normalize(_EXACT).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _units(rates: Rates, decimals: int) -> _Units:
    def scaled(figure: Decimal) -> int:
        return int(figure.scaleb(decimals, _EXACT))

    return (
        scaled(rates.input),
        scaled(rates.output),
        None if rates.cache_read is None else scaled(rates.cache_read),
        None if rates.cache_write is None else scaled(rates.cache_write),
    )


FREE = Rates(input=Decimal(0), output=Decimal(0), cache_read=Decimal(0), cache_write=Decimal(0))
