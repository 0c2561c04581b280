"""Any Python value as JSON text for a record: what JSON cannot say is written down by its repr."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import orjson
from pydantic import BaseModel

from conductor_ai.schemas import json_text

_MAX_DEPTH = 64


def record_json(value: Any) -> str:
    """Compact JSON text. NUL and lone surrogates are escaped, so that every database takes it.

    Models and dataclasses become objects, whatever else JSON does not know (sets, bytes, open files) its repr.
    """
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # Lone surrogates, integers beyond 64 bits, keys of odd types, cycles: the slow way says them all.
        return json.dumps(_tree(value, _MAX_DEPTH), separators=(",", ":"))


def escaped_text(text: str) -> str:
    """`text` as every database takes it as plain text: NUL and lone surrogates become their JSON escapes."""
    if "\0" in text:
        text = text.replace("\0", "\\u0000")
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, tuple):
        return list(value)  # a named tuple
    return _repr(value)


def _tree(value: Any, depth: int) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # as orjson writes them
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, orjson.Fragment):
        return json_text.loads(orjson.dumps(value))
    if depth == 0:
        return _repr(value)
    if isinstance(value, dict):
        return {key if isinstance(key, str) else _repr(key): _tree(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tree(item, depth - 1) for item in value]
    if isinstance(value, BaseModel):
        return _tree(value.model_dump(), depth - 1)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _tree(fields, depth - 1)
    return _repr(value)


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # a foreign __repr__ may raise anything, and a record must not fail by it
        return f"<{type(value).__name__} whose repr failed>"


def described(exc: BaseException) -> str:
    """Class and message of an exception, on record."""
    name = type(exc).__name__
    try:
        text = str(exc)
    except Exception:  # a foreign __str__, as in `_repr`
        text = "its message could not be read"
    return f"{name}: {text}" if text else name
