"""A person's decision over one tool call: once, for exactly the arguments that were asked about."""

from __future__ import annotations

from typing import Literal

from conductor_ai.agents.state import StateManager
from conductor_ai.errors import ApprovalAlreadyDecided, ApprovalVoid, OwnershipLost
from conductor_ai.schemas.approvals import ApprovalRecord, ApprovalStatus, arguments_hash
from conductor_ai.schemas.events import ApprovalDecidedPayload, EventType
from conductor_ai.schemas.session import SessionStatus

_CHANGED = "its arguments were changed after it was asked for"


async def decide(
    states: StateManager,
    approval_id: str,
    decision: Literal["approved", "denied"],
    *,
    by: str,
    reason: str | None,
    org_id: str,
) -> ApprovalRecord:
    """Append the decision to the session's log; of several deciders the first one counts.

    Raises: ApprovalNotFound, ApprovalAlreadyDecided, ApprovalVoid: a resume then asks anew.
    """
    while True:
        approval = await states.store.approval(approval_id, org_id)
        if approval.status is not ApprovalStatus.PENDING:
            who = f" by {approval.decided_by}" if approval.decided_by else ""
            raise ApprovalAlreadyDecided(f"approval {approval_id} was already {approval.status}{who}")
        log = await states.open(approval.session_id, org_id)
        if log.state.status is not SessionStatus.WAITING_APPROVAL:
            if (await states.store.approval(approval_id, org_id)).status is not ApprovalStatus.PENDING:
                continue  # another decision was stored in between
            raise ApprovalVoid(f"approval {approval_id} is void: its session is {log.state.status}")
        changed = _stored_hash(approval) != approval.arguments_hash
        payload: ApprovalDecidedPayload = {
            "approval_id": approval_id,
            "call_id": approval.call_id,
            "tool_name": approval.tool_name,
            "arguments_hash": approval.arguments_hash,
            "decision": "void" if changed else decision,
            "by": "conductor" if changed else by,
            "reason": _CHANGED if changed else reason,
        }
        log.stage(EventType.APPROVAL_DECIDED, payload)
        try:
            await log.durable()
        except OwnershipLost:
            continue  # another decision of this session was stored first: look again
        if changed:
            raise ApprovalVoid(
                f"approval {approval_id} is void: {_CHANGED}",
                hint=f"to be asked anew, with the true arguments: conductor resume {approval.session_id}",
            )
        return await states.store.approval(approval_id, org_id)


def _stored_hash(approval: ApprovalRecord) -> str:
    return arguments_hash(
        approval.session_id,
        approval.step_no,
        approval.call_id,
        approval.tool_name,
        approval.arguments,
        approval.action,
    )
