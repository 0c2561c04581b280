"""What Gemini is told before the conversation. Source: API reference, "GenerationConfig" and "ToolConfig"."""

from __future__ import annotations

from typing import Any

from conductor_ai.model_catalog import ReasoningStyle
from conductor_ai.providers.answer_schema import for_gemini
from conductor_ai.providers.base import HeadSpec, Reasoning
from conductor_ai.schemas.parameters import ReasoningEffort

_LEVELS = {
    # A model that is set by level cannot be kept from thinking altogether; this is the least it knows.
    ReasoningEffort.NONE: "MINIMAL",
    ReasoningEffort.LOW: "LOW",
    ReasoningEffort.MEDIUM: "MEDIUM",
    ReasoningEffort.HIGH: "HIGH",
}


def head(spec: HeadSpec) -> dict[str, Any]:
    """Raises: InvalidInput where the answer's schema has no form that this service takes."""
    head: dict[str, Any] = {"generationConfig": _generation_config(spec)}
    if spec.instructions:
        head["systemInstruction"] = {"parts": [{"text": spec.instructions}]}
    if spec.tools:
        declarations = [
            {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters}
            for tool in spec.tools
        ]
        head["tools"] = [{"functionDeclarations": declarations}]
        if spec.must_call:
            head["toolConfig"] = {"functionCallingConfig": {"mode": "ANY"}}
    return head


def _generation_config(spec: HeadSpec) -> dict[str, Any]:
    config: dict[str, Any] = {"maxOutputTokens": spec.max_output_tokens}
    if spec.temperature is not None:
        config["temperature"] = spec.temperature
    if spec.reasoning is not None:
        config["thinkingConfig"] = _thinking(spec.reasoning)
    if spec.answer_schema is not None:
        config["responseMimeType"] = "application/json"
        config["responseJsonSchema"] = for_gemini(spec.answer_schema)
    return config


def _thinking(reasoning: Reasoning) -> dict[str, Any]:
    """A level or a budget, never both: that is refused. Thoughts are asked for where there will be any."""
    if reasoning.style is ReasoningStyle.BUDGET:
        told: dict[str, Any] = {"thinkingBudget": reasoning.budget_tokens}
    else:
        told = {"thinkingLevel": _LEVELS[reasoning.effort]}
    return told if reasoning.effort is ReasoningEffort.NONE else {**told, "includeThoughts": True}
