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
    | st.integers()
    | st.integers(-(2**80), 2**80)
    | st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**18, 10**19, -(10**18)])
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(ANY_JSON)
def test_text_comes_back_as_it_was(value: object) -> None:
    assert repr(json_text.loads(json_text.dumps(value))) == repr(value)  # 1 == 1.0, but they are not the same


@given(ANY_JSON)
def test_a_fragment_says_what_it_stands_for_whatever_stands_beside_it(value: object) -> None:
    fragment = json_text.Fragment(json_text.dumps(value))

    assert json_text.plain(fragment) == value
    assert json_text.loads(json_text.dumps({"a": fragment, "b": "\ud800"})) == {"a": value, "b": "\ud800"}


@given(st.integers(), st.sampled_from(["%d", '{"n":%d}', '[1.5,"\\ud800",%d]', "[0.12345678901234567890, %d ]"]))
def test_an_integer_of_any_size_is_read_as_it_was_written(number: int, form: str) -> None:
    text = form % number
    assert repr(json_text.loads(text)) == repr(json_text.loads(text.encode())) == repr(json.loads(text))


@given(ANY_JSON)
def test_the_wire_carries_integers_of_any_size(value: object) -> None:
    assert json.loads(json_text.wire_dumps({"n": 2**64, "v": value}))["n"] == 2**64


def test_beside_a_large_integer_text_is_valid_utf_8_too() -> None:
    assert json_text.wire_dumps([2**64, "Grüße\ud800"]) == '[18446744073709551616,"Grüße\ufffd"]'.encode()


@given(ANY_JSON)
def test_bytes_for_the_wire_are_valid_utf_8_json(value: object) -> None:
    text = json_text.wire_dumps({"a": json_text.Fragment(json_text.dumps(value)), "b": "\udfff"}).decode("utf-8")
    assert "\\ud" not in text
    assert json.loads(text)["b"] == "\ufffd"


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "{", "", "'a'", "1e400", "[1e400,12345678901234567890123]", "1" * 5000]
)
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        json_text.loads(text)


def test_a_kept_copy_holds_no_spare_room() -> None:
    assert json_text.exact(orjson.dumps("x")) == b'"x"'
