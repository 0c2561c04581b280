"""Token counts and money, as one vocabulary over all providers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


def money_text(cost_usd: Decimal) -> str:
    """Exact US dollars without an exponent or needless zeros: how money is stored and put into JSON."""
    return format(cost_usd.normalize(), "f")


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
