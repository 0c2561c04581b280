"""JSON text laid out anew without being written anew: every name, number and order stays as it came.

Read into Python and written again, JSON loses facts: the first of two names that are the same, digits of a number that
no float holds, an exponent that becomes `Infinity`. So only the white space between the tokens changes here, and
strings are freed of `\\u` escapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

# Possessive: a long string is gone through once, and nothing is remembered of it.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},:]|[^\s\[\]{},:"]+')
_OPENING, _CLOSING = frozenset("[{"), frozenset("]}")
_REWRITTEN = re.compile(r"\\u|[\x00-\x1f]")
_SPACED = {":": ": "}
_INDENT = "  "
_MAX_GROWTH = 4
_FREE_CHARS = 1000


def indented(text: str) -> str:
    """A line for each member and element. As it came where it is no JSON, or so deep that it would outgrow itself."""
    if not _is_json(text):
        return text
    parts, size, depth, previous = [], 0, 0, ""
    for token in _tokens(text):
        depth -= token in _CLOSING
        if previous == "," or (previous in _OPENING) != (token in _CLOSING):
            parts.append("\n" + depth * _INDENT)
            size += len(parts[-1])
        parts.append(_SPACED.get(token, token))
        size += len(parts[-1])
        if size > _MAX_GROWTH * len(text) + _FREE_CHARS:
            return text
        depth += token in _OPENING
        previous = token
    return "".join(parts)


def compact(text: str) -> str:
    """On one line. As it came where it is no JSON."""
    return "".join(_tokens(text)) if _is_json(text) else text


def _is_json(text: str) -> bool:
    try:
        json.loads(text, strict=False)  # line breaks within strings are a common mistake, and no doubtful one
    except (ValueError, RecursionError):
        return False
    return True


def _tokens(text: str) -> Iterator[str]:
    for found in _TOKEN.finditer(text):
        token = found[0]
        yield _readable(token) if token[0] == '"' and _REWRITTEN.search(token) else token


def _readable(string: str) -> str:
    written = json.dumps(json.loads(string, strict=False), ensure_ascii=False)
    try:
        written.encode()
    except UnicodeEncodeError:
        return string  # half of a surrogate pair can be escaped, and is no text
    return written
