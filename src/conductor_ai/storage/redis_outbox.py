"""Items that wait to be sent to other processes."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

MAX_ITEMS = 5_000
MAX_CHARS = 8_000_000
MAX_MESSAGE_CHARS = 256_000


class _Item(NamedTuple):
    session_id: str
    text: str
    lasting: bool


class Outbox:
    """In order and bounded. Where it would overflow all live items go, since a text with holes is no use; then, if need
    be, the oldest of the lasting ones, which are in the session's log."""

    def __init__(self) -> None:
        self._items: deque[_Item] = deque()
        self._chars = 0
        self._live = 0

    def __bool__(self) -> bool:
        return bool(self._items)

    def put(self, session_id: str, text: str, *, lasting: bool) -> None:
        """Queue an item, JSON text on one line."""
        self._items.append(_Item(session_id, text, lasting))
        self._chars += len(text)
        self._live += not lasting
        if self._overfull and self._live:
            self._items = deque(item for item in self._items if item.lasting)
            self._chars = sum(len(item.text) for item in self._items)
            self._live = 0
        while self._overfull:
            self._chars -= len(self._items.popleft().text)

    @property
    def _overfull(self) -> bool:
        return len(self._items) > MAX_ITEMS or self._chars > MAX_CHARS

    def messages(self) -> list[tuple[str, str]]:
        """Take everything out: pairs of session and items, one a line. A session's items stay in order."""
        lines: dict[str, list[str]] = {}
        chars: dict[str, int] = {}
        whole = []
        for session_id, text, _ in self._items:
            if chars.get(session_id, 0) + len(text) > MAX_MESSAGE_CHARS and session_id in lines:
                whole.append((session_id, "\n".join(lines.pop(session_id))))
                chars[session_id] = 0
            lines.setdefault(session_id, []).append(text)
            chars[session_id] = chars.get(session_id, 0) + len(text)
        self.clear()
        return whole + [(session_id, "\n".join(texts)) for session_id, texts in lines.items()]

    def clear(self) -> None:
        self._items.clear()
        self._chars = self._live = 0
