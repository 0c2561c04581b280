"""A streamed chat completion, put together into the body that the complete call would have given.

Source: OpenRouter API reference, "Streaming" and "Reasoning tokens"; what hosts and local servers really send.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conductor_ai.providers import chat_completions, tool_arguments
from conductor_ai.providers.assembly import joined
from conductor_ai.providers.chat_thinking import StreamedThought
from conductor_ai.providers.http import Reader
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

_DONE = b"[DONE]"
_NAMED_ONCE = ("id", "model", "provider")
_REASONING = ("reasoning", "reasoning_content")
_CALL_FIELDS = frozenset(("index", "id", "type", "function"))
_TEXT_OF = {"reasoning.text": "text", "reasoning.summary": "summary"}
"""The details whose text comes in pieces, and where it stands. Any other, such as an encrypted one, comes whole."""


class ChatAssembly:
    """A streamed answer of OpenRouter or a local server.

    `read` gives the answer that a whole body holds, or raises the error that it tells of. `may_close`: the model's own
    word that it has finished is enough, `[DONE]` may be missing. Some local servers close without it. OpenRouter never
    does, and what would be lost between the two is the bill, or the error that came after all.
    """

    def __init__(self, read: Reader, headers: Mapping[str, str], model: str, *, may_close: bool) -> None:
        self.ended = False
        self._read = read
        self._headers = headers
        self._model = model
        self._may_close = may_close
        self._chunks = ChatChunks()
        self._stopped = False

    def add(self, event: SSEvent) -> list[Delta] | None:
        if event.data == _DONE:
            self.ended = True
            return self._stop()
        chunk = json_text.loads(event.data)
        if chat_completions.refused(chunk) is not None:
            # The bill may have come before the error.
            self._read({**chunk, "usage": chunk.get("usage") or self._chunks.usage}, self._headers, self._model)
        before = self._chunks.size
        deltas = self._chunks.add(chunk)
        if self._may_close and self._chunks.finish_reason is not None:
            deltas += self._stop()
        # A chunk of nothing keeps the connection alive, as a comment does.
        return deltas if deltas or self._chunks.size > before else None

    def whole(self) -> ModelResponse | None:
        if self.ended or (self._may_close and self._chunks.finish_reason is not None):
            return self._read(self._chunks.joined(), self._headers, self._model)
        return None

    def _stop(self) -> list[Delta]:
        """Held back until it is certain: a host may take up an earlier call again."""
        if self._stopped:
            return []
        self._stopped = True
        return self._chunks.ending()


class ChatChunks:
    """The chunks of one answer, joined into the body that the complete call would have given."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.size = 0
        """Counts what came, whether it can be shown or not."""
        self.usage: dict[str, Any] | None = None
        self._named: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {}
        self._shown: str | None = None
        self._thought: StreamedThought | None = StreamedThought()
        """None once the text is known to be the answer: from there on a piece is told as it comes."""
        self._details = ReasoningDetails()
        self._calls = CallPieces()
        self._begun = False

    def add(self, chunk: dict[str, Any]) -> list[Delta]:
        """What this chunk adds. Choices may be missing, null or empty, as in the last chunk with its usage."""
        deltas: list[Delta] = []
        if len(self._named) < len(_NAMED_ONCE):
            for name in _NAMED_ONCE:
                if name not in self._named and chunk.get(name):
                    self._named[name] = chunk[name]
        choices = chunk.get("choices")
        if choices:
            choice = choices[0]
            self._begun = True
            if choice.get("finish_reason"):
                self.finish_reason = choice["finish_reason"]
                self.size += 1
            # A server that does not stream may wrap its whole answer in one event.
            delta = choice.get("delta", choice.get("message"))
            if delta:
                self._take(delta, deltas)
        usage = chunk.get("usage")
        if usage and usage != self.usage:
            self.usage = usage
            counted = chat_completions.usage(usage)
            if counted is not None:
                deltas.append(UsageUpdate(counted))
        return deltas

    def ending(self) -> list[Delta]:
        deltas: list[Delta] = []
        answered = True
        if self._thought is not None:
            answered = self._thought.closed
            self._tell(*self._thought.end(), deltas)
        calls = len(self._calls)
        reason = chat_completions.stop_reason(self.finish_reason, called=calls > 0, answered=answered)
        return [*deltas, *map(ToolCallEnd, range(calls)), Stop(reason)]

    def joined(self) -> dict[str, Any]:
        body = {**self._named, "usage": self.usage}
        if self._begun:
            message: dict[str, Any] = {"role": "assistant"}
            message |= {name: joined(pieces) for name, pieces in self._texts.items()}
            message |= {"reasoning_details": self._details.joined(), "tool_calls": self._calls.joined()}
            body["choices"] = [{"message": message, "finish_reason": self.finish_reason}]
        return body

    def _take(self, delta: dict[str, Any], deltas: list[Delta]) -> None:
        for name in _REASONING:
            piece = delta.get(name)
            if piece is None:
                continue
            self._texts.setdefault(name, []).append(piece)
            if piece and self._shown in (None, name):  # some hosts send the same under both names
                self._shown = name
                deltas.append(ReasoningDelta(piece))
        details = delta.get("reasoning_details")
        if details:
            self._details.add(details)
            self.size += 1
        content = delta.get("content")
        if content is not None:
            text = chat_completions.text_of(content)
            self._texts.setdefault("content", []).append(text)
            if self._thought is None:
                if text:
                    deltas.append(TextDelta(text))
            elif text:
                self._take_first(text, self._thought, deltas)
        calls = delta.get("tool_calls")
        if calls:
            self._calls.add(calls, deltas)
            self.size += 1

    def _take_first(self, text: str, begun: StreamedThought, deltas: list[Delta]) -> None:
        self.size += 1  # what is held back is progress, too
        self._tell(*begun.add(text), deltas)
        if begun.over:
            self._thought = None

    def _tell(self, thought: str, said: str, deltas: list[Delta]) -> None:
        """`thought` comes out of the text: it is not shown where the host gives reasoning in a field."""
        if thought and self._shown in (None, "content"):
            self._shown = "content"
            deltas.append(ReasoningDelta(thought))
        if said:
            deltas.append(TextDelta(said))


class _Call:
    """One call while it comes. `index` and `call_id` are the host's, None where it gave none."""

    __slots__ = ("call_id", "extra", "index", "name", "pieces", "position")

    def __init__(self, position: int, index: int | None) -> None:
        self.position = position
        self.index = index
        self.call_id: str | None = None
        self.name: str | None = None
        self.pieces: list[str] = []
        self.extra: dict[str, Any] = {}

    def take(self, piece: dict[str, Any], arguments: str, deltas: list[Delta]) -> None:
        self.call_id = self.call_id or piece.get("id")
        if arguments:
            self.pieces.append(arguments)
        if self.name:
            if arguments:
                deltas.append(ToolArguments(self.position, arguments))
        elif name := (piece.get("function") or {}).get("name"):
            self.name = name
            deltas.append(ToolCallStart(self.position, name))
            deltas.extend(ToolArguments(self.position, early) for early in self.pieces)
        for field, value in piece.items():  # such as the signature that Gemini wants back from a call
            if field not in _CALL_FIELDS and value is not None:
                self.extra[field] = value

    def is_whole(self) -> bool:
        if not self.pieces or not self.pieces[-1].rstrip().endswith("}"):
            return False  # spares the reading, for a host that repeats the name in every piece
        return tool_arguments.from_text(joined(self.pieces))[0] is not None

    def joined(self) -> dict[str, Any]:
        function = {"name": self.name, "arguments": joined(self.pieces)}
        call = {"type": "function", "function": function, **self.extra}
        return {"id": self.call_id, **call} if self.call_id else call


class CallPieces:
    """Tool calls out of their pieces. Most hosts number them and name each once; some leave the number out or say 0
    for all, some give the id late, in every piece, or never."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, pieces: list[dict[str, Any]], deltas: list[Delta]) -> None:
        """The pieces of one chunk."""
        here: list[_Call] = []
        for piece in pieces:
            given = (piece.get("function") or {}).get("arguments")
            arguments = given if isinstance(given, str) else "" if given is None else json_text.dumps(given)
            call = self._found(piece.get("index"), piece.get("id"))
            if call is None or _begins_another(call, piece, arguments, call in here):
                call = _Call(len(self._calls), piece.get("index"))
                self._calls.append(call)
            here.append(call)
            call.take(piece, arguments, deltas)

    def joined(self) -> list[dict[str, Any]]:
        return [call.joined() for call in self._calls]

    def _found(self, index: int | None, call_id: str | None) -> _Call | None:
        """The newest call under this number and id, else the newest under this number, else, without one, any."""
        newest = None
        for call in reversed(self._calls):
            if index is None or call.index == index:
                if call_id and call.call_id == call_id:
                    return call
                newest = newest or call
        return newest


def _begins_another(call: _Call, piece: dict[str, Any], arguments: str, in_this_chunk: bool) -> bool:
    """Whether a piece that came under the number of `call` is the first of another call: only a piece with a name can
    be, and only one that cannot belong to `call`."""
    name, call_id = (piece.get("function") or {}).get("name"), piece.get("id")
    if not name or not call.name:
        return False
    if in_this_chunk or name != call.name or (call_id and call.call_id and call_id != call.call_id):
        return True
    return bool(arguments.strip()) and call.is_whole()


class ReasoningDetails:
    """The `reasoning_details` of a stream, to be echoed as the complete call would have given them.

    A detail's text comes in pieces under one type and index, its signature with the last one, often without text. What
    is signed stays as it is: text that comes after the signature is a detail of its own.
    """

    def __init__(self) -> None:
        self._details: list[dict[str, Any]] = []
        self._pieces: list[list[str]] = []

    def add(self, details: list[dict[str, Any]]) -> None:
        """The details of one chunk."""
        for detail in details:
            field = _TEXT_OF.get(detail.get("type") or "")
            text = detail.get(field) if field else None
            place = self._place(detail, bool(text)) if field else None
            if place is None:
                self._details.append(dict(detail))
                self._pieces.append([] if text is None else [text])
                continue
            if text:
                self._pieces[place].append(text)
            known = self._details[place]
            known.update({name: value for name, value in detail.items() if value is not None and name != field})

    def joined(self) -> list[dict[str, Any]]:
        for detail, pieces in zip(self._details, self._pieces, strict=True):
            if pieces:
                detail[_TEXT_OF[detail["type"]]] = joined(pieces)
        return self._details

    def _place(self, detail: dict[str, Any], has_text: bool) -> int | None:
        """Where the detail stands that this piece belongs to. Without an index only the newest can be it."""
        index, detail_id = detail.get("index"), detail.get("id")
        for place in range(len(self._details) - 1, -1, -1):
            known = self._details[place]
            if known.get("type") == detail["type"] and known.get("index") == index:
                same = detail_id is None or known.get("id") in (None, detail_id)
                return place if same and not (has_text and known.get("signature")) else None
            if index is None:
                return None
        return None
