"""What a record says of values that JSON does not know."""

from __future__ import annotations

import json
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from conductor_ai.observability.values import record_json

Point = namedtuple("Point", "x y")


class Page(BaseModel):
    text: str


@dataclass
class Query:
    page: Any


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        (Point(1, 2), [1, 2]),
        ({1: "a", (2, 3): "b"}, {"1": "a", "(2, 3)": "b"}),
        (2**70, 2**70),
        (
            {"text": "\ud800", "page": Page(text="page"), "query": Query({1})},
            {"text": "\ud800", "page": {"text": "page"}, "query": {"page": "{1}"}},
        ),
        ({"not a number": float("nan"), "lone": "\ud800"}, {"not a number": None, "lone": "\ud800"}),
        ({"ready": orjson.Fragment(b'{"a":[1]}'), "lone": ["\ud800"]}, {"ready": {"a": [1]}, "lone": ["\ud800"]}),
        (Query(b"\xff"), {"page": "b'\\xff'"}),
        (int, "<class 'int'>"),
    ],
)
def test_every_value_is_recorded(value: Any, recorded: Any) -> None:
    assert json.loads(record_json(value)) == recorded


def test_a_value_that_holds_itself_is_recorded_to_a_depth() -> None:
    value: list[Any] = []
    value.append(value)
    assert json.loads(record_json(value))[0][0][0]
