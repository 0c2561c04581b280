"""JSON text in and out, for anything a person or a model may write: NUL, lone surrogates and integers of any size
round-trip.

orjson is used wherever it can. It refuses lone surrogates, and it reads an integer beyond 64 bits as a float; the
standard library escapes the former and keeps the latter.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import orjson

Fragment = orjson.Fragment
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_DIGITS_AS_ZEROS = bytes(48 if 48 <= byte <= 57 else 32 for byte in range(256))
_LONG_NUMBER = b"0" * 19
"""The fewest digits of an integer that may be beyond 64 bits."""


def dumps(value: Any) -> str:
    """Compact JSON text, keys in the given order.

    Raises: TypeError where `value` is not JSON data; ValueError for an integer of more than 4300 digits.
    """
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return json.dumps(_without_fragments(value), separators=(",", ":"), allow_nan=False)


def loads(text: str | bytes) -> Any:
    """Raises ValueError where `text` is not JSON, or holds an integer of more than 4300 digits (Python's limit)."""
    if not _may_hold_long_integer(text):
        try:
            return orjson.loads(text)
        except ValueError:
            pass  # a lone surrogate, or no JSON: the standard library tells
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)


def wire_dumps(value: Any) -> bytes:
    """JSON bytes for another program: always valid UTF-8, a lone surrogate becomes U+FFFD."""
    try:
        return orjson.dumps(value)
    except TypeError:
        sayable = _without_surrogates(_without_fragments(value))
        return json.dumps(sayable, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def plain(value: Any) -> Any:
    """A fragment as the data it stands for; anything else as it is."""
    return loads(orjson.dumps(value)) if isinstance(value, orjson.Fragment) else value


def exact(data: bytes) -> bytes:
    """A copy that holds no spare room: orjson hands out buffers of at least 1 kB."""
    return bytes(memoryview(data))


def _may_hold_long_integer(text: str | bytes) -> bool:
    # 0.6 us for a reply of half a kilobyte, 1 ms for one of a megabyte; a regular expression takes ten times as long.
    data = text.encode(errors="replace") if isinstance(text, str) else text
    return _LONG_NUMBER in data.translate(_DIGITS_AS_ZEROS)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:20]} is too large")  # as orjson has it; stored, it would become null
    return number


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
