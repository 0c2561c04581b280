"""What the models of our file can be asked for, and what a user's file may say of it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from conductor_ai.errors import InvalidInput
from conductor_ai.model_catalog import (
    Catalog,
    ModelInfo,
    ModelProvider,
    ReasoningStyle,
    SchemaSupport,
    get_model,
    list_models,
)
from conductor_ai.model_catalog.ids import model_from_id

WITH, WITHOUT, NEVER = SchemaSupport.WITH_TOOLS, SchemaSupport.WITHOUT_TOOLS, SchemaSupport.NEVER
FIXED, EFFORT, BUDGET = ReasoningStyle.FIXED, ReasoningStyle.EFFORT, ReasoningStyle.BUDGET


class Profile(NamedTuple):
    forced_tools: bool
    answer_schema: SchemaSupport
    temperature: bool
    reasoning: ReasoningStyle
    always_reasons: bool


CLOSED = Profile(False, NEVER, True, FIXED, False)
ALWAYS_REASONS = CLOSED._replace(always_reasons=True)
CLAUDE_4_5 = Profile(True, WITH, True, BUDGET, False)
CLAUDE_5 = Profile(True, WITH, False, EFFORT, False)
CLAUDE_5_5 = Profile(False, WITH, False, EFFORT, True)
GEMINI_2_5 = Profile(True, WITHOUT, True, BUDGET, False)
GEMINI_3 = Profile(True, WITH, True, EFFORT, True)
GEMINI_3_5 = GEMINI_3._replace(temperature=False)

LISTED = {
    "deepseek/deepseek-chat-v3": CLOSED,
    "deepseek/deepseek-chat-v3.1": CLOSED,
    "deepseek/deepseek-r1": ALWAYS_REASONS,
    "deepseek/deepseek-r1-distill-qwen-8b": ALWAYS_REASONS,
    "qwen/qwen-2.5-coder-32b-instruct": CLOSED,
    "qwen/qwen3-235b-a22b": CLOSED,
    "moonshotai/kimi-k2": CLOSED,
    "claude-sonnet-4-5-20250929": CLAUDE_4_5,
    "claude-sonnet-5-5": CLAUDE_5_5,
    "claude-opus-5-5": CLAUDE_5_5,
    "claude-fable-5-2": CLAUDE_5_5,
    "claude-haiku-5-5": CLAUDE_5_5._replace(always_reasons=False),
    "claude-haiku-4-5": CLAUDE_4_5,
    "claude-sonnet-4-5": CLAUDE_4_5,
    "claude-opus-5": CLAUDE_5,
    "claude-sonnet-5": CLAUDE_5,
    "gemini-3.8-flash": GEMINI_3_5,
    "gemini-4-argon": GEMINI_3_5,
    "gemini-3.5-flash-lite": GEMINI_3_5,
    "gemini-3.1-pro-preview": GEMINI_3,
    "gemini-2.5-pro": GEMINI_2_5._replace(always_reasons=True),
    "gemini-2.5-flash": GEMINI_2_5,
    "gemini-2.5-flash-lite": GEMINI_2_5,
    "deepseek/deepseek-v3.2": CLOSED._replace(reasoning=EFFORT),
    "deepseek/deepseek-r1-distill-qwen-32b": ALWAYS_REASONS,
    "moonshotai/kimi-k2-0905": CLOSED,
    "qwen/qwen3-vl-235b-a22b-instruct": CLOSED,
    "demo/scripted": CLOSED,
}

VALUES: dict[str, tuple[str, object]] = {
    "forced_tools": ("true", True),
    "answer_schema": ('"with_tools"', WITH),
    "temperature": ("false", False),
    "reasoning": ('"budget"', BUDGET),
    "always_reasons": ("true", True),
    "hosts": ('["moonshotai", "groq"]', ("moonshotai", "groq")),
}


@pytest.fixture
def extra(tmp_path: Path) -> Path:
    return tmp_path / "models.toml"


def profile_of(model: ModelInfo) -> Profile:
    return Profile(*(getattr(model, name) for name in Profile._fields))


def as_fields(model: ModelInfo) -> dict[str, Any]:
    return {field.name: getattr(model, field.name) for field in fields(model)}


def test_the_table_names_every_listed_model() -> None:
    assert list(LISTED) == [model.id for model in list_models()]


@pytest.mark.parametrize("model_id", LISTED)
def test_a_listed_model_has_the_documented_profile(model_id: str) -> None:
    assert profile_of(get_model(model_id)) == LISTED[model_id]


def test_every_listed_profile_is_coherent() -> None:
    for model in list_models():
        if not model.native_tools:
            assert (model.forced_tools, model.answer_schema) == (False, NEVER), model.id
        assert not model.hosts, model.id
        if model.provider is ModelProvider.OPENROUTER:
            assert model.reasoning is not BUDGET, model.id
        if model.always_reasons and model.provider is not ModelProvider.OPENROUTER:
            assert model.reasoning is not FIXED, model.id


def test_our_file_says_of_direct_models_what_their_ids_tell() -> None:
    different = {
        model.id
        for model in list_models()
        if model.provider in (ModelProvider.ANTHROPIC, ModelProvider.GEMINI)
        and profile_of(model) != profile_of(model_from_id(model.id, model.provider))
    }
    assert different == {"claude-haiku-5-5"}  # its thinking can be turned off, unlike that of the other 5.5


def test_of_the_listed_models_those_see_whose_vendors_say_so() -> None:
    blind = {model.id for model in list_models() if not model.vision}
    vendors = ("deepseek/", "moonshotai/", "demo/")
    assert blind == {model.id for model in list_models() if model.id.startswith(vendors)} | {
        "qwen/qwen-2.5-coder-32b-instruct",
        "qwen/qwen3-235b-a22b",
    }


@pytest.mark.parametrize("name", VALUES)
def test_a_users_file_sets_one_field_and_leaves_the_others(extra: Path, name: str) -> None:
    text, value = VALUES[name]
    extra.write_text(f'[models."moonshotai/kimi-k2"]\n{name} = {text}\n')
    ours, theirs = get_model("moonshotai/kimi-k2"), Catalog.load(extra).get_model("moonshotai/kimi-k2")
    assert getattr(ours, name) != value
    assert as_fields(theirs) == {**as_fields(ours), name: value}


@pytest.mark.parametrize("name", VALUES)
def test_a_new_model_may_say_each_field(extra: Path, name: str) -> None:
    text, value = VALUES[name]
    extra.write_text(f'[models."acme/a"]\n{name} = {text}\n')
    plain = model_from_id("acme/a", ModelProvider.OPENROUTER)
    assert as_fields(Catalog.load(extra).get_model("acme/a")) == {**as_fields(plain), name: value}


def test_what_is_on_can_be_switched_off_again(extra: Path) -> None:
    extra.write_text(
        '[models."claude-opus-5"]\nforced_tools = false\nanswer_schema = "never"\ntemperature = true\n'
        'reasoning = "fixed"\n[models."claude-opus-5-5"]\nalways_reasons = false\n'
    )
    catalog = Catalog.load(extra)
    assert profile_of(catalog.get_model("claude-opus-5")) == CLOSED
    assert profile_of(catalog.get_model("claude-opus-5-5")) == CLAUDE_5_5._replace(always_reasons=False)


@pytest.mark.parametrize("model_id", ["claude-opus-5", "gemini-2.5-flash", "local/mine"])
def test_a_model_that_is_to_be_driven_by_text_is_asked_for_nothing_native(extra: Path, model_id: str) -> None:
    extra.write_text(f'[models."{model_id}"]\nnative_tools = false\n')
    ours, theirs = get_model(model_id), Catalog.load(extra).get_model(model_id)
    assert as_fields(theirs) == {
        **as_fields(ours), "native_tools": False, "forced_tools": False, "answer_schema": NEVER,
    }  # fmt: skip


def test_the_wire_id_tells_what_a_model_under_a_name_of_ones_own_can_do(extra: Path) -> None:
    extra.write_text('[models.house]\nprovider = "anthropic"\nwire_id = "claude-opus-5-5"\ntemperature = true\n')
    house = Catalog.load(extra).get_model("house")
    assert profile_of(house) == CLAUDE_5_5._replace(temperature=True)
    assert (house.id, house.wire_id, house.vision) == ("house", "claude-opus-5-5", True)


TEXT = "native_tools = false\n"


@pytest.mark.parametrize(
    ("model_id", "text", "complaint"),
    [
        ("acme/a", "forced_tools = 1", "forced_tools: must be true or false, got 1"),
        ("acme/a", "temperature = 0.7", "temperature: must be true or false, got Decimal('0.7')"),
        ("acme/a", "always_reasons = 'yes'", "always_reasons: must be true or false, got 'yes'"),
        ("acme/a", "answer_schema = true", "answer_schema: must be one of: with_tools, without_tools, never; got True"),
        ("acme/a", "reasoning = 'high'", "reasoning: must be one of: fixed, effort, budget; got 'high'"),
        ("acme/a", "hosts = 'groq'", "hosts: must be a list of texts, got 'groq'"),
        ("acme/a", "hosts = ['groq', 1]", "hosts: must be a text of one line, got 1"),
        ("acme/a", "hosts = ['']", "hosts: must be a text of one line, got ''"),
        ("claude-opus-5", "hosts = ['aws']", "hosts can be named for openrouter alone, not for anthropic"),
        ("local/a", "hosts = ['groq']", "hosts can be named for openrouter alone, not for local"),
        ("acme/a", TEXT + "forced_tools = true", "forced_tools must be false where native_tools is false"),
        ("acme/a", TEXT + "answer_schema = 'without_tools'", "answer_schema must be never where native_tools is false"),
        ("deepseek/deepseek-r1", "answer_schema = 'with_tools'", "answer_schema must be never where native_tools is"),
        ("deepseek/deepseek-r1", "forced_tools = true", "forced_tools must be false where native_tools is false"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_profile_names_the_file_the_entry_and_the_field(
    extra: Path, model_id: str, text: str, complaint: str
) -> None:
    extra.write_text(f'[models."{model_id}"]\n{text}\n')
    with pytest.raises(InvalidInput) as caught:
        Catalog.load(extra)
    assert str(caught.value).startswith(f"{extra}: model {model_id!r}: {complaint}")
