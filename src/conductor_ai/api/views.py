"""What answers hold, for the document only: they are built as plain data, and nothing validates them on their way."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from conductor_ai.schemas.approvals import ApprovalStatus
from conductor_ai.schemas.orgs import Scope
from conductor_ai.schemas.session import PauseReason, SessionStatus
from conductor_ai.schemas.steps import StepType

Item = TypeVar("Item")


class View(BaseModel):
    """Fields may be added; none is taken away."""

    model_config = ConfigDict(frozen=True)


class Page(View, Generic[Item]):
    items: list[Item]
    next_cursor: str | None = Field(description="pass it as `cursor` for what comes next; null at the end")


class UsageView(View):
    """Tokens. The four that are billed never overlap; `reasoning_tokens` are among the output."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int


class SourceView(View):
    calls: int
    usd: str
    price_as_of: list[str]


class CostView(View):
    at_least_usd: str
    at_most_usd: str | None
    unsettled_usd: str
    by_source: dict[str, SourceView]


class ToolCallView(View):
    call_id: str
    name: str
    arguments: dict[str, Any] | None
    success: bool
    outcome: str | None = Field(description="succeeded, failed, refused, unknown or not_run; null while it has none")
    result: Any
    error: str | None
    execution_time_ms: float | None
    provenance: dict[str, str | None] | None


class StepView(View):
    step_no: int
    type: StepType
    content: str
    tool_calls: list[ToolCallView]
    model: str | None
    usage: UsageView | None
    cost_usd: str | None
    cost_source: str | None
    price_as_of: str | None
    duration_ms: float | None
    final_answer: str = Field(default="", description="only of the step that is the answer")
    output: dict[str, Any] = Field(default={}, description="only of an answer that fits a schema which was asked for")
    rejected: str = Field(default="", description="only where an answer was not taken")


class SessionSummary(View):
    session_id: str
    org_id: str
    status: SessionStatus
    agent: str | None
    model: str
    title: str
    pause_reason: PauseReason | None
    error: str | None
    usage: UsageView
    cost_usd: str | None = Field(description="US dollars, exact; null where a call had no known price")
    created_at: str
    updated_at: str


class FailureView(View):
    code: str
    message: str
    hint: str | None = None
    retryable: bool
    resumable: bool = False


_SESSION: dict[str, Any] = {
    "session_id": "0199c3a1-6f2e-7d35-8a1c-0b5e6f7a8b9c",
    "org_id": "default",
    "status": "completed",
    "agent": None,
    "model": "claude-sonnet-5-5",
    "title": "Which dealers in California have the most cars?",
    "pause_reason": None,
    "error": None,
    "final_answer": "Bay Motors, with 212.",
    "steps": [
        {
            "step_no": 1,
            "type": "final_answer",
            "content": "Bay Motors, with 212.",
            "tool_calls": [],
            "model": "claude-sonnet-5-5",
            "usage": None,
            "cost_usd": "0.0042",
            "cost_source": "catalog",
            "price_as_of": "2026-11-01",
            "duration_ms": 812.5,
            "final_answer": "Bay Motors, with 212.",
        }
    ],
    "usage": {
        "input_tokens": 900,
        "output_tokens": 100,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "reasoning_tokens": 0,
    },
    "cost_usd": "0.0042",
    "cost": {"at_least_usd": "0.0042", "at_most_usd": "0.0042", "unsettled_usd": "0", "by_source": {}},
    "metadata": {},
    "created_at": "2026-11-23T08:00:00.000000+00:00",
    "updated_at": "2026-11-23T08:00:01.000000+00:00",
}


class SessionView(SessionSummary):
    model_config = ConfigDict(json_schema_extra={"examples": [_SESSION]})

    final_answer: str | None
    steps: list[StepView]
    cost: CostView
    metadata: dict[str, str]
    output: dict[str, Any] = Field(default={}, description="only of an answer that fits a schema which was asked for")
    failure: FailureView | None = Field(default=None, description="only of a failed session")


class ApprovalView(View):
    approval_id: str
    session_id: str
    step_no: int
    call_id: str
    tool_name: str
    action: str | None
    arguments: dict[str, Any] = Field(description="exactly what will run")
    status: ApprovalStatus
    requested_at: str
    decided_at: str | None
    decided_by: str | None
    reason: str | None


class FileView(View):
    name: str = Field(description="with `/` between folders; the file is at GET /agents/{session_id}/files/{name}")
    media_type: str
    size_bytes: int
    sha256: str
    created_at: str
    step_no: int = Field(description="the step and the call that wrote it last")
    call_id: str


class TicketView(View):
    ticket: str
    expires_in_s: int
    url: str = Field(description="what to open: the stream's address with the ticket in it")


class ToolView(View):
    name: str
    description: str
    category: str
    parameters: dict[str, Any]
    requires_approval: bool
    requires_approval_after_untrusted: bool = Field(
        description="a person is asked once the session has read text from outside"
    )
    timeout_s: float | None
    effect: str
    untrusted_output: bool


class PriceView(View):
    """US dollars per million tokens."""

    input: str | None
    output: str | None
    cache_read: str | None
    cache_write: str | None
    source: str
    as_of: str | None


class ModelView(View):
    id: str
    name: str
    provider: str
    wire_id: str
    vendor: str
    origin: str
    context_window: int
    max_output_tokens: int
    vision: bool
    native_tools: bool
    forced_tools: bool
    answer_schema: str
    temperature: bool
    reasoning: str
    always_reasons: bool
    hosts: list[str]
    budget: str
    price: PriceView | None
    retires_on: str | None
    successor: str | None


class DefinitionView(View):
    name: str
    description: str
    instructions: str | None
    model: str | None
    models: list[str]
    tools: list[str] | None
    limits: dict[str, Any]
    parameters: dict[str, Any]
    response_schema: dict[str, Any] | None
    error: str | None = Field(description="why it cannot be used; null where it can")


class UsageDayView(View):
    """Calls to one model on one UTC day. `cost_usd` is of the calls whose cost is known."""

    day: str
    model: str
    calls: int
    usage: UsageView
    cost_usd: str
    unpriced_calls: int


class AuditView(View):
    id: str
    session_id: str | None
    category: str
    action: str
    metadata: dict[str, Any]
    created_at: str
    chain_seq: int
    prev_hash: str
    hash: str


class OrgLimitsView(View):
    requests_per_minute: int | None
    max_running_sessions: int | None
    max_usd_per_day: str | None
    max_usd_per_month: str | None
    retention_days: int | None


class OrgView(View):
    org_id: str
    limits: OrgLimitsView
    created_at: str | None
    updated_at: str | None


class KeyView(View):
    key_id: str
    org_id: str
    name: str
    scopes: list[Scope]
    created_at: str
    created_by: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    in_place_of: str | None = Field(description="the id of the key that was rotated to make this one")


class NewKeyView(KeyView):
    key: str = Field(description="the key itself, shown this once")


class RotatedKeyView(NewKeyView):
    old_key_expires_at: str = Field(description="when the key that was rotated works no more")


class PartHealth(View):
    ok: bool
    error: str | None = None


class SandboxHealth(PartHealth):
    """Where code_run runs code; without one it is not offered, and all else works."""

    name: str | None = Field(default=None, description="bubblewrap or docker, once it was tried")
    isolation: str | None = Field(default=None, description="namespaces or kernel")


class HealthView(View):
    """Parts and version only for callers with a key, or at this machine."""

    status: str = Field(description="ok, degraded, or down")
    version: str = ""
    database: PartHealth = PartHealth(ok=True)
    hot_state: PartHealth = PartHealth(ok=True)
    sandbox: SandboxHealth = SandboxHealth(ok=True)
    worker: dict[str, Any] = {}
