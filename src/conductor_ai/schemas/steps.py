"""Steps: the log as people read it, derived from events and stored nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from conductor_ai.schemas import json_text
from conductor_ai.schemas.events import Event, EventType, ToolOutcome


class StepType(StrEnum):
    TOOL_CALL = "tool_call"
    FINAL_ANSWER = "final_answer"
    APPROVAL = "approval"
    PAUSED = "paused"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(slots=True)
class StepToolCall:
    """One tool call of a step. `outcome` is None while it has no result. `provenance` labels text from outside: the
    tool that brought it, and its source."""

    call_id: str
    name: str
    arguments: dict[str, Any] | None
    outcome: str | None = None
    result: Any = None
    error: str | None = None
    execution_time_ms: float | None = None
    provenance: dict[str, str | None] | None = None

    @property
    def success(self) -> bool:
        return self.outcome == ToolOutcome.SUCCEEDED

    def end(self, completed: Mapping[str, Any]) -> None:
        """Take in the `tool.completed` of this call."""
        self.outcome, self.error = completed["outcome"], completed["error"]
        self.result = json_text.plain(completed["result"])
        self.execution_time_ms = completed["execution_time_ms"]
        if label := completed.get("provenance"):
            self.provenance = {"tool": label["tool"], "source": label["source"]}

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
            "provenance": self.provenance,
        }


@dataclass(slots=True)
class AgentStep:
    """One model call and its tool calls, or why the session stopped. `content` is the model's text or the reason.

    `cost_source` and `price_as_of` as in `ModelCompleted`; None where the log does not say. `output` is the JSON data
    of an answer that fits the schema which was asked for; `content` is then its JSON text. `rejected` says what the
    model was told where its answer was not taken.
    """

    step_no: int
    type: StepType
    content: str
    tool_calls: list[StepToolCall] = field(default_factory=list)
    model: str | None = None
    usage: dict[str, int] | None = None
    cost_usd: str | None = None
    cost_source: str | None = None
    price_as_of: str | None = None
    duration_ms: float | None = None
    output: dict[str, Any] | None = None
    rejected: str | None = None

    @property
    def final_answer(self) -> str | None:
        return self.content if self.type is StepType.FINAL_ANSWER else None

    def end(self, completed: Mapping[str, Any]) -> None:
        """Take in the `session.completed` that makes this step the answer."""
        self.type = StepType.FINAL_ANSWER
        if "answer" in completed:
            self.output = completed["answer"]
            self.content = json_text.dumps(self.output)

    def to_dict(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "step_no": self.step_no,
            "type": self.type.value,
            "content": self.content,
            "tool_calls": [call.to_dict() for call in self.tool_calls],
            "model": self.model,
            "usage": self.usage,
            "cost_usd": self.cost_usd,
            "cost_source": self.cost_source,
            "price_as_of": self.price_as_of,
            "duration_ms": self.duration_ms,
        }
        if self.type is StepType.FINAL_ANSWER:
            data["final_answer"] = self.content
        if self.output is not None:
            data["output"] = self.output
        if self.rejected is not None:
            data["rejected"] = self.rejected
        return data


def steps_of(events: Iterable[Event]) -> list[AgentStep]:
    """The steps of a log, oldest first. Events in the order of `seq`."""
    steps: list[AgentStep] = []
    calls: dict[str, StepToolCall] = {}
    for event in events:
        payload = event.payload
        if event.type is EventType.MODEL_COMPLETED:
            steps.append(model_step(payload))
            calls.update((call.call_id, call) for call in steps[-1].tool_calls)
        elif event.type is EventType.TOOL_COMPLETED and payload["call_id"] in calls:
            calls[payload["call_id"]].end(payload)
        elif event.type is EventType.SESSION_COMPLETED:
            steps[-1].end(payload)
        elif event.type is EventType.ANSWER_REJECTED:
            steps[-1].rejected = payload["problem"]
        elif event.type is EventType.SESSION_FAILED and _ends_in_no_answer(steps):
            steps[-1].type = StepType.FAILED
    return steps


def _ends_in_no_answer(steps: list[AgentStep]) -> bool:
    """Whether what the model said last was cut or refused. An answer to an earlier message stays one."""
    return bool(steps) and not steps[-1].tool_calls and steps[-1].type is not StepType.FINAL_ANSWER


def model_step(payload: Mapping[str, Any]) -> AgentStep:
    """The step that a `model.completed` begins; it becomes a final answer only by `session.completed`."""
    return AgentStep(
        step_no=payload["step_no"],
        type=StepType.TOOL_CALL,
        content=payload["content"],
        tool_calls=[StepToolCall(call["call_id"], call["name"], call["arguments"]) for call in payload["tool_calls"]],
        model=payload["model"],
        usage=payload["usage"],
        cost_usd=payload["cost_usd"],
        cost_source=payload.get("cost_source"),
        price_as_of=payload.get("price_as_of"),
        duration_ms=payload["duration_ms"],
    )
