"""What is assumed of a model that no file lists."""

from __future__ import annotations

import pytest
from genai_prices.data_snapshot import get_snapshot

from conductor_ai.model_catalog import ModelProvider, ReasoningStyle, SchemaSupport, get_model, list_models
from conductor_ai.model_catalog.ids import model_from_id, provider_of
from conductor_ai.model_catalog.price_snapshot import find

SILENT = "no tools forced, never to a schema, reasoning fixed"


def told(model_id: str, provider: ModelProvider | None = None) -> str:
    """The profile in one line, so that a table of them can be read."""
    known_provider = provider or provider_of(model_id)
    assert known_provider is not None
    model = model_from_id(model_id, known_provider)
    words = [
        "tools forced" if model.forced_tools else "no tools forced",
        f"{model.answer_schema} to a schema".replace("_", " "),
        f"{'always ' if model.always_reasons else ''}reasoning {model.reasoning}",
        *(["no temperature"] if not model.temperature else []),
        *(["sees"] if model.vision else []),
    ]
    return ", ".join(words)


@pytest.mark.parametrize(
    ("model_id", "expected"),
    [
        ("claude-2", SILENT),
        ("claude-3-haiku", f"{SILENT}, sees"),
        ("claude-3-7-sonnet-latest", f"{SILENT}, sees"),
        ("claude-opus-4-20250514", f"{SILENT}, sees"),
        ("claude-opus-4-1", f"{SILENT}, sees"),
        ("claude-haiku-4-5-20251001", "tools forced, with tools to a schema, reasoning budget, sees"),
        ("claude-opus-4-6", "tools forced, with tools to a schema, reasoning effort, sees"),
        ("claude-opus-4-7", "tools forced, with tools to a schema, reasoning effort, no temperature, sees"),
        ("claude-opus-5", "tools forced, with tools to a schema, reasoning effort, no temperature, sees"),
        ("claude-fable-5", "no tools forced, with tools to a schema, always reasoning effort, no temperature, sees"),
        ("claude-mythos-5-2", "no tools forced, with tools to a schema, always reasoning effort, no temperature, sees"),
        ("claude-opus-6", "no tools forced, with tools to a schema, always reasoning effort, no temperature, sees"),
        ("claude-instant-5-5", SILENT),
    ],
)
def test_a_claude_is_taken_for_its_nearest_documented_relative(model_id: str, expected: str) -> None:
    assert told(model_id) == expected


@pytest.mark.parametrize(
    ("model_id", "expected"),
    [
        ("gemini-pro", SILENT),
        ("gemini-1.0-pro", SILENT),
        ("gemini-2.0-flash-001", f"{SILENT}, sees"),
        ("gemini-2.5-pro", "tools forced, without tools to a schema, always reasoning budget, sees"),
        ("gemini-2.5-flash-preview-09-2025", "tools forced, without tools to a schema, reasoning budget, sees"),
        ("gemini-3-flash-preview", "tools forced, with tools to a schema, always reasoning effort, sees"),
        ("gemini-3.6-flash", "tools forced, with tools to a schema, always reasoning effort, no temperature, sees"),
        ("gemini-5-pro", "tools forced, with tools to a schema, always reasoning effort, no temperature, sees"),
        ("gemini-3.8-flash-tts", SILENT),
        ("gemini-3.1-flash-image-preview", SILENT),
        ("gemini-3.8-live", SILENT),
        ("gemini-embedding-001", SILENT),
    ],
)
def test_a_gemini_is_taken_for_its_nearest_documented_relative_where_it_chats(model_id: str, expected: str) -> None:
    assert told(model_id) == expected


@pytest.mark.parametrize(
    ("model_id", "expected"),
    [
        ("acme/tiny", SILENT),
        ("anthropic/claude-opus-5.5", SILENT),
        ("qwen/qwen3-30b-a3b-thinking-2507", SILENT.replace("reasoning", "always reasoning")),
        ("deepseek/deepseek-r1:free", SILENT.replace("reasoning", "always reasoning")),
        ("local/claude-opus-5-5", SILENT.replace("never", "without tools")),
        ("demo/scripted", SILENT),
    ],
)
def test_of_other_models_only_what_holds_nearly_everywhere_is_assumed(model_id: str, expected: str) -> None:
    assert told(model_id) == expected


def test_a_local_model_is_held_to_a_schema_only_without_tools() -> None:
    model = get_model("local/llama3.1:8b")
    assert (model.answer_schema, model.forced_tools) == (SchemaSupport.WITHOUT_TOOLS, False)
    assert (model.temperature, model.reasoning, model.vision) == (True, ReasoningStyle.FIXED, False)


def test_what_the_price_list_finds_has_the_profile_of_its_id() -> None:
    opus = get_model("claude-opus-4-8")
    assert opus.price is not None
    assert (opus.forced_tools, opus.answer_schema) == (True, SchemaSupport.WITH_TOOLS)
    assert (opus.temperature, opus.reasoning, opus.vision) == (False, ReasoningStyle.EFFORT, True)


def test_no_model_of_openrouter_found_in_the_price_list_is_said_to_see_or_to_take_what_its_host_may_not() -> None:
    listed = {model.id for model in list_models()}
    looked_at = 0
    for one in get_snapshot().providers:
        for sold in one.models if one.id == "openrouter" else ():
            model = find(ModelProvider.OPENROUTER, sold.id)
            if model is None or sold.id in listed:
                continue
            looked_at += 1
            profile = (model.vision, model.forced_tools, model.answer_schema, model.reasoning, model.hosts)
            assert profile == (False, False, SchemaSupport.NEVER, ReasoningStyle.FIXED, ()), model.id
    assert looked_at > 500
