"""A tool that asks for a person's word in the middle of its work: `sdk.security.require_approval`, inside a session.

The tool's call stops, the session waits, and once a person has agreed the call starts again from its beginning. Then
the same step, with the very same arguments, goes through: one approval lets it through once in each run of the tool.
A `once` tool that was let through and then asks for more is not started again, which would repeat what was approved
first: its call ends there.
"""

from __future__ import annotations

from collections.abc import Sequence

from conductor_ai.agents.closing import approved_beforehand
from conductor_ai.agents.session_log import SessionLog
from conductor_ai.agents.session_state import OpenCall
from conductor_ai.errors import ApprovalRequired
from conductor_ai.schemas import json_text
from conductor_ai.schemas.approvals import arguments_hash
from conductor_ai.schemas.events import EventType
from conductor_ai.schemas.ids import new_id
from conductor_ai.sdk.base import ToolEffect
from conductor_ai.sdk.security.approval import ApprovalRequest


class Grants:
    """What one run of a tool may do without asking again: each approval lets one step through, once."""

    def __init__(self, granted: Sequence[str], effect: ToolEffect) -> None:
        self._left = list(granted)
        self._effect = effect
        self._used = False

    def use(self, digest: str) -> bool:
        """Whether the step may go on."""
        if digest not in self._left:
            return False
        self._left.remove(digest)
        self._used = True
        return True

    def too_late(self, action: str) -> str | None:
        """Why the run cannot stop to ask for `action` and start again later; None where it can."""
        if not self._used or self._effect != "once":
            return None
        return f"what a person approved has run, and then it asked for more ({action}), which did not run"


class CallApprover:
    """What `require_approval` asks while one call of a session runs.

    `OpenCall.to_ask` is set where the call must wait, `too_late` where it asked after it may have acted, whatever the
    tool made of the exception that told it so.
    """

    def __init__(self, log: SessionLog, open_call: OpenCall) -> None:
        assert open_call.effect is not None, "only a started call asks"
        self.too_late: str | None = None
        self._log = log
        self._open_call = open_call
        self._grants = Grants(open_call.granted, open_call.effect)

    async def __call__(self, request: ApprovalRequest) -> bool:
        """Raises: ApprovalRequired where nobody has agreed to exactly this yet."""
        log, call = self._log, self._open_call.call
        step_no = log.state.step_no
        # As it will be stored and shown: without secrets, which a tool may have put in.
        arguments = log.redactor.clean_json(json_text.dumps(request.arguments))
        digest = arguments_hash(log.session_id, step_no, call.call_id, call.name, arguments, request.action)
        if self._grants.use(digest):
            return True
        if call.name in log.state.config.pre_approved:
            log.stage(EventType.APPROVAL_DECIDED, approved_beforehand(call, digest))
            await log.durable()
            return True
        self.too_late = self.too_late or self._grants.too_late(request.action)
        if self._open_call.to_ask is None and self.too_late is None:
            self._open_call.to_ask = {
                "approval_id": new_id(),
                "step_no": step_no,
                "call_id": call.call_id,
                "tool_name": call.name,
                "arguments": json_text.loads(arguments),
                "arguments_hash": digest,
                "action": request.action,
            }
        raise ApprovalRequired(f"{request.action} waits for a person's approval; it did not run")
