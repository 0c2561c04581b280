"""Which rows an event leaves beside the log: audit rows, tool executions, approvals. The event decides, nobody else."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any

from conductor_ai.agents.answer_schema import FINAL_ANSWER_NAME
from conductor_ai.agents.session_state import SessionState
from conductor_ai.observability.audit import AuditLogger
from conductor_ai.schemas import json_text
from conductor_ai.schemas.approvals import ApprovalRecord, ApprovalStatus
from conductor_ai.schemas.audit import AuditEntry, ToolExecutionRow
from conductor_ai.schemas.events import EventType, ToolOutcome
from conductor_ai.storage.base import ApprovalDecision, ModelCallRow

_CATEGORY = {
    EventType.MODEL_COMPLETED: "model",
    EventType.MODEL_SWITCHED: "model",
    EventType.TOOL_COMPLETED: "tool",
    EventType.APPROVAL_REQUESTED: "approval",
    EventType.APPROVAL_DECIDED: "approval",
    EventType.SESSION_CREATED: "session",
    EventType.SESSION_RESUMED: "session",
    EventType.SESSION_CANCEL_REQUESTED: "session",
    EventType.SESSION_CANCELLED: "session",
    EventType.SESSION_FAILED: "session",
}
_FACTS: dict[EventType, tuple[str, ...]] = {
    EventType.MODEL_SWITCHED: ("step_no", "from_model", "to_model", "code", "message"),
    EventType.MODEL_COMPLETED: (
        "step_no",
        "model",
        "answered_by",
        "stop_reason",
        "usage",
        "cost_usd",
        "cost_source",
        "price_as_of",
        "duration_ms",
    ),
    EventType.TOOL_COMPLETED: ("step_no", "call_id", "name", "outcome", "error", "execution_time_ms"),
    EventType.APPROVAL_REQUESTED: ("approval_id", "step_no", "call_id", "tool_name", "arguments_hash"),
    EventType.APPROVAL_DECIDED: ("approval_id", "call_id", "tool_name", "arguments_hash", "decision", "by", "reason"),
    EventType.SESSION_CREATED: ("model", "tools", "limits", "pre_approved"),
    EventType.SESSION_RESUMED: ("segment_no", "limits"),
    EventType.SESSION_CANCEL_REQUESTED: ("by",),
    EventType.SESSION_CANCELLED: (),
    EventType.SESSION_FAILED: ("code", "message"),
}
_FACTS_IF_THERE: dict[EventType, tuple[str, ...]] = {
    EventType.SESSION_CREATED: ("by",),
    EventType.SESSION_RESUMED: ("by",),
    EventType.TOOL_COMPLETED: ("facts",),
    EventType.APPROVAL_REQUESTED: ("action", "facts"),
}


def audit_entry(
    audit: AuditLogger, event: EventType, seq: int, payload: dict[str, Any], text: str
) -> AuditEntry | None:
    """The audit row of one event; None for events that are not audited. It names the event and binds its stored text,
    so that an edited log is found by verifying the chain."""
    if event not in _CATEGORY:
        return None
    # The binding stands first: of a long row the end is cut off.
    facts: dict[str, Any] = {"event_seq": seq, "event_sha256": hashlib.sha256(text.encode()).hexdigest()}
    for name in _FACTS[event]:
        facts[name] = payload[name]
    for name in _FACTS_IF_THERE.get(event, ()):
        if name in payload:
            facts[name] = payload[name]
    return audit.entry(_CATEGORY[event], event.value, facts)


def tool_execution(
    audit: AuditLogger, state: SessionState, session_id: str, payload: dict[str, Any], created_at: str
) -> ToolExecutionRow | None:
    """The row of a call that ran, or may have run; None for one that was refused before it could."""
    open_call = state.open_calls[payload["call_id"]]
    if payload["name"] == FINAL_ANSWER_NAME:  # the loop takes it; nothing runs
        return None
    stopped_inside = open_call.approval is not None and open_call.approval.action is not None
    if payload["outcome"] in (ToolOutcome.NOT_RUN, ToolOutcome.REFUSED) and not stopped_inside:
        return None
    call = open_call.call
    return audit.tool_execution(
        org_id=state.config.org_id,
        session_id=session_id,
        call_id=call.call_id,
        tool_name=call.name,
        arguments=call.arguments if open_call.given is None else json_text.Fragment(open_call.given),
        output=payload["result"],
        execution_time_ms=payload["execution_time_ms"],
        success=payload["outcome"] == ToolOutcome.SUCCEEDED,
        error=payload["error"],
        created_at=created_at,
    )


def model_call(session_id: str, org_id: str, seq: int, payload: dict[str, Any], created_at: str) -> ModelCallRow:
    """The ledger's row of one answered call."""
    usage, cost_usd = payload["usage"], payload["cost_usd"]
    return ModelCallRow(
        session_id,
        seq,
        org_id,
        payload["model"],
        usage["input_tokens"],
        usage["output_tokens"],
        usage["cache_read_tokens"],
        usage["cache_write_tokens"],
        usage["reasoning_tokens"],
        None if cost_usd is None else Decimal(cost_usd),
        created_at,
    )


def approval_request(session_id: str, org_id: str, payload: dict[str, Any], created_at: str) -> ApprovalRecord:
    return ApprovalRecord(
        approval_id=payload["approval_id"],
        session_id=session_id,
        org_id=org_id,
        step_no=payload["step_no"],
        call_id=payload["call_id"],
        tool_name=payload["tool_name"],
        arguments=json_text.dumps(payload["arguments"]),
        arguments_hash=payload["arguments_hash"],
        status=ApprovalStatus.PENDING,
        requested_at=created_at,
        action=payload.get("action"),
    )


def approval_decision(payload: dict[str, Any], created_at: str) -> ApprovalDecision | None:
    """None where the tool was approved before the run: no request is on file."""
    if payload["approval_id"] is None:
        return None
    status = ApprovalStatus(payload["decision"])
    return ApprovalDecision(payload["approval_id"], status, created_at, payload["by"], payload["reason"])
