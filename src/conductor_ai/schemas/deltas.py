"""What a streamed answer is made of while it comes. Live only: nothing of it is stored, the whole answer is."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from conductor_ai.schemas.messages import StopReason
from conductor_ai.schemas.usage import Usage


class TextDelta(NamedTuple):
    """A piece of the answer's text."""

    text: str


class ReasoningDelta(NamedTuple):
    """A piece of what the model shows of its thinking."""

    text: str


class ToolCallStart(NamedTuple):
    """A tool call begins. `call_index` counts the calls of this answer from 0."""

    call_index: int
    name: str


class ToolArguments(NamedTuple):
    """A piece of a call's arguments: JSON only when all pieces are joined."""

    call_index: int
    text: str


class ToolCallEnd(NamedTuple):
    """Every piece of the call's arguments has come."""

    call_index: int


class UsageUpdate(NamedTuple):
    """Token counts so far; a later one replaces it."""

    usage: Usage


class Stop(NamedTuple):
    """The model has stopped, and why. The whole answer follows."""

    reason: StopReason


Delta: TypeAlias = TextDelta | ReasoningDelta | ToolCallStart | ToolArguments | ToolCallEnd | UsageUpdate | Stop
