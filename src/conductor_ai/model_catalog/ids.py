"""What a model's id alone tells: its provider, its wire id, and what may be assumed of it."""

from __future__ import annotations

import re

from conductor_ai.errors import InvalidInput
from conductor_ai.model_catalog.model import (
    LOCAL_CONTEXT_WINDOW,
    LOCAL_MAX_OUTPUT_TOKENS,
    Budget,
    ModelInfo,
    ModelProvider,
)
from conductor_ai.model_catalog.pricing import FREE, Price

DEMO_ID = "demo/scripted"
LOCAL_PREFIX = "local/"

# Ids travel in URLs, headers, logs and file names: visible ASCII, nothing that looks like something else.
_FORM = re.compile(r"[!-~]{1,200}")

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


def model_from_id(model_id: str, provider: ModelProvider) -> ModelInfo:
    """A model of which nothing but the id is known: small windows, no price, except that nobody bills a local one."""
    if provider is not ModelProvider.LOCAL:
        return ModelInfo(id=model_id, provider=provider, wire_id=model_id, name=model_id)
    return ModelInfo(
        id=model_id,
        provider=provider,
        wire_id=model_id.removeprefix(LOCAL_PREFIX),
        name=model_id,
        context_window=LOCAL_CONTEXT_WINDOW,
        max_output_tokens=LOCAL_MAX_OUTPUT_TOKENS,
        budget=Budget.BUDGET,
        prices=(_OWN_HARDWARE,),
    )
