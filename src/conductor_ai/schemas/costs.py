"""What model calls cost, and who says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from conductor_ai.schemas.events import Event, EventType
from conductor_ai.schemas.usage import money_text


class CostSource(StrEnum):
    """Where the figure of a call comes from; the first that is known counts."""

    PROVIDER = "provider"
    """The provider's own bill."""
    CATALOG = "catalog"
    """Token counts at the price of a file of models, ours or the user's."""
    GENAI_PRICES = "genai-prices"
    """Token counts at the price of the genai-prices package."""
    BOUND = "bound"
    """The most that the call can have cost: nobody says what it did, and money is limited."""
    UNKNOWN = "unknown"
    UNRECORDED = "unrecorded"
    """There is a figure, in a log that does not say whose."""


class CallCost(NamedTuple):
    """The cost of one call in US dollars, exact; None where it is unknown. `price_as_of`: the day of the price."""

    usd: Decimal | None
    source: CostSource
    price_as_of: date | None = None


UNKNOWN_COST = CallCost(None, CostSource.UNKNOWN)


@dataclass(slots=True)
class SourceCost:
    """What one source says: over how many calls, how much, and the days of the prices that it used."""

    calls: int = 0
    usd: Decimal = Decimal(0)
    price_dates: set[str] = field(default_factory=set)

    def to_dict(self) -> dict[str, Any]:
        return {"calls": self.calls, "usd": money_text(self.usd), "price_as_of": sorted(self.price_dates)}


_FIGURES = (CostSource.PROVIDER, CostSource.CATALOG, CostSource.GENAI_PRICES, CostSource.UNRECORDED)


@dataclass(slots=True)
class CostSummary:
    """A session's cost by source, sources in the order of `CostSource`.

    `unsettled_usd` is the most that calls may have cost which ended without an answer while money was limited.
    """

    by_source: dict[CostSource, SourceCost] = field(default_factory=dict)
    unsettled_usd: Decimal = Decimal(0)

    @classmethod
    def of(cls, events: Iterable[Event]) -> CostSummary:
        """The summary of a log."""
        found: dict[CostSource, SourceCost] = {}
        unsettled = Decimal(0)
        for event in events:
            payload = event.payload
            if event.type is EventType.MODEL_COMPLETED:
                cost = payload["cost_usd"]
                source = CostSource(payload.get("cost_source") or ("unknown" if cost is None else "unrecorded"))
                share = found.setdefault(source, SourceCost())
                share.calls += 1
                share.usd += Decimal(cost or 0)
                if payload.get("price_as_of") is not None:
                    share.price_dates.add(payload["price_as_of"])
            elif payload.get("unsettled_usd") is not None:
                unsettled += Decimal(payload["unsettled_usd"])
        return cls({source: found[source] for source in CostSource if source in found}, unsettled)

    @property
    def unknown_calls(self) -> int:
        return self.by_source.get(CostSource.UNKNOWN, SourceCost()).calls

    @property
    def at_least_usd(self) -> Decimal:
        """What is known to have been spent."""
        return sum((self.by_source[source].usd for source in _FIGURES if source in self.by_source), Decimal(0))

    @property
    def at_most_usd(self) -> Decimal | None:
        """That, and all that was set aside; None where the cost of a call is not known at all."""
        if self.unknown_calls:
            return None
        bound = self.by_source.get(CostSource.BOUND, SourceCost())
        return self.at_least_usd + bound.usd + self.unsettled_usd

    def to_dict(self) -> dict[str, Any]:
        """JSON data; money is text."""
        at_most = self.at_most_usd
        return {
            "at_least_usd": money_text(self.at_least_usd),
            "at_most_usd": None if at_most is None else money_text(at_most),
            "unsettled_usd": money_text(self.unsettled_usd),
            "by_source": {source.value: share.to_dict() for source, share in self.by_source.items()},
        }
