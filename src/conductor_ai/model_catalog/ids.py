"""What a model's id alone tells: its provider, its wire id, and what may be assumed of it."""

from __future__ import annotations

import re
from dataclasses import replace

from conductor_ai.errors import InvalidInput
from conductor_ai.model_catalog.model import (
    LOCAL_CONTEXT_WINDOW,
    LOCAL_MAX_OUTPUT_TOKENS,
    Budget,
    ModelInfo,
    ModelProvider,
    ReasoningStyle,
    SchemaSupport,
)
from conductor_ai.model_catalog.pricing import FREE, Price

DEMO_ID = "demo/scripted"
LOCAL_PREFIX = "local/"

# Ids travel in URLs, headers, logs and file names: visible ASCII, nothing that looks like something else.
_FORM = re.compile(r"[!-~]{1,200}")

# Only the names of models that chat: in the same families are some that draw, speak or only embed.
_CLAUDE = re.compile(r"claude-(opus|sonnet|haiku|fable|mythos)-(\d{1,2})(?:-(\d{1,2}))?(?:-20\d{6}|-latest)?")
_CLAUDE_3 = re.compile(r"claude-3(?:-\d)?-(?:opus|sonnet|haiku)(?:-20\d{6}|-latest)?")
_GEMINI = re.compile(
    r"gemini-(\d+)(?:\.(\d+))?-(pro|flash|flash-lite|argon)(?:-preview(?:-\d\d-\d{4})?|-\d{3}|-latest)?"
)

# Part of a name on OpenRouter whose bearer thinks whatever it is told.
_ALWAYS_REASONS = ("deepseek-r1", "-thinking")

_OWN_HARDWARE = Price(rates=FREE, source="own hardware")


def check_form(model_id: str) -> None:
    """Raises: InvalidInput where the text cannot be an id."""
    if not _FORM.fullmatch(model_id):
        raise InvalidInput(f"not a model id: {model_id!r}; ids are 1 to 200 visible ASCII characters without spaces")


def provider_of(model_id: str) -> ModelProvider | None:
    """Who answers to an id of this form; None where the form says nothing."""
    if model_id.startswith(LOCAL_PREFIX):
        return ModelProvider.LOCAL if len(model_id) > len(LOCAL_PREFIX) else None
    if model_id == DEMO_ID:
        return ModelProvider.DEMO
    if model_id.startswith("claude-"):
        return ModelProvider.ANTHROPIC
    if model_id.startswith("gemini-"):
        return ModelProvider.GEMINI
    vendor, _, name = model_id.partition("/")
    return ModelProvider.OPENROUTER if vendor and name and vendor != "demo" else None


def model_from_id(model_id: str, provider: ModelProvider, wire_id: str | None = None) -> ModelInfo:
    """A model of which nothing but its ids is known: small windows, no price, except that nobody bills a local one.

    Its capabilities are those documented for the family that `wire_id` belongs to, by default the id itself, or for
    the family's newest documented relative; of what belongs to none, only what holds nearly everywhere is assumed.
    """
    wire_id = wire_id or model_id.removeprefix(LOCAL_PREFIX if provider is ModelProvider.LOCAL else "")
    model = ModelInfo(id=model_id, provider=provider, wire_id=wire_id, name=model_id)
    match provider:
        case ModelProvider.ANTHROPIC:
            return _as_claude(model)
        case ModelProvider.GEMINI:
            return _as_gemini(model)
        case ModelProvider.LOCAL:
            return _as_local(model)
        case ModelProvider.OPENROUTER:
            return replace(model, always_reasons=any(part in wire_id for part in _ALWAYS_REASONS))
        case ModelProvider.DEMO:
            return model


def _as_claude(model: ModelInfo) -> ModelInfo:
    """Source: Anthropic's guide "Structured outputs", "What's new" and migration guides of Sonnet 5 to Fable 5.2, and
    OpenRouter's migration guide to 4.7, as of November 2026."""
    if _CLAUDE_3.fullmatch(model.wire_id):
        return replace(model, vision=True)
    found = _CLAUDE.fullmatch(model.wire_id)
    if found is None:
        return model
    line, version = found[1], (int(found[2]), int(found[3] or 0))
    model = replace(model, vision=True)
    if version < (4, 5):
        return model
    # These refuse to be kept from thinking by `disabled`, and to be made to call a tool.
    always = version >= (5, 5) or line in ("fable", "mythos")
    return replace(
        model,
        forced_tools=not always,
        answer_schema=SchemaSupport.WITH_TOOLS,
        temperature=version < (4, 7),
        reasoning=ReasoningStyle.EFFORT if version >= (4, 6) else ReasoningStyle.BUDGET,
        always_reasons=always,
    )


def _as_gemini(model: ModelInfo) -> ModelInfo:
    """Source: Google's guides "Thinking" and "Function calling", its guides to 3.5 Flash-Lite, 3.8 Flash and 4 Argon,
    and `google-genai` 3.4, as of November 2026."""
    found = _GEMINI.fullmatch(model.wire_id)
    if found is None:
        return model
    version = (int(found[1]), int(found[2] or 0))
    model = replace(model, vision=version >= (1, 5))
    if version < (2, 5):
        return model
    by_level = version >= (3, 0)
    return replace(
        model,
        forced_tools=True,
        answer_schema=SchemaSupport.WITH_TOOLS if by_level else SchemaSupport.WITHOUT_TOOLS,
        # Later ones take the field and ignore it.
        temperature=version < (3, 5),
        reasoning=ReasoningStyle.EFFORT if by_level else ReasoningStyle.BUDGET,
        always_reasons=by_level or found[3] == "pro",
    )


def _as_local(model: ModelInfo) -> ModelInfo:
    """Ollama, llama.cpp and vLLM hold an answer to a schema by constraining what can be written, so not beside tools.
    Not all of them can be told that a tool must be called."""
    return replace(
        model,
        context_window=LOCAL_CONTEXT_WINDOW,
        max_output_tokens=LOCAL_MAX_OUTPUT_TOKENS,
        answer_schema=SchemaSupport.WITHOUT_TOOLS,
        budget=Budget.BUDGET,
        prices=(_OWN_HARDWARE,),
    )
