"""A session of a server in the shape that the commands show."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import cached_property
from typing import Any

from conductor_ai.client import RemoteSession
from conductor_ai.client.results import reading
from conductor_ai.schemas.costs import CostSource, CostSummary, SourceCost
from conductor_ai.schemas.session import PauseReason, SessionStatus
from conductor_ai.schemas.steps import AgentStep, StepToolCall, StepType
from conductor_ai.schemas.usage import Usage


class ShownSession:
    """As `AgentSession` is read; steps and cost are there where the server sent them, which it does not in lists."""

    def __init__(self, remote: RemoteSession) -> None:
        self._remote = remote
        self.session_id: str = remote.session_id
        self.status: SessionStatus = remote.status
        self.model: str = remote.model
        self.agent: str | None = remote.agent
        self.title: str = remote.title
        self.pause_reason: PauseReason | None = remote.pause_reason
        self.error: str | None = remote.error
        self.failure: dict[str, Any] | None = remote.failure
        self.final_answer: str | None = remote.final_answer
        self.usage: Usage = remote.usage
        self.cost_usd: Decimal | None = remote.cost_usd
        self.created_at: str = remote.created_at

    @cached_property
    def steps(self) -> list[AgentStep]:
        """Raises: ServiceError."""
        with reading("a session's steps"):
            return [_step(data) for data in self._remote.steps]

    @cached_property
    def cost(self) -> CostSummary:
        """Raises: ServiceError."""
        with reading("a session's cost"):
            return _cost(self._remote.data.get("cost") or {})

    def to_dict(self) -> dict[str, Any]:
        return self._remote.to_dict()


def _step(data: Mapping[str, Any]) -> AgentStep:
    return AgentStep(
        step_no=data["step_no"],
        type=StepType(data["type"]),
        content=data["content"],
        tool_calls=[_call(call) for call in data["tool_calls"]],
        model=data.get("model"),
        usage=data.get("usage"),
        cost_usd=data.get("cost_usd"),
        cost_source=data.get("cost_source"),
        price_as_of=data.get("price_as_of"),
        duration_ms=data.get("duration_ms"),
        output=data.get("output"),
        rejected=data.get("rejected"),
    )


def _call(data: Mapping[str, Any]) -> StepToolCall:
    return StepToolCall(
        call_id=data["call_id"],
        name=data["name"],
        arguments=data["arguments"],
        outcome=data.get("outcome"),
        result=data.get("result"),
        error=data.get("error"),
        execution_time_ms=data.get("execution_time_ms"),
        provenance=data.get("provenance"),
    )


def _cost(data: Mapping[str, Any]) -> CostSummary:
    shares = {
        CostSource(source): SourceCost(share["calls"], Decimal(share["usd"]), set(share["price_as_of"]))
        for source, share in (data.get("by_source") or {}).items()
    }
    return CostSummary(shares, Decimal(data.get("unsettled_usd") or 0))
