"""JSON text: whatever a person or a model may write comes back as it was."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_ai.schemas import json_text

ANY_TEXT = st.text(st.characters())  # lone surrogates included
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(ANY_JSON)
def test_text_comes_back_as_it_was(value: object) -> None:
    assert json_text.loads(json_text.dumps(value)) == value


@given(ANY_JSON)
def test_a_fragment_says_what_it_stands_for_whatever_stands_beside_it(value: object) -> None:
    fragment = json_text.Fragment(json_text.dumps(value))

    assert json_text.plain(fragment) == value
    assert json_text.loads(json_text.dumps({"a": fragment, "b": "\ud800"})) == {"a": value, "b": "\ud800"}


@given(ANY_JSON)
def test_bytes_for_the_wire_are_valid_utf_8_json(value: object) -> None:
    text = json_text.wire_dumps({"a": json_text.Fragment(json_text.dumps(value)), "b": "\udfff"}).decode("utf-8")
    assert "\\ud" not in text
    assert json.loads(text)["b"] == "\ufffd"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "{", "", "'a'"])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        json_text.loads(text)


def test_a_kept_copy_holds_no_spare_room() -> None:
    assert json_text.exact(orjson.dumps("x")) == b'"x"'
