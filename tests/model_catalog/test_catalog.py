"""Looking a model up by its id."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from genai_prices.data_snapshot import get_snapshot

from conductor_ai.errors import InvalidInput, UnknownModel
from conductor_ai.model_catalog import (
    Budget,
    Catalog,
    ModelProvider,
    get_model,
    list_models,
    retirement_warning,
)
from conductor_ai.model_catalog.price_snapshot import find
from conductor_ai.model_catalog.pricing import FREE

PLAN_PRICES = {
    "deepseek/deepseek-chat-v3.1": ("0.20", "0.80"),
    "deepseek/deepseek-r1": ("3", "7"),
    "qwen/qwen3-235b-a22b": ("0.30", "1.20"),
    "moonshotai/kimi-k2": ("0.15", "0.60"),
    "claude-sonnet-4-5-20250929": ("3", "15"),
}


@pytest.mark.parametrize("model_id", [None, 5, b"claude-opus-4-1", ["demo/scripted"], ""])
def test_what_cannot_be_an_id_is_refused(model_id: Any) -> None:
    with pytest.raises(InvalidInput):
        get_model(model_id)


@pytest.mark.parametrize("model_id", PLAN_PRICES)
def test_the_plans_models_carry_the_plans_prices(model_id: str) -> None:
    price = get_model(model_id).price
    assert price is not None
    assert (price.input, price.output) == tuple(map(Decimal, PLAN_PRICES[model_id]))
    assert price.source.startswith("project plan")
    assert price.as_of == date(2025, 12, 9)


def test_the_price_of_cached_tokens_is_known_for_claude() -> None:
    price = get_model("claude-sonnet-4-5-20250929").price
    assert price is not None
    assert (price.cache_read, price.cache_write) == (Decimal("0.30"), Decimal("3.75"))


def test_a_plan_id_that_nobody_serves_is_sent_as_the_one_that_is() -> None:
    assert get_model("deepseek/deepseek-chat-v3").wire_id == "deepseek/deepseek-chat-v3-0324"
    assert get_model("deepseek/deepseek-r1-distill-qwen-8b").wire_id == "deepseek/deepseek-r1-0528-qwen3-8b"
    assert get_model("deepseek/deepseek-r1").wire_id == "deepseek/deepseek-r1"


def test_every_listed_model_is_complete() -> None:
    for model in list_models():
        assert model.price is not None, model.id
        assert model.price.as_of is not None, model.id
        assert 0 < model.max_output_tokens <= model.context_window, model.id
        assert model.vendor, model.id
        assert model.origin or model.provider is ModelProvider.DEMO, model.id
        assert get_model(model.id) is model
        assert model.successor is None or get_model(model.successor) in list_models(), model.id
        assert model.retires_on is None or model.successor, model.id


def test_models_that_call_tools_badly_are_marked() -> None:
    by_text = {model.id for model in list_models() if not model.native_tools}
    assert by_text == {
        "deepseek/deepseek-r1",
        "deepseek/deepseek-r1-distill-qwen-8b",
        "deepseek/deepseek-r1-distill-qwen-32b",
        "qwen/qwen-2.5-coder-32b-instruct",
    }


def test_the_price_of_a_day_is_the_one_in_force_then() -> None:
    argon = get_model("gemini-4-argon")
    before, after = argon.price_on(date(2026, 11, 30)), argon.price_on(date(2026, 12, 1))
    assert before is not None
    assert after is not None
    assert (before.input, after.input) == (Decimal(2), Decimal(4))
    assert after.starts_on == date(2026, 12, 1)


class TestRetirement:
    retires_on = date(2026, 11, 30)
    sonnet = get_model("claude-sonnet-4-5-20250929")

    def test_it_is_announced_in_time(self) -> None:
        assert retirement_warning(self.sonnet, self.retires_on - timedelta(days=61)) is None
        line = retirement_warning(self.sonnet, self.retires_on - timedelta(days=60))
        assert line == ("claude-sonnet-4-5-20250929 retires on 2026-11-30, in 60 days; use claude-sonnet-5-5")
        assert "in 1 day;" in (retirement_warning(self.sonnet, self.retires_on - timedelta(days=1)) or "")

    def test_from_the_day_itself_it_is_past(self) -> None:
        line = retirement_warning(self.sonnet, self.retires_on)
        assert line == ("claude-sonnet-4-5-20250929 was retired by its provider on 2026-11-30; use claude-sonnet-5-5")

    def test_a_model_that_stays_is_never_announced(self) -> None:
        assert retirement_warning(get_model("claude-sonnet-5-5"), date(2099, 1, 1)) is None


class TestUnlisted:
    @pytest.mark.parametrize(
        ("model_id", "provider"),
        [
            ("claude-opus-4-8", ModelProvider.ANTHROPIC),
            ("gemini-3.7-flash", ModelProvider.GEMINI),
            ("qwen/qwen3.7-max", ModelProvider.OPENROUTER),
        ],
    )
    def test_an_id_of_the_price_list_is_taken_with_its_price(self, model_id: str, provider: ModelProvider) -> None:
        model = get_model(model_id)
        assert (model.id, model.wire_id, model.provider) == (model_id, model_id, provider)
        assert model.price is not None
        assert model.price.source.startswith("genai-prices ")
        assert model.price.input > 0
        assert model.max_output_tokens == 4096
        assert get_model(model_id) is model

    def test_dates_and_long_prompts_of_the_price_list_are_kept(self) -> None:
        model = get_model("qwen/qwen3.7-plus")
        assert len(model.prices) > 1
        assert model.prices[0].starts_on is None
        assert model.prices[-1].starts_on is not None
        assert model.prices[-1].long_prompts[0].above_tokens == 256_000
        assert model.budget is Budget.STANDARD

    def test_a_near_miss_is_not_priced_as_its_relative(self) -> None:
        with pytest.raises(UnknownModel, match="claude-opus-5-5"):
            get_model("claude-opus-4-5-experimental")
        with pytest.raises(UnknownModel):
            get_model("Claude-Opus-4-8")

    def test_a_free_variant_costs_nothing(self) -> None:
        price = get_model("deepseek/deepseek-r1:free").price
        assert price is not None
        assert price.rates == FREE
        assert not get_model("deepseek/deepseek-r1:free").native_tools

    def test_a_model_without_usable_figures_has_no_price_and_counts_as_dear(self) -> None:
        model = get_model("gemini-embedding-001")
        assert model.price is None
        assert model.budget is Budget.PREMIUM

    def test_every_entry_of_the_price_list_can_be_read(self) -> None:
        theirs = {"anthropic": ModelProvider.ANTHROPIC, "openrouter": ModelProvider.OPENROUTER}
        for one in get_snapshot().providers:
            for model in one.models if one.id in theirs else ():
                found = find(theirs[one.id], model.id)
                assert found is not None, model.id
                assert found.id == model.id

    def test_a_provider_that_the_list_does_not_cover_is_not_found_there(self) -> None:
        assert find(ModelProvider.DEMO, "demo/other") is None
        assert find(None, "other") is None


@pytest.mark.parametrize(
    ("model_id", "suggestion"),
    [
        ("deepseek/deepseek-r2", "did you mean deepseek/deepseek-r1"),
        ("claude-sonet-5-5", "did you mean claude-sonnet-5-5"),
        ("demo/script", "did you mean demo/scripted"),
    ],
)
def test_an_unknown_id_is_answered_with_the_nearest_and_with_how_to_add_it(model_id: str, suggestion: str) -> None:
    with pytest.raises(UnknownModel, match=suggestion) as caught:
        get_model(model_id)
    assert "models.toml" in (caught.value.hint or "")
    assert "gpt" not in str(caught.value)


@pytest.mark.parametrize("model_id", ["mistral", "local/", "demo/", "xyzzy"])
def test_an_id_like_no_other_gets_no_suggestion(model_id: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        get_model(model_id)
    assert "provider = ..." in (caught.value.hint or "")


@pytest.mark.parametrize("model_id", ["", "local/two words", "local/\u0430", "local/a\nb", "local/" + "a" * 200])
def test_text_that_cannot_be_an_id_is_refused(model_id: str) -> None:
    with pytest.raises(InvalidInput, match="not a model id"):
        get_model(model_id)


def test_a_local_model_is_taken_as_it_is_named_and_billed_by_nobody() -> None:
    model = get_model("local/hf.co/qwen/Qwen3-8B-GGUF:Q4_K_M")
    assert model.provider is ModelProvider.LOCAL
    assert model.wire_id == "hf.co/qwen/Qwen3-8B-GGUF:Q4_K_M"
    assert model.context_window == 8192
    assert model.price is not None
    assert model.price.rates == FREE
    assert model.price.source == "own hardware"


def test_the_demo_is_a_provider_of_its_own_and_free() -> None:
    model = get_model("demo/scripted")
    assert (model.provider, model.wire_id) == (ModelProvider.DEMO, "scripted")
    assert model.price is not None
    assert model.price.input == 0


def test_importing_reads_nothing_and_listed_ids_need_no_price_list() -> None:
    program = """
import sys
opened = []
sys.addaudithook(lambda name, args: opened.append(str(args[0])) if name == "open" else None)
import conductor_ai.model_catalog as catalog
assert not any(path.endswith(".toml") for path in opened), opened
catalog.get_model(catalog.select_model())
assert any(path.endswith("models.toml") for path in opened)
assert "genai_prices" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_two_catalogs_share_our_models_and_keep_their_own(tmp_path: Path) -> None:
    extra = tmp_path / "models.toml"
    extra.write_text('[models."local/mine"]\ncontext_window = 65536\n')
    assert Catalog.load(extra).get_model("local/mine").context_window == 65536
    assert Catalog.load().get_model("local/mine").context_window == 8192
