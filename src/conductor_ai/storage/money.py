"""What orgs have spent and reserved: whole billionths of a dollar, by UTC day and month."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import NamedTuple

from conductor_ai.errors import InvalidInput
from conductor_ai.schemas.orgs import OrgLimits
from conductor_ai.storage.rows import moment

MOST_NANOUSD = 2**62  # two of them fit into the integers of both dialects
_NANO = Decimal("1E-9")
# Wide enough that no amount is rounded before it is meant to be.
_EXACT = Context(prec=60)


class Period(NamedTuple):
    """One row of `org_spending`: its name, and the times that it begins and ends before."""

    name: str
    begins: str
    ends: str


def nanousd(usd: Decimal) -> int:
    """What `usd` counts as: rounded up, so that many small amounts never pass a limit. Raises: InvalidInput."""
    if not usd.is_finite() or usd < 0:
        raise InvalidInput(f"an amount of money cannot be {usd!s:.40}")
    return _whole(usd, ROUND_CEILING)


def usd_of(nano: int) -> Decimal:
    return _EXACT.multiply(Decimal(nano), _NANO).normalize(_EXACT)


def day_and_month(at: str) -> tuple[Period, Period]:
    """Those that the time `at` lies in."""
    day = date.fromisoformat(moment(at)[:10])
    first = day.replace(day=1)
    next_month = (first + timedelta(days=31)).replace(day=1)
    return _period(day.isoformat(), day, day + timedelta(days=1)), _period(day.isoformat()[:7], first, next_month)


def most_nanousd(limits: OrgLimits) -> tuple[int, int]:
    """How much a day and a month may take. Limits are rounded down."""
    return _most(limits.max_usd_per_day), _most(limits.max_usd_per_month)


def _most(limit: Decimal | None) -> int:
    return MOST_NANOUSD if limit is None else _whole(limit, ROUND_FLOOR)


def _whole(usd: Decimal, rounding: str) -> int:
    return min(int(_EXACT.divide(usd, _NANO).to_integral_value(rounding)), MOST_NANOUSD)


def _period(name: str, first: date, after: date) -> Period:
    begins, ends = (f"{day.isoformat()}T00:00:00.000000+00:00" for day in (first, after))
    return Period(name, begins, ends)
