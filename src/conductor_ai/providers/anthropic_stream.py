"""An Anthropic message that comes in events, put together as it would have come whole.
Source: API reference, "Streaming Messages"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from conductor_ai.providers.anthropic_reply import read_message, status_of, stop_reason, usage_of
from conductor_ai.providers.assembly import joined
from conductor_ai.providers.failures import Failures
from conductor_ai.providers.sse import SSEvent
from conductor_ai.schemas import json_text
from conductor_ai.schemas.deltas import (
    Delta,
    ReasoningDelta,
    Stop,
    TextDelta,
    ToolArguments,
    ToolCallEnd,
    ToolCallStart,
    UsageUpdate,
)
from conductor_ai.schemas.messages import ModelResponse

_PIECES = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}
_INPUT = ("input_json_delta", "partial_json")


class AnthropicAssembly:
    """One message. Events, blocks and deltas of kinds that are not known here are skipped, as the API asks for."""

    def __init__(self, failures: Failures, headers: Mapping[str, str], model: str) -> None:
        self.ended = False
        self._failures = failures
        self._headers = headers
        self._model = model
        self._message: dict[str, Any] = {}
        self._changed: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._thoughts = 0

    def add(self, event: SSEvent) -> Sequence[Delta] | None:
        data = json_text.loads(event.data)
        match data["type"]:
            case "content_block_delta":
                return self._blocks[data["index"]].add(data["delta"])
            case "content_block_start":
                return self._start(data["index"], data["content_block"])
            case "content_block_stop":
                return self._blocks[data["index"]].end()
            case "message_start":
                self._message = data["message"]
                return self._count(self._message.get("usage"))
            case "message_delta":
                return self._change(data)
            case "message_stop":
                self.ended = True
                return ()
            case "error":
                raise self._failures.refusal(status_of(data), data, self._headers, self._model, within_200=True)
        return None

    def whole(self) -> ModelResponse | None:
        if not self.ended:
            return None
        if not self._message:
            raise KeyError("message_start")
        content = [block.whole() for block in self._blocks.values()]
        message = {**self._message, **self._changed, "content": content, "usage": self._usage}
        return read_message(message, self._headers, self._model)

    def _start(self, index: int, given: dict[str, Any]) -> Sequence[Delta]:
        block = _Block(given, self._calls)
        self._blocks[index] = block
        if block.kind == "tool_use":
            self._calls += 1
            return (ToolCallStart(block.call_no, given["name"]),)
        first = block.first()
        if block.kind == "thinking":
            self._thoughts += 1
            if self._thoughts > 1:
                return (ReasoningDelta("\n"), *first)  # between two thoughts, as in the whole answer
        return first

    def _change(self, data: dict[str, Any]) -> Sequence[Delta]:
        changed = data["delta"]
        self._changed |= changed
        usage = self._count(data.get("usage"))
        given = changed.get("stop_reason")
        return usage if given is None else (*usage, Stop(stop_reason(given)))

    def _count(self, usage: dict[str, Any] | None) -> Sequence[Delta]:
        """The later counts are totals, not additions; what they leave out, or leave null, stays as it was."""
        self._usage.update({name: count for name, count in (usage or {}).items() if count is not None})
        known = usage_of(self._usage)
        return () if known is None else (UsageUpdate(known),)


class _Block:
    """One content block: what its start held, and the pieces that came since."""

    __slots__ = (
        "_citations",
        "_given",
        "_piece_kind",
        "_piece_name",
        "_pieces",
        "_shown",
        "_signature",
        "call_no",
        "kind",
    )

    def __init__(self, given: dict[str, Any], call_no: int) -> None:
        self.kind = given["type"]
        self.call_no = call_no
        self._given = given
        self._piece_kind, self._piece_name = _PIECES.get(self.kind, _INPUT)
        self._pieces: list[str] = []
        self._shown = False
        self._signature: str | None = None
        self._citations: list[Any] = []

    def first(self) -> Sequence[Delta]:
        """The piece that stands in the start itself, commonly none."""
        given = self._given.get(self._piece_name) if self.kind in _PIECES else None
        return self._show(given) if given else ()

    def add(self, delta: dict[str, Any]) -> Sequence[Delta] | None:
        kind = delta["type"]
        if kind == self._piece_kind:
            piece = delta[self._piece_name]
            if not isinstance(piece, str):
                raise TypeError(f"{self._piece_name} is no text")
            # An empty piece may be all that a gateway has to say while it waits.
            return self._show(piece) if piece else None
        if kind == "signature_delta":
            self._signature = delta["signature"]
        elif kind == "citations_delta":
            self._citations.append(delta["citation"])
        return ()

    def _show(self, piece: str) -> Sequence[Delta]:
        self._pieces.append(piece)
        if self.kind == "tool_use":
            return (ToolArguments(self.call_no, piece),)
        if self.kind == "thinking":
            return (ReasoningDelta(piece),)
        if self.kind != "text":
            return ()
        if self._shown:
            return (TextDelta(piece),)
        if piece.isspace():
            return ()  # a block of nothing but white space is left out of the answer
        self._shown = True
        return (TextDelta("".join(self._pieces)),)

    def end(self) -> Sequence[Delta]:
        if self.kind != "tool_use":
            return ()
        given = self._given.get("input")
        if self._pieces or not given:
            return (ToolCallEnd(self.call_no),)
        # Some gateways give the arguments at once.
        return (ToolArguments(self.call_no, json_text.dumps(given)), ToolCallEnd(self.call_no))

    def whole(self) -> dict[str, Any]:
        block = dict(self._given)
        text = joined(self._pieces)
        if self.kind in _PIECES:
            block[self._piece_name] = text
        elif text and not text.isspace():
            block["input"] = _input(text)
        if self._signature is not None:
            block["signature"] = self._signature
        if self._citations:
            block["citations"] = [*(block.get("citations") or ()), *self._citations]
        return block


def _input(text: str) -> Any:
    """Arguments that break off, as at `max_tokens`, stay the text they are."""
    try:
        return json_text.loads(text)
    except (ValueError, RecursionError):
        return text
