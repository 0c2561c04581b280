"""A provider that answers from a recording: `ReplayProvider`. It encodes as the real one does, and reaches no network.

Where the recording holds requests, each new one is compared with the one that was sent: what has changed is told, with
the place. Errors come back as what they were, without the waits.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from conductor_ai.errors import ProviderError, ReplayDiffers
from conductor_ai.providers.assembly import deltas_of
from conductor_ai.providers.base import HeadSpec, ModelRequest, Provider
from conductor_ai.schemas import json_text
from conductor_ai.schemas.costs import CallCost
from conductor_ai.schemas.deltas import Delta
from conductor_ai.schemas.exchanges import Exchange, head_data, provider_error, turn_data
from conductor_ai.schemas.messages import Message, ModelResponse

# The random word between which text from outside stands (`ToolReply.shown`): another one each time.
_FENCE = re.compile(r"(untrusted text )[0-9a-f]{8}")
_INSTRUCTIONS = ("system", "systemInstruction", "messages")
"""Where a request's head has them; `messages` begin with those of the chat wires, and the turns follow."""
_AROUND_CHARS = 30
_SHOWN_CHARS = 120


class Ended(StrEnum):
    """Who ended the recorded session from outside, at this place."""

    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


@dataclass(slots=True)
class Answer:
    """What the next model call gets. `cost` is what the recording says of it; `alone` that no attempt follows it."""

    exchange: Exchange
    cost: CallCost | None = None
    alone: bool = True


class Tape:
    """The answers of one recorded session, in order, for all its models.

    Args:
        clean: Takes secrets out of JSON text, as was done when the recording was written.
    """

    def __init__(self, answers: Iterable[Answer | Ended], clean: Callable[[str], str] = str) -> None:
        self._answers = list(answers)
        self._clean = clean
        self._next = 0
        self._newest: tuple[ModelResponse, CallCost | None] | None = None
        self._same: list[tuple[bytes, Any]] = []
        self.is_watched = False
        """Somebody will end the session where the recorded one was ended."""
        self.ended: Ended | None = None
        """Set where the session is now to be ended from outside."""
        self.came_to_end = asyncio.Event()

    @property
    def left(self) -> int:
        """How many answers nobody has asked for."""
        return sum(isinstance(item, Answer) for item in self._answers[self._next :])

    def cost_of(self, response: ModelResponse) -> CallCost | None:
        """What the recording says of an answer that it gave last; None where it says nothing."""
        return self._newest[1] if self._newest is not None and self._newest[0] is response else None

    async def take(self, request: ModelRequest, provider: str) -> ModelResponse:
        """The next answer. Raises: ReplayDiffers; the recorded ProviderError."""
        item = self._answers[self._next] if self._next < len(self._answers) else None
        if item is None:
            raise ReplayDiffers(f"model call {self._next + 1}: the recording has no answer to it, and ended before")
        self._next += 1
        if isinstance(item, Ended):
            await self.end(item)
        assert isinstance(item, Answer)
        self._compare(item.exchange, request, provider)
        if item.exchange.error is not None:
            raise _raised(item)
        response = item.exchange.response
        assert response is not None
        self._newest = (response, item.cost)
        return response

    async def end(self, by: Ended) -> None:
        """Wait for whoever replays to end the session. Never returns. Raises: ReplayDiffers where nobody watches."""
        if not self.is_watched:
            raise ReplayDiffers(f"model call {self._next}: the recorded session was {by} here, and this one goes on")
        self.ended = by
        self.came_to_end.set()
        await asyncio.Event().wait()

    def _compare(self, recorded: Exchange, request: ModelRequest, provider: str) -> None:
        where = f"model call {self._next} (step {recorded.step_no})"
        if recorded.model != request.model or (recorded.turns is not None and recorded.provider != provider):
            asked = f"{provider}/{request.model}"
            raise ReplayDiffers(f"{where}: the model is {asked}, recorded is {recorded.provider}/{recorded.model}")
        if recorded.turns is None:
            return
        now = self._told(json_text.dumps(head_data(request.head)))
        self._tell(f"{where}: ", recorded.head, now, _head_difference)
        same = 0
        for (old, old_recorded), turn, recorded_turn in zip(self._same, request.turns, recorded.turns, strict=False):
            if old is not turn or old_recorded is not recorded_turn:
                break
            same += 1
        for number, (turn, recorded_turn) in enumerate(zip(request.turns, recorded.turns, strict=False), 1):
            if number > same:
                asked = turn_data(self._told(f"[{turn.decode()}]"))
                self._tell(f"{where}: turn {number}", recorded_turn, asked)
        if len(request.turns) != len(recorded.turns):
            raise ReplayDiffers(f"{where}: {len(request.turns)} turns, recorded are {len(recorded.turns)}")
        self._same = list(zip(request.turns, recorded.turns, strict=True))

    def _told(self, text: str) -> Any:
        return json_text.loads(_FENCE.sub(r"\1", self._clean(text)))

    def _tell(self, where: str, recorded: Any, now: Any, find: Callable[[Any, Any], str | None] | None = None) -> None:
        if recorded == now:
            return
        recorded = json_text.loads(_FENCE.sub(r"\1", json_text.dumps(recorded)))
        found = (find or first_difference)(recorded, now)
        if found is not None:
            raise ReplayDiffers(f"{where}{found}")


class ReplayProvider:
    """Answers from `tape`; `encoder` is the provider whose requests are built, and which is never asked."""

    def __init__(self, encoder: Provider, tape: Tape) -> None:
        self._encoder = encoder
        self._tape = tape

    @property
    def name(self) -> str:
        return self._encoder.name

    def encode_head(self, spec: HeadSpec) -> bytes:
        return self._encoder.encode_head(spec)

    def encode_turn(self, message: Message) -> bytes:
        return self._encoder.encode_turn(message)

    async def complete(self, request: ModelRequest) -> ModelResponse:
        return await self._tape.take(request, self.name)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | ModelResponse]:
        response = await self._tape.take(request, self.name)
        for delta in deltas_of(response):
            yield delta
        yield response


def first_difference(recorded: Any, now: Any, place: str = "") -> str | None:
    """Where two pieces of JSON data differ first, and how; None where they are the same."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        for name in (*recorded, *(name for name in now if name not in recorded)):
            at = f"{place}.{name}"
            if name not in now:
                return f"{at} is gone, recorded is {_shown(recorded[name])}"
            if name not in recorded:
                return f"{at} is new: {_shown(now[name])}"
            if (found := first_difference(recorded[name], now[name], at)) is not None:
                return found
        return None
    if isinstance(recorded, list) and isinstance(now, list):
        for index, (old, new) in enumerate(zip(recorded, now, strict=False)):
            if (found := first_difference(old, new, f"{place}[{index}]")) is not None:
                return found
        return None if len(recorded) == len(now) else f"{place} has {len(now)} entries, recorded are {len(recorded)}"
    if isinstance(recorded, str) and isinstance(now, str) and recorded != now:
        start = _first_unlike(recorded, now)
        return f"{place} reads {_around(now, start)}, recorded is {_around(recorded, start)}"
    return None if recorded == now else f"{place} is {_shown(now)}, recorded is {_shown(recorded)}"


def _head_difference(recorded: Any, now: Any) -> str | None:
    """As `first_difference`; the instructions come first, and by that name, whatever a provider calls them."""
    old, new = ("\n".join(_texts([head.get(name) for name in _INSTRUCTIONS])) for head in (recorded, now))
    if old != new:
        start = _first_unlike(old, new)
        said = [_around(text, start) if text else "nothing" for text in (new, old)]
        return f"the instructions differ: they are {said[0]}, recorded is {said[1]}"
    found = first_difference(recorded, now)
    return None if found is None else f"the request's {found.removeprefix('.')}"


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, list):
        for item in data:
            yield from _texts(item)
    elif isinstance(data, dict):
        for name in ("parts", "text", "content"):
            yield from _texts(data.get(name))


def _first_unlike(one: str, other: str) -> int:
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return index
    return min(len(one), len(other))


def _around(text: str, at: int) -> str:
    start, end = max(0, at - _AROUND_CHARS), at + 2 * _AROUND_CHARS
    return f"{'...' if start else ''}{text[start:end]!r}{'...' if end < len(text) else ''}"


def _shown(value: Any) -> str:
    text = json_text.dumps(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def _raised(answer: Answer) -> ProviderError:
    """The recorded error, made anew. It is tried again where it was then, at once: nobody is busy any more."""
    error = answer.exchange.error
    assert error is not None
    return provider_error(
        error.code,
        str(error),
        hint=error.hint,
        provider=error.provider,
        model=error.model,
        status=error.status,
        request_id=error.request_id,
        answering=error.answering,
        sent=error.sent,
        billed_cost_usd=error.billed_cost_usd,
        retryable=not answer.alone,
    )
