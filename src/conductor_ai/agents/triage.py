"""What happens to each open tool call: answered at once, run, or put before a person.

The rules hold for a fresh call and for one that a dead process left behind alike; only the log decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from conductor_ai.agents.closing import approved_beforehand, void
from conductor_ai.agents.session_log import SessionLog
from conductor_ai.agents.session_state import OpenCall, SessionState
from conductor_ai.agents.tool_calls import BoundTool, Toolset, completed, idempotency_key, unknown_outcome
from conductor_ai.schemas import json_text
from conductor_ai.schemas.approvals import arguments_hash
from conductor_ai.schemas.events import ApprovalRequested, EventType, ToolOutcome, ToolStarted
from conductor_ai.schemas.ids import new_id
from conductor_ai.schemas.messages import ToolCall


@dataclass(slots=True)
class Plan:
    """`to_run` has its intent staged, `fresh` those of it whose intent was staged just now; `to_ask` is staged by the
    caller once everything else is stored."""

    to_run: list[OpenCall] = field(default_factory=list)
    fresh: list[OpenCall] = field(default_factory=list)
    to_ask: list[ApprovalRequested] = field(default_factory=list)


def triage(log: SessionLog, toolset: Toolset) -> Plan:
    """Stage an outcome or an intent for each open call, and return what is left to do."""
    plan = Plan()
    for open_call in list(log.state.open_calls.values()):
        if open_call.completed is None:
            _sort(log, toolset, open_call, plan)
    return plan


def _sort(log: SessionLog, toolset: Toolset, open_call: OpenCall, plan: Plan) -> None:
    state, call = log.state, open_call.call
    if open_call.effect == "once":  # started by a process that died: never a silent repeat
        log.stage(EventType.TOOL_COMPLETED, unknown_outcome(state.step_no, call, "the process running it died"))
        return
    problem = "the answer was cut before this call was complete" if state.answer_cut else toolset.problem(call)
    bound = toolset.get(call.name)
    if problem is not None or bound is None:
        log.stage(EventType.TOOL_COMPLETED, completed(state.step_no, call, ToolOutcome.NOT_RUN, error=problem))
    elif open_call.effect is not None:  # `read` or `idempotent`, started by a process that died: run it again
        plan.to_run.append(open_call)
    elif open_call.approval is not None and open_call.approval.decision == "denied":
        why = f": {open_call.approval.reason}" if open_call.approval.reason else ""
        what = f"{open_call.approval.action} in this call" if open_call.approval.action else "this call"
        error = f"a person refused {what}{why}. Do not try it again unasked."
        log.stage(EventType.TOOL_COMPLETED, completed(state.step_no, call, ToolOutcome.REFUSED, error=error))
    elif _asks_first(log, bound) and not _approved(log, open_call, plan):
        return
    else:
        log.stage(EventType.TOOL_STARTED, _intent(log, bound, call))
        plan.to_run.append(open_call)
        plan.fresh.append(open_call)


def _asks_first(log: SessionLog, bound: BoundTool) -> bool:
    definition = bound.definition
    if definition.requires_approval or not definition.requires_approval_after_untrusted:
        return definition.requires_approval
    # What the tool itself returned was made of what the session knew before.
    return bool(log.state.untrusted_tools - {definition.name})


def _approved(log: SessionLog, open_call: OpenCall, plan: Plan) -> bool:
    """Whether the call may run; where not, it is on the list to ask."""
    state, call, approval = log.state, open_call.call, open_call.approval
    digest = _call_hash(log.session_id, state, call)
    if digest in open_call.granted:
        return True
    if approval is None and call.name in state.config.pre_approved:
        log.stage(EventType.APPROVAL_DECIDED, approved_beforehand(call, digest))
        return True
    if approval is not None and approval.decision == "approved":
        void(log, call, approval, "the arguments differ from those that were approved")
    plan.to_ask.append(_request(log.session_id, state, call, digest))
    return False


def _call_hash(session_id: str, state: SessionState, call: ToolCall) -> str:
    return arguments_hash(session_id, state.step_no, call.call_id, call.name, json_text.dumps(call.arguments))


def _request(session_id: str, state: SessionState, call: ToolCall, digest: str) -> ApprovalRequested:
    return {
        "approval_id": new_id(),
        "step_no": state.step_no,
        "call_id": call.call_id,
        "tool_name": call.name,
        "arguments": call.arguments or {},
        "arguments_hash": digest,
    }


def _intent(log: SessionLog, bound: BoundTool, call: ToolCall) -> ToolStarted:
    return {
        "step_no": log.state.step_no,
        "call_id": call.call_id,
        "name": call.name,
        "effect": bound.effect_of(call.arguments or {}),
        "idempotency_key": idempotency_key(log.session_id, call),
    }
