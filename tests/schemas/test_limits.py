"""Limits: the same rules whether they are built directly or read from what a caller passed or a log holds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_ai.errors import InvalidInput
from conductor_ai.schemas import json_text
from conductor_ai.schemas.limits import Limits

MADE: list[Callable[[dict[str, Any]], Limits]] = [lambda given: Limits(**given), Limits.of]
NAMES = list(Limits().to_dict())
OPTIONAL = ["max_steps", "max_cost_usd", "max_tokens", "deadline_s"]
ANY_NUMBER = st.integers() | st.floats() | st.decimals() | st.none() | st.booleans() | st.text(max_size=5)


@pytest.mark.parametrize("made", MADE, ids=["direct", "of"])
@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("max_steps", Decimal(7), 7),
        ("max_steps", 7.0, 7),
        ("max_steps", "7", 7),
        ("max_cost_usd", 0.1, Decimal("0.1")),
        ("max_cost_usd", "0.25", Decimal("0.25")),
        ("deadline_s", 5, 5.0),
        ("deadline_s", 315_360_000, 315_360_000.0),
        ("tool_timeout_s", Decimal("604800"), 604_800.0),
    ],
)
def test_a_number_of_another_kind_becomes_the_limits_own(
    made: Callable[[dict[str, Any]], Limits], name: str, value: Any, kept: Any
) -> None:
    limit = getattr(made({name: value}), name)
    assert (limit, type(limit)) == (kept, type(kept))


NO_LIMITS: tuple[Any, ...] = (0, -1, float("inf"), float("nan"), "inf", "many", True, [], 1e16)


@pytest.mark.parametrize("made", MADE, ids=["direct", "of"])
@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in NAMES for value in NO_LIMITS]
    + [("max_steps", 1.5), ("max_tokens", "1e999999999"), ("deadline_s", 315_360_001), ("tool_timeout_s", 604_801)]
    + [("max_result_chars", None), ("tool_timeout_s", None), ("tool_timeout_s", "1e-400")],
)
def test_a_limit_that_cannot_be_is_refused_by_its_name(
    made: Callable[[dict[str, Any]], Limits], name: str, value: Any
) -> None:
    with pytest.raises(InvalidInput, match=f"limit {name} must be"):
        made({name: value})


@pytest.mark.parametrize("name", OPTIONAL)
def test_none_is_no_bound(name: str) -> None:
    assert getattr(Limits.of({name: None}), name) is None


@pytest.mark.parametrize("given", [5, "max_steps", ["max_steps"]])
def test_what_is_no_object_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInput, match="limits must be an object"):
        Limits.of(given)


def test_an_unknown_limit_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput) as caught:
        Limits.of({"max_step": 1})
    assert "max_steps" in (caught.value.hint or "")


@given(st.dictionaries(st.sampled_from(NAMES), ANY_NUMBER))
def test_limits_that_are_taken_come_back_from_a_log_as_they_were(given: dict[str, Any]) -> None:
    try:
        limits = Limits(**given)
    except InvalidInput:
        with pytest.raises(InvalidInput):
            Limits.of(given)
        return
    assert limits == Limits.of(given) == Limits.of(json_text.loads(json_text.dumps(limits.to_dict())))
    longest = timedelta(seconds=limits.tool_timeout_s + (limits.deadline_s or 0))
    assert datetime(2026, 1, 1, tzinfo=UTC) + longest < datetime(2037, 1, 1, tzinfo=UTC)
