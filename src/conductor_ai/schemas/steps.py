"""Steps: the log as people read it, derived from events and stored nowhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from conductor_ai.schemas.events import Event, EventType


class StepType(StrEnum):
    TOOL_CALL = "tool_call"
    FINAL_ANSWER = "final_answer"
    APPROVAL = "approval"
    PAUSED = "paused"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(slots=True)
class StepToolCall:
    """One tool call of a step. `outcome` is None while it has no result."""

    call_id: str
    name: str
    arguments: dict[str, Any] | None
    outcome: str | None = None
    result: Any = None
    error: str | None = None
    execution_time_ms: float | None = None

    @property
    def success(self) -> bool:
        return self.outcome == "succeeded"

    def to_dict(self) -> dict[str, Any]:
        return {
            "call_id": self.call_id,
            "name": self.name,
            "arguments": self.arguments,
            "success": self.success,
            "outcome": self.outcome,
            "result": self.result,
            "error": self.error,
            "execution_time_ms": self.execution_time_ms,
        }


@dataclass(slots=True)
class AgentStep:
    """One model call and its tool calls, or why the session stopped. `content` is the model's text or the reason."""

    step_no: int
    type: StepType
    content: str
    tool_calls: list[StepToolCall] = field(default_factory=list)
    model: str | None = None
    usage: dict[str, int] | None = None
    cost_usd: str | None = None
    duration_ms: float | None = None

    @property
    def final_answer(self) -> str | None:
        return self.content if self.type is StepType.FINAL_ANSWER else None

    def to_dict(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "step_no": self.step_no,
            "type": self.type.value,
            "content": self.content,
            "tool_calls": [call.to_dict() for call in self.tool_calls],
            "model": self.model,
            "usage": self.usage,
            "cost_usd": self.cost_usd,
            "duration_ms": self.duration_ms,
        }
        if self.type is StepType.FINAL_ANSWER:
            data["final_answer"] = self.content
        return data


def steps_of(events: Iterable[Event]) -> list[AgentStep]:
    """The steps of a log, oldest first. Events in the order of `seq`."""
    steps: list[AgentStep] = []
    calls: dict[str, StepToolCall] = {}
    for event in events:
        payload = event.payload
        if event.type is EventType.MODEL_COMPLETED:
            steps.append(_step(payload))
            calls.update((call.call_id, call) for call in steps[-1].tool_calls)
        elif event.type is EventType.TOOL_COMPLETED and payload["call_id"] in calls:
            call = calls[payload["call_id"]]
            call.outcome, call.result, call.error = payload["outcome"], payload["result"], payload["error"]
            call.execution_time_ms = payload["execution_time_ms"]
    return steps


def _step(payload: dict[str, Any]) -> AgentStep:
    calls = [StepToolCall(call["call_id"], call["name"], call["arguments"]) for call in payload["tool_calls"]]
    return AgentStep(
        step_no=payload["step_no"],
        type=StepType.TOOL_CALL if calls else StepType.FINAL_ANSWER,
        content=payload["content"],
        tool_calls=calls,
        model=payload["model"],
        usage=payload["usage"],
        cost_usd=payload["cost_usd"],
        duration_ms=payload["duration_ms"],
    )
