"""JSON text in and out, for anything a person or a model may write: NUL and lone surrogates round-trip.

orjson is used wherever it can; it refuses lone surrogates, which the standard library escapes and reads back.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

Fragment = orjson.Fragment
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def dumps(value: Any) -> str:
    """Compact JSON text, keys in the given order. Raises TypeError where `value` is not JSON data."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return json.dumps(_without_fragments(value), separators=(",", ":"), allow_nan=False)


def loads(text: str | bytes) -> Any:
    """Raises ValueError where `text` is not JSON."""
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text, parse_constant=_refuse_constant)


def wire_dumps(value: Any) -> bytes:
    """JSON bytes for another program: always valid UTF-8, a lone surrogate becomes U+FFFD."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(_without_surrogates(_without_fragments(value)))


def plain(value: Any) -> Any:
    """A fragment as the data it stands for; anything else as it is."""
    return loads(orjson.dumps(value)) if isinstance(value, orjson.Fragment) else value


def exact(data: bytes) -> bytes:
    """A copy that holds no spare room: orjson hands out buffers of at least 1 kB."""
    return bytes(memoryview(data))


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _without_fragments(value: Any) -> Any:
    if isinstance(value, orjson.Fragment):
        return plain(value)
    if isinstance(value, dict):
        return {key: _without_fragments(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_fragments(item) for item in value]
    return value


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value
