"""OpenAI models are refused wherever a model can be named, and nothing else is."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from conductor_ai.errors import InvalidInput, ModelForbidden, UnknownModel
from conductor_ai.model_catalog import Catalog, get_model, list_models, refuse_forbidden
from conductor_ai.model_catalog.policy import is_allowed

OPENAI_NAMES = [
    "gpt-4", "gpt-4o", "gpt-4.1-mini", "gpt-5.6-luna", "gpt-oss-120b", "gpt-oss:20b", "gpt_oss-20b", "gptoss", "gpt",
    "gpt4", "gpt4o-mini", "gpt-35-turbo", "gpt3.5-turbo", "gpt-image-1", "chatgpt-4o-latest", "chatgpt", "chatgpt4",
    "o1", "o1-mini", "o1-pro", "o3", "o3-deep-research", "o3mini", "o4-mini-high", "o5", "codex-mini-latest", "codex",
    "text-davinci-003", "code-davinci-002", "davinci-002", "babbage-002", "computer-use-preview", "ft:gpt-4o-mini:acme",
]  # fmt: skip
PREFIXES = ["", "openai/", "local/", "local/openai/", "azure/", "~openai/", "openrouter/openai/", "local/hf.co/some/"]
VARIANTS = ["", ":free", ":batch", ":nitro", ":online", "@2025-08-07"]

HARMLESS = [
    "local/gpt4all-falcon", "local/codexglue", "local/openaire-7b", "local/notopenai", "local/marco-o1",
    "aidc-ai/marco-o1", "local/skywork-o1-open", "o1-open/openo1-qwen", "openchat/openchat-7b", "thudm/chatglm3-6b",
    "local/egpt-4", "local/mygpt-oss2", "local/o1x", "local/foo3", "local/go1", "openrouter-labs/model",
    "local/autodavincix", "qwen/qwq-32b", "local/textual-davinci", "local/codexes", "local/o11y",
]  # fmt: skip


def cased(text: str) -> st.SearchStrategy[str]:
    return st.lists(st.booleans(), min_size=len(text), max_size=len(text)).map(
        lambda ups: "".join(c.upper() if up else c for c, up in zip(text, ups, strict=True))
    )


@settings(deadline=None)
@given(st.tuples(st.sampled_from(PREFIXES), st.sampled_from(OPENAI_NAMES), st.sampled_from(VARIANTS)).flatmap(
    lambda parts: cased("".join(parts))
))  # fmt: skip
def test_openai_names_are_refused_under_any_prefix_case_and_variant(model_id: str) -> None:
    with pytest.raises(ModelForbidden):
        refuse_forbidden(model_id)


VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)


@settings(deadline=None)
@given(VISIBLE, VISIBLE)
def test_whatever_openais_own_vendor_name_comes_with_is_refused(before: str, after: str) -> None:
    assert not is_allowed(f"{before}/openai/{after}")
    assert not is_allowed(f"openai/{after}")
    assert not is_allowed(f"local/gpt-{after}")
    assert not is_allowed(f"{before}/gpt-{after}")


@settings(deadline=None)
@given(st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), min_size=1, max_size=8), st.sampled_from(OPENAI_NAMES))
def test_a_letter_before_the_name_makes_it_another_name(letters: str, name: str) -> None:
    # `chat` and `x-` would make it one of theirs again, and gpt-oss keeps its name inside others.
    word = letters.rstrip("t") + "z"
    if not any(mark in name for mark in ("oss", ":")):
        refuse_forbidden(f"local/{word}{name}")


@pytest.mark.parametrize("model_id", HARMLESS)
def test_similar_letters_are_no_reason(model_id: str) -> None:
    refuse_forbidden(model_id)


@pytest.mark.parametrize(
    "model_id",
    [
        "openrouter/auto", "OpenRouter/Auto:free", "local/openrouter/auto", "openrouter/pareto-code",
        "switchpoint/router", "@preset/mail", "deepseek/deepseek-r1@preset/mail", "stealth/crouton-alpha",
    ],
)  # fmt: skip
def test_services_that_choose_the_model_themselves_are_refused(model_id: str) -> None:
    with pytest.raises(ModelForbidden, match="may route to an OpenAI model"):
        refuse_forbidden(model_id)


def test_wide_letters_do_not_get_past() -> None:
    with pytest.raises(ModelForbidden):
        refuse_forbidden("local/\uff27\uff30\uff34-4o")


def test_every_chat_model_that_openai_sells_is_refused() -> None:
    sold = [model.id for one in get_snapshot().providers if one.id == "openai" for model in one.models]
    other_uses = ("embedding", "whisper", "tts", "moderation")  # they answer no chat
    allowed = [name for name in sold if is_allowed(name) and not any(word in name for word in other_uses)]
    assert len(sold) > 50
    assert set(allowed) <= {"ada", "babbage", "curie"}  # names of 2020, shut down, too short to forbid


def test_of_all_other_vendors_on_openrouter_only_the_ones_named_here_are_refused() -> None:
    sold = [model.id for one in get_snapshot().providers if one.id == "openrouter" for model in one.models]
    refused = {name for name in sold if "/" in name and not is_allowed(name) and "openai/" not in name}
    assert len(sold) > 500
    assert refused <= {"stealth/crouton-alpha", "switchpoint/router"}


def test_no_listed_model_is_refused() -> None:
    for model in list_models():
        for name in filter(None, (model.id, model.wire_id, model.successor)):
            refuse_forbidden(name)


@pytest.mark.parametrize("model_id", ["openai/gpt-5", "GPT-4o", "local/gpt-oss:20b", "openrouter/auto"])
def test_get_model_refuses_with_a_way_out(model_id: str) -> None:
    with pytest.raises(ModelForbidden, match="is refused") as caught:
        get_model(model_id)
    assert "conductor models list" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "entry",
    [
        '[models."openai/gpt-5"]',
        '[models."local/gpt-oss"]',
        '[models."acme/nice"]\nwire_id = "openai/gpt-5"',
        '[models."claude-opus-5-5"]\nsuccessor = "gpt-5"',
        '[models."local/mine"]\nwire_id = "O3-mini"',
        '[models."best"]\nprovider = "openrouter"\nwire_id = "openrouter/auto"',
    ],
)
def test_a_users_file_cannot_bring_them_in(tmp_path: Path, entry: str) -> None:
    extra = tmp_path / "models.toml"
    extra.write_text(entry)
    with pytest.raises(ModelForbidden, match=r"models\.toml: model '.*is refused"):
        Catalog.load(extra)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_as_an_id_is_answered_with_an_error_of_ours_or_a_model(text: str) -> None:
    with suppress(InvalidInput, ModelForbidden, UnknownModel):  # anything else would fail the test
        assert get_model(text).id == text
