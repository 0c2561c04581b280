"""Tool calls as JSON, as models really write them: fenced, single-quoted, with a comma too many, under other keys."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from conductor_ai.providers import tool_arguments
from conductor_ai.schemas import json_text

NAME_CHARS = 64
"""The most that a name of a call may have."""
Offered = frozenset[str]
"""Names of the tools that the model was shown."""
LANGUAGE = re.compile(r"[a-zA-Z]*")
"""The word behind an opening fence."""

_NAME_KEYS = ("name", "tool", "tool_name", "action", "function")
_ARGUMENT_KEYS = ("arguments", "args", "parameters", "params", "input", "tool_input", "action_input")
_KEYS_BESIDE = frozenset({"id", "call_id", "index", "type", "thought"})
_SCHEMA_KEYS = {"type", "properties"}
"""What stands in the description of a tool, and in no arguments."""
_KINDS = ("function", "function_call", "tool_call", "tool_use")
_FENCE_OPENS = re.compile(r"\s*(?:```[a-zA-Z]*\s*|`)?")
_FENCE_CLOSES = re.compile(r"\s*`{1,3}|\)")
_JSON_GAP = re.compile(r"[\s,;]*")
_STRING = r'"(?:[^"\\]|\\.)*+"?' + r"|'(?:[^'\\]|\\.)*+'?"
_BRACKET_OR_STRING = re.compile(rf"{_STRING}|[{{}}\[\]]", re.DOTALL)
_REPAIRABLE = re.compile(rf"{_STRING}|,(?=\s*[}}\]])|\b(?:True|False|None)\b", re.DOTALL)
_DEPTH = {"{": 1, "[": 1, "}": -1, "]": -1}
_ESCAPE_OR_QUOTE = re.compile(r'\\.|"', re.DOTALL)
_ATTEMPT = re.compile(
    rf"""\s*\[?\s*\{{\s*["'](?:{"|".join(_NAME_KEYS)})["']\s*:\s*["']([^"'\n]{{1,{NAME_CHARS}}})["']\s*,"""
    rf"""\s*["'](?:{"|".join(_ARGUMENT_KEYS)})["']\s*:"""
)
_NAMED = re.compile(rf"""["'](?:{"|".join(_NAME_KEYS)})["']\s*:\s*["']([^"'\n]{{1,{NAME_CHARS}}})["']""")


class TextCall(NamedTuple):
    """`arguments` is None where the text looks like a call and cannot be read as one: `raw` is what stands there."""

    name: str
    arguments: dict[str, Any] | None
    raw: str | None = None


def calls_in(text: str, offered: Offered) -> tuple[TextCall, ...] | None:
    """The calls that `text` is made of, one behind the other; None as soon as anything else stands there."""
    calls: list[TextCall] = []
    for value in _values(text) or ():
        if isinstance(value, dict) and value.keys() == {"tool_calls"}:
            value = value["tool_calls"]
        for item in value if isinstance(value, list) else [value]:
            call = _call_of(item, offered)
            if call is None:
                return None
            calls.append(call)
    return tuple(calls) or None


def attempted_call(text: str, offered: Offered) -> TextCall | None:
    """What begins like a call of an offered tool, where the whole is no JSON."""
    attempt = _ATTEMPT.match(text)
    if attempt is None or attempt[1] not in offered or _values(text) is not None:
        return None
    return TextCall(attempt[1], None, text.strip())


def name_in(text: str) -> str:
    """The name that a call which cannot be read seems to have; empty where none is found."""
    named = _NAMED.search(text)
    return named[1] if named else ""


def _call_of(item: Any, offered: Offered) -> TextCall | None:
    """A call where the object has a tool's name, arguments, and nothing that no call has."""
    if isinstance(item, dict) and isinstance(item.get("function"), dict) and item.keys() <= {"function", *_KEYS_BESIDE}:
        item = item["function"]
    if not isinstance(item, dict) or item.get("type", "function") not in _KINDS:
        return None
    named = [key for key in _NAME_KEYS if key in item]
    given = [key for key in _ARGUMENT_KEYS if key in item]
    if len(named) != 1 or len(given) != 1 or not item.keys() <= {*named, *given, *_KEYS_BESIDE}:
        return None
    name, value = item[named[0]], item[given[0]]
    if not isinstance(name, str) or name not in offered:
        return None
    arguments, raw = tool_arguments.from_text(value) if isinstance(value, str) else tool_arguments.from_value(value)
    if arguments is not None and arguments.keys() >= _SCHEMA_KEYS:
        return None
    return TextCall(name, arguments, raw)


def object_at(text: str, position: int) -> tuple[dict[str, Any] | None, int]:
    """The JSON object that stands at `position`, fenced or not, and where it ends; None where there is none."""
    at = fence_opens(text, position)
    end = json_end(text, at)
    value = None if end is None else _value(text[at:end])
    if end is None or not isinstance(value, dict):
        return None, position
    return value, behind_fence(text, end)


def fence_opens(text: str, position: int) -> int:
    """Where the content of a fence at `position` begins, or what stands there without one."""
    opening = _FENCE_OPENS.match(text, position)
    return opening.end() if opening else position


def behind_fence(text: str, position: int) -> int:
    closing = _FENCE_CLOSES.match(text, position)
    return closing.end() if closing else position


def unfenced(text: str) -> str:
    """`text` without a fence around all of it."""
    text = text.strip()
    if len(text) < 6 or not (text.startswith("```") and text.endswith("```")):
        return text
    language = LANGUAGE.match(text, 3)
    return text[language.end() if language else 3 : -3].strip()


def _values(text: str) -> list[Any] | None:
    """The objects and lists that `text` is made of, one behind the other; None where it holds anything else."""
    values: list[Any] = []
    position = 0
    while True:
        gap = _JSON_GAP.match(text, position)
        position = gap.end() if gap else position
        if position == len(text):
            return values
        end = json_end(text, position)
        value = None if end is None else _value(text[position:end])
        if end is None or not isinstance(value, dict | list):
            return None
        values.append(value)
        position = end


def json_end(text: str, position: int) -> int | None:
    """Where the bracket at `position` is closed; None where there is none, or it never is."""
    if text[position : position + 1] not in ("{", "["):
        return None
    depth = 0
    for found in _BRACKET_OR_STRING.finditer(text, position):
        depth += _DEPTH.get(found[0], 0)
        if depth == 0:
            return found.end()
    return None


def _value(text: str) -> Any:
    """What the JSON says, after simple repairs where it needs them; None where they are not enough."""
    try:
        return json_text.loads(text)
    except (ValueError, RecursionError):
        pass  # models write Python's literals, trailing commas and line ends inside of strings
    try:
        return json_text.loads(_REPAIRABLE.sub(_repaired, text))
    except (ValueError, RecursionError):
        return None


def _repaired(found: re.Match[str]) -> str:
    token = found[0]
    if token in _PYTHON_WORDS:
        return _PYTHON_WORDS[token]
    if token.startswith("'"):
        token = f'"{_ESCAPE_OR_QUOTE.sub(_requoted, token[1:-1])}"'
    return token.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


_PYTHON_WORDS = {",": "", "True": "true", "False": "false", "None": "null"}


def _requoted(found: re.Match[str]) -> str:
    return {"\\'": "'", '"': '\\"'}.get(found[0], found[0])
