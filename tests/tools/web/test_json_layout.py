"""JSON laid out for a reader: other white space, the same facts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_ai.tools.web.json_layout import compact, indented

DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(DATA, st.booleans())
def test_it_is_what_python_would_write(data: object, ascii_only: bool) -> None:
    text = json.dumps(data, ensure_ascii=ascii_only)

    assert compact(text) == json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    if len(text) < 300:
        assert indented(text) == json.dumps(data, ensure_ascii=False, indent=2)


@pytest.mark.parametrize(
    "fact",
    [
        '"phone": "111", "phone": "222"',
        '"id": 12345678901234567.123456789',
        '"price": 2.50',
        '"big": 1e400',
        '"huge": 123456789012345678901234567890',
        '"none": NaN',
        '"all": -Infinity',
        '"zero": -0.0',
        r'"half": "\ud800"',
        r'"path": "C:\\users"',
    ],
)
def test_no_fact_changes(fact: str) -> None:
    assert indented("{" + fact + "}") == "{\n  " + fact.replace(", ", ",\n  ") + "\n}"


def test_what_is_no_json_stays_as_it_came() -> None:
    for text in ("{'a': 1}", "[1, 2", "", "1" * 5000, "[" * 100_000):
        assert indented(text) == compact(text) == text


def test_a_line_break_within_a_string_is_written_as_one() -> None:
    assert indented('["a\nb"]') == '[\n  "a\\nb"\n]'


def test_what_would_outgrow_itself_stays_as_it_came() -> None:
    text = "[" * 400 + "1," * 2000 + "1" + "]" * 400

    assert indented(text) == text
