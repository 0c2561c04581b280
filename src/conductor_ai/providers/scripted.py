"""A model that follows a script: `demo/scripted`, for the first run and for tests. It understands nothing.

    ScriptedProvider([
        call("count_rows", {"file": "dealers.csv"}),
        say(lambda moment: f"{moment.replies[0].content} rows"),
    ])

What comes next follows from the conversation alone: how many turns the model has had, and the tool replies since the
last one. So a session goes on properly after a crash, in another process, or with another instance of the script.
Tokens are counted as 0, since none were used.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, TypeAlias

from conductor_ai.errors import RequestRefused
from conductor_ai.providers.assembly import deltas_of
from conductor_ai.providers.base import HeadSpec, ModelRequest
from conductor_ai.schemas import json_text
from conductor_ai.schemas.deltas import Delta, TextDelta
from conductor_ai.schemas.messages import Message, ModelResponse, Role, StopReason, ToolCall, WireTurn
from conductor_ai.schemas.usage import Usage

NAME = "demo"
_PIECES = 8
_MIN_PIECE_CHARS = 8


@dataclass(frozen=True, slots=True)
class Reply:
    """What a tool answered, as the model reads it."""

    tool: str
    arguments: dict[str, Any]
    content: str
    is_error: bool

    @property
    def data(self) -> Any:
        """`content` read as JSON. Raises: ValueError where it is not."""
        return json_text.loads(self.content)


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a conversation stands. `turn` counts the model's turns so far; `prompt` is the newest user message, with
    so many `images`; `replies` are the tool replies since the last turn, `history` those of all turns in the prompt,
    oldest first. What a tool returned is there without the fence around untrusted text."""

    turn: int
    prompt: str
    replies: tuple[Reply, ...]
    history: tuple[Reply, ...]
    images: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One turn of the model: text, and the calls it asks for. A line without calls is the final answer."""

    text: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()


Cue: TypeAlias = Line | Callable[[Moment], Line]
Script: TypeAlias = Sequence[Cue] | Callable[[Moment], Cue]


def say(text: str | Callable[[Moment], str]) -> Cue:
    """A final answer, or how it is made out of what the tools really replied."""
    if isinstance(text, str):
        return Line(text)
    return lambda moment: Line(text(moment))


def call(
    tool: str, arguments: dict[str, Any] | Callable[[Moment], dict[str, Any]] | None = None, text: str = ""
) -> Cue:
    """One tool call, its arguments given or made out of earlier replies; `text` is said along with it."""
    if callable(arguments):
        return lambda moment: Line(text, ((tool, arguments(moment)),))
    return Line(text, ((tool, arguments or {}),))


def together(*cues: Cue) -> Cue:
    """Several calls in one turn, side by side."""

    def line(moment: Moment) -> Line:
        lines = [_line(cue, moment) for cue in cues]
        text = " ".join(line.text for line in lines if line.text)
        return Line(text, tuple(made for line in lines for made in line.calls))

    return line


class ScriptedProvider:
    """`script` is one cue for each turn, or a function that gives the next one.

    Raises, where a script of cues is asked for one turn more than it has: RequestRefused.
    """

    name = NAME

    def __init__(self, script: Script) -> None:
        self._script = script

    def encode_head(self, spec: HeadSpec) -> bytes:
        return json_text.exact(json_text.wire_dumps({"model": spec.model, "tools": [tool.name for tool in spec.tools]}))

    def encode_turn(self, message: Message) -> bytes:
        if message.wire is not None and message.wire.provider == NAME:
            return message.wire.json
        turn: dict[str, Any] = {"role": message.role.value, "content": message.content}
        if message.images:
            turn["images"] = len(message.images)
        if message.left_out:
            turn["left_out"] = message.left_out
        if message.tool_replies:
            turn["replies"] = [
                [reply.call.name, reply.call.arguments or {}, reply.content, reply.is_error]
                for reply in message.tool_replies
            ]
        return json_text.exact(json_text.wire_dumps(turn))

    async def complete(self, request: ModelRequest) -> ModelResponse:
        line = self._next(_moment(request.turns), request.model)
        turn = {"role": "assistant", "content": line.text}
        return ModelResponse(
            content=line.text,
            tool_calls=tuple(ToolCall("", tool, arguments, provider=NAME) for tool, arguments in line.calls),
            stop_reason=StopReason.TOOL_USE if line.calls else StopReason.END_TURN,
            usage=Usage(),
            wire=WireTurn(NAME, json_text.exact(json_text.wire_dumps(turn))),
            answered_by=request.model,
        )

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | ModelResponse]:
        """The text in a few pieces, each call whole."""
        response = await self.complete(request)
        for delta in deltas_of(response):
            if isinstance(delta, TextDelta):
                size = max(_MIN_PIECE_CHARS, ceil(len(delta.text) / _PIECES))
                for start in range(0, len(delta.text), size):
                    yield TextDelta(delta.text[start : start + size])
            else:
                yield delta
        yield response

    def _next(self, moment: Moment, model: str) -> Line:
        if callable(self._script):
            return _line(self._script(moment), moment)
        if moment.turn >= len(self._script):
            raise RequestRefused(
                f"the script of {NAME}/{model} ends after {len(self._script)} turns",
                provider=NAME,
                model=model,
                hint="start a new session, or choose a real model",
            )
        return _line(self._script[moment.turn], moment)


def _line(cue: Cue, moment: Moment) -> Line:
    return cue if isinstance(cue, Line) else cue(moment)


def _moment(turns: Sequence[bytes]) -> Moment:
    count, prompt, images = 0, "", 0
    history: list[Reply] = []
    since = 0
    for turn in map(json_text.loads, turns):
        if turn["role"] == Role.ASSISTANT.value:
            count, since = count + 1, len(history)
        elif "left_out" in turn:  # a note that stands for turns which no longer fit the prompt
            count += turn["left_out"]
        elif turn["role"] == Role.USER.value:
            prompt, images = turn["content"], turn.get("images", 0)
        history += [Reply(*reply) for reply in turn.get("replies", ())]
    return Moment(count, prompt, tuple(history[since:]), tuple(history), images)
