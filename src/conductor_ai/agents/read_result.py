"""`read_result`: a session's own tool results, read back in parts after they left the prompt or were shown cut.

Every session with tools has this tool beside them. It reads the log of its own session and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from conductor_ai.agents.context_window import result_cap
from conductor_ai.agents.replies import ABOVE_CHARS, FEWEST_READ_BACK_CHARS, READ_RESULT_NAME, result_text
from conductor_ai.schemas import json_text
from conductor_ai.schemas.events import EventType
from conductor_ai.sdk.base import BaseTool, ToolCategory, ToolDefinition, ToolResult

if TYPE_CHECKING:
    from conductor_ai.agents.session_log import SessionLog

_PART_CHARS = 8_000
_LINES = 20
_AROUND_CHARS = 150
_ARGUMENTS_CHARS = 120
_PAGE_EVENTS = 200

Payload = dict[str, Any]


class ResultReader:
    """One call's way to its session's results. `label` is that of the text it handed out: whose it was, it stays."""

    def __init__(self, log: SessionLog) -> None:
        self._log = log
        self.label: Payload | None = None
        cap = result_cap(log.state.config.limits, log.state.config.context_window, 1)
        # A part must be shown whole, with the line above it: it would be cut again otherwise.
        self.part_chars = max(FEWEST_READ_BACK_CHARS, min(_PART_CHARS, cap.max_chars - ABOVE_CHARS, cap.max_bytes // 4))

    async def result_of(self, call_id: str) -> Payload | None:
        """The `tool.completed` of a call; None where it has none."""
        seq = self._log.state.result_seqs.get(call_id)
        found = [] if seq is None else await self._log.stored(seq - 1, 1)
        return found[0].payload if found else None  # one of this very step may not be stored yet

    async def calls(self) -> list[tuple[Payload, int]]:
        """Each call that ended, oldest first, as the model asked for it, with the length of its result's text."""
        asked: dict[str, Payload] = {}
        ended: list[tuple[Payload, int]] = []
        after = 0
        while page := await self._log.stored(after, _PAGE_EVENTS):
            after = page[-1].seq
            for event in page:
                if event.type is EventType.MODEL_COMPLETED:
                    asked.update((call["call_id"], call) for call in event.payload["tool_calls"])
                elif event.type is EventType.TOOL_COMPLETED:
                    ended.append((asked[event.payload["call_id"]], len(result_text(event.payload))))
        return ended


_reader: ContextVar[ResultReader] = ContextVar("conductor_result_reader")


@contextmanager
def bind_reader(reader: ResultReader) -> Iterator[None]:
    token = _reader.set(reader)
    try:
        yield
    finally:
        _reader.reset(token)


class ReadResult(BaseTool):
    @property
    def definition(self) -> ToolDefinition:
        return _DEFINITION

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        reader = _reader.get()
        call_id, search, offset = arguments.get("call_id"), arguments.get("search"), arguments.get("offset", 0)
        if call_id is None:
            return _succeeded(_list(await reader.calls(), search, offset))
        completed = await reader.result_of(call_id)
        if completed is None:
            error = f"no tool call {call_id!r} of this session has a result; without call_id you get a list of them"
            return ToolResult(tool_name=READ_RESULT_NAME, success=False, error=error)
        reader.label = completed.get("provenance")
        text = result_text(completed)
        about = f"{call_id} {completed['name']}"
        if search:
            return _succeeded(_matches(about, text, search, offset))
        if offset and offset >= len(text):
            error = f"offset {offset} is past the end: the result has {len(text):,} characters"
            return ToolResult(tool_name=READ_RESULT_NAME, success=False, error=error)
        return _succeeded(_part(about, text, offset, reader.part_chars))


READ_RESULT = ReadResult()

_DEFINITION = ToolDefinition(
    name=READ_RESULT_NAME,
    description=(
        "Read back what an earlier tool call of this session returned, when it is no longer shown in whole. Give the "
        "call_id that stands where it was; read on with offset, or find a text in it with search. Without call_id: a "
        "list of the calls, newest last."
    ),
    category=ToolCategory.DATA,
    effect="read",
    parameters={
        "type": "object",
        "properties": {
            "call_id": {"type": "string", "description": "Which result, such as c2_0. Leave out for a list."},
            "offset": {
                "type": "integer",
                "minimum": 0,
                "description": "The character, or the list's line, to begin at.",
            },
            "search": {
                "type": "string",
                "minLength": 1,
                "description": "Show only the places where this text stands, whatever its case.",
            },
        },
        "additionalProperties": False,
    },
)


def _succeeded(text: str) -> ToolResult:
    return ToolResult(tool_name=READ_RESULT_NAME, success=True, result=text)


def _part(about: str, text: str, offset: int, size: int) -> str:
    end = min(len(text), offset + size)
    more = f"; read on with offset {end}" if end < len(text) else "; this is the end"
    return f"[{about}: characters {offset:,} to {end:,} of {len(text):,}{more}]\n{text[offset:end]}"


def _matches(about: str, text: str, search: str, offset: int) -> str:
    places: list[str] = []
    pattern = re.compile(re.escape(search), re.IGNORECASE)
    found = pattern.search(text, offset)
    while found is not None and len(places) < _LINES:
        start, end = max(0, found.start() - _AROUND_CHARS), found.end() + _AROUND_CHARS
        places.append(f"at {found.start()}: {' '.join(text[start:end].split())}")
        found = pattern.search(text, end)
    if not places:
        return f"[{about}: {search!r} does not stand in it from character {offset:,} on, of {len(text):,}]"
    more = f"; search on with offset {found.start()}" if found is not None else ""
    return "\n".join([f"[{about}: {len(places)} places with {search!r}{more}]", *places])


def _list(calls: list[tuple[Payload, int]], search: str | None, offset: int) -> str:
    lines = [
        f"{call['call_id']} {call['name']} {json_text.dumps(call['arguments'])[:_ARGUMENTS_CHARS]}: {length:,} chars"
        for call, length in calls
    ]
    if search:
        lines = [line for line in lines if search.lower() in line.lower()]
    shown = lines[offset : offset + _LINES]
    rest = len(lines) - offset - len(shown)
    more = f"; go on with offset {offset + len(shown)}" if rest > 0 else ""
    return "\n".join([f"[{len(lines)} calls with a result{more}]", *shown])
