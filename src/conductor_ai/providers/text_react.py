"""Tools for models whose own tool calls cannot be depended on: the text ReAct protocol over any provider.

The model is told to write Thought, Action and Action Input, and reads an Observation for each call. What comes out is
what a native call gives: the same calls, stop reasons and events.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from conductor_ai.providers.assembly import deltas_of
from conductor_ai.providers.base import HeadSpec, ModelRequest, Provider
from conductor_ai.providers.text_react_json import Offered, TextCall
from conductor_ai.providers.text_react_parser import Reading, read_answer, read_lone_calls
from conductor_ai.schemas import json_text
from conductor_ai.schemas.deltas import Delta, Stop, ToolArguments, ToolCallEnd, ToolCallStart
from conductor_ai.schemas.ids import new_id
from conductor_ai.schemas.messages import Message, ModelResponse, Role, StopReason, ToolCall, ToolReply, WireTurn
from conductor_ai.sdk.base import ToolDefinition

_logger = logging.getLogger(__name__)

_OF_A_CALL = (ToolCallStart, ToolArguments, ToolCallEnd)
_CUT = (StopReason.MAX_TOKENS, StopReason.CONTEXT_WINDOW)
_NO_ANSWER = (StopReason.REFUSAL, StopReason.CONTENT_FILTER, StopReason.PAUSE_TURN)

_PROTOCOL = """\
You can use the tools listed below. To use one, write these lines and then stop:

Thought: what you want to know, in one sentence
Action: the name of one tool
Action Input: its arguments as one JSON object

You will then be given a line that begins with "Observation" and holds what the tool returned. Never write an \
observation yourself, and never guess what a tool returns. Calls that do not depend on each other may stand in one \
answer: write an Action and an Action Input for each. \
"""
_MAY_ANSWER = """\
As soon as you need no more tools, write:

Final Answer: your answer
"""
_MUST_CALL = """\
Each of your answers must use a tool: text without an Action counts for nothing.
"""
_TOOLS = "\nTools:\n"
_WRITE_AGAIN = (
    "(What you wrote looks like a tool call and could not be read, so nothing was done. To call a tool, write a line "
    "`Action: ` with the name of a listed tool, and a line `Action Input: ` with one JSON object. If you need no "
    "tool any more, answer as you were told to at the beginning.)"
)


class _Head(bytes):
    """An encoded head that knows which tools it offers: only the text of a model that was offered tools is read."""

    offered: Offered = frozenset()


class _RepairTurn(bytes):
    """A turn that tells the model that its call could not be read."""


class TextReAct:
    """The provider `inner`, asked to call tools in text. `repairs` counts, by model, calls that could not be read.

    Such a call goes to the loop without arguments, so that it is not run and the model is told; when the answer to that
    cannot be read either, it counts as no answer. Deltas show the text as the model writes it, protocol included.
    """

    def __init__(self, inner: Provider) -> None:
        self.repairs: Counter[str] = Counter()
        self._inner = inner
        self._name = f"{inner.name}+text"

    @property
    def name(self) -> str:
        """Not the inner one's: that adapter, asked for another model, must rebuild our turns with calls of its own."""
        return self._name

    def encode_head(self, spec: HeadSpec) -> bytes:
        if not spec.tools:
            return _Head(self._inner.encode_head(spec))
        described = "\n".join(map(_described, spec.tools))
        protocol = _PROTOCOL + (_MUST_CALL if spec.must_call else _MAY_ANSWER) + _TOOLS + described
        instructions = f"{spec.instructions}\n\n{protocol}" if spec.instructions else protocol
        head = _Head(self._inner.encode_head(replace(spec, instructions=instructions, tools=(), must_call=False)))
        head.offered = frozenset(tool.name for tool in spec.tools)
        return head

    def encode_turn(self, message: Message) -> bytes:
        if message.role is Role.TOOL:
            return self._observed(message.tool_replies)
        if message.wire is not None and message.wire.provider == self._name:
            return message.wire.json
        if message.tool_calls:
            return self._inner.encode_turn(Message(Role.ASSISTANT, _in_text(message.content, message.tool_calls)))
        return self._inner.encode_turn(message)

    async def complete(self, request: ModelRequest) -> ModelResponse:
        return self._read(request, await self._inner.complete(request))

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | ModelResponse]:
        return _read_at_the_end(self._inner.stream(request), lambda response: self._read(request, response))

    def _observed(self, replies: tuple[ToolReply, ...]) -> bytes:
        blocks = [_observation(reply) for reply in replies]
        unreadable = any(reply.call.arguments is None and reply.call.provider == self._name for reply in replies)
        if unreadable:
            blocks.append(_WRITE_AGAIN)
        turn = self._inner.encode_turn(Message(Role.USER, "\n\n".join(blocks)))
        return _RepairTurn(turn) if unreadable else turn

    def _read(self, request: ModelRequest, response: ModelResponse) -> ModelResponse:
        if response.stop_reason in _NO_ANSWER:
            return response
        if response.tool_calls:
            return self._retold(response)
        reading = read_answer(response.content, _offered(request.head))
        if reading is None:
            return response
        if not reading.calls:
            return response._replace(content=reading.said)
        unreadable = [call for call in reading.calls if call.arguments is None]
        if unreadable:
            self._count(request.model, unreadable[0])
            if isinstance(request.turns[-1], _RepairTurn):
                stop = response.stop_reason if response.stop_reason in _CUT else StopReason.OTHER
                return response._replace(content="", stop_reason=stop)
        return self._called(response, reading)

    def _called(self, response: ModelResponse, reading: Reading) -> ModelResponse:
        text = response.content
        whole = not text[reading.end :].strip()
        turn = response.wire.json if whole else self._with_text(response.wire, text[: reading.end])
        # Where the limit cut off what the model made up behind its calls, these are complete.
        cut = response.stop_reason in _CUT and not reading.guessed
        stop = response.stop_reason if cut else StopReason.TOOL_USE
        calls = (ToolCall("", call.name, call.arguments, call.raw, None, self._name) for call in reading.calls)
        return response._replace(
            content=reading.said,
            tool_calls=tuple(calls),
            stop_reason=stop,
            wire=WireTurn(self._name, turn),
        )

    def _retold(self, response: ModelResponse) -> ModelResponse:
        """Native calls of a model that was offered none, kept as text: their replies will come as text, too."""
        calls = tuple(call._replace(provider_call_id=None, provider=self._name) for call in response.tool_calls)
        turn = self._with_text(response.wire, _in_text(response.content, calls))
        return response._replace(tool_calls=calls, wire=WireTurn(self._name, turn))

    def _with_text(self, wire: WireTurn, text: str) -> bytes:
        """The inner provider's turn with another text: what else a chat-completions turn holds stays, reasoning too.

        Elsewhere it is built anew. What is signed there must come back with native calls only, and there are none.
        """
        turn = json_text.loads(wire.json)
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str):
            return self._inner.encode_turn(Message(Role.ASSISTANT, text))
        turn.pop("tool_calls", None)
        turn["content"] = text
        return json_text.exact(json_text.wire_dumps(turn))

    def _count(self, model: str, call: TextCall) -> None:
        self.repairs[model] += 1
        _logger.warning(
            "%s wrote a call of %s that cannot be read; %d such answers since this process began",
            model,
            call.name,
            self.repairs[model],
        )


class BareJSONCalls:
    """The provider `inner` with its native tools; an answer that is nothing but a call as JSON counts as that call.

    Some models behind a server of one's own answer so although their template knows tool calls.
    """

    def __init__(self, inner: Provider) -> None:
        self._inner = inner

    @property
    def name(self) -> str:
        return self._inner.name

    def encode_head(self, spec: HeadSpec) -> bytes:
        head = _Head(self._inner.encode_head(spec))
        head.offered = frozenset(tool.name for tool in spec.tools)
        return head

    def encode_turn(self, message: Message) -> bytes:
        return self._inner.encode_turn(message)

    async def complete(self, request: ModelRequest) -> ModelResponse:
        return self._read(request, await self._inner.complete(request))

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | ModelResponse]:
        return _read_at_the_end(self._inner.stream(request), lambda response: self._read(request, response))

    def _read(self, request: ModelRequest, response: ModelResponse) -> ModelResponse:
        if response.tool_calls or response.stop_reason in (*_NO_ANSWER, *_CUT):
            return response
        read = read_lone_calls(response.content, _offered(request.head))
        if not read:
            return response
        calls = tuple(
            ToolCall("", call.name, call.arguments, None, f"call_{new_id()}", self._inner.name) for call in read
        )
        turn = json_text.loads(response.wire.json)
        native = json_text.loads(self._inner.encode_turn(Message(Role.ASSISTANT, "", calls)))
        return response._replace(
            content="",
            tool_calls=calls,
            stop_reason=StopReason.TOOL_USE,
            wire=WireTurn(self._inner.name, json_text.exact(json_text.wire_dumps({**turn, **native}))),
        )


async def _read_at_the_end(
    stream: AsyncGenerator[Delta | ModelResponse], read: Callable[[ModelResponse], ModelResponse]
) -> AsyncGenerator[Delta | ModelResponse]:
    """The deltas as they come. The stop waits for the whole answer: only then is it known whether it asks for tools."""
    told = False
    async with aclosing(stream):
        async for item in stream:
            if isinstance(item, ModelResponse):
                response = read(item)
                for delta in deltas_of(response):
                    if isinstance(delta, Stop) or (isinstance(delta, _OF_A_CALL) and not told):
                        yield delta
                yield response
            elif not isinstance(item, Stop):
                told = told or isinstance(item, ToolCallStart)  # a native call
                yield item


def _offered(head: bytes) -> Offered:
    if not isinstance(head, _Head):
        raise TypeError("the head of a request must be what encode_head of the same provider returned")
    return head.offered


def _described(tool: ToolDefinition) -> str:
    return f"- {tool.name}: {tool.description}\n  Arguments: {json_text.dumps(tool.parameters)}"


def _in_text(content: str, calls: tuple[ToolCall, ...]) -> str:
    """A turn as the model would have written it under the protocol."""
    lines = [f"Thought: {content}"] if content else []
    for call in calls:
        arguments = json_text.dumps(call.arguments) if call.arguments is not None else call.raw_arguments or "{}"
        lines += [f"Action: {call.name}", f"Action Input: {arguments}"]
    return "\n".join(lines)


def _observation(reply: ToolReply) -> str:
    failed = ", failed" if reply.is_error else ""
    return f"Observation ({reply.call.call_id}, {reply.call.name}{failed}): {reply.shown}"
