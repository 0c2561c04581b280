"""The arguments of a tool call, as models really write them."""

from __future__ import annotations

from typing import Any

from conductor_ai.schemas import json_text

EMPTY_OBJECT = "{}"


def from_text(text: str) -> tuple[dict[str, Any] | None, str | None]:
    """Arguments and None; or None and the text as it came, where that is not a JSON object. No text means none."""
    if not text or text.isspace():
        return {}, None
    try:
        value = json_text.loads(text)
    except (ValueError, RecursionError):
        return None, text
    return (value, None) if isinstance(value, dict) else (None, text)


def from_value(value: Any) -> tuple[dict[str, Any] | None, str | None]:
    """The same for a wire that carries arguments as JSON rather than as text; null and nothing mean none."""
    if value is None:
        return {}, None
    if isinstance(value, dict):
        return value, None
    return (None, value) if isinstance(value, str) else (None, json_text.dumps(value))
