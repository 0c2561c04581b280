"""A tool that asks a person in the middle of its work, and the conductor that it works for."""

from __future__ import annotations

import asyncio
from typing import Any

from conductor_ai.conductor import Conductor, StartRequest
from conductor_ai.errors import ApprovalRequired
from conductor_ai.providers.scripted import Script, call, say
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.approvals import ApprovalRecord
from conductor_ai.sdk import BaseTool
from conductor_ai.sdk.base import ToolEffect
from conductor_ai.sdk.security.approval import require_approval
from conductor_ai.tools.registry import ToolRegistry
from tests.agents.conftest import TASK, Bench, Tool

ACTION = "code_execution: run_code"
RUN = [call("machine", {"code": "1 + 1"}), say("Computed.")]


class Machine:
    """A tool that runs code if a person agrees. `begun` has each of its starts, `ran` what was let through."""

    def __init__(self, *, catches: bool = False, effect: ToolEffect = "once", **options: Any) -> None:
        self.begun: list[Any] = []
        self.ran: list[str] = []
        self.asked = asyncio.Event()
        self._catches = catches
        self.run_code = require_approval(category="code_execution")(self._run_code())
        self.tool = Tool("machine", self._body, effect=effect, **options)

    def _run_code(self) -> Any:
        async def run_code(code: str, shell: bool = False) -> str:
            self.ran.append(code)
            return f"ran {code}"

        return run_code

    async def _body(self, arguments: dict[str, Any]) -> Any:
        self.begun.append(arguments)
        codes = arguments["codes"] if "codes" in arguments else [arguments["code"]]
        try:
            return [await self.run_code(code) for code in codes]
        except ApprovalRequired:
            self.asked.set()
            if self._catches:
                return "all is well"
            raise


async def conducted(bench: Bench, script: Script, *tools: BaseTool) -> Conductor:
    runtime = await bench.open(script)
    registry = ToolRegistry()
    for tool in tools:
        registry.register(tool)
    return Conductor(runtime, registry, runtime.catalog, default_model=lambda: "demo/scripted")


async def waiting(conductor: Conductor, **options: Any) -> tuple[str, ApprovalRecord]:
    started = await conductor.start(StartRequest(messages=TASK, **options))
    session = await conductor.run(started.session_id)
    assert session.status == "waiting_approval", session.error
    [approval] = await conductor.approvals(session_id=session.session_id)
    return session.session_id, approval


async def approved(conductor: Conductor, session_id: str) -> AgentSession:
    """Approve all that waits, and go on."""
    for approval in await conductor.approvals(session_id=session_id):
        await conductor.decide(approval.approval_id, "approved", by="ann")
    return await conductor.resume(session_id)


def outcomes(session: AgentSession) -> list[str | None]:
    return [view.outcome for step in session.steps for view in step.tool_calls]
