"""What a model's profile takes of what a session asks for. Nothing is sent in the hope that it will be taken."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from conductor_ai.errors import InvalidInput
from conductor_ai.model_catalog import ModelInfo, ModelProvider, ReasoningStyle, SchemaSupport
from conductor_ai.providers.answer_schema import for_gemini, for_strict, unsayable
from conductor_ai.providers.base import Reasoning
from conductor_ai.schemas.messages import Message
from conductor_ai.schemas.parameters import Parameters, ReasoningEffort

_FEWEST_BUDGET_TOKENS = 1024
"""Below this, Anthropic refuses a budget for thinking. Source: API reference, `thinking.budget_tokens`."""
_MOST_BUDGET_TOKENS = 24_576
"""Above this, Gemini 2.5 Flash refuses one; the larger models take more. Source: Gemini API, "Thinking"."""
_BUDGET_SHARE = {ReasoningEffort.LOW: 0.2, ReasoningEffort.MEDIUM: 0.4, ReasoningEffort.HIGH: 0.7}
"""Of the tokens that an answer may have, which thinking counts among."""
_MAX_TEMPERATURE = {ModelProvider.ANTHROPIC: 1.0}
_FORMS = {ModelProvider.ANTHROPIC: for_strict, ModelProvider.GEMINI: for_gemini}
"""Providers that refuse a schema which they do not understand. OpenRouter's hosts differ, and take what they can."""


class _Problem(NamedTuple):
    what: str
    hint: str


def check_parameters(model: ModelInfo, parameters: Parameters, output_tokens: int) -> None:
    """Raises: InvalidInput for a parameter that `model` does not take. Of a model that takes over it is left out."""
    problem = _temperature_problem(model, parameters) or _reasoning_problem(model, parameters, output_tokens)
    if problem is not None:
        raise InvalidInput(problem.what, hint=problem.hint)


def require_vision(model: ModelInfo, messages: Iterable[Message]) -> None:
    """Raises: InvalidInput where there is an image that `model` cannot see."""
    if not model.vision and any(message.images for message in messages):
        raise InvalidInput(
            f"{model.id} cannot read images",
            hint="name a model that can, see conductor models list; if this one can, say vision = true of it in "
            "$CONDUCTOR_HOME/models.toml",
        )


def temperature(model: ModelInfo, parameters: Parameters) -> float | None:
    """The temperature to send; None where none is asked for, or the model takes none."""
    return None if _temperature_problem(model, parameters) else parameters.temperature


def reasoning(model: ModelInfo, parameters: Parameters, output_tokens: int) -> Reasoning | None:
    """How much thinking to ask for; None where that is left to the model, or it has no such setting."""
    effort = parameters.reasoning_effort
    if effort is None or model.reasoning is ReasoningStyle.FIXED:
        return None
    if _reasoning_problem(model, parameters, output_tokens) is not None:
        return None
    return Reasoning(effort, model.reasoning, _budget_tokens(model, effort, output_tokens))


def reasons(model: ModelInfo, parameters: Parameters) -> bool:
    """Whether the model thinks because it always does, or is asked to."""
    return model.always_reasons or parameters.reasoning_effort not in (None, ReasoningEffort.NONE)


def holds_to_schema(model: ModelInfo, schema: dict[str, Any], *, with_tools: bool) -> bool:
    """Whether the model's provider holds its answer to `schema`, so that no tool is needed for that."""
    support = SchemaSupport.WITHOUT_TOOLS if with_tools else SchemaSupport.NEVER
    if model.answer_schema in (SchemaSupport.NEVER, support):
        return False
    form = _FORMS.get(model.provider)
    return form is None or unsayable(schema, form) is None


def must_call(model: ModelInfo, parameters: Parameters) -> bool:
    """Whether the model is made to call a tool where only a call counts as an answer.

    A model that is driven by text is told so. Anthropic refuses it of a model that thinks. Source: guide, "Extended
    thinking".
    """
    return not model.native_tools or (model.forced_tools and not reasons(model, parameters))


def _temperature_problem(model: ModelInfo, parameters: Parameters) -> _Problem | None:
    asked = parameters.temperature
    if asked is None:
        return None
    if not model.temperature:
        return _Problem(f"{model.id} takes no temperature", _otherwise(model, "temperature = true"))
    most = _MAX_TEMPERATURE.get(model.provider)
    if most is not None and asked > most:
        return _Problem(f"{model.id} takes a temperature of at most {most:g}, got {asked:g}", f"give at most {most:g}")
    if model.provider is ModelProvider.ANTHROPIC and reasons(model, parameters):
        return _Problem(f"{model.id} takes no temperature while it reasons", "leave one of the two out")
    return None


def _reasoning_problem(model: ModelInfo, parameters: Parameters, output_tokens: int) -> _Problem | None:
    effort = parameters.reasoning_effort
    if effort is None:
        return None
    if effort is ReasoningEffort.NONE:
        if not model.always_reasons:
            return None
        return _Problem(f"{model.id} always reasons: its reasoning_effort cannot be none", "the least is low")
    if model.reasoning is ReasoningStyle.FIXED:
        return _Problem(f"{model.id} has no setting for reasoning_effort", _otherwise(model, 'reasoning = "effort"'))
    if model.reasoning is ReasoningStyle.BUDGET and not _budget_tokens(model, effort, output_tokens):
        what = f"{model.id} needs more than {_FEWEST_BUDGET_TOKENS:,} max_output_tokens to reason in"
        return _Problem(what, "raise the limit max_output_tokens, or leave reasoning_effort out")
    return None


def _otherwise(model: ModelInfo, entry: str) -> str:
    return f'leave it out; if that is wrong, say {entry} under [models."{model.id}"] in $CONDUCTOR_HOME/models.toml'


def _budget_tokens(model: ModelInfo, effort: ReasoningEffort, output_tokens: int) -> int:
    """0 where none are asked for, or nothing would be left for the answer."""
    if effort is ReasoningEffort.NONE or model.reasoning is not ReasoningStyle.BUDGET:
        return 0
    budget = min(_MOST_BUDGET_TOKENS, max(_FEWEST_BUDGET_TOKENS, int(output_tokens * _BUDGET_SHARE[effort])))
    return budget if budget < output_tokens else 0
