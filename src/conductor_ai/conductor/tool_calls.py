"""One tool call that no model asked for: checked, run and audited like any other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from conductor_ai.agents.state import StateManager
from conductor_ai.agents.tool_calls import Toolset, run_tool
from conductor_ai.errors import InvalidInput
from conductor_ai.schemas import json_text
from conductor_ai.schemas.events import ToolOutcome
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
    audit = states.audit
    started = audit.entry("tool", "tool.started", {"call_id": call.call_id, "name": name})
    await states.store.append_org_audit(org_id, [started])
    done = await run_tool(bound, call, context, timeout_s)
    result = json_text.plain(done["result"])
    succeeded = done["outcome"] == ToolOutcome.SUCCEEDED
    ended = audit.entry("tool", "tool.completed", {"call_id": call.call_id, "name": name, "outcome": done["outcome"]})
    execution = audit.tool_execution(
        org_id=org_id,
        session_id=None,
        call_id=call.call_id,
        tool_name=name,
        arguments=arguments,
        output=result,
        execution_time_ms=done["execution_time_ms"],
        success=succeeded,
        error=done["error"],
        created_at=utc_now(),
    )
    await states.store.append_org_audit(org_id, [ended], [execution])
    return ToolResult(
        tool_name=name,
        success=succeeded,
        result=result,
        error=done["error"],
        execution_time_ms=done["execution_time_ms"],
    )
