"""From a recording to what replays it: the answers of its models, the results of its tools, and what people did.

Where the recording has the exchanges with a model, they are the answers. Where it has the log alone, the answers are
made of the log, which holds all of each answer, and of each failure its class and its words.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeAlias

from conductor_ai.errors import (
    AnswerInvalid,
    InvalidInput,
    PromptTooLong,
    ProviderError,
    ProviderUnavailable,
    RequestRefused,
    SignatureRefused,
)
from conductor_ai.model_catalog import ModelInfo
from conductor_ai.providers.replay import Answer, Ended
from conductor_ai.schemas.costs import UNKNOWN_COST, CallCost, CostSource
from conductor_ai.schemas.events import Event, EventType
from conductor_ai.schemas.exchanges import Exchange, Recording, provider_error, tool_call, wire_turn
from conductor_ai.schemas.images import Image
from conductor_ai.schemas.messages import Message, ModelResponse, Role, StopReason
from conductor_ai.schemas.session import PauseReason
from conductor_ai.schemas.usage import Usage
from conductor_ai.sdk.base import ToolEffect
from conductor_ai.wiring.recording import models_of

FROM_OUTSIDE = (PauseReason.INTERRUPTED, PauseReason.DEADLINE)
"""Pauses that no replay comes to by itself: they are a matter of time."""


class Resume(NamedTuple):
    limits: dict[str, Any]


class Continue(NamedTuple):
    message: Message
    limits: dict[str, Any]


class Decide(NamedTuple):
    call_id: str
    decision: Literal["approved", "denied"]
    reason: str | None


class Cancel(NamedTuple):
    """Of a session that does not run."""


Action: TypeAlias = Resume | Continue | Decide | Cancel
"""What somebody did with the session after it had stopped."""


@dataclass(slots=True)
class RecordedCall:
    """A tool call of the recording. `ended` has an entry for each time that it was ended from outside."""

    name: str
    arguments: dict[str, Any] | None
    effect: ToolEffect | None = None
    completed: dict[str, Any] | None = None
    ended: list[Ended] = field(default_factory=list)


@dataclass(slots=True)
class ReplayScript:
    """`config` is the payload of `session.created`, `models` are what is known of the session's models, by id."""

    models: dict[str, ModelInfo] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    answers: list[Answer | Ended] = field(default_factory=list)
    calls: dict[str, RecordedCall] = field(default_factory=dict)
    actions: list[Action] = field(default_factory=list)


def script_of(recording: Recording, live: frozenset[str] = frozenset()) -> ReplayScript:
    """How to replay `recording`.

    Args:
        live: The tools that will really run: they ask for approvals inside their calls once more.
    Raises: InvalidInput where it is not whole.
    """
    try:
        models = models_of(recording.models)
    except ValueError as exc:
        raise InvalidInput(f"a model of the recording cannot be read: {exc}") from exc
    try:
        return _Walk(recording, models, live).script
    except (KeyError, TypeError, ValueError, ArithmeticError) as exc:
        raise InvalidInput(f"the recording of session {recording.session_id} is not whole: {exc!r}") from exc


class _Walk:
    """One pass over what happened, with as much of the session's state as the next item needs."""

    def __init__(self, recording: Recording, models: dict[str, ModelInfo], live: frozenset[str]) -> None:
        self.script = ReplayScript(models)
        self._live = live
        self._happened = recording.happened
        self._model = ""
        self._running = True
        self._waits = self._waits_inside = False
        """The session waits for approvals: as the replay will, or inside calls that it will not run."""
        self._inside: set[str] = set()
        """The approvals that were asked for inside such calls."""
        self._open: set[str] = set()
        """Calls that have started, and have no result."""
        self._failed = False
        """An error is among the answers, and no event has told of it yet."""
        self._answered: Answer | None = None
        self._said = False
        """The newest event is an answer without calls: if something fails now, it is this answer."""
        for index, item in enumerate(self._happened):
            if isinstance(item, Exchange):
                self._take_exchange(item)
            else:
                self._take_event(index, item)
        if self._goes_on:
            self._end(Ended.INTERRUPTED)

    @property
    def _goes_on(self) -> bool:
        """Whether a replay would not stop here by itself."""
        return self._running or (self._waits_inside and not self._waits)

    def _take_exchange(self, exchange: Exchange) -> None:
        before = self.script.answers[-1] if self.script.answers else None
        if isinstance(before, Answer) and before.exchange.error is not None:
            same = before.exchange.step_no == exchange.step_no
            before.alone = not (same and exchange.attempt == before.exchange.attempt + 1)
        answer = Answer(exchange)
        self.script.answers.append(answer)
        self._failed = exchange.error is not None
        self._answered = None if self._failed else answer

    def _take_event(self, index: int, event: Event) -> None:
        payload = event.payload
        said, self._said = self._said, False
        match event.type:
            case EventType.SESSION_CREATED:
                self.script.config, self._model = payload, payload["model"]
            case EventType.MESSAGE_ADDED if not (self.script.answers or self.script.actions):
                self.script.messages.append(message_of(payload))
            case EventType.MODEL_COMPLETED:
                self._model_completed(payload)
            case EventType.MODEL_SWITCHED | EventType.SESSION_FAILED:
                self._failure(payload, of_the_answer=said)
                self._model = payload.get("to_model", self._model)
                self._running = event.type is EventType.MODEL_SWITCHED
            case EventType.CONTEXT_TRIMMED if called_too_long(payload):
                self._failure({**payload, "code": PromptTooLong.code, "message": "the prompt is too long"})
            case EventType.TOOL_STARTED:
                self.script.calls[payload["call_id"]].effect = payload["effect"]
                self._open.add(payload["call_id"])
            case EventType.TOOL_COMPLETED:
                self.script.calls[payload["call_id"]].completed = payload
                self._open.discard(payload["call_id"])
            case EventType.APPROVAL_REQUESTED:
                self._asked(payload)
            case EventType.APPROVAL_DECIDED:
                self._decided(payload)
            case _:
                self._status(index, event.type, payload)

    def _model_completed(self, payload: dict[str, Any]) -> None:
        answer = self._answered
        if answer is None:
            info = self.script.models[payload["model"]]
            if "unsettled_usd" in payload:
                self._add_unheard(info, payload)
            exchange = _exchange(info, payload["step_no"], _response(payload))
            answer = Answer(exchange)
            self.script.answers.append(answer)
        answer.cost = _cost(payload)
        self._answered, self._failed = None, False
        self._said = not payload["tool_calls"] and payload["stop_reason"] != StopReason.PAUSE_TURN
        self._open = set()
        for call in payload["tool_calls"]:
            self.script.calls[call["call_id"]] = RecordedCall(call["name"], call["arguments"])

    def _failure(self, payload: dict[str, Any], *, of_the_answer: bool = False) -> None:
        """Take the failure that the log tells of for an answer of the provider, unless it is there or is none."""
        told, self._failed = self._failed, False
        if told or of_the_answer or payload["code"] == AnswerInvalid.code:
            return
        info = self.script.models[payload.get("from_model", self._model)]
        status = None
        if payload["code"] == RequestRefused.code and "to_model" in payload:  # only with these it goes to another model
            status = 404 if payload["to_model"] == info.successor else 413
        error = provider_error(
            payload["code"],
            payload["message"],
            hint=payload.get("hint"),
            provider=info.provider.value,
            model=info.wire_id,
            status=status,
            sent="unsettled_usd" in payload,  # nothing else may have been billed
        )
        # A signature that is refused is left out once, of which no event tells.
        times = 2 if payload["code"] == SignatureRefused.code else 1
        self.script.answers += [Answer(_exchange(info, payload.get("step_no", 0), error))] * times

    def _add_unheard(self, info: ModelInfo, payload: dict[str, Any]) -> None:
        """The attempts before an answer that ended without a word, and may have been billed."""
        error = ProviderUnavailable("no answer came", provider=info.provider.value, model=info.wire_id)
        exchange = _exchange(info, payload["step_no"], error)
        self.script.answers += [Answer(exchange, alone=False)] * (payload["attempts"] - 1)

    def _asked(self, payload: dict[str, Any]) -> None:
        self._running = False
        if "action" in payload and payload["tool_name"] not in self._live:
            self._waits_inside = True
            self._inside.add(payload["approval_id"])
        else:
            self._waits = True

    def _decided(self, payload: dict[str, Any]) -> None:
        if payload["approval_id"] is None or payload["decision"] == "void":
            return  # nobody was asked
        if payload["approval_id"] not in self._inside:
            self.script.actions.append(Decide(payload["call_id"], payload["decision"], payload["reason"]))

    def _status(self, index: int, kind: EventType, payload: dict[str, Any]) -> None:
        match kind:
            case EventType.SESSION_PAUSED:
                if payload["reason"] in FROM_OUTSIDE:
                    self._end(Ended.INTERRUPTED)
                self._running = False
            case EventType.SESSION_CANCEL_REQUESTED:
                if self._goes_on:
                    self._end(Ended.CANCELLED)
                else:
                    self.script.actions.append(Cancel())
                self._running = self._waits = self._waits_inside = False
            case EventType.SESSION_RESUMED:
                self._resumed(index, payload["limits"])
            case EventType.SESSION_COMPLETED:
                self._running = False

    def _resumed(self, index: int, limits: dict[str, Any]) -> None:
        message = self._message_after(index)
        if message is not None:
            if self._goes_on:
                self._end(Ended.INTERRUPTED)
            self.script.actions.append(Continue(message, limits))
        elif not self._goes_on:
            self.script.actions.append(Resume(limits))
        self._running, self._waits, self._waits_inside = True, False, False

    def _message_after(self, index: int) -> Message | None:
        """The message with which a session was resumed: only what closes its open calls stands before it."""
        for item in self._happened[index + 1 :]:
            if isinstance(item, Event) and item.type is EventType.MESSAGE_ADDED:
                return message_of(item.payload)
            if not isinstance(item, Event) or item.type not in _CLOSING:
                return None
        return None

    def _end(self, by: Ended) -> None:
        """Let the session be ended from outside: in the calls that are under way, else in the next model call."""
        for call_id in self._open:
            self.script.calls[call_id].ended.append(by)
        if self._open:
            return
        answers = self.script.answers
        before = answers[-1] if answers else None
        if isinstance(before, Answer) and self._failed:
            before.alone = False  # it was to be tried again
        answers.append(by)


_CLOSING = (EventType.TOOL_COMPLETED, EventType.APPROVAL_DECIDED)


def called_too_long(payload: dict[str, Any]) -> bool:
    """Whether a `context.trimmed` came of a provider that called the prompt too long."""
    return bool(payload["prompt_tokens_after"] == 0 and payload["prompt_tokens_before"] == payload["context_window"])


def message_of(payload: dict[str, Any]) -> Message:
    images = tuple(Image.of_payload(image)._replace(url=None) for image in payload.get("images", ()))
    return Message(Role(payload["role"]), payload["content"], images=images)


def _exchange(info: ModelInfo, step_no: int, answer: ModelResponse | ProviderError) -> Exchange:
    response, error = (None, answer) if isinstance(answer, ProviderError) else (answer, None)
    return Exchange(step_no, 1, info.wire_id, info.provider.value, None, None, response, error)


def _response(payload: dict[str, Any]) -> ModelResponse:
    """The answer that a `model.completed` was made of."""
    wire = wire_turn(payload["wire"])
    return ModelResponse(
        content=payload["content"],
        tool_calls=tuple(tool_call(call, wire.provider) for call in payload["tool_calls"]),
        stop_reason=StopReason(payload["stop_reason"]),
        usage=Usage(**payload["usage"]),
        wire=wire,
        answered_by=payload["answered_by"],
        reasoning=payload.get("reasoning", ""),
        request_id=payload.get("request_id"),
        host=payload.get("host"),
    )


def _cost(payload: dict[str, Any]) -> CallCost:
    cost, day = payload["cost_usd"], payload.get("price_as_of")
    source = CostSource(payload.get("cost_source", CostSource.UNRECORDED))
    if cost is None or source is CostSource.BOUND:  # the loop sets the bound
        return UNKNOWN_COST
    return CallCost(Decimal(cost), source, None if day is None else date.fromisoformat(day))
