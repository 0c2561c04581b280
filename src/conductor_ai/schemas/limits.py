"""What a session may spend before it pauses."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Self

from conductor_ai.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on a session; None means no bound.

    `max_steps` counts since the last user message, `max_cost_usd` and `max_tokens` over the whole session, `deadline_s`
    from the start of each segment. `tool_timeout_s` holds for each tool that names no timeout of its own,
    `max_output_tokens` for each model call, `max_result_chars` for what the model is shown of one tool result (the log
    keeps the whole).
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
            value = getattr(self, field.name)
            if value is not None and not value > 0:
                raise InvalidInput(f"limit {field.name} must be above zero, got {value}")

    @classmethod
    def of(cls, value: Limits | dict[str, Any] | None) -> Limits:
        """Limits from what a caller may pass: an instance, a dictionary, or nothing for the defaults.

        Raises: InvalidInput for an unknown name or a value of the wrong kind.
        """
        if isinstance(value, Limits):
            return value
        return cls().with_changes(value or {})

    def with_changes(self, changes: dict[str, Any]) -> Self:
        """A copy with some limits replaced. Raises: InvalidInput as `of` does."""
        merged = self.to_dict()
        for name, value in changes.items():
            if name not in merged:
                raise InvalidInput(f"unknown limit {name!r}", hint=f"limits are: {', '.join(merged)}")
            merged[name] = value
        return type(self)(**{name: _typed(name, value) for name, value in merged.items()})

    def to_dict(self) -> dict[str, Any]:
        """JSON data; money is a string."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.max_cost_usd is not None:
            data["max_cost_usd"] = str(self.max_cost_usd)
        return data


_OPTIONAL = ("max_steps", "max_cost_usd", "max_tokens", "deadline_s")
_KINDS = {"max_cost_usd": Decimal, "deadline_s": float, "tool_timeout_s": float}


def _typed(name: str, value: Any) -> Any:
    if value is None and name in _OPTIONAL:
        return None
    kind = _KINDS.get(name, int)
    try:
        if isinstance(value, bool):
            raise ValueError
        number = Decimal(str(value))
        if not number.is_finite() or (kind is int and number != int(number)):
            raise ValueError
        return kind(number)
    except (ArithmeticError, TypeError, ValueError):
        raise InvalidInput(f"limit {name} must be a number ({kind.__name__}), got {value!r}") from None
