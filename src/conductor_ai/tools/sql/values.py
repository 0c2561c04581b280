"""What a value of Postgres is as JSON, and a value of JSON as a parameter. Nothing loses digits or its time zone.

Numbers that JSON has stay numbers. A numeric is text, so that no digit is lost; a date, a time or an interval is text
as ISO 8601 has it, in UTC where it has a time zone; bytes are base64; JSON is itself; an array is a list. Anything else
is text as Postgres writes it.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

from psycopg import postgres
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.types.json import Jsonb
from psycopg.types.string import TextLoader

from conductor_ai.schemas import json_text
from conductor_ai.tools.sql.failures import QueryFailed

_DEEPEST_JSON = 100
_AS_IT_IS = ("bool", "int2", "int4", "int8", "oid")


@dataclass(frozen=True, slots=True)
class Context:
    """What a connection is opened with, so that its rows come back as JSON data."""

    adapters: AdaptersMap
    connection: None = None


@cache
def reading() -> Context:
    """Made once; a connection copies it."""
    adapters = AdaptersMap(postgres.adapters)
    for kind in adapters.types:
        if kind.name not in _AS_IT_IS:
            adapters.register_loader(kind.oid, TextLoader)
    for name, loader in _LOADERS.items():
        adapters.register_loader(name, loader)
    return Context(adapters)


class _Float(Loader):
    def load(self, data: Buffer) -> float | str:
        text = bytes(data).decode()
        number = float(text)
        return number if math.isfinite(number) else text


class _Bytes(Loader):
    def load(self, data: Buffer) -> str:
        # The session has bytea_output = hex.
        return base64.b64encode(bytes.fromhex(bytes(data)[2:].decode())).decode()


class _JSON(Loader):
    def load(self, data: Buffer) -> Any:
        text = bytes(data).decode()
        if _depth(text) > _DEEPEST_JSON:  # as data it could not be written again
            return text
        try:
            return json_text.loads(text)
        except ValueError:  # a number that is too large for anything but a database
            return text


class _Moment(Loader):
    def load(self, data: Buffer) -> str:
        text = bytes(data).decode()
        if text[10:11] != " " or text.endswith(" BC"):  # `infinity`, or years that ISO 8601 writes in another way
            return text
        text = f"{text[:10]}T{text[11:]}"
        return f"{text}:00" if text[-3] in "+-" else text


_LOADERS: dict[str, type[Loader]] = {
    "bytea": _Bytes,
    "float4": _Float,
    "float8": _Float,
    "json": _JSON,
    "jsonb": _JSON,
    "timestamp": _Moment,
    "timestamptz": _Moment,
}


def _depth(text: str) -> int:
    """How deep brackets nest, at most; those in strings count, too."""
    deepest = depth = 0
    for char in text:
        if char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def parameters(names: tuple[str, ...], given: dict[str, Any]) -> list[Any]:
    """The values for `$1`, `$2` ..., which are those of `names`. Raises: QueryFailed for one too few or too many."""
    missing, unused = [name for name in names if name not in given], sorted(given.keys() - set(names))
    if missing or unused:
        what = f"the statement names :{missing[0]}" if missing else f"the statement has no :{unused[0]}"
        raise QueryFailed(f"{what}, and `params` {'does not' if missing else 'does'}: they must be the same names")
    return [_parameter(name, given[name]) for name in names]


def _parameter(name: str, value: Any) -> Any:
    if isinstance(value, str):
        if "\0" in value or not _is_unicode(value):
            raise QueryFailed(f"the parameter {name} holds a character that a database does not store")
        return value
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return [_parameter(name, item) for item in value]
    return Jsonb(value, dumps=json_text.dumps) if isinstance(value, dict | list) else value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
