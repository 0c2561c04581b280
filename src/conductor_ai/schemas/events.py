"""The durable facts of a session's log: their names, and the shape of each payload.

`session_events(session_id, seq, type, payload, created_at)` is checkpoint, stream, audit source and replay at once.
Payloads are JSON text. Inside the loop they are plain dictionaries of the shapes below; nothing validates them there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, NotRequired, TypedDict


class EventType(StrEnum):
    SESSION_CREATED = "session.created"
    MESSAGE_ADDED = "message.added"
    MODEL_COMPLETED = "model.completed"
    MODEL_SWITCHED = "model.switched"
    TOOL_STARTED = "tool.started"
    TOOL_COMPLETED = "tool.completed"
    ANSWER_REJECTED = "answer.rejected"
    CONTEXT_TRIMMED = "context.trimmed"
    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_DECIDED = "approval.decided"
    SESSION_PAUSED = "session.paused"
    SESSION_RESUMED = "session.resumed"
    SESSION_CANCEL_REQUESTED = "session.cancel_requested"
    SESSION_COMPLETED = "session.completed"
    SESSION_FAILED = "session.failed"
    SESSION_CANCELLED = "session.cancelled"


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the log. `seq` starts at 1 and has no gap; `created_at` is ISO 8601 UTC."""

    session_id: str
    seq: int
    type: EventType
    payload: dict[str, Any]
    created_at: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "session_id": self.session_id,
            "seq": self.seq,
            "type": self.type.value,
            "payload": self.payload,
            "created_at": self.created_at,
        }


class SessionCreated(TypedDict):
    """Everything needed to drive the session again; tools are names, limits as `Limits.to_dict`.

    `context_window` is the model's, in tokens: what is shown of a result follows from it. `parameters` as
    `Parameters.to_dict`; `response_schema` is the JSON schema that the answer must fit. `metadata` is the caller's own,
    `by` names who started the session.
    """

    org_id: str
    agent: str | None
    model: str
    tools: list[str]
    instructions: str | None
    limits: dict[str, Any]
    pre_approved: list[str]
    fallbacks: list[str]
    context_window: int | None
    parameters: NotRequired[dict[str, Any]]
    response_schema: NotRequired[dict[str, Any]]
    metadata: NotRequired[dict[str, str]]
    by: NotRequired[str]


class ImagePayload(TypedDict):
    """`data` is base64; `url` is where it was fetched."""

    media_type: str
    data: str
    url: NotRequired[str]


class MessageAdded(TypedDict):
    role: Literal["user", "assistant"]
    content: str
    images: NotRequired[list[ImagePayload]]


class ToolCallPayload(TypedDict):
    call_id: str
    name: str
    arguments: dict[str, Any] | None
    raw_arguments: NotRequired[str]
    provider_call_id: NotRequired[str]


class WirePayload(TypedDict):
    provider: str
    turn: Any


class ModelCompleted(TypedDict):
    """One model call. `turn` of `wire` is the provider's own.

    `cost_usd` is text, None where it is not known. `cost_source`, as `CostSource`, says who knows it, and `price_as_of`
    is the ISO date of the price that it was computed by.
    """

    step_no: int
    model: str
    answered_by: str
    content: str
    reasoning: NotRequired[str]
    tool_calls: list[ToolCallPayload]
    stop_reason: str
    usage: dict[str, int]
    cost_usd: str | None
    cost_source: str
    price_as_of: str | None
    duration_ms: float
    attempts: NotRequired[int]
    unsettled_usd: NotRequired[str]
    request_id: NotRequired[str]
    host: NotRequired[str]
    wire: WirePayload


class ModelSwitched(TypedDict):
    """Another model goes on with the session, from step `step_no` on: `code` and `message` say why the first cannot."""

    step_no: int
    from_model: str
    to_model: str
    code: str
    message: str
    unsettled_usd: NotRequired[str]


class ToolStarted(TypedDict):
    """Intent: durable before the tool runs. `effect` as the tool declared it."""

    step_no: int
    call_id: str
    name: str
    effect: str
    idempotency_key: str


class ToolOutcome(StrEnum):
    """How a tool call ended. `unknown`: it was started, may have acted, and must not be repeated blindly."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    NOT_RUN = "not_run"


class ProvenancePayload(TypedDict):
    """The label of text from outside; `fence` is random."""

    tool: str
    source: str | None
    fence: str


class ToolCompleted(TypedDict):
    """`result` is whole, however little of it the model is shown. `facts` are the tool's own, for the audit."""

    step_no: int
    call_id: str
    name: str
    outcome: str
    result: Any
    error: str | None
    execution_time_ms: float
    provenance: NotRequired[ProvenancePayload]
    facts: NotRequired[dict[str, Any]]


class RejectedFor(StrEnum):
    """Why an answer is none: it does not fit, stands beside other calls, or is a call that cannot be read."""

    UNFIT = "unfit"
    BESIDE_CALLS = "beside_calls"
    UNREADABLE_CALL = "unreadable_call"


class AnswerRejected(TypedDict):
    """The answer of step `step_no` is none: it does not fit its schema, or is a call that cannot be read. The model is
    told `problem`; with `call_id` it was a call of the answer tool, whose result tells it. `reason` as
    `RejectedFor`."""

    step_no: int
    reason: str
    problem: str
    call_id: NotRequired[str]


class ContextTrimmed(TypedDict):
    """What leaves the prompt, never the log, before step `step_no`: tool results of steps up to `results_through` give
    way to pointers, steps up to `steps_through` to one note. Tokens are estimates."""

    step_no: int
    results_through: int
    steps_through: int
    prompt_tokens_before: int
    prompt_tokens_after: int
    context_window: int
    unsettled_usd: NotRequired[str]


class ApprovalRequested(TypedDict):
    """`arguments_hash` covers session, step, call, tool, action and the exact arguments.

    Without `action` the whole call waits. With it, the tool itself stopped before the step that `action` names
    (`category: function`), and `arguments` are those of that step; the call starts again once it is approved. `facts`
    are what the tool had put on record by then.
    """

    approval_id: str
    step_no: int
    call_id: str
    tool_name: str
    arguments: dict[str, Any]
    arguments_hash: str
    action: NotRequired[str]
    facts: NotRequired[dict[str, Any]]


class ApprovalDecidedPayload(TypedDict):
    """`approval_id` is None where the tool was approved before the run."""

    approval_id: str | None
    call_id: str
    tool_name: str
    arguments_hash: str
    decision: Literal["approved", "denied", "void"]
    by: str
    reason: str | None


class SessionCompleted(TypedDict):
    """The answer is the `content` of this step or, where a schema was asked for, `answer`: JSON data that fits it."""

    step_no: int
    answer: NotRequired[dict[str, Any]]


class SessionPaused(TypedDict):
    """`unsettled_usd`, here and below: what a model call that was ended may have cost at most, as text."""

    reason: str
    detail: str
    unsettled_usd: NotRequired[str]


class SessionResumed(TypedDict):
    """`limits` are those that were changed; `by` names who resumed it, where somebody did."""

    segment_no: int
    limits: dict[str, Any]
    by: NotRequired[str]


class SessionFailed(TypedDict):
    code: str
    message: str
    hint: str | None
    retryable: bool
    resumable: bool
    unsettled_usd: NotRequired[str]
