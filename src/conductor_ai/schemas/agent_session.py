"""The view of a session that callers hold: what it is doing, what it cost, what it answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from conductor_ai.schemas.costs import CostSummary
from conductor_ai.schemas.events import Event, EventType
from conductor_ai.schemas.session import ENDED, PauseReason, SessionRecord, SessionStatus
from conductor_ai.schemas.steps import AgentStep, StepType, steps_of
from conductor_ai.schemas.usage import Usage, money_text

_STOPPED_AS = {
    SessionStatus.WAITING_APPROVAL: StepType.APPROVAL,
    SessionStatus.PAUSED: StepType.PAUSED,
    SessionStatus.FAILED: StepType.FAILED,
    SessionStatus.CANCELLED: StepType.CANCELLED,
}
_FAILURE = ("code", "message", "hint", "retryable", "resumable")


@dataclass(slots=True, weakref_slot=True)
class AgentSession:
    """A live view: the runner that drives the session refreshes it, so a loop over `status` ends.

    `steps` and `final_answer` are there once the session has stopped (ended, paused or waiting). `cost_usd` is exact
    US dollars, None where a call had no known price.
    """

    session_id: str
    org_id: str
    status: SessionStatus
    model: str
    agent: str | None = None
    title: str = ""
    pause_reason: PauseReason | None = None
    error: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal | None = Decimal(0)
    created_at: str = ""
    updated_at: str = ""
    output_type: Callable[[dict[str, Any]], Any] | None = field(default=None, repr=False, compare=False)
    """Makes of `output` what its reader wants, as an instance of the Pydantic model that the runner was given."""
    log: Sequence[Event] | Callable[[], Sequence[Event]] | None = field(default=None, repr=False, compare=False)
    """What `steps` are made of, None where it was not loaded; a function where it is read only when somebody asks."""
    _steps: tuple[object, list[AgentStep]] = field(default=(None, []), repr=False, compare=False)

    @property
    def steps(self) -> list[AgentStep]:
        """The steps of the log, oldest first; empty while the session runs, and where the log was not loaded."""
        made_of, steps = self._steps
        if made_of is not self.log:
            steps = steps_of(self.log() if callable(self.log) else self.log or ())
            self._steps = (self.log, steps)
        return steps

    @property
    def cost(self) -> CostSummary:
        """What the calls in the log cost, by who says so; empty where the log was not loaded."""
        return CostSummary.of(self.log() if callable(self.log) else self.log or ())

    @property
    def failure(self) -> dict[str, Any] | None:
        """Why a failed session failed: `code`, `message`, `hint`, `retryable`, `resumable`. None for any other session,
        and where the log was not loaded."""
        if self.status is not SessionStatus.FAILED:
            return None
        log = self.log() if callable(self.log) else self.log or ()
        failed = next((event.payload for event in reversed(log) if event.type is EventType.SESSION_FAILED), {})
        return {name: failed[name] for name in _FAILURE if name in failed} or None

    @property
    def metadata(self) -> dict[str, str]:
        """What the caller who started the session wrote down with it; empty where the log was not loaded."""
        log = self.log() if callable(self.log) else self.log or ()
        return dict(log[0].payload.get("metadata", {})) if log else {}

    @property
    def final_answer(self) -> str | None:
        """The answer of a completed session."""
        if self.status is not SessionStatus.COMPLETED or not self.steps:
            return None
        return self.steps[-1].final_answer

    @property
    def output(self) -> Any:
        """The answer of a completed session that was asked for one by a schema: JSON data that fits it, or an instance
        of the Pydantic model that its runner was given. None for any other session."""
        if self.status is not SessionStatus.COMPLETED or not self.steps:
            return None
        data = self.steps[-1].output
        return data if data is None or self.output_type is None else self.output_type(data)

    def last_step(self) -> AgentStep:
        """The step that a session which does not run has stopped with."""
        newest = self.steps[-1] if self.steps else None
        if self.status is SessionStatus.COMPLETED and newest is not None:
            return newest
        kind = _STOPPED_AS.get(self.status, StepType.PAUSED)
        calls = newest.tool_calls if newest is not None else []
        return AgentStep(newest.step_no if newest is not None else 0, kind, self.error or self.status.value, calls)

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @classmethod
    def of(cls, record: SessionRecord, log: Sequence[Event] | None = None) -> AgentSession:
        return cls(
            session_id=record.session_id,
            org_id=record.org_id,
            status=record.status,
            model=record.model,
            agent=record.agent,
            title=record.title,
            pause_reason=record.pause_reason,
            error=record.error,
            usage=record.usage,
            cost_usd=record.cost_usd,
            created_at=record.created_at,
            updated_at=record.updated_at,
            log=log,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON data. `cost_usd` is a string, None where unknown. Without `final_answer`, `steps` and `cost` where the
        log was not loaded, as in lists."""
        data: dict[str, Any] = {
            "session_id": self.session_id,
            "org_id": self.org_id,
            "status": self.status.value,
            "agent": self.agent,
            "model": self.model,
            "title": self.title,
            "pause_reason": self.pause_reason.value if self.pause_reason else None,
            "error": self.error,
        }
        if self.log is not None:
            if self.status is SessionStatus.FAILED:
                data["failure"] = self.failure
            data["metadata"] = self.metadata
            data["final_answer"] = self.final_answer
            if self.final_answer is not None and self.steps[-1].output is not None:
                data["output"] = self.steps[-1].output
            data["steps"] = [step.to_dict() for step in self.steps]
        data["usage"] = self.usage.to_dict()
        data["cost_usd"] = None if self.cost_usd is None else money_text(self.cost_usd)
        if self.log is not None:
            data["cost"] = self.cost.to_dict()
        data["created_at"] = self.created_at
        data["updated_at"] = self.updated_at
        return data
