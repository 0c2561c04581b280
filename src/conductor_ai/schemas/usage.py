"""Token counts and money, as one vocabulary over all providers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

LEAST_USD = Decimal("0.000000001")
MOST_USD = 10**9
MOST_USD_DECIMALS = 12
"""What an amount is that somebody sets as a bound: beyond these it is a slip of the pen, or an attack."""

# Wide enough for every amount within the bounds, whatever the context of the caller is.
_EXACT = Context(prec=40)
_STEP = Decimal(1).scaleb(-MOST_USD_DECIMALS)


def money_text(cost_usd: Decimal) -> str:
    """Exact US dollars without an exponent or needless zeros: how money is stored and put into JSON."""
    return format(cost_usd.normalize(_EXACT), "f")


def bound_usd(value: Any) -> Decimal:
    """An amount of US dollars that somebody sets as a bound, from text or a number.

    Raises: ValueError for what is no amount, is below LEAST_USD or above MOST_USD, or has too many decimals; its text
        goes on after "must be".
    """
    try:
        amount = Decimal("NaN" if isinstance(value, bool) else str(value))
    except (ArithmeticError, ValueError):
        amount = Decimal("NaN")
    if not amount.is_finite() or amount <= 0:
        raise ValueError("an amount in US dollars above zero")
    if not LEAST_USD <= amount <= MOST_USD:  # before all else: 1e-999990 has a million digits when it is written out
        raise ValueError(f"from ${LEAST_USD:f} to ${MOST_USD:,}")
    if _EXACT.quantize(amount, _STEP) != amount:
        raise ValueError(f"an amount in US dollars with at most {MOST_USD_DECIMALS} decimals")
    return amount


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or many model calls.

    The four counts that are billed never overlap: `input_tokens` leaves out what was read from or written to a cache,
    `output_tokens` includes reasoning. `reasoning_tokens` says how much of the output was reasoning.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )

    def to_dict(self) -> dict[str, int]:
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cache_read_tokens": self.cache_read_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "reasoning_tokens": self.reasoning_tokens,
        }
