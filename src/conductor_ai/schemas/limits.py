"""What a session may spend before it pauses."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Self

from conductor_ai.errors import InvalidInput
from conductor_ai.schemas.usage import bound_usd
from conductor_ai.sdk.base import MAX_TIMEOUT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on a session; None means no bound.

    `max_steps` counts since the last user message, `max_cost_usd` and `max_tokens` over the whole session, `deadline_s`
    from the start of each segment. `tool_timeout_s` holds for each tool that names no timeout of its own,
    `max_output_tokens` for each model call, `max_result_chars` for what the model is shown of one tool result (the log
    keeps the whole).

    Numbers may come as text or as another kind of number, as long as nothing is lost; they must be finite and above
    zero, `tool_timeout_s` at most 7 days, `deadline_s` at most 10 years, money as `bound_usd` has it. Raises:
    InvalidInput.
    """

    max_steps: int | None = 50
    max_cost_usd: Decimal | None = None
    max_tokens: int | None = None
    deadline_s: float | None = 1800.0
    tool_timeout_s: float = 60.0
    max_output_tokens: int = 8192
    max_result_chars: int = 50_000

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _checked(field.name, getattr(self, field.name)))

    @classmethod
    def of(cls, value: Limits | dict[str, Any] | None) -> Limits:
        """Limits from what a caller may pass: an instance, a dictionary, or nothing for the defaults.

        Raises: InvalidInput for an unknown name or a value of the wrong kind.
        """
        if isinstance(value, Limits):
            return value
        if not isinstance(value, dict | None):
            raise InvalidInput(f"limits must be an object, got {value!r}")
        return cls().with_changes(value or {})

    def with_changes(self, changes: dict[str, Any]) -> Self:
        """A copy with some limits replaced. Raises: InvalidInput as `of` does."""
        merged = self.to_dict()
        for name, value in changes.items():
            if name not in merged:
                raise InvalidInput(f"unknown limit {name!r}", hint=f"limits are: {', '.join(merged)}")
            merged[name] = value
        return type(self)(**merged)

    def to_dict(self) -> dict[str, Any]:
        """JSON data; money is a string."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.max_cost_usd is not None:
            data["max_cost_usd"] = format(self.max_cost_usd, "f")
        return data


_OPTIONAL = ("max_steps", "max_cost_usd", "max_tokens", "deadline_s")
_KINDS = {"deadline_s": float, "tool_timeout_s": float}
# Beyond these, a bound is a slip of the pen, and a date computed from it may overflow.
_MOST = {"tool_timeout_s": MAX_TIMEOUT_S, "deadline_s": 3650 * 86_400.0}
_MOST_OF_OTHERS = 10**15


def _checked(name: str, value: Any) -> Any:
    """The value in the kind that its limit has. Raises: InvalidInput."""
    if value is None and name in _OPTIONAL:
        return None
    if name == "max_cost_usd":
        try:
            return bound_usd(value)
        except ValueError as exc:
            raise InvalidInput(f"limit {name} must be {exc}, got {value!r:.40}") from None
    kind = _KINDS.get(name, int)
    try:
        if isinstance(value, bool):
            raise ValueError
        number = Decimal(str(value))
        if not number.is_finite():
            raise ValueError
        most = _MOST.get(name, _MOST_OF_OTHERS)
        if number > most:  # before `int`, which would write out every digit of 1e999999
            raise InvalidInput(f"limit {name} must be at most {most:,.0f}, got {value}")
        if kind is int and number != int(number):
            raise ValueError
    except (ArithmeticError, TypeError, ValueError):
        raise InvalidInput(f"limit {name} must be a number ({kind.__name__}), got {value!r}") from None
    if not kind(number) > 0:
        raise InvalidInput(f"limit {name} must be above zero, got {value}")
    return kind(number)
