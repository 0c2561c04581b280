"""What an adapter makes of a streamed answer: pieces to show as they come, and the whole at the end. No I/O here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

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


class Assembly(Protocol):
    """One streamed answer while it is put together. Where an event has another shape than promised, `add` and `whole`
    may fail as reading JSON fails (KeyError, TypeError ...): the stream is then a MalformedReply."""

    @property
    def ended(self) -> bool:
        """The wire's terminal event has come: what follows is not read. Always False on a wire that has none."""
        ...

    def add(self, event: SSEvent) -> Sequence[Delta] | None:
        """What one event has to show, () where that is nothing. None: the event is no progress, as a ping.

        Raises: ProviderError for an event that tells of one.
        """
        ...

    def whole(self) -> ModelResponse | None:
        """The answer, once nothing more is read. None: the stream was cut, its terminal mark has not come."""
        ...


AssemblyMaker = Callable[[Mapping[str, str], str], Assembly]
"""Begins an answer, given the reply's headers, `retry-after` left out, and the model that was asked."""


def joined(pieces: Iterable[str]) -> str:
    """The text of all pieces. A character whose two surrogates came in two pieces is one character again."""
    text = "".join(pieces)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return text


def deltas_of(response: ModelResponse) -> Iterator[Delta]:
    """The pieces of an answer that came at once."""
    if response.reasoning:
        yield ReasoningDelta(response.reasoning)
    if response.content:
        yield TextDelta(response.content)
    for index, call in enumerate(response.tool_calls):
        yield ToolCallStart(index, call.name)
        yield ToolArguments(
            index, json_text.dumps(call.arguments) if call.raw_arguments is None else call.raw_arguments
        )
        yield ToolCallEnd(index)
    if response.usage is not None:
        yield UsageUpdate(response.usage)
    yield Stop(response.stop_reason)
