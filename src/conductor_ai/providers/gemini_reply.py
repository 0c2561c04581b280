"""What Gemini answers: a whole GenerateContentResponse, or the same in the chunks of a stream.

Source: API reference, "GenerateContentResponse" and "Part"; Gemini API, "Thought signatures".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conductor_ai.providers import tool_arguments
from conductor_ai.providers.assembly import joined
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
from conductor_ai.schemas.messages import ModelResponse, StopReason, ToolCall, WireTurn
from conductor_ai.schemas.usage import Usage

NAME = "gemini"
_STOP = {
    "STOP": StopReason.END_TURN,
    "MAX_TOKENS": StopReason.MAX_TOKENS,
    "SAFETY": StopReason.CONTENT_FILTER,
    "RECITATION": StopReason.CONTENT_FILTER,
    "BLOCKLIST": StopReason.CONTENT_FILTER,
    "PROHIBITED_CONTENT": StopReason.CONTENT_FILTER,
    "SPII": StopReason.CONTENT_FILTER,
    "MODEL_ARMOR": StopReason.CONTENT_FILTER,
    "IMAGE_SAFETY": StopReason.CONTENT_FILTER,
    "IMAGE_PROHIBITED_CONTENT": StopReason.CONTENT_FILTER,
    "IMAGE_RECITATION": StopReason.CONTENT_FILTER,
    "MALFORMED_FUNCTION_CALL": StopReason.MALFORMED_CALL,
    "UNEXPECTED_TOOL_CALL": StopReason.MALFORMED_CALL,
    "TOO_MANY_TOOL_CALLS": StopReason.MALFORMED_CALL,
}
_BLOCKED = "PROHIBITED_CONTENT"
"""What a blocked prompt amounts to; its own blockReason may be any word."""
NOTHING = "(empty)"
_TEXT, _THOUGHT = frozenset(("text",)), frozenset(("text", "thought"))


class GeminiAssembly:
    """A streamed answer. The stream ends by closing; whole is one in which Gemini said why it stopped, or that it
    would not begin. `read` gives the answer that a whole body holds, or raises the error that it tells of.

    Parts stay as they came, with the signature on the one that it came on, even where its text is empty. Only plain
    text is joined, and plain thoughts with each other: the complete call gives one part where a stream gives one for
    each chunk, and hundreds of them would go back with every later request. A part that holds anything more than its
    text, a signature above all, is never joined to another.
    """

    ended = False

    def __init__(self, read: Reader, headers: Mapping[str, str], model: str) -> None:
        self._read = read
        self._headers = headers
        self._model = model
        self._body: dict[str, Any] = {}
        self._parts: list[dict[str, Any]] = []
        self._texts: list[str] = []
        """The pieces of the newest part, while that is plain text or a plain thought."""
        self._finish: str | None = None
        self._begun = False
        self._calls = 0

    def add(self, event: SSEvent) -> list[Delta] | None:
        chunk = json_text.loads(event.data)
        if chunk.get("error"):
            self._read(chunk, self._headers, self._model)
        deltas: list[Delta] = []
        came, was_over = len(self._parts), self._is_over
        for candidate in (chunk.get("candidates") or ())[:1]:
            self._begun = True
            self._finish = candidate.get("finishReason") or self._finish
            for part in (candidate.get("content") or {}).get("parts") or ():
                self._take(part, deltas)
        for name in ("modelVersion", "responseId", "promptFeedback"):
            if chunk.get(name):
                self._body[name] = chunk[name]
        self._count(chunk.get("usageMetadata"), deltas)
        if self._is_over and not was_over:
            deltas.append(Stop(stop_reason(self._finish or _BLOCKED, called=self._calls > 0)))
        return deltas if deltas or len(self._parts) > came else None

    def whole(self) -> ModelResponse | None:
        if not self._is_over:
            return None
        self._settle()
        if self._begun:
            self._body["candidates"] = [{"content": {"parts": self._parts}, "finishReason": self._finish}]
        return self._read(self._body, self._headers, self._model)

    @property
    def _is_over(self) -> bool:
        return self._finish is not None or (not self._begun and is_blocked(self._body))

    def _count(self, usage: dict[str, Any] | None, deltas: list[Delta]) -> None:
        """Counts come with every chunk and are from the beginning: the first ones are told, and the answer's own."""
        if usage and usage != self._body.get("usageMetadata"):
            is_first = "usageMetadata" not in self._body
            self._body["usageMetadata"] = usage
            if (is_first or self._is_over) and (counted := usage_of(usage)) is not None:
                deltas.append(UsageUpdate(counted))

    def _take(self, part: dict[str, Any], deltas: list[Delta]) -> None:
        kind = part.keys()
        if "functionCall" in part:
            self._call(part["functionCall"], deltas)
        elif text := part.get("text"):
            deltas.append(ReasoningDelta(text) if part.get("thought") else TextDelta(text))
        if kind not in (_TEXT, _THOUGHT):
            self._settle()
            self._parts.append(part)
        elif self._texts and part.get("thought") == self._parts[-1].get("thought"):
            self._texts.append(part["text"] or "")
        else:
            self._settle()
            self._parts.append(part)
            self._texts = [part["text"] or ""]

    def _settle(self) -> None:
        if len(self._texts) > 1:
            self._parts[-1] = {**self._parts[-1], "text": joined(self._texts)}
        self._texts = []

    def _call(self, function: dict[str, Any], deltas: list[Delta]) -> None:
        """A call comes whole."""
        index, arguments = self._calls, function.get("args")
        self._calls += 1
        deltas.append(ToolCallStart(index, function["name"]))
        if arguments is not None:
            deltas.append(ToolArguments(index, json_text.dumps(arguments)))
        deltas.append(ToolCallEnd(index))


def read(data: dict[str, Any], model: str) -> ModelResponse:
    text, reasoning = [], []
    calls: list[ToolCall] = []
    finish, parts = _candidate(data)
    echo: list[dict[str, Any]] = []
    for part in parts:
        if "functionCall" in part:
            part = _read_call(part, calls)
        elif part.get("thought"):
            reasoning.append(part.get("text") or "")
        else:
            text.append(part.get("text") or "")
        echo.append(part)  # an empty text may carry the signature
    turn = {"role": "model", "parts": echo or [{"text": NOTHING}]}
    return ModelResponse(
        content="".join(text),
        tool_calls=tuple(calls),
        stop_reason=stop_reason(finish, called=bool(calls)),
        usage=usage_of(data.get("usageMetadata")),
        wire=WireTurn(NAME, json_text.exact(json_text.wire_dumps(turn))),
        answered_by=data.get("modelVersion") or model,
        reasoning="".join(reasoning),
        request_id=data.get("responseId"),
    )


def is_blocked(data: dict[str, Any]) -> bool:
    """The prompt was refused, and no answer was begun."""
    return bool((data.get("promptFeedback") or {}).get("blockReason"))


def stop_reason(finish: str | None, *, called: bool) -> StopReason:
    """A call ends with STOP, like any answer."""
    stop = _STOP.get(finish or "", StopReason.OTHER)
    return StopReason.TOOL_USE if called and stop is StopReason.END_TURN else stop


def _candidate(data: dict[str, Any]) -> tuple[str | None, list[dict[str, Any]]]:
    """Why it stopped, and its parts, none where the answer was held back.

    A blocked prompt has no candidate at all, a blocked answer `content: {}`, one that spent its tokens on thinking a
    content without parts.
    """
    candidates = data.get("candidates")
    if not candidates:
        if is_blocked(data):
            return _BLOCKED, []
        raise KeyError("candidates")
    candidate = candidates[0]
    return candidate.get("finishReason"), (candidate.get("content") or {}).get("parts") or []


def _read_call(part: dict[str, Any], calls: list[ToolCall]) -> dict[str, Any]:
    """Add the call of a functionCall part; gives the part as it may go back."""
    function = part["functionCall"]
    arguments, raw = tool_arguments.from_value(function.get("args"))
    calls.append(ToolCall("", function["name"], arguments, raw, function.get("id") or None, NAME))
    return part if raw is None else {**part, "functionCall": {**function, "args": {}}}


def usage_of(usage: dict[str, Any] | None) -> Usage | None:
    """None where not even the prompt was counted.

    Source: API reference, "UsageMetadata": the prompt includes what was cached, the candidates leave out thoughts,
    and a count of 0 is left out.
    """
    if not usage or usage.get("promptTokenCount") is None:
        return None
    cached = int(usage.get("cachedContentTokenCount") or 0)
    thoughts = int(usage.get("thoughtsTokenCount") or 0)
    prompt = int(usage["promptTokenCount"]) + int(usage.get("toolUsePromptTokenCount") or 0)
    return Usage(
        input_tokens=max(0, prompt - cached),
        output_tokens=int(usage.get("candidatesTokenCount") or 0) + thoughts,
        cache_read_tokens=cached,
        reasoning_tokens=thoughts,
    )
