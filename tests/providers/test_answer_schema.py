"""A user's schema in a provider's words: nothing that fits is lost, and nothing is said that the provider refuses."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import jsonschema_rs
import pytest
from anthropic.lib._parse._transform import transform_schema
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from conductor_ai.errors import InvalidInput
from conductor_ai.providers.answer_schema import Form, for_gemini, for_strict, unsayable

FORMS: dict[str, Form] = {"strict": for_strict, "gemini": for_gemini}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
STRICT_WORDS = {"type", "enum", "const", "anyOf", "$ref", "$defs", "properties", "required", "additionalProperties"}
STRICT_WORDS |= {"items", "minItems", "format", "title", "description"}
GEMINI_WORDS = STRICT_WORDS - {"const"} | {"prefixItems", "maxItems", "minimum", "maximum", "propertyOrdering"}
WORDS: dict[Form, set[str]] = {for_strict: STRICT_WORDS, for_gemini: GEMINI_WORDS}

Made = tuple[dict[str, Any], Any]
"""A schema, and a value that fits it."""

KEYS = st.sampled_from(["a", "b", "c", "$ref", "type", "properties"])
LITERALS = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["x", "y", "date"]) | st.just(0.5)


@st.composite
def literals(draw: st.DrawFn) -> Made:
    values = draw(st.lists(LITERALS, min_size=1, max_size=4))
    value = draw(st.sampled_from(values))
    if draw(st.booleans()):
        return {"const": value}, value
    return {"enum": values}, value


@st.composite
def scalars(draw: st.DrawFn) -> Made:
    value = draw(st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text("ab-", max_size=5))
    named = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string"}[type(value)]
    rules: dict[str, Any] = {}
    if isinstance(value, int | float) and not isinstance(value, bool):
        rules = {"minimum": -9, "exclusiveMaximum": 9.5}
    elif isinstance(value, str):
        rules = {"maxLength": 5, "pattern": "^[ab-]*$"}
    kept = draw(st.sets(st.sampled_from([*rules]))) if rules else set()
    other = draw(st.sampled_from(sorted({"null", "boolean", "string", "object"} - {named})))
    kind = draw(st.sampled_from([named, [named], [named, other], [other, named]]))
    if "object" in kind:
        rules, kept = {**rules, "additionalProperties": False}, {*kept, "additionalProperties"}
    return {"type": kind, **{word: rules[word] for word in sorted(kept)}}, value


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[Made]) -> Made:
    if draw(st.booleans()):
        schema, value = draw(inner)
        count = draw(st.integers(0, 3))
        rules = draw(
            st.sampled_from([{}, {"minItems": count}, {"maxItems": count, "minItems": 0, "uniqueItems": False}])
        )
        return {"type": "array", "items": schema, **rules}, [value] * count
    made = draw(st.lists(inner, min_size=1, max_size=3))
    ends: dict[str, Any] = draw(st.sampled_from([{"maxItems": len(made)}, {"items": False}]))
    return {"type": "array", "prefixItems": [schema for schema, _ in made], **ends}, [value for _, value in made]


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Made]) -> Made:
    made = draw(st.dictionaries(KEYS, inner, min_size=1, max_size=3))
    present = draw(st.sets(st.sampled_from([*made])))
    schema: dict[str, Any] = {"type": "object", "properties": {key: part for key, (part, _) in made.items()}}
    if draw(st.booleans()):
        schema["required"] = sorted(present)
    schema |= draw(st.sampled_from([{}, {"additionalProperties": False}, {"additionalProperties": True}]))
    if draw(st.booleans()):
        schema |= {"minProperties": len(present), "anyOf": [{"required": sorted(present)}, {"required": ["b"]}]}
    return schema, {key: made[key][1] for key in present}


@st.composite
def wrapped(draw: st.DrawFn, inner: st.SearchStrategy[Made]) -> Made:
    (schema, value), (other, _) = draw(inner), draw(inner)
    if not draw(st.booleans()):
        return {"allOf": [schema], "description": "One."}, value
    return {"anyOf": [other, schema], "default": None, "title": "Either"}, value


def nested(inner: st.SearchStrategy[Made]) -> st.SearchStrategy[Made]:
    return st.one_of(objects(inner), arrays(inner), wrapped(inner))


@st.composite
def documents(draw: st.DrawFn) -> Made:
    """A whole schema; what it holds is partly written under $defs or definitions, and referred to."""
    parts = draw(st.lists(st.recursive(scalars() | literals(), nested, max_leaves=8), min_size=1, max_size=4))
    properties, value, defs = {}, {}, {}
    where = draw(st.sampled_from(["$defs", "definitions"]))
    for index, (schema, example) in enumerate(parts):
        name = f"p{index}"
        value[name] = example
        if draw(st.booleans()):
            defs[f"D{index}~/ %"] = schema
            schema = {"$ref": f"#/{where}/D{index}~0~1%20%25", "description": "There."}
        properties[name] = schema
    root: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}
    root |= {"properties": properties, "required": [*value]}
    return {**root, where: defs} if defs else root, value


def schemas_in(schema: Any) -> list[dict[str, Any]]:
    """The schema and every schema inside it."""
    found = [schema]
    for word in ("properties", "$defs"):
        for inner in schema.get(word, {}).values():
            found += schemas_in(inner)
    for word in ("anyOf", "prefixItems"):
        for inner in schema.get(word, ()):
            found += schemas_in(inner)
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            found += schemas_in(schema[word])
    return found


@given(documents())
def test_what_fits_the_original_fits_what_the_provider_is_told(made: Made) -> None:
    schema, value = made
    assert jsonschema_rs.is_valid(schema, value)
    for form in FORMS.values():
        translated = form(schema)
        assert jsonschema_rs.is_valid(translated, value), translated


@given(documents())
def test_a_provider_is_told_only_what_it_knows(made: Made) -> None:
    schema, _ = made
    before = repr(schema)
    for form, words in WORDS.items():
        for part in schemas_in(form(schema)):
            assert part.keys() <= words, part
            assert not ("$ref" in part and len(part.keys() - {"$defs"}) > 1), part
            if form is for_strict and part.get("type") == "object":
                assert part["additionalProperties"] is False
            assert form is for_gemini or part.get("minItems", 0) in (0, 1)
            assert not isinstance(part.get("type"), list)
    assert repr(schema) == before


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


class Item(BaseModel):
    """One thing."""

    model_config = ConfigDict(extra="forbid")
    name: str
    count: int = Field(ge=1, le=9, description="How many")
    kind: Literal["a", "b"]


class Order(BaseModel):
    number: Annotated[str, Field(min_length=2, pattern="^[A-Z]+$")]
    items: list[Item] = Field(min_length=1)
    first: Item | None = None
    either: int | str = 0
    paid: bool
    mail: str | None = Field(None, json_schema_extra={"format": "email"})


def without_text(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: without_text(value) for key, value in schema.items() if key != "description"}
    return [without_text(value) for value in schema] if isinstance(schema, list) else schema


def test_the_strict_form_is_that_of_the_sdk() -> None:
    """Every word but the text that tells what was left out."""
    assert without_text(for_strict(Order.model_json_schema())) == without_text(transform_schema(Order))


@forms
def test_what_a_provider_does_not_know_is_told_in_the_description(form: Form) -> None:
    schema = {"type": "string", "minLength": 2, "format": "iban", "description": "The account", "title": "IBAN"}
    assert form(schema) == {
        "type": "string",
        "title": "IBAN",
        "description": 'The account\n\n{"minLength":2,"format":"iban"}',
    }


def test_a_format_is_kept_where_it_is_known() -> None:
    for form in FORMS.values():
        assert form({"type": "string", "format": "date"}) == {"type": "string", "format": "date"}
    email = {"type": "string", "format": "email"}
    assert for_strict(email) == email
    assert for_gemini(email) == {"type": "string", "description": '{"format":"email"}'}


def test_gemini_is_told_values_as_enums_of_strings_and_numbers() -> None:
    assert for_gemini({"enum": ["a", 1, None, True, 1.5, 2, "b"], "title": "Any"}) == {
        "anyOf": [
            {"type": "string", "enum": ["a", "b"]},
            {"type": "integer", "enum": [1, 2]},
            {"type": "null"},
            {"type": "boolean", "description": '{"enum":[true]}'},
            {"type": "number", "enum": [1.5]},
        ],
        "title": "Any",
    }


def test_a_choice_between_1_and_true_stays_one() -> None:
    choice = {"anyOf": [{"const": 1}, {"const": True}]}
    assert for_strict(choice) == choice
    assert jsonschema_rs.is_valid(for_gemini(choice), True)


def test_a_description_beside_a_reference_is_not_lost_where_it_can_be_said() -> None:
    class Paint(BaseModel):
        color: Color = Field(description="Of the door")

    for form in FORMS.values():
        color = form(Paint.model_json_schema())["properties"]["color"]
        assert (color["enum"], color["description"]) == (["red", "blue"], "Of the door")


class Node(BaseModel):
    value: int
    children: list[Node] = []


def test_gemini_is_told_of_a_schema_that_refers_to_itself() -> None:
    translated = for_gemini(Node.model_json_schema())
    tree = {"value": 1, "children": [{"value": 2, "children": []}]}
    assert jsonschema_rs.is_valid(translated, tree)
    assert not jsonschema_rs.is_valid(translated, {"value": 1, "children": [{"value": "x"}]})


def test_gemini_keeps_objects_open_that_are() -> None:
    counts = {"type": "object", "additionalProperties": {"type": "integer", "multipleOf": 2}}
    assert for_gemini(counts) == {
        "type": "object",
        "additionalProperties": {"type": "integer", "description": '{"multipleOf":2}'},
    }
    assert for_gemini({"type": "object"}) == {"type": "object"}
    by_pattern = {"type": "object", "patternProperties": {"^x": {}}, "additionalProperties": False}
    assert jsonschema_rs.is_valid(for_gemini(by_pattern), {"x1": 1})


OBJECT = {"type": "object", "properties": {"a": {"type": "string"}}}
STRICT_GAPS: dict[str, tuple[Any, str]] = {
    "free keys": ({"type": "object", "additionalProperties": {"type": "string"}}, "free keys"),
    "any keys": ({"type": "object"}, "free keys"),
    "keys by pattern": ({**OBJECT, "patternProperties": {"^x": {}}}, "free keys"),
    "undeclared key": ({**OBJECT, "required": ["b"]}, "not among its properties"),
    "anything": ({"title": "Any"}, "may be anything"),
    "true": (True, "may be anything"),
    "any items": ({"type": "array", "prefixItems": [OBJECT]}, "items of any kind"),
    "rules alone": ({"anyOf": [{"minimum": 1}, {"maximum": 0}]}, "may be anything"),
    "itself": ({"$ref": "#"}, "refers to itself"),
}
GAPS: dict[str, tuple[Any, str]] = {
    "parts": ({"allOf": [OBJECT, OBJECT]}, "put together out of parts"),
    "part of": ({**OBJECT, "allOf": [OBJECT]}, "put together out of parts"),
    "outside": ({"$ref": "https://example.com/schema"}, "outside"),
    "nowhere": ({"$ref": "#/$defs/nothing"}, "does not exist"),
}


@pytest.mark.parametrize("gap", STRICT_GAPS)
def test_what_has_no_strict_form_is_refused_where_it_stands(gap: str) -> None:
    part, why = STRICT_GAPS[gap]
    schema = {"type": "object", "properties": {"it": part}, "required": ["it"]}
    assert unsayable(schema, for_gemini) is None
    with pytest.raises(InvalidInput, match=why) as caught:
        for_strict(schema)
    assert "#/properties/it" in str(caught.value)
    assert unsayable(schema, for_strict) == str(caught.value)


@forms
@pytest.mark.parametrize("gap", GAPS)
def test_what_has_no_form_at_all_is_refused_where_it_stands(gap: str, form: Form) -> None:
    part, why = GAPS[gap]
    problem = unsayable({"type": "object", "properties": {"it": part}}, form)
    assert problem is not None
    assert why in problem
    assert "#/properties/it" in problem


def test_an_object_with_choices_of_more_keys_has_no_strict_form() -> None:
    choices = {**OBJECT, "anyOf": [{"properties": {"b": {"type": "string"}}}, {"required": ["a"]}]}
    assert "put together" in (unsayable(choices, for_strict) or "")
    assert jsonschema_rs.is_valid(for_gemini(choices), {"a": "x", "b": "y"})


def test_definitions_that_nothing_refers_to_are_left_out() -> None:
    schema = {**OBJECT, "$defs": {"unused": {"type": "object"}}}
    assert for_strict(schema) == {**OBJECT, "additionalProperties": False}
