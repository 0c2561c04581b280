"""A tool that asks for a person's word in the middle of its work: `sdk.security.require_approval`, inside a session.

The tool's call stops, the session waits, and once a person has agreed the call starts again from its beginning. Then
the same step, with the very same arguments, goes through: one approval lets it through once in each run of the tool.
"""

from __future__ import annotations

from conductor_ai.agents.session_state import OpenCall
from conductor_ai.agents.state import SessionLog
from conductor_ai.errors import ApprovalRequired
from conductor_ai.schemas import json_text
from conductor_ai.schemas.approvals import arguments_hash
from conductor_ai.schemas.events import ApprovalDecidedPayload, ApprovalRequested, EventType
from conductor_ai.schemas.ids import new_id
from conductor_ai.sdk.security.approval import ApprovalRequest


class CallApprover:
    """What `require_approval` asks while one call runs. `to_ask` is set where the call must wait, whatever the tool
    made of the exception that told it so."""

    def __init__(self, log: SessionLog, open_call: OpenCall) -> None:
        self.to_ask: ApprovalRequested | None = None
        self._log = log
        self._call = open_call.call
        self._granted = list(open_call.granted)

    async def __call__(self, request: ApprovalRequest) -> bool:
        """Raises: ApprovalRequired where nobody has agreed to exactly this yet."""
        log, call = self._log, self._call
        step_no = log.state.step_no
        # As it will be stored and shown: without secrets, which a tool may have put in.
        arguments = log.redactor.clean_json(json_text.dumps(request.arguments))
        digest = arguments_hash(log.session_id, step_no, call.call_id, call.name, arguments, request.action)
        if digest in self._granted:
            self._granted.remove(digest)
            return True
        if call.name in log.state.config.pre_approved:
            decision: ApprovalDecidedPayload = {
                "approval_id": None,
                "call_id": call.call_id,
                "tool_name": call.name,
                "arguments_hash": digest,
                "decision": "approved",
                "by": "approved before the run",
                "reason": None,
            }
            log.stage(EventType.APPROVAL_DECIDED, decision)
            await log.durable()
            return True
        if self.to_ask is None:
            self.to_ask = {
                "approval_id": new_id(),
                "step_no": step_no,
                "call_id": call.call_id,
                "tool_name": call.name,
                "arguments": json_text.loads(arguments),
                "arguments_hash": digest,
                "action": request.action,
            }
        raise ApprovalRequired(f"{request.action} waits for a person's approval; it did not run")
