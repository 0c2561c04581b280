"""A request for a person's decision over one tool call."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from conductor_ai.schemas import json_text


class ApprovalStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class ApprovalRecord:
    """One row of `approvals`. `arguments` is the exact JSON text that the person sees and the hash covers.

    `action` is None where the whole call waits, else the step inside the tool that does: `category: function`.
    """

    approval_id: str
    session_id: str
    org_id: str
    step_no: int
    call_id: str
    tool_name: str
    arguments: str
    arguments_hash: str
    status: ApprovalStatus
    requested_at: str
    decided_at: str | None = None
    decided_by: str | None = None
    reason: str | None = None
    action: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "approval_id": self.approval_id,
            "session_id": self.session_id,
            "step_no": self.step_no,
            "call_id": self.call_id,
            "tool_name": self.tool_name,
            "action": self.action,
            "arguments": json_text.loads(self.arguments),
            "status": self.status.value,
            "requested_at": self.requested_at,
            "decided_at": self.decided_at,
            "decided_by": self.decided_by,
            "reason": self.reason,
        }


def arguments_hash(
    session_id: str, step_no: int, call_id: str, tool_name: str, arguments: str, action: str | None = None
) -> str:
    """SHA-256 in hex over one call, or over one action of it: one byte changed anywhere gives another hash."""
    covered = [session_id, step_no, call_id, tool_name, arguments]
    if action is not None:
        covered.append(action)
    return hashlib.sha256(json_text.dumps(covered).encode()).hexdigest()
