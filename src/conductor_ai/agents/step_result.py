"""What one step came to."""

from __future__ import annotations

from collections.abc import Sequence

from conductor_ai.agents.session_state import OpenCall, SessionState
from conductor_ai.schemas.events import SessionCompleted
from conductor_ai.schemas.steps import AgentStep, StepType, model_step


class StepResult:
    """What one step came to. `to_step` is the form for callers, built only when somebody asks.

    Args:
        content: What is said in place of the model's own words, as why the session stopped.
        completed: What made the step the answer.
    """

    __slots__ = ("_calls", "_completed", "_content", "_model_call", "_step_no", "_type")

    def __init__(
        self,
        state: SessionState,
        step_type: StepType,
        content: str | None = None,
        calls: Sequence[OpenCall] = (),
        completed: SessionCompleted | None = None,
    ) -> None:
        self._step_no = state.step_no
        self._type = step_type
        self._content = content
        self._model_call = state.newest
        self._calls = calls
        self._completed = completed

    def to_step(self) -> AgentStep:
        if self._content is not None or self._model_call is None:
            return AgentStep(self._step_no, self._type, self._content or "")
        step = model_step(self._model_call)
        step.type = self._type
        for view, open_call in zip(step.tool_calls, self._calls, strict=False):
            if open_call.completed is not None:
                view.end(open_call.completed)
        if self._completed is not None:
            step.end(self._completed)
        return step
