"""One tool call that no model asked for: checked, run and audited like any other."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from conductor_ai.agents.asking import Grants
from conductor_ai.agents.state import StateManager
from conductor_ai.agents.tool_calls import BoundTool, Toolset, completed, run_tool, unknown_outcome
from conductor_ai.errors import ApprovalRequired, InvalidInput
from conductor_ai.observability.audit import SessionSink, bind_sink
from conductor_ai.schemas import json_text
from conductor_ai.schemas.approvals import arguments_hash
from conductor_ai.schemas.events import ToolCompleted, ToolOutcome
from conductor_ai.schemas.ids import new_id, utc_now
from conductor_ai.schemas.limits import Limits
from conductor_ai.schemas.messages import ToolCall
from conductor_ai.sdk.base import ToolResult
from conductor_ai.sdk.context import ToolContext
from conductor_ai.sdk.security.approval import ApprovalRequest, Approver, bind_approver
from conductor_ai.tools.registry import ToolRegistry

_NO_SESSION = "none"


async def call_tool(
    states: StateManager,
    registry: ToolRegistry,
    name: str,
    arguments: dict[str, Any],
    *,
    org_id: str,
    approver: Approver | None,
) -> ToolResult:
    """Raises: UnknownTool, InvalidInput, whatever `approver` raises, AuditUnavailable: what cannot be recorded does not
    run."""
    toolset = Toolset([registry.get_tool(name)])
    bound = toolset.get(name)
    assert bound is not None, "the toolset was built of this tool"
    call = ToolCall(new_id(), name, arguments)
    problem = toolset.problem(call)
    if problem is not None:
        raise InvalidInput(f"{name}: {problem}")
    direct = _DirectCall(states, bound, call, org_id, approver)
    await direct.record_start()
    try:
        await direct.run()
    finally:
        await direct.record_end()
    done, redactor = direct.done, states.redactor
    # As in a session: what a tool repeats of our keys goes no further.
    result = json_text.loads(redactor.clean_json(json_text.dumps(done["result"])))
    return ToolResult(
        tool_name=name,
        success=done["outcome"] == ToolOutcome.SUCCEEDED,
        result=result,
        error=None if done["error"] is None else redactor.clean_log(done["error"]),
        execution_time_ms=done["execution_time_ms"],
        # Where a tool names no source, what it brought is from outside all the same.
        source=(done["provenance"]["source"] or name) if "provenance" in done else None,
    )


class _DirectCall:
    """The call on its way; `done` is what it came to, at every moment.

    A tool that asks for approval is stopped, and starts again once `approver` has said yes, as in a session: its time
    does not pass while a person thinks. Only what a `once` tool asks after it was let through is asked on the way.
    """

    def __init__(
        self, states: StateManager, bound: BoundTool, call: ToolCall, org_id: str, approver: Approver | None
    ) -> None:
        self._audit = states.audit
        self._record = partial(states.store.append_org_audit, org_id)
        self._sink = SessionSink(org_id, None, states.redactor, self._record)
        self._bound = bound
        self._call = call
        self._org_id = org_id
        self._approver = approver
        self._given = json_text.dumps(call.arguments)
        self._effect = bound.effect_of(json_text.loads(self._given))
        self._timeout_s = bound.definition.timeout_s or Limits().tool_timeout_s
        self._facts: dict[str, Any] = {}
        self._granted: list[str] = []
        self._grants = Grants((), self._effect)
        self._asked: list[ApprovalRequest] = []
        self.done = unknown_outcome(0, call, "it was interrupted")

    async def run(self) -> None:
        while True:
            self._asked.clear()
            self._grants = Grants(self._granted, self._effect)
            done = await self._run_once()
            if not self._asked or self._approver is None:
                self.done = done
                return
            request = self._asked[0]
            error = f"{request.action} was not allowed"
            self.done = completed(0, self._call, ToolOutcome.REFUSED, error=error)
            if not await self._allowed(request, self._approver):
                return
            self.done = unknown_outcome(0, self._call, "it was interrupted")

    async def _run_once(self) -> ToolCompleted:
        deadline = datetime.now(UTC) + timedelta(seconds=self._timeout_s)
        key = self._call.call_id
        context = ToolContext(self._org_id, _NO_SESSION, 0, key, key, deadline, on_record=self._facts.update)
        arguments = json_text.loads(self._given)
        asking = nullcontext() if self._approver is None else bind_approver(self._remembered)
        with bind_sink(self._sink), asking:
            return await run_tool(self._bound, self._call, arguments, context, self._timeout_s, self._effect)

    async def _remembered(self, request: ApprovalRequest) -> bool:
        """The approver that the tool meets."""
        digest = self._digest(request)
        if self._grants.use(digest):
            return True
        if self._approver is not None and self._grants.too_late(request.action) is not None:
            # To start again would repeat what was approved; here somebody can be asked in the middle of the call.
            return await self._allowed(request, self._approver)
        self._asked.append(request)
        raise ApprovalRequired(f"{request.action} needs approval")

    async def _allowed(self, request: ApprovalRequest, approver: Approver) -> bool:
        allowed = await approver(request) is True
        digest = self._digest(request)
        facts = {
            "call_id": self._call.call_id,
            "tool_name": self._call.name,
            "action": request.action,
            "arguments_hash": digest,
            "decision": "approved" if allowed else "denied",
            "by": "caller",
        }
        await self._record([self._audit.entry("approval", "approval.decided", facts)])
        if allowed:
            self._granted.append(digest)
        return allowed

    def _digest(self, request: ApprovalRequest) -> str:
        arguments = json_text.dumps(request.arguments)
        return arguments_hash(_NO_SESSION, 0, self._call.call_id, self._call.name, arguments, request.action)

    async def record_start(self) -> None:
        facts = {"call_id": self._call.call_id, "name": self._call.name}
        await self._record([self._audit.entry("tool", "tool.started", facts)])

    async def record_end(self) -> None:
        done = self.done
        facts: dict[str, Any] = {"call_id": done["call_id"], "name": done["name"], "outcome": done["outcome"]}
        if self._facts:
            facts["facts"] = self._facts
        execution = self._audit.tool_execution(
            org_id=self._org_id,
            session_id=None,
            call_id=done["call_id"],
            tool_name=done["name"],
            arguments=json_text.Fragment(self._given),
            output=done["result"],
            execution_time_ms=done["execution_time_ms"],
            success=done["outcome"] == ToolOutcome.SUCCEEDED,
            error=done["error"],
            created_at=utc_now(),
        )
        await self._record([self._audit.entry("tool", "tool.completed", facts)], [execution])
