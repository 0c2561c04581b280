"""A session's cost, summed up by who says so."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from conductor_ai.schemas.costs import CostSource, CostSummary
from conductor_ai.schemas.events import Event, EventType


def called(usd: str | None, source: str | None = None, price_as_of: str | None = None) -> tuple[EventType, Any]:
    payload = {"cost_usd": usd, "cost_source": source, "price_as_of": price_as_of}
    return EventType.MODEL_COMPLETED, payload


def summed(*facts: tuple[EventType, Any]) -> CostSummary:
    events = [Event("s", seq, kind, payload, "2026-11-22T00:00:00Z") for seq, (kind, payload) in enumerate(facts, 1)]
    return CostSummary.of(events)


PAUSED = (EventType.SESSION_PAUSED, {"reason": "interrupted", "detail": "interrupted", "unsettled_usd": "0.25"})


def test_what_was_set_aside_widens_the_sum_but_is_not_known_to_be_spent() -> None:
    cost = summed(called("0.5", "provider"), called("0.125", "bound"), PAUSED, (EventType.SESSION_RESUMED, {}))
    assert (cost.at_least_usd, cost.at_most_usd, cost.unsettled_usd) == (
        Decimal("0.5"),
        Decimal("0.875"),
        Decimal("0.25"),
    )


def test_a_log_that_names_no_sources_is_summed_up_all_the_same() -> None:
    old = [(kind, {"cost_usd": payload["cost_usd"]}) for kind, payload in (called("1"), called(None))]
    cost = summed(*old)
    assert list(cost.by_source) == [CostSource.UNKNOWN, CostSource.UNRECORDED]
    assert (cost.at_least_usd, cost.at_most_usd) == (Decimal(1), None)
