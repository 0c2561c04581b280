from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_ai.errors import InvalidTool
from conductor_ai.sdk import ToolCategory, ToolDefinition
from conductor_ai.sdk.arguments import ArgumentValidator


def validator(properties: dict[str, Any], **more: Any) -> ArgumentValidator:
    parameters = {"type": "object", "properties": properties, "additionalProperties": False, **more}
    return ArgumentValidator(
        ToolDefinition(name="probe", description="Probe.", category=ToolCategory.DATA, parameters=parameters)
    )


def test_all_that_is_wrong_is_named_with_its_place() -> None:
    schema = {
        "day": {"type": "string", "format": "date"},
        "sizes": {"type": "array", "items": {"type": "integer"}},
        "kind": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    }
    problem = validator(schema, required=["name"]).check({"day": "soon", "sizes": [1, "x"], "kind": "y", "more": 1})

    assert sorted((problem or "").split("; ")) == [
        '"name" is a required property',
        "Additional properties are not allowed ('more' was unexpected)",
        'day: "soon" is not a "date" (like 2026-01-31)',
        'kind: "y" is not of type "integer", and "y" is not of type "null"',
        'sizes.1: "x" is not of type "integer"',
    ]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("date", "2024-02-29", "2023-02-29"),
        ("date-time", "2026-01-31T09:30:00+02:00", "2026-01-31T09:30:00"),
        ("email", "ada@example.com", "ada"),
        ("uuid", "00000000-0000-0000-0000-000000000000", "0"),
    ],
)
def test_formats_are_checked(kind: str, good: str, bad: str) -> None:
    checked = validator({"value": {"type": "string", "format": kind}})

    assert checked.check({"value": good}) is None
    assert kind in (checked.check({"value": bad}) or "")


def test_a_flood_of_problems_stays_a_line() -> None:
    checked = validator({"sizes": {"type": "array", "items": {"type": "integer"}}, "text": {"type": "integer"}})

    many = checked.check({"sizes": ["x"] * 1000}) or ""
    enormous = checked.check({"sizes": ["x"] * 100_000}) or ""
    long = checked.check({"text": "y" * 1000 + "\n"}) or ""

    assert many.count("; ") == 4
    assert enormous == 'sizes.0: "x" is not of type "integer"'
    assert len(long) < 250
    assert "\n" not in long


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_half_a_surrogate_pair_is_refused_in_words_where_the_text_itself_is_checked(text: str) -> None:
    checked = validator({"text": {"type": "string"}, "day": {"type": "string", "format": "date"}})

    assert "surrogate" in (checked.check({"day": text}) or "")
    assert "surrogate" in (checked.check({text: 1}) or "")
    assert checked.check({"text": text}) is None
    assert checked.check({"text": "\x00"}) is None


def test_what_is_no_json_data_is_refused_in_words() -> None:
    checked = validator({"value": {"type": "integer"}})

    assert "not JSON data" in (checked.check({"value": object()}) or "")


def test_arguments_as_deep_as_json_readers_let_through_are_checked() -> None:
    checked = validator({"value": {"$ref": "#/$defs/nest"}}, **{"$defs": {"nest": {"items": {"$ref": "#/$defs/nest"}}}})

    assert checked.check({"value": json.loads("[" * 900 + "]" * 900)}) is None


@pytest.mark.parametrize(
    "properties",
    [
        {"day": {"type": "dat"}},
        {"day": {"pattern": "("}},
        {"day": {"$ref": "#/$defs/nowhere"}},
        {"day": {"const": object()}},
        {"day": 3},
    ],
)
def test_a_broken_schema_is_an_invalid_tool_that_is_named(properties: dict[str, Any]) -> None:
    with pytest.raises(InvalidTool, match="tool 'probe': its parameters are not a valid schema"):
        validator(properties)


@pytest.fixture
def schema_server() -> Iterator[tuple[str, list[str]]]:
    """A server whose every answer would be a fine schema, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"type": "string"}')

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/schema.json", asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_reference_to_a_server_is_refused_and_not_fetched(schema_server: tuple[str, list[str]]) -> None:
    url, asked = schema_server

    with pytest.raises(InvalidTool, match="references outside the schema are refused"):
        validator({"day": {"$ref": url}})

    assert asked == []


def test_a_reference_to_a_file_is_refused_though_the_file_is_there(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text('{"type": "string"}')

    with pytest.raises(InvalidTool, match="references outside the schema are refused"):
        validator({"day": {"$ref": file.as_uri()}})


def test_integral_floats_become_ints_wherever_the_schema_says_integer() -> None:
    checked = validator(
        {
            "count": {"type": "integer"},
            "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "ratio": {"type": "number"},
            "mixed": {"type": ["integer", "string"]},
            "sizes": {"type": "array", "prefixItems": [{"type": "number"}], "items": {"type": "integer"}},
            "by_name": {"type": "object", "additionalProperties": {"type": "integer"}},
            "inner": {"$ref": "#/$defs/inner"},
        },
        **{"$defs": {"inner": {"properties": {"count": {"type": "integer"}, "inner": {"$ref": "#/$defs/inner"}}}}},
    )
    arguments = {
        "count": 3.0,
        "maybe": 4.0,
        "ratio": 5.0,
        "mixed": 6.0,
        "sizes": [1.0, 2.0, 3],
        "by_name": {"a": 7.0},
        "inner": {"count": 8.0, "inner": {"inner": {"count": 9.0}}},
    }

    assert checked.check(arguments) is None
    assert json.dumps(arguments) == json.dumps(
        {
            "count": 3,
            "maybe": 4,
            "ratio": 5.0,
            "mixed": 6,
            "sizes": [1.0, 2, 3],
            "by_name": {"a": 7},
            "inner": {"count": 8, "inner": {"inner": {"count": 9}}},
        }
    )


def test_refused_arguments_are_left_as_they_were() -> None:
    arguments = {"count": 3.0, "name": 1}

    assert validator({"count": {"type": "integer"}, "name": {"type": "string"}}).check(arguments) is not None
    assert json.dumps(arguments) == '{"count": 3.0, "name": 1}'


def test_a_schema_that_only_refers_to_itself_has_no_integers() -> None:
    checked = validator({"self": {"$ref": "#"}, "any": {"allOf": [True, {"$ref": "#/properties/any/allOf/0"}]}})
    arguments = {"self": {"self": {}}, "any": 3.0}

    assert checked.check(arguments) is None
    assert repr(arguments) == "{'self': {'self': {}}, 'any': 3.0}"


def test_integers_of_an_older_draft_are_found_too() -> None:
    draft = {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"pair/s": {"type": "integer"}}}
    checked = validator({"pair": {"items": [{"type": "number"}, {"$ref": "#/definitions/pair~1s"}]}}, **draft)
    arguments = {"pair": [1.0, 2.0]}

    assert checked.check(arguments) is None
    assert repr(arguments) == "{'pair': [1.0, 2]}"


_INTEGER = {"type": "integer"}
_SCHEMAS = st.recursive(
    st.sampled_from([(_INTEGER, True), ({"type": "number"}, False)]),
    lambda inner: st.one_of(
        st.tuples(st.just("array"), inner),
        st.tuples(st.just("object"), inner),
        st.tuples(st.just("nullable"), inner),
        st.tuples(st.just("open"), inner),
    ),
    max_leaves=4,
)


def _schema_and_value(shape: Any, number: int) -> tuple[dict[str, Any], Any, Any]:
    """A schema of that shape, a value holding a float, and the value that is expected after the check."""
    kind, inner = shape
    if isinstance(kind, dict):
        return kind, float(number), number if inner else float(number)
    schema, value, expected = _schema_and_value(inner, number)
    match kind:
        case "array":
            return {"type": "array", "items": schema}, [value, value], [expected, expected]
        case "object":
            return {"type": "object", "properties": {"x": schema}}, {"x": value, "y": 1.0}, {"x": expected, "y": 1.0}
        case "open":
            return {"type": "object", "additionalProperties": schema}, {"z": value}, {"z": expected}
        case _:
            return {"anyOf": [schema, {"type": "null"}]}, value, expected


@given(_SCHEMAS, st.integers(-(2**53), 2**53))
def test_exactly_the_integers_of_any_nested_schema_are_made_ints(shape: Any, number: int) -> None:
    schema, value, expected = _schema_and_value(shape, number)
    arguments = {"value": copy.deepcopy(value)}

    assert validator({"value": schema}).check(arguments) is None
    assert repr(arguments) == repr({"value": expected})


def test_a_reference_by_the_id_of_an_inner_schema_is_followed() -> None:
    inner = {"q": {"$id": "https://example.com/q", "type": "integer"}}
    checked = validator({"a": {"$ref": "https://example.com/q"}}, **{"$defs": inner})
    assert checked.check({"a": 1}) is None
    assert checked.check({"a": "x"}) is not None
