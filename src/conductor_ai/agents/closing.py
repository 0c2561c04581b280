"""How a session's open calls are closed when they will not run: every call the model made gets exactly one result."""

from __future__ import annotations

from conductor_ai.agents.session_state import Decision
from conductor_ai.agents.state import SessionLog
from conductor_ai.agents.tool_calls import completed, unknown_outcome
from conductor_ai.schemas.events import ApprovalDecidedPayload, EventType, ToolOutcome
from conductor_ai.schemas.messages import ToolCall
from conductor_ai.schemas.session import SessionStatus


def close_open_calls(log: SessionLog, why: str) -> None:
    """Stage a result for each call without one: of a started call that may have acted the outcome is unknown."""
    state = log.state
    for open_call in list(state.open_calls.values()):
        if open_call.completed is not None:
            continue
        if open_call.approval is not None and open_call.approval.decision is None:
            void(log, open_call.call, open_call.approval, why)
        if open_call.effect not in (None, "read"):
            outcome = unknown_outcome(state.step_no, open_call.call, why)
        else:
            outcome = completed(state.step_no, open_call.call, ToolOutcome.NOT_RUN, error=f"not run: {why}")
        log.stage(EventType.TOOL_COMPLETED, outcome)


def void(log: SessionLog, call: ToolCall, approval: Decision, why: str) -> None:
    """Stage the end of an approval that can no longer let its call run."""
    decision: ApprovalDecidedPayload = {
        "approval_id": approval.approval_id,
        "call_id": call.call_id,
        "tool_name": call.name,
        "arguments_hash": approval.arguments_hash,
        "decision": "void",
        "by": "conductor",
        "reason": why,
    }
    log.stage(EventType.APPROVAL_DECIDED, decision)


async def cancel(log: SessionLog, by: str) -> None:
    """Bring a session that does nothing any more to `cancelled`; returns once that is durable."""
    if log.state.status is not SessionStatus.CANCELLING:
        log.stage(EventType.SESSION_CANCEL_REQUESTED, {"by": by})
    close_open_calls(log, "the session was cancelled")
    log.stage(EventType.SESSION_CANCELLED, {})
    await log.durable()
