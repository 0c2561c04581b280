"""What the loop knows of a session: the fold of its log.

The same `apply` runs when an event is written and when it is read back, so a resumed session is in the state that the
dead one was in. Only what the next step needs is kept: the prompt, and the calls still open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from conductor_ai.agents.context_window import result_cap
from conductor_ai.agents.prompt import EncodeTurn, Prompt
from conductor_ai.agents.replies import reply
from conductor_ai.schemas import json_text
from conductor_ai.schemas.events import ApprovalRequested, EventType, MessageAdded, RejectedFor, SessionCreated
from conductor_ai.schemas.images import Image, image_payload
from conductor_ai.schemas.limits import Limits
from conductor_ai.schemas.messages import Message, Role, StopReason, ToolCall, WireTurn
from conductor_ai.schemas.parameters import Parameters
from conductor_ai.schemas.session import PauseReason, SessionStatus, transition
from conductor_ai.schemas.usage import Usage
from conductor_ai.sdk.base import ToolEffect

NO_MODEL = ""
"""In place of a model's id: no turn is kept as its model signed it."""
_CUT = (StopReason.MAX_TOKENS, StopReason.CONTEXT_WINDOW, StopReason.REFUSAL, StopReason.CONTENT_FILTER)


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """How a session is driven, as its first event says.

    `fallbacks` may take over from `model`, in order. `context_window` is the least of theirs, in tokens; None in logs
    that are older. `response_schema` is the JSON schema that answers must fit. `metadata` is the caller's own; `by`
    names who started the session, where that is known.
    """

    org_id: str
    model: str
    tools: tuple[str, ...] = ()
    instructions: str | None = None
    limits: Limits = field(default_factory=Limits)
    pre_approved: tuple[str, ...] = ()
    agent: str | None = None
    fallbacks: tuple[str, ...] = ()
    context_window: int | None = None
    parameters: Parameters = field(default_factory=Parameters)
    response_schema: dict[str, Any] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    by: str | None = None

    def to_payload(self) -> SessionCreated:
        payload: SessionCreated = {
            "org_id": self.org_id,
            "agent": self.agent,
            "model": self.model,
            "tools": list(self.tools),
            "instructions": self.instructions,
            "limits": self.limits.to_dict(),
            "pre_approved": list(self.pre_approved),
            "fallbacks": list(self.fallbacks),
            "context_window": self.context_window,
        }
        if self.parameters != Parameters():
            payload["parameters"] = self.parameters.to_dict()
        if self.response_schema is not None:
            payload["response_schema"] = self.response_schema
        if self.metadata:
            payload["metadata"] = dict(self.metadata)
        if self.by is not None:
            payload["by"] = self.by
        return payload

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> SessionConfig:
        return cls(
            org_id=payload["org_id"],
            model=payload["model"],
            tools=tuple(payload["tools"]),
            instructions=payload["instructions"],
            limits=Limits.of(payload["limits"]),
            pre_approved=tuple(payload["pre_approved"]),
            agent=payload["agent"],
            fallbacks=tuple(payload.get("fallbacks", ())),
            context_window=payload.get("context_window"),
            parameters=Parameters.of(payload.get("parameters")),
            response_schema=payload.get("response_schema"),
            metadata=payload.get("metadata", {}),
            by=payload.get("by"),
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """An approval as far as it got: `decision` is None while a person has not decided.

    `action` is None where the whole call was asked about, else the step inside the tool that was.
    """

    approval_id: str | None
    arguments_hash: str
    action: str | None = None
    decision: str | None = None
    reason: str | None = None


@dataclass(slots=True)
class OpenCall:
    """A tool call of the newest assistant turn, on its way to a reply.

    `effect` is set while it is started: not before, and not while the tool waits for a person's word. `given` (JSON
    text) is what this process handed it, and `began` when, by `time.perf_counter`. `granted` has a hash for each
    approval, of the call or of an action inside. `to_ask` is set where the tool stopped, in this process, to ask for an
    approval that is not requested yet.
    """

    call: ToolCall
    given: str | None = None
    began: float | None = None
    effect: ToolEffect | None = None
    approval: Decision | None = None
    to_ask: ApprovalRequested | None = None
    granted: list[str] = field(default_factory=list)
    completed: dict[str, Any] | None = None


class SessionState:
    """The fold. `encode_turn` is the provider's; None where nobody will call the model.

    `own_turns_of` names the model that will be called: turns of any other one are rebuilt from their text and calls,
    since what a provider signed for one model another may refuse. None keeps all as they came.
    """

    __slots__ = (
        "_own_turns_of",
        "answer_cut",
        "config",
        "cost_usd",
        "error",
        "failure_resumable",
        "images",
        "model",
        "newest",
        "open_calls",
        "pause_reason",
        "prompt",
        "rejected",
        "result_seqs",
        "segment_no",
        "seq",
        "status",
        "step_no",
        "steps_since_message",
        "unsettled_usd",
        "untrusted_tools",
        "usage",
    )

    def __init__(self, config: SessionConfig, encode_turn: EncodeTurn | None, own_turns_of: str | None = None) -> None:
        self._own_turns_of = own_turns_of
        self.config = config
        self.model = config.model
        """The model in use."""
        self.prompt = Prompt(encode_turn)
        self.seq = 0
        """The newest event that is taken in."""
        self.status = SessionStatus.QUEUED
        self.pause_reason: PauseReason | None = None
        self.error: str | None = None
        self.failure_resumable = False
        self.segment_no = 0
        self.step_no = 0
        self.steps_since_message = 0
        self.usage = Usage()
        self.cost_usd: Decimal | None = Decimal(0)
        self.open_calls: dict[str, OpenCall] = {}
        self.result_seqs: dict[str, int] = {}
        """Where in the log each call's result is."""
        self.answer_cut = False
        """The newest answer ended early: its last call may be incomplete, so none is run."""
        self.rejected: Counter[str] = Counter()
        """Answers that were none since the last message, by `RejectedFor`; unreadable calls in a row."""
        self.images = 0
        """In all messages: only a model that sees can go on with the session where there are any."""
        self.unsettled_usd = Decimal(0)
        """The most that calls may have cost which ended without saying."""
        self.untrusted_tools: set[str] = set()
        """Tools that returned text from outside."""
        self.newest: dict[str, Any] | None = None
        """The newest `model.completed`."""

    def apply(self, event_type: EventType, payload: dict[str, Any]) -> None:
        """Take in the next event. Raises: InvalidTransition where the session's status forbids it."""
        _APPLY[event_type](self, payload)
        self.seq += 1

    def take_prompt_of(self, other: SessionState, model: str) -> None:
        """Go on with the prompt of the same log as it was told to `model`, whose turns to come are kept as they are."""
        self.prompt, self._own_turns_of = other.prompt, model

    def waiting_for(self) -> list[OpenCall]:
        """Calls that a person has not decided yet."""
        calls = self.open_calls.values()
        return [open_call for open_call in calls if open_call.approval and open_call.approval.decision is None]

    def _become(self, to: SessionStatus) -> None:
        if self.status is not to:
            self.status = transition(self.status, to)

    def _unsettled(self, payload: dict[str, Any]) -> None:
        if payload.get("unsettled_usd") is not None:
            self.unsettled_usd += Decimal(payload["unsettled_usd"])

    def _created(self, payload: dict[str, Any]) -> None:
        self._become(SessionStatus.RUNNING)
        self.segment_no = 1

    def _message_added(self, payload: dict[str, Any]) -> None:
        images = tuple(Image.of_payload(image) for image in payload.get("images", ()))
        self.images += len(images)
        self.prompt.say(Message(Role(payload["role"]), payload["content"], images=images))
        self.steps_since_message = 0
        self.rejected.clear()

    def _model_completed(self, payload: dict[str, Any]) -> None:
        usage = Usage(**payload["usage"])
        self.step_no = payload["step_no"]
        self.steps_since_message += 1
        self.usage += usage
        cost = payload["cost_usd"]
        self.cost_usd = None if cost is None or self.cost_usd is None else self.cost_usd + Decimal(cost)
        self._unsettled(payload)
        self.newest = payload
        self.answer_cut = payload["stop_reason"] in _CUT
        provider = payload["wire"]["provider"]
        calls = tuple(_tool_call(data, provider) for data in payload["tool_calls"])
        # A turn that says nothing is left out: no provider needs it back, but to go on with a turn that it paused.
        if calls or payload["content"] or payload["stop_reason"] == StopReason.PAUSE_TURN:
            wire = None
            if self._own_turns_of in (None, payload["model"]):
                wire = WireTurn(provider, json_text.exact(json_text.wire_dumps(payload["wire"]["turn"])))
            message = Message(Role.ASSISTANT, payload["content"], calls, wire=wire)
            unfinished = payload["stop_reason"] == StopReason.PAUSE_TURN
            self.prompt.say(message, self.step_no if calls else 0, unfinished=unfinished)
        self.prompt.bill(usage.total_tokens)  # what was billed holds the whole prompt and this answer
        self.open_calls = {call.call_id: OpenCall(call) for call in calls}

    def _model_switched(self, payload: dict[str, Any]) -> None:
        self.model = payload["to_model"]
        self._unsettled(payload)

    def _tool_started(self, payload: dict[str, Any]) -> None:
        self.open_calls[payload["call_id"]].effect = payload["effect"]

    def _tool_completed(self, payload: dict[str, Any]) -> None:
        self.open_calls[payload["call_id"]].completed = payload
        self.result_seqs[payload["call_id"]] = self.seq + 1
        if label := payload.get("provenance"):
            self.untrusted_tools.add(label["tool"])
        calls = self.open_calls.values()
        if any(open_call.completed is None for open_call in calls):
            return
        self.rejected.pop(RejectedFor.UNREADABLE_CALL, None)  # the model can write calls again
        cap = result_cap(self.config.limits, self.config.context_window, len(calls))
        replies = tuple(reply(open_call.call, open_call.completed or {}, cap) for open_call in calls)
        self.open_calls = {}
        self.prompt.reply(self.step_no, replies)

    def _answer_rejected(self, payload: dict[str, Any]) -> None:
        self.rejected[payload["reason"]] += 1
        if "call_id" not in payload:  # the result of a call says it already
            self.prompt.say(Message(Role.USER, f"[Your answer was not taken: {payload['problem']}]"))

    def _context_trimmed(self, payload: dict[str, Any]) -> None:
        self.prompt.trim(payload["results_through"], payload["steps_through"], payload["prompt_tokens_after"])
        self._unsettled(payload)

    def _approval_requested(self, payload: dict[str, Any]) -> None:
        self._become(SessionStatus.WAITING_APPROVAL)
        open_call = self.open_calls[payload["call_id"]]
        action = payload.get("action")
        open_call.approval = Decision(payload["approval_id"], payload["arguments_hash"], action)
        if action is not None:  # the tool stopped of its own accord, and starts again from its beginning
            open_call.effect = open_call.given = open_call.to_ask = None

    def _approval_decided(self, payload: dict[str, Any]) -> None:
        open_call = self.open_calls[payload["call_id"]]
        asked = open_call.approval
        open_call.approval = Decision(
            payload["approval_id"],
            payload["arguments_hash"],
            None if asked is None else asked.action,
            payload["decision"],
            payload["reason"],
        )
        if payload["decision"] == "approved":
            open_call.granted.append(payload["arguments_hash"])

    def _paused(self, payload: dict[str, Any]) -> None:
        self._become(SessionStatus.PAUSED)
        self.pause_reason = PauseReason(payload["reason"])
        self.error = payload["detail"]
        self._unsettled(payload)

    def _resumed(self, payload: dict[str, Any]) -> None:
        self._become(SessionStatus.RUNNING)
        self.pause_reason = self.error = None
        self.segment_no = payload["segment_no"]
        if payload["limits"]:
            limits = self.config.limits.with_changes(payload["limits"])
            self.config = SessionConfig.from_payload(dict(self.config.to_payload(), limits=limits.to_dict()))

    def _cancel_requested(self, payload: dict[str, Any]) -> None:
        self._become(SessionStatus.CANCELLING)
        self.pause_reason = None

    def _completed(self, payload: dict[str, Any]) -> None:
        self._become(SessionStatus.COMPLETED)

    def _failed(self, payload: dict[str, Any]) -> None:
        self._become(SessionStatus.FAILED)
        self.error = payload["message"]
        self.failure_resumable = payload["resumable"]
        self._unsettled(payload)

    def _cancelled(self, payload: dict[str, Any]) -> None:
        self._become(SessionStatus.CANCELLED)
        self.error = None
        self._unsettled(payload)


_APPLY: dict[EventType, Callable[[SessionState, dict[str, Any]], None]] = {
    EventType.SESSION_CREATED: SessionState._created,
    EventType.MESSAGE_ADDED: SessionState._message_added,
    EventType.MODEL_COMPLETED: SessionState._model_completed,
    EventType.MODEL_SWITCHED: SessionState._model_switched,
    EventType.TOOL_STARTED: SessionState._tool_started,
    EventType.TOOL_COMPLETED: SessionState._tool_completed,
    EventType.ANSWER_REJECTED: SessionState._answer_rejected,
    EventType.CONTEXT_TRIMMED: SessionState._context_trimmed,
    EventType.APPROVAL_REQUESTED: SessionState._approval_requested,
    EventType.APPROVAL_DECIDED: SessionState._approval_decided,
    EventType.SESSION_PAUSED: SessionState._paused,
    EventType.SESSION_RESUMED: SessionState._resumed,
    EventType.SESSION_CANCEL_REQUESTED: SessionState._cancel_requested,
    EventType.SESSION_COMPLETED: SessionState._completed,
    EventType.SESSION_FAILED: SessionState._failed,
    EventType.SESSION_CANCELLED: SessionState._cancelled,
}


def message_added(message: Message) -> MessageAdded:
    """The event of a caller's message."""
    payload: MessageAdded = {"role": "assistant", "content": message.content}
    if message.role is Role.USER:
        payload["role"] = "user"
    if message.images:
        payload["images"] = [image_payload(image) for image in message.images]
    return payload


def _tool_call(payload: dict[str, Any], provider: str) -> ToolCall:
    return ToolCall(
        payload["call_id"],
        payload["name"],
        payload["arguments"],
        payload.get("raw_arguments"),
        payload.get("provider_call_id"),
        provider,
    )
