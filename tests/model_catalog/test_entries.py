"""A user's own file of models."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from conductor_ai.errors import InvalidInput, UnknownModel, UsageError
from conductor_ai.model_catalog import Budget, Catalog, ModelProvider, Task, get_model


@pytest.fixture
def extra(tmp_path: Path) -> Path:
    return tmp_path / "models.toml"


def test_without_a_file_there_are_our_models(extra: Path) -> None:
    assert Catalog.load(extra).list_models() == Catalog.load().list_models()


def test_an_override_replaces_only_what_it_names(extra: Path) -> None:
    extra.write_text('[models."deepseek/deepseek-r1"]\nprice = { input = 0.70, output = 2.50 }\nnative_tools = true\n')
    ours, theirs = get_model("deepseek/deepseek-r1"), Catalog.load(extra).get_model("deepseek/deepseek-r1")
    assert theirs.price is not None
    assert (theirs.price.input, theirs.price.output) == (Decimal("0.70"), Decimal("2.50"))
    assert (theirs.price.source, theirs.price.as_of) == ("models.toml", None)
    assert theirs.native_tools
    assert (theirs.name, theirs.context_window, theirs.tasks) == (ours.name, ours.context_window, ours.tasks)


def test_a_new_model_says_as_much_as_it_likes(extra: Path) -> None:
    extra.write_text(
        """
as_of = 2026-11-01
source = "our contract"

[models."acme/tiny"]

[models.big]
provider = "local"
wire_id = "acme-big"
name = "Big"
vendor = "Acme"
origin = "CH"
context_window = 50_000
max_output_tokens = 10_000
vision = true
native_tools = false
tasks = { coding = 5 }
retires_on = 2030-01-01
successor = "acme/tiny"
price = [
    { input = 1, output = 2 },
    { starts_on = 2027-01-01, input = 2, output = 4, as_of = 2026-11-02, source = "their letter", long_prompts = [
        { above_tokens = 1000, input = 3, output = 6, cache_read = 1, cache_write = 4 },
    ] },
]
"""
    )
    catalog = Catalog.load(extra)
    tiny, big = catalog.get_model("acme/tiny"), catalog.get_model("big")
    assert (tiny.provider, tiny.wire_id, tiny.name) == (ModelProvider.OPENROUTER, "acme/tiny", "acme/tiny")
    assert (tiny.price, tiny.budget, tiny.context_window) == (None, Budget.PREMIUM, 32_768)
    assert (big.provider, big.wire_id, big.origin, big.successor) == (
        ModelProvider.LOCAL, "acme-big", "CH", "acme/tiny",
    )  # fmt: skip
    assert (big.vision, big.native_tools, big.retires_on) == (True, False, date(2030, 1, 1))
    assert big.budget is Budget.STANDARD
    first, second = big.prices
    assert (first.source, first.as_of) == ("our contract", date(2026, 11, 1))
    assert (second.source, second.as_of, second.starts_on) == ("their letter", date(2026, 11, 2), date(2027, 1, 1))
    assert second.long_prompts[0].rates.cache_write == 4
    assert catalog.list_models()[-1] is big


@pytest.mark.parametrize(
    ("provider", "wire_id", "listed"),
    [
        ("anthropic", "claude-opus-5-5", "claude-opus-5-5"),
        ("openrouter", "deepseek/deepseek-chat-v3-0324", "deepseek/deepseek-chat-v3"),
    ],
)
def test_another_name_of_a_listed_model_is_that_model_and_is_preferred_for_nothing(
    extra: Path, provider: str, wire_id: str, listed: str
) -> None:
    extra.write_text(f'[models.house]\nprovider = "{provider}"\nwire_id = "{wire_id}"\n')
    house = Catalog.load(extra).get_model("house")
    assert house == replace(get_model(listed), id="house", name="house", tasks={})


def test_what_an_entry_says_counts_more_than_its_wire_id(extra: Path) -> None:
    extra.write_text(
        '[models.house]\nprovider = "anthropic"\nwire_id = "claude-opus-5-5"\n'
        "context_window = 200_000\ntasks = { coding = 101 }\nprice = { input = 0.1, output = 0.2 }\n"
    )
    ours, house = get_model("claude-opus-5-5"), Catalog.load(extra).get_model("house")
    assert house.price is not None
    assert (house.price.output, house.budget) == (Decimal("0.2"), Budget.BUDGET)
    assert (house.context_window, house.max_output_tokens) == (200_000, ours.max_output_tokens)
    assert house.tasks == {Task.CODING: 101}


def test_the_wire_id_of_another_provider_is_another_model(extra: Path) -> None:
    extra.write_text('[models.house]\nprovider = "local"\nwire_id = "deepseek/deepseek-r1"\n')
    house = Catalog.load(extra).get_model("house")
    assert (house.context_window, house.native_tools) == (8_192, True)


def test_a_price_can_be_put_on_a_local_model(extra: Path) -> None:
    extra.write_text('[models."local/llama"]\nprice = { input = 0.01, output = 0.02 }\n')
    llama = Catalog.load(extra).get_model("local/llama")
    assert llama.wire_id == "llama"
    assert llama.price is not None
    assert llama.price.output == Decimal("0.02")


def test_a_price_that_begins_later_is_unknown_until_then(extra: Path) -> None:
    extra.write_text('[models."acme/a"]\nprice = { starts_on = 2027-01-01, input = 1, output = 1 }\n')
    model = Catalog.load(extra).get_model("acme/a")
    assert model.price_on(date(2026, 12, 31)) is None
    assert model.price_on(date(2027, 1, 1)) is not None


def test_the_order_of_defaults_can_be_changed(extra: Path) -> None:
    extra.write_text('defaults = ["gemini-3.8-flash"]\n')
    assert [model.id for model in Catalog.load(extra).defaults] == ["gemini-3.8-flash"]
    extra.write_text('defaults = ["gemini-3.8-flesh"]\n')
    with pytest.raises(UnknownModel, match=r"models\.toml: defaults: unknown model 'gemini-3\.8-flesh'"):
        Catalog.load(extra)


A = '[models."acme/a"]\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[models", "is not valid TOML"),
        ("colour = 1", "unknown field 'colour'; fields are: as_of, source, defaults, models"),
        ("models = 1", "models: must be a table"),
        ("defaults = 1", "defaults: must be a list of texts"),
        ("as_of = '2026-01-01'", "as_of: must be a day without quotes"),
        ("source = 1", "source: must be a text of one line"),
        ("[models]\n'acme/a' = 1", "model 'acme/a': must be a table"),
        ("[models.mine]", "model 'mine': provider is missing; it is one of: anthropic, gemini, openrouter"),
        ("[models.'has space']\nprovider = 'local'", "model 'has space': not a model id"),
        ("[models.'demo/other']\nprovider = 'demo'", "model 'demo/other': provider demo belongs to demo/scripted"),
        ("[models.'demo/scripted']\nprovider = 'local'", "model 'demo/scripted': provider demo belongs"),
        (A + "provider = 'azure'", "model 'acme/a': provider: must be one of: anthropic"),
        (A + "provider = []", "model 'acme/a': provider: must be one of: anthropic"),
        (A + "budget = 'low'", "budget: must be one of: budget, standard, premium; got 'low'"),
        (A + "context = 1", "unknown field 'context'; fields are: provider, wire_id"),
        (A + "context_window = 0", "context_window: must be a whole number above zero"),
        (A + "context_window = true", "context_window: must be a whole number above zero"),
        (A + "max_output_tokens = 1.5", "max_output_tokens: must be a whole number above zero"),
        (A + "context_window = 100", "max_output_tokens must not be above context_window"),
        (A + "vision = 'yes'", "vision: must be true or false"),
        (A + "name = ''", "name: must be a text of one line"),
        (A + 'name = "a\\nb"', "name: must be a text of one line"),
        (A + "wire_id = 'a b'", "not a model id: 'a b'"),
        (A + "tasks = { cooking = 1 }", "tasks: must be one of: general"),
        (A + "tasks = { coding = 1001 }", "tasks: coding must be a whole number from 0 to 1000"),
        (A + "tasks = 1", "tasks: must be a table"),
        (A + "retires_on = 2026-01-01T00:00:00", "retires_on: must be a day"),
        (A + "price = 1", "price: must be a table"),
        (A + "price = { input = 1 }", "price: input and output must both be given"),
        (A + "price = { input = -1, output = 1 }", "price: input must be US dollars per million tokens, 0 or more"),
        (A + "price = { input = nan, output = 1 }", "price: input must be US dollars"),
        (A + "price = { input = '1', output = 1 }", "price: input: must be US dollars per million tokens, got '1'"),
        (A + "price = { input = true, output = 1 }", "price: input: must be US dollars"),
        (A + "price = { input = 1, output = 1, cached = 1 }", "price: unknown field 'cached'"),
        (A + "price = { input = 1, output = 1, long_prompts = 1 }", "price: long_prompts: must be a list of tables"),
        (
            A + "price = { input = 1, output = 1, long_prompts = [{ input = 1, output = 1 }] }",
            "price: long_prompts: above_tokens must be 1 or more",
        ),
        (A + "price = [{ input = 1, output = 1 }, { input = 1, output = 1 }]", "price: each entry must have its own"),
        (A + "price = []", "price: must not be empty"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_the_file_the_entry_and_the_field(
    extra: Path, text: str, complaint: str
) -> None:
    extra.write_text(text)
    with pytest.raises(UsageError) as caught:
        Catalog.load(extra)
    line = str(caught.value)
    assert line.startswith(f"{extra}: ")
    assert complaint in line
    assert "\n" not in line


def test_a_file_that_is_no_text_or_no_file_is_named(extra: Path) -> None:
    extra.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="is not valid TOML"):
        Catalog.load(extra)
    extra.unlink()
    extra.mkdir()
    with pytest.raises(InvalidInput, match="cannot be read: Is a directory"):
        Catalog.load(extra)
