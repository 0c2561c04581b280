"""One tool call that no model asked for: checked, run and audited like any other."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from conductor_ai.agents.state import StateManager
from conductor_ai.agents.tool_calls import Toolset, run_tool, unknown_outcome
from conductor_ai.errors import InvalidInput
from conductor_ai.observability.audit import SessionSink, bind_sink
from conductor_ai.schemas import json_text
from conductor_ai.schemas.audit import AuditEntry, ToolExecutionRow
from conductor_ai.schemas.events import ToolCompleted, ToolOutcome
from conductor_ai.schemas.ids import new_id, utc_now
from conductor_ai.schemas.limits import Limits
from conductor_ai.schemas.messages import ToolCall
from conductor_ai.sdk.base import ToolResult
from conductor_ai.sdk.context import ToolContext
from conductor_ai.tools.registry import ToolRegistry

_NO_SESSION = "none"


async def call_tool(
    states: StateManager, registry: ToolRegistry, name: str, arguments: dict[str, Any], *, org_id: str
) -> ToolResult:
    """Raises: UnknownTool, InvalidInput, AuditUnavailable: what cannot be recorded does not run."""
    toolset = Toolset([registry.get_tool(name)])
    bound = toolset.get(name)
    assert bound is not None, "the toolset was built of this tool"
    call = ToolCall(new_id(), name, arguments)
    problem = toolset.problem(call)
    if problem is not None:
        raise InvalidInput(f"{name}: {problem}")
    timeout_s = bound.definition.timeout_s or Limits().tool_timeout_s
    deadline = datetime.now(UTC) + timedelta(seconds=timeout_s)
    context = ToolContext(org_id, _NO_SESSION, 0, call.call_id, call.call_id, deadline)
    record = partial(states.store.append_org_audit, org_id)
    await record([states.audit.entry("tool", "tool.started", {"call_id": call.call_id, "name": name})])
    given = json_text.dumps(arguments)
    try:
        with bind_sink(SessionSink(org_id, None, states.redactor, record)):
            done = await run_tool(bound, call, json_text.loads(given), context, timeout_s)
    except asyncio.CancelledError:
        await record(*_rows(states, org_id, given, unknown_outcome(0, call, "it was interrupted")))
        raise
    await record(*_rows(states, org_id, given, done))
    return ToolResult(
        tool_name=name,
        success=done["outcome"] == ToolOutcome.SUCCEEDED,
        result=json_text.plain(done["result"]),
        error=done["error"],
        execution_time_ms=done["execution_time_ms"],
    )


def _rows(
    states: StateManager, org_id: str, given: str, done: ToolCompleted
) -> tuple[list[AuditEntry], list[ToolExecutionRow]]:
    facts = {"call_id": done["call_id"], "name": done["name"], "outcome": done["outcome"]}
    execution = states.audit.tool_execution(
        org_id=org_id,
        session_id=None,
        call_id=done["call_id"],
        tool_name=done["name"],
        arguments=json_text.Fragment(given),
        output=done["result"],
        execution_time_ms=done["execution_time_ms"],
        success=done["outcome"] == ToolOutcome.SUCCEEDED,
        error=done["error"],
        created_at=utc_now(),
    )
    return [states.audit.entry("tool", "tool.completed", facts)], [execution]
