"""Cursors of lists: opaque to whoever holds them, good for one list of one org."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import TypeVar

from conductor_ai.errors import InvalidInput
from conductor_ai.schemas import json_text

_Row = TypeVar("_Row")


def cursor_text(kind: str, org_id: str, place: Sequence[str]) -> str:
    data = json_text.dumps([kind, org_id, *place]).encode()
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def place_of(cursor: str | None, kind: str, org_id: str, parts: int) -> list[str] | None:
    """What `cursor_text` was given. Raises: InvalidInput for a cursor of another list, or of another org."""
    if cursor is None:
        return None
    try:
        found = json_text.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        found = None
    if not isinstance(found, list) or found[:2] != [kind, org_id] or len(found) != 2 + parts:
        raise _no_cursor()
    if not all(isinstance(part, str) and part.isprintable() for part in found):
        raise _no_cursor()
    return found[2:]


def cut(rows: Sequence[_Row], limit: int, cursor: Callable[[_Row], str]) -> tuple[Sequence[_Row], str | None]:
    """A page of rows that were read with one more than it holds, and where the next one begins."""
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], cursor(rows[limit - 1])


def _no_cursor() -> InvalidInput:
    return InvalidInput("the cursor is not one of this list", hint="pass next_cursor as it came, or leave it out")
