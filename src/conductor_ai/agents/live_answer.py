"""One answer while it comes, as whoever watches the session is told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from conductor_ai.observability.redaction import Redactor
from conductor_ai.schemas.deltas import (
    Delta,
    ReasoningDelta,
    Stop,
    TextDelta,
    ToolArguments,
    ToolCallStart,
    UsageUpdate,
)
from conductor_ai.schemas.usage import Usage


class LiveAnswer:
    """Makes JSON data for `tell` of the pieces of one model call's answer, free of secrets, also of those that come in
    several pieces.

    The text of one kind, and of one call's arguments, joins to what the redactor makes of it whole. So the end of a
    piece that may begin a secret is held back until the next one of its kind shows whether it does, at the longest
    until the call, or the answer, ends. Of the counts, which some services send with every piece and of which a later
    one replaces an earlier one, the first and the last are told.
    """

    def __init__(self, step_no: int, redactor: Redactor, tell: Callable[[dict[str, Any]], None]) -> None:
        self._step_no = step_no
        self._redactor = redactor
        self._tell = tell
        self._held: dict[tuple[str, int | None], str] = {}
        self._usage: Usage | None = None
        self._usage_told: Usage | None = None

    def take(self, piece: Delta) -> None:
        if isinstance(piece, TextDelta):
            self._hear("text", piece.text)
        elif isinstance(piece, ReasoningDelta):
            self._hear("reasoning", piece.text)
        elif isinstance(piece, ToolArguments):
            self._hear("tool_arguments", piece.text, piece.call_index)
        elif isinstance(piece, UsageUpdate):
            self._usage = piece.usage
            if self._usage_told is None:
                self._tell_usage(piece.usage)
        elif isinstance(piece, ToolCallStart):
            name = self._redactor.clean(piece.name)
            facts = {"kind": "tool_call_start", "call_index": piece.call_index, "name": name}
            self._tell({"step_no": self._step_no, **facts})
        elif isinstance(piece, Stop):
            self.end()
            self._tell({"step_no": self._step_no, "kind": "stop", "reason": piece.reason.value})
        else:
            self._tell_held("tool_arguments", piece.call_index)
            self._tell({"step_no": self._step_no, "kind": "tool_call_end", "call_index": piece.call_index})

    def end(self) -> None:
        """Tell what was held back: nothing more comes."""
        for kind, call_index in [*self._held]:
            self._tell_held(kind, call_index)
        if self._usage is not None and self._usage != self._usage_told:
            self._tell_usage(self._usage)

    def _tell_usage(self, usage: Usage) -> None:
        self._usage_told = usage
        self._tell({"step_no": self._step_no, "kind": "usage", "usage": usage.to_dict()})

    def _hear(self, kind: str, text: str, call_index: int | None = None) -> None:
        # Also where nobody watches: who comes in the middle of a secret must not be told the rest of it.
        if self._held:
            text = self._held.pop((kind, call_index), "") + text
        text, held = self._redactor.clean_so_far(text)
        if held:
            self._held[kind, call_index] = held
        if text:
            self._tell_text(kind, text, call_index)

    def _tell_held(self, kind: str, call_index: int | None) -> None:
        held = self._held.pop((kind, call_index), "")
        if held:
            self._tell_text(kind, self._redactor.clean(held), call_index)

    def _tell_text(self, kind: str, text: str, call_index: int | None) -> None:
        if call_index is None:
            self._tell({"step_no": self._step_no, "kind": kind, "text": text})
        else:
            self._tell({"step_no": self._step_no, "kind": kind, "call_index": call_index, "text": text})


_WithText: TypeAlias = TextDelta | ReasoningDelta | ToolArguments


def joined(pieces: Iterable[Delta]) -> Iterator[Delta]:
    """The same in fewer pieces: text of one kind comes at once, and of counts among it the last one behind it."""
    first: _WithText | None = None
    texts: list[str] = []
    usage: UsageUpdate | None = None
    for piece in pieces:
        if isinstance(piece, UsageUpdate):
            usage = piece
            continue
        if isinstance(piece, _WithText) and first is not None and _alike(piece, first):
            texts.append(piece.text)
            continue
        if first is not None:
            yield first._replace(text="".join(texts))
        if isinstance(piece, _WithText):
            first, texts = piece, [piece.text]
            continue
        if usage is not None:
            yield usage
        first, usage = None, None
        yield piece
    if first is not None:
        yield first._replace(text="".join(texts))
    if usage is not None:
        yield usage


def _alike(piece: _WithText, other: _WithText) -> bool:
    return type(piece) is type(other) and piece[:-1] == other[:-1]  # their text comes last
