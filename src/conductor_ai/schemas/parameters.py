"""How a model is asked to answer: what a caller may set for a session, in words that hold for every provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from conductor_ai.errors import InvalidInput

MAX_TEMPERATURE = 2.0


class ReasoningEffort(StrEnum):
    """How much a model shall think before it answers. `none`: not at all."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What is asked of every model call of a session; None leaves it to the model.

    `temperature` goes from 0 to 2. Values may come as text or as another kind of number. Raises: InvalidInput.
    """

    temperature: float | None = None
    reasoning_effort: ReasoningEffort | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", _temperature(self.temperature))
        object.__setattr__(self, "reasoning_effort", _effort(self.reasoning_effort))

    @classmethod
    def of(cls, value: Parameters | Mapping[str, Any] | None) -> Parameters:
        """Raises: InvalidInput for an unknown name or a value that cannot be."""
        if isinstance(value, Parameters):
            return value
        if not isinstance(value, Mapping | None):
            raise InvalidInput(f"parameters must be an object, got {value!r}")
        names = [field.name for field in fields(cls)]
        unknown = [name for name in value or {} if name not in names]
        if unknown:
            raise InvalidInput(f"unknown parameter {unknown[0]!r}", hint=f"parameters are: {', '.join(names)}")
        return cls(**(value or {}))

    def over(self, other: Parameters) -> Parameters:
        """These parameters, and `other`'s where these leave one open."""
        mine = {name: value for name, value in self.to_dict().items() if value is not None}
        return replace(other, **mine)

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        effort = self.reasoning_effort
        return {"temperature": self.temperature, "reasoning_effort": None if effort is None else effort.value}


def _temperature(value: Any) -> float | None:
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise ValueError
        number = Decimal(str(value))
        if not 0 <= number <= Decimal(MAX_TEMPERATURE):  # NaN raises here
            raise ValueError
    except (ArithmeticError, ValueError):
        raise InvalidInput(f"temperature must be a number from 0 to {MAX_TEMPERATURE:g}, got {value!r}") from None
    return float(number)


def _effort(value: Any) -> ReasoningEffort | None:
    if value is None:
        return None
    if value not in list(ReasoningEffort):
        raise InvalidInput(f"reasoning_effort must be one of {', '.join(ReasoningEffort)}, got {value!r}")
    return ReasoningEffort(value)
