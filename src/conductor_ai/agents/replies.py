"""What a model reads of an ended tool call: its whole text, the part it is shown, the pointer that takes its place."""

from __future__ import annotations

from typing import Any, NamedTuple

from conductor_ai.schemas import json_text
from conductor_ai.schemas.events import ToolOutcome
from conductor_ai.schemas.messages import Provenance, ToolCall, ToolReply

READ_RESULT_NAME = "read_result"
"""The tool by which a session reads its own results back."""
FEWEST_READ_BACK_CHARS = 500
"""Of one part, however little a session shows of results: less would read nothing back."""
ABOVE_CHARS = 200
"""Room for the line above a part."""


class Cap(NamedTuple):
    """The most that is shown of one result. Bytes are counted too: of some scripts a character costs three."""

    max_chars: int
    max_bytes: int


def result_text(completed: dict[str, Any]) -> str:
    """The whole text of one `tool.completed`: a string as it is, other results as JSON, of a failed call the error."""
    if completed["outcome"] != ToolOutcome.SUCCEEDED:
        return completed["error"] or "failed"
    result = completed["result"]
    return result if isinstance(result, str) else json_text.dumps(result)


def reply(call: ToolCall, completed: dict[str, Any], cap: Cap) -> ToolReply:
    """The answer to `call` as the prompt holds it while it is new; parts of results that are read back are whole."""
    if call.name == READ_RESULT_NAME:
        fewest = FEWEST_READ_BACK_CHARS + ABOVE_CHARS
        cap = Cap(max(cap.max_chars, fewest), max(cap.max_bytes, 4 * fewest))
    return ToolReply(
        call,
        _shown(call.call_id, result_text(completed), cap),
        is_error=completed["outcome"] != ToolOutcome.SUCCEEDED,
        provenance=Provenance.of(completed.get("provenance")),
    )


def pointer(shown: ToolReply) -> ToolReply:
    """What stands in the prompt for a result that gave way. It holds nothing of the result: no label is needed."""
    # Of the call only its ids are needed: its arguments may be large.
    call = shown.call._replace(arguments=None, raw_arguments=None)
    text = f'[left out to save room: {len(shown.content):,} characters; read_result {{"call_id":"{call.call_id}"}}]'
    return ToolReply(call, text, shown.is_error)


def _shown(call_id: str, text: str, cap: Cap) -> str:
    part = _cut(text[: cap.max_chars], cap.max_bytes)
    if len(part) == len(text):
        return text
    return (
        f"{part}\n[cut here: {len(part):,} of {len(text):,} characters shown; "
        f'read_result {{"call_id":"{call_id}","offset":{len(part)}}} reads on]'
    )


def _cut(text: str, max_bytes: int) -> str:
    """The beginning of `text` that takes at most `max_bytes` in UTF-8, whole characters."""
    if text.isascii():
        return text[:max_bytes]
    encoded = text.encode(errors="surrogatepass")
    end = min(max_bytes, len(encoded))
    while end < len(encoded) and encoded[end] & 0xC0 == 0x80:  # the middle of a character
        end -= 1
    return encoded[:end].decode(errors="surrogatepass")
