"""One model as the catalog knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from conductor_ai.model_catalog.pricing import Price, in_force

# Where nobody says how large a model's window is. Small on purpose: a prompt cut too early costs an answer some
# context, one sent too large costs the whole call. Local servers often start with less than the model could take.
DEFAULT_CONTEXT_WINDOW = 32_768
DEFAULT_MAX_OUTPUT_TOKENS = 4_096
LOCAL_CONTEXT_WINDOW = 8_192
LOCAL_MAX_OUTPUT_TOKENS = 2_048

# The dearest output figure, in US dollars per million tokens, that still counts as this budget.
_BUDGET_CEILINGS = ((Decimal("0.60"), "budget"), (Decimal(10), "standard"))

WARN_DAYS_BEFORE_RETIREMENT = 60


class ModelProvider(StrEnum):
    """Who answers calls to the model: the names of our adapters."""

    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    OPENROUTER = "openrouter"
    LOCAL = "local"
    DEMO = "demo"


class Task(StrEnum):
    GENERAL = "general"
    AGENTS = "agents"
    CODING = "coding"
    REASONING = "reasoning"
    MATH = "math"
    MULTILINGUAL = "multilingual"
    ANALYSIS = "analysis"
    VISION = "vision"


class Budget(StrEnum):
    """How much a model may cost: a ceiling, cheapest first."""

    BUDGET = "budget"
    STANDARD = "standard"
    PREMIUM = "premium"


class ReasoningStyle(StrEnum):
    """How a model is told how much to think: not at all, by a word, or by a number of tokens."""

    FIXED = "fixed"
    EFFORT = "effort"
    BUDGET = "budget"


class SchemaSupport(StrEnum):
    """When a model's provider holds an answer to a JSON schema: also beside tools, only without any, or never."""

    WITH_TOOLS = "with_tools"
    WITHOUT_TOOLS = "without_tools"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What we know of one model.

    `id` is the public name; `wire_id` is what its provider is sent. `vendor` made the model, `origin` is the vendor's
    country (ISO 3166, empty where unknown). `context_window` bounds prompt and answer together, in tokens.
    `native_tools` is False where the model's own tool calls cannot be depended on: it is then driven by text.
    `forced_tools`: it can be made to call a tool. `answer_schema` says when its provider holds it to a schema.
    `temperature`: it takes one. `reasoning` is how its thinking is set, `always_reasons` that it cannot be turned off.
    `hosts` are those that shall run it, in order, where its provider is asked to choose among them.
    `tasks` is an order of preference per task, no measurement: ours go to 100, a user's own may go to 1000. `prices`
    holds dated entries, oldest first; empty where no price is known. `successor` is tried where `wire_id` is gone.
    """

    id: str
    provider: ModelProvider
    wire_id: str
    name: str
    vendor: str = ""
    origin: str = ""
    context_window: int = DEFAULT_CONTEXT_WINDOW
    max_output_tokens: int = DEFAULT_MAX_OUTPUT_TOKENS
    vision: bool = False
    native_tools: bool = True
    forced_tools: bool = False
    answer_schema: SchemaSupport = SchemaSupport.NEVER
    temperature: bool = True
    reasoning: ReasoningStyle = ReasoningStyle.FIXED
    always_reasons: bool = False
    hosts: tuple[str, ...] = ()
    tasks: Mapping[Task, int] = field(default_factory=dict)
    budget: Budget = Budget.PREMIUM
    prices: tuple[Price, ...] = ()
    retires_on: date | None = None
    successor: str | None = None

    @property
    def price(self) -> Price | None:
        """The price of today (UTC); None where it is not known."""
        return self.price_on(datetime.now(UTC).date())

    def price_on(self, day: date) -> Price | None:
        """The price in force on `day`; None where it is not known."""
        return in_force(self.prices, day)

    def to_dict(self) -> dict[str, Any]:
        """JSON data, with the price of today; money is a string."""
        price = self.price
        return {
            "id": self.id,
            "name": self.name,
            "provider": self.provider.value,
            "wire_id": self.wire_id,
            "vendor": self.vendor,
            "origin": self.origin,
            "context_window": self.context_window,
            "max_output_tokens": self.max_output_tokens,
            "vision": self.vision,
            "native_tools": self.native_tools,
            "forced_tools": self.forced_tools,
            "answer_schema": self.answer_schema.value,
            "temperature": self.temperature,
            "reasoning": self.reasoning.value,
            "always_reasons": self.always_reasons,
            "hosts": list(self.hosts),
            "budget": self.budget.value,
            "price": None if price is None else price.to_dict(),
            "retires_on": self.retires_on and self.retires_on.isoformat(),
            "successor": self.successor,
        }


def budget_of(prices: tuple[Price, ...]) -> Budget:
    """The budget of a model that names none: by the dearest output in its price list. No price counts as premium."""
    outputs = [
        rates.output for price in prices for rates in (price.rates, *(tier.rates for tier in price.long_prompts))
    ]
    return next(
        (Budget(name) for ceiling, name in _BUDGET_CEILINGS if outputs and max(outputs) <= ceiling), Budget.PREMIUM
    )


def retirement_warning(model: ModelInfo, today: date) -> str | None:
    """One line for a person from WARN_DAYS_BEFORE_RETIREMENT days before the model goes; None before that."""
    if model.retires_on is None or (model.retires_on - today).days > WARN_DAYS_BEFORE_RETIREMENT:
        return None
    advice = f"; use {model.successor}" if model.successor else ""
    days = (model.retires_on - today).days
    if days <= 0:
        return f"{model.id} was retired by its provider on {model.retires_on}{advice}"
    return f"{model.id} retires on {model.retires_on}, in {days} day{'s' if days > 1 else ''}{advice}"
