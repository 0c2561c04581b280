"""How a session's open calls are closed when they will not run: every call the model made gets exactly one result."""

from __future__ import annotations

import time

from conductor_ai.agents.session_log import SessionLog
from conductor_ai.agents.session_state import Decision
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
        if open_call.to_ask is not None:  # it stopped to ask, and did not act before
            error = f"not run: {why}, while it asked for approval of {open_call.to_ask['action']}"
            outcome = completed(state.step_no, open_call.call, ToolOutcome.NOT_RUN, error=error)
        elif open_call.effect == "read":  # it was started, and has done nothing that must be looked for
            ran_ms = 0.0 if open_call.began is None else (time.perf_counter() - open_call.began) * 1000
            error = f"interrupted: {why}"
            outcome = completed(state.step_no, open_call.call, ToolOutcome.FAILED, None, error, ran_ms)
        elif open_call.effect is not None:
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


def approved_beforehand(call: ToolCall, digest: str) -> ApprovalDecidedPayload:
    """The decision over a call, or an action of it, of a tool that was approved before the run."""
    return {
        "approval_id": None,
        "call_id": call.call_id,
        "tool_name": call.name,
        "arguments_hash": digest,
        "decision": "approved",
        "by": "approved before the run",
        "reason": None,
    }


async def cancel(log: SessionLog, by: str, unsettled_usd: str | None = None) -> None:
    """Bring a session that does nothing any more to `cancelled`; returns once that is durable.

    Args:
        unsettled_usd: What the model call that was ended for it may have cost at most.
    """
    if log.state.status is not SessionStatus.CANCELLING:
        log.stage(EventType.SESSION_CANCEL_REQUESTED, {"by": by})
    close_open_calls(log, "the session was cancelled")
    log.stage(EventType.SESSION_CANCELLED, {} if unsettled_usd is None else {"unsettled_usd": unsettled_usd})
    await log.durable()
