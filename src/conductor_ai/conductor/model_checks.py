"""What a model test asks of a model, and what its answers are judged by. Each check is one small session.

What is asked for cannot be guessed: codes and colours are drawn anew each time. So a check that passes has seen the
thing itself, a tool's result or a picture, and not a likely answer.
"""

from __future__ import annotations

import secrets
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from conductor_ai.agents.answer_schema import FINAL_ANSWER_NAME
from conductor_ai.model_catalog import ModelInfo, ReasoningStyle
from conductor_ai.schemas import json_text
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.costs import CostSource
from conductor_ai.schemas.events import Event, EventType
from conductor_ai.schemas.parameters import ReasoningEffort
from conductor_ai.schemas.steps import StepToolCall
from conductor_ai.schemas.usage import Usage
from conductor_ai.sdk.base import BaseTool, ToolCategory, ToolDefinition, ToolResult

LOOK_UP_CODE = "look_up_code"

_WORD = "marigold"
_COLOURS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
_CODE_LETTERS = "bcdfghjkmnpqrstvwxz"
_SIDE_PX = 64
_QUOTED_CHARS = 80
_NOBODY_SAYS = (CostSource.UNKNOWN, CostSource.BOUND)
"""Of costs: what was set aside for a call is not what anybody says that it cost."""


class CheckName(StrEnum):
    """The checks, in the order in which they are made.

    An image reserves more of a money limit than anything else, so it comes while most of that is left.
    """

    TEXT = "text"
    IMAGE = "image"
    TOOL = "tool"
    PARALLEL = "parallel"
    SCHEMA = "schema"
    STREAM = "stream"
    REASONING = "reasoning"
    USAGE = "usage"


class Verdict(NamedTuple):
    """`detail` is one line: why a check fails, or what it has shown."""

    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Trace:
    """What came of a session that completed. `items` are all that was told while it ran, of a streamed one."""

    session: AgentSession
    events: Sequence[Event]
    items: Sequence[dict[str, Any]]

    @property
    def answer(self) -> str:
        return self.session.final_answer or ""

    @property
    def turns(self) -> list[list[StepToolCall]]:
        """The calls of the tool, by the turn that they came in; turns without any are left out."""
        turns = [[call for call in step.tool_calls if call.name == LOOK_UP_CODE] for step in self.session.steps]
        return [calls for calls in turns if calls]


@dataclass(frozen=True, slots=True)
class Task:
    """One session that is to be run. `codes` are what its tool knows, by room; without any it has no tool. `streamed`:
    somebody watches it."""

    prompt: str
    judge: Callable[[Trace], Verdict]
    codes: Mapping[str, str] = field(default_factory=dict)
    image: bytes | None = None
    parameters: dict[str, Any] | None = None
    response_schema: dict[str, Any] | None = None
    streamed: bool = False

    @property
    def content(self) -> str | list[dict[str, Any]]:
        """The content of its one message."""
        if self.image is None:
            return self.prompt
        return [
            {"type": "image", "data": self.image, "media_type": "image/png"},
            {"type": "text", "text": self.prompt},
        ]

    @property
    def tools(self) -> list[BaseTool]:
        return [LookUpCode(self.codes)] if self.codes else []


class LookUpCode(BaseTool):
    """The one tool of a model test: tells codes that nobody could know otherwise."""

    def __init__(self, codes: Mapping[str, str]) -> None:
        self._codes = codes

    @property
    def definition(self) -> ToolDefinition:
        return ToolDefinition(
            name=LOOK_UP_CODE,
            description="Look up the door code of one room.",
            category=ToolCategory.DATA,
            effect="read",
            parameters={
                "type": "object",
                "properties": {"room": {"type": "string", "description": 'The number of the room, such as "12".'}},
                "required": ["room"],
                "additionalProperties": False,
            },
        )

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        room = arguments["room"]
        if room not in self._codes:
            error = f"There is no room {room!r}. Give the number that was asked for, digits only."
            return ToolResult(tool_name=LOOK_UP_CODE, success=False, error=error)
        return ToolResult(tool_name=LOOK_UP_CODE, success=True, result={"room": room, "code": self._codes[room]})


def task_of(name: CheckName, model: ModelInfo) -> Task | str:
    """The session of a check, or why `model` is not asked for it. `usage` has none: it reads what the others came to.

    Raises: KeyError for `usage`.
    """
    return _TASKS[name](model)


def _text(model: ModelInfo) -> Task:
    return Task(f"Answer with this one word and nothing else: {_WORD}", _judge_word)


def _judge_word(trace: Trace) -> Verdict:
    if _WORD not in trace.answer.casefold():
        return Verdict(False, f"it was to say {_WORD}, and said {_quoted(trace.answer)}")
    return Verdict(True, "it said the word that it was given")


def _tool(model: ModelInfo) -> Task:
    codes = _codes("12")
    prompt = f"What is the door code of room 12? Look it up with {LOOK_UP_CODE}, then answer with the code alone."

    def judge(trace: Trace) -> Verdict:
        problem = _not_called(trace, codes) or _not_used(trace.answer, codes)
        return Verdict(problem is None, problem or "it called the tool and used what that returned")

    return Task(prompt, judge, codes)


def _parallel(model: ModelInfo) -> Task:
    codes = _codes("3", "7")
    prompt = (
        f"What are the door codes of rooms 3 and 7? Call {LOOK_UP_CODE} for both rooms at once, in one turn, before "
        "you have seen either code. Then answer with both codes."
    )

    def judge(trace: Trace) -> Verdict:
        problem = _not_called(trace, codes) or _not_together(trace, codes) or _not_used(trace.answer, codes)
        return Verdict(problem is None, problem or "it made both calls in one turn and used what they returned")

    return Task(prompt, judge, codes)


def _schema(model: ModelInfo) -> Task:
    codes = _codes("5")
    schema = {
        "type": "object",
        "properties": {"room": {"type": "string"}, "code": {"type": "string"}},
        "required": ["room", "code"],
        "additionalProperties": False,
    }
    prompt = f"Look up the door code of room 5 with {LOOK_UP_CODE}. Then give the room's number and its code."

    def judge(trace: Trace) -> Verdict:
        answer = json_text.dumps(trace.session.output)
        problem = _not_called(trace, codes) or _not_used(answer, codes)
        return Verdict(problem is None, problem or _way_of_answering(trace))

    return Task(prompt, judge, codes, response_schema=schema)


def _way_of_answering(trace: Trace) -> str:
    """How an answer that fits its schema was given; whichever way was asked for, either is taken."""
    called = any(call.name == FINAL_ANSWER_NAME for call in trace.session.steps[-1].tool_calls)
    given = f"its answer fits, given by a call of {FINAL_ANSWER_NAME}" if called else "its answer fits, given as text"
    rejected = sum(event.type is EventType.ANSWER_REJECTED for event in trace.events)
    return f"{given}, after one that did not fit" if rejected else given


def _stream(model: ModelInfo) -> Task:
    return Task("Count from one to twelve in English words, separated by commas.", _judge_stream, streamed=True)


def _judge_stream(trace: Trace) -> Verdict:
    if "twelve" not in trace.answer.casefold():
        return Verdict(False, f"it was to count to twelve, and said {_quoted(trace.answer)}")
    step_no = trace.session.steps[-1].step_no
    pieces = list(_text_pieces(trace.items, step_no))
    if not pieces:
        return Verdict(False, "no piece of the answer came before its end")
    if "".join(pieces) != trace.answer:
        return Verdict(
            False, f"the pieces make {_quoted(''.join(pieces))}, and the whole answer is {_quoted(trace.answer)}"
        )
    came = "1 piece is" if len(pieces) == 1 else f"{len(pieces)} pieces make"
    return Verdict(True, f"{came} the answer")


def _text_pieces(items: Sequence[dict[str, Any]], step_no: int) -> Iterator[str]:
    for item in items:
        payload = item["payload"]
        if item["type"] == "model.delta" and payload["step_no"] == step_no and payload["kind"] == "text":
            yield payload["text"]


def _reasoning(model: ModelInfo) -> Task | str:
    if model.reasoning is ReasoningStyle.FIXED:
        return "the catalog names no setting for its reasoning"
    return Task(
        "How much is 17 plus 25? Answer with the number alone.",
        _judge_reasoning,
        parameters={"reasoning_effort": ReasoningEffort.LOW},
    )


def _judge_reasoning(trace: Trace) -> Verdict:
    if "42" not in trace.answer:
        return Verdict(False, f"it was to say 42, and said {_quoted(trace.answer)}")
    tokens = trace.session.usage.reasoning_tokens
    if tokens:
        return Verdict(True, f"effort low was taken; it counted {tokens:,} tokens of reasoning")
    if any(event.payload.get("reasoning") for event in trace.events):
        return Verdict(True, "effort low was taken; it showed its reasoning and counted none")
    return Verdict(True, "effort low was taken; it neither showed nor counted any reasoning")


def _image(model: ModelInfo) -> Task | str:
    if not model.vision:
        return "the catalog says that it cannot read images"
    colour = secrets.choice(list(_COLOURS))

    def judge(trace: Trace) -> Verdict:
        named = [name for name in _COLOURS if name in trace.answer.casefold()]
        if named != [colour]:
            return Verdict(False, f"the picture was {colour}, and it said {_quoted(trace.answer)}")
        return Verdict(True, "it named the colour of the picture")

    prompt = f"The picture has one colour. Which of these is it: {', '.join(_COLOURS)}? Answer with that word alone."
    return Task(prompt, judge, image=one_colour_png(_COLOURS[colour]))


_TASKS: dict[CheckName, Callable[[ModelInfo], Task | str]] = {
    CheckName.TEXT: _text,
    CheckName.TOOL: _tool,
    CheckName.PARALLEL: _parallel,
    CheckName.SCHEMA: _schema,
    CheckName.STREAM: _stream,
    CheckName.REASONING: _reasoning,
    CheckName.IMAGE: _image,
}


class ModelCall(NamedTuple):
    """One answer: the check that it belongs to, and the payload of its `model.completed`."""

    check: CheckName
    payload: dict[str, Any]


def judge_usage(calls: Sequence[ModelCall]) -> Verdict:
    """Whether every one of `calls`, of which there is at least one, says how many tokens it used, and what it cost."""
    uncounted = _distinct(call.check for call in calls if not _is_counted(call.payload["usage"]))
    if uncounted:
        return Verdict(False, f"no token counts came with the answers to: {', '.join(uncounted)}")
    unpriced = _distinct(call.check for call in calls if call.payload["cost_source"] in _NOBODY_SAYS)
    if unpriced:
        return Verdict(False, f"tokens are counted, but nobody says what they cost, in: {', '.join(unpriced)}")
    usage = usage_of(calls)
    read, said_by = usage.total_tokens - usage.output_tokens, _distinct(call.payload["cost_source"] for call in calls)
    made = "1 call" if len(calls) == 1 else f"{len(calls)} calls"
    return Verdict(True, f"{made}: {read:,} tokens in and {usage.output_tokens:,} out, cost by {' and '.join(said_by)}")


def model_calls(logs: Mapping[CheckName, Sequence[Event]], model_id: str) -> list[ModelCall]:
    """The answers of this model; those of its successor, which stepped in for it, are none of its own."""
    return [
        ModelCall(name, event.payload)
        for name, events in logs.items()
        for event in events
        if event.type is EventType.MODEL_COMPLETED and event.payload["model"] == model_id
    ]


def usage_of(calls: Sequence[ModelCall]) -> Usage:
    return sum((Usage(**call.payload["usage"]) for call in calls), Usage())


def _is_counted(usage: Mapping[str, int]) -> bool:
    """A prompt and an answer have a token each, at least: a missing count is stored as 0."""
    counted = Usage(**usage)
    return counted.output_tokens > 0 and counted.total_tokens > counted.output_tokens


def one_colour_png(rgb: tuple[int, int, int]) -> bytes:
    """A square picture of one colour. Source: PNG (W3C), 5 and 11.2: chunks, IHDR with 8 bits and colour type 2."""
    header = struct.pack(">IIBBBBB", _SIDE_PX, _SIDE_PX, 8, 2, 0, 0, 0)
    rows = (b"\0" + bytes(rgb) * _SIDE_PX) * _SIDE_PX
    chunks = _chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _codes(*rooms: str) -> dict[str, str]:
    # Letters alone: a number might come back with commas in it, or as a number.
    return {room: "".join(secrets.choice(_CODE_LETTERS) for _ in range(8)) for room in rooms}


def _not_called(trace: Trace, codes: Mapping[str, str]) -> str | None:
    """Which call is missing, None where there is one for each room."""
    calls = [call for calls in trace.turns for call in calls]
    if not calls:
        return f"it did not call the tool, and said {_quoted(trace.answer)}"
    missing = [room for room in codes if not any(_is_for(call, room) for call in calls)]
    if missing:
        given = ", ".join(json_text.dumps(call.arguments) for call in calls)
        return f"it called the tool with {_cut(given)}, and not for room {missing[0]}"
    return None


def _not_together(trace: Trace, codes: Mapping[str, str]) -> str | None:
    if any(all(any(_is_for(call, room) for call in calls) for room in codes) for calls in trace.turns):
        return None
    return f"its calls did not come in one turn, but in {len(trace.turns)}"


def _is_for(call: StepToolCall, room: str) -> bool:
    return call.success and call.arguments == {"room": room}


def _not_used(answer: str, codes: Mapping[str, str]) -> str | None:
    if all(code in answer.casefold() for code in codes.values()):
        return None
    return f"its answer has not what the tool returned: {_quoted(answer)}"


def _distinct(names: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _quoted(text: str) -> str:
    return f'"{_cut(" ".join(text.split()))}"'


def _cut(text: str) -> str:
    return text if len(text) <= _QUOTED_CHARS else f"{text[:_QUOTED_CHARS]}..."
