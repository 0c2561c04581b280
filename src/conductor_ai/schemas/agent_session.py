"""The view of a session that callers hold: what it is doing, what it cost, what it answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from conductor_ai.schemas.events import Event
from conductor_ai.schemas.session import ENDED, PauseReason, SessionRecord, SessionStatus
from conductor_ai.schemas.steps import AgentStep, steps_of
from conductor_ai.schemas.usage import Usage, money_text


@dataclass(slots=True)
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
    log: Sequence[Event] | Callable[[], Sequence[Event]] = field(default=(), repr=False, compare=False)
    """What `steps` are made of; a function where the events are read only when somebody asks."""
    _steps: list[AgentStep] | None = field(default=None, repr=False, compare=False)

    @property
    def steps(self) -> list[AgentStep]:
        """The steps of the log, oldest first; empty while the session runs."""
        if self._steps is None:
            self._steps = steps_of(self.log() if callable(self.log) else self.log)
        return self._steps

    @property
    def final_answer(self) -> str | None:
        """The answer of a completed session."""
        if self.status is not SessionStatus.COMPLETED or not self.steps:
            return None
        return self.steps[-1].final_answer

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @classmethod
    def of(cls, record: SessionRecord, log: Sequence[Event] = ()) -> AgentSession:
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
        """JSON data. `cost_usd` is a string, None where unknown; without `steps` where they were not loaded."""
        return {
            "session_id": self.session_id,
            "org_id": self.org_id,
            "status": self.status.value,
            "agent": self.agent,
            "model": self.model,
            "title": self.title,
            "pause_reason": self.pause_reason.value if self.pause_reason else None,
            "error": self.error,
            "final_answer": self.final_answer,
            "steps": [step.to_dict() for step in self.steps],
            "usage": self.usage.to_dict(),
            "cost_usd": None if self.cost_usd is None else money_text(self.cost_usd),
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }
