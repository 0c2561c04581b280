"""A drive: one session being driven by this process, one step at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from http import HTTPStatus
from typing import Any

from conductor_ai.agents import answers, limits
from conductor_ai.agents.call_run import run_call
from conductor_ai.agents.closing import cancel
from conductor_ai.agents.context_window import trimming
from conductor_ai.agents.limits import Pause
from conductor_ai.agents.session_state import OpenCall, SessionState
from conductor_ai.agents.state import SessionLog
from conductor_ai.agents.tool_calls import Toolset, completed
from conductor_ai.agents.triage import triage
from conductor_ai.errors import ProviderError, RequestRefused
from conductor_ai.model_catalog import ModelInfo
from conductor_ai.observability.audit import SessionSink
from conductor_ai.providers.base import ModelRequest, Provider
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.events import ApprovalRequested, EventType, SessionFailed, SessionPaused, ToolOutcome
from conductor_ai.schemas.messages import ModelResponse, StopReason
from conductor_ai.schemas.session import ENDED, PauseReason, SessionStatus
from conductor_ai.schemas.steps import AgentStep, StepType, model_step
from conductor_ai.schemas.usage import money_text

_logger = logging.getLogger(__name__)

Successor = Callable[[], "tuple[ModelInfo, bytes] | None"]
"""The model that takes over where the first is gone, with its head; None where there is none."""
CostUSD = Callable[[ModelInfo, ModelResponse], str | None]
"""US dollars as text; None where no price is known."""


class StepResult:
    """What one step came to. `to_step` is the form for callers, built only when somebody asks."""

    __slots__ = ("_calls", "_content", "_model_call", "_step_no", "_type")

    def __init__(
        self, state: SessionState, step_type: StepType, content: str | None = None, calls: Sequence[OpenCall] = ()
    ) -> None:
        self._step_no = state.step_no
        self._type = step_type
        self._content = content
        self._model_call = state.newest
        self._calls = calls

    def to_step(self) -> AgentStep:
        if self._content is not None or self._model_call is None:
            return AgentStep(self._step_no, self._type, self._content or "")
        step = model_step(self._model_call)
        step.type = self._type
        for view, open_call in zip(step.tool_calls, self._calls, strict=False):
            if open_call.completed is not None:
                view.end(open_call.completed)
        return step


class Drive:
    """Owns a claimed session until `step` has brought it to a stop; the claimer lets go of it then.

    `head` is the provider's encoding of what stays the same from call to call.
    """

    def __init__(
        self,
        log: SessionLog,
        toolset: Toolset,
        model: ModelInfo,
        provider: Provider,
        head: bytes,
        *,
        cost_usd: CostUSD,
        successor: Successor,
    ) -> None:
        config = log.state.config
        self.log = log
        self.view = AgentSession(log.session_id, config.org_id, log.state.status, config.model, config.agent, log.title)
        self.view.created_at = log.created_at
        self.stopped = asyncio.Event()
        self._toolset = toolset
        self._model = model
        self._provider = provider
        self._head = head
        self._cost_usd = cost_usd
        self._successor: Successor | None = successor
        self._sink = SessionSink(config.org_id, log.session_id, log.redactor, log.record)
        self._segment_started = time.monotonic()
        self._stepping = False
        self._cancelled_by_us = False
        self._call_bound: Decimal | None = None
        self._interruptible: asyncio.Task[Any] | None = None

    @property
    def running(self) -> bool:
        return self.log.state.status is SessionStatus.RUNNING

    @property
    def stepping(self) -> bool:
        return self._stepping

    def request_cancel(self, by: str) -> None:
        """Write the request down, and end the model call or the tools that are under way; the step does the rest."""
        if not self.running:
            return
        self.log.stage(EventType.SESSION_CANCEL_REQUESTED, {"by": by})
        self.log.commit()
        self.log.cancel_requested = True
        if self._interruptible is not None:
            self._interruptible.cancel()
            self._cancelled_by_us = True

    async def step(self) -> StepResult:
        """One whole step; one at a time. A provider's failure is a result; a cancelled task leaves a paused session.

        Raises: StorageError, OwnershipLost: nothing more was or will be written then.
        """
        self._stepping = True
        try:
            result = await self._step_or_stop()
            # Somebody may have asked for its end while it came to wait or to pause.
            if self.log.cancel_requested and self.log.state.status not in ENDED:
                return await self.finish_cancel()
            return result
        finally:
            self._stepping = False

    async def finish_cancel(self) -> StepResult:
        await cancel(self.log, "another process")
        return StepResult(self.log.state, StepType.CANCELLED, "cancelled")

    async def _step_or_stop(self) -> StepResult:
        try:
            return await self._step()
        except ProviderError as error:
            return await self._fail(error)
        except asyncio.CancelledError:
            task, self._interruptible = self._interruptible, None
            if self._cancelled_by_us and task is not None:
                self._cancelled_by_us = False
                task.uncancel()
                return await self.finish_cancel()
            if self.running:  # what has stopped already, stays as it stopped
                await self._pause(Pause(PauseReason.INTERRUPTED, "interrupted"))
            raise

    def _asked_to_end(self) -> bool:
        return self.log.cancel_requested

    def refresh(self) -> None:
        """Bring the caller's view up to date."""
        view, state = self.view, self.log.state
        view.status, view.pause_reason, view.error = state.status, state.pause_reason, state.error
        view.usage, view.cost_usd, view.updated_at = state.usage, state.cost_usd, self.log.updated_at

    async def _step(self) -> StepResult:
        state = self.log.state
        if self.log.cancel_requested:
            return await self.finish_cancel()
        if not state.open_calls:
            pause = limits.reached(state, self._model, len(self._head), self._segment_started)
            if pause is not None:
                return await self._pause(pause)
            self._make_room()
            try:
                response = await self._call_model()
            except RequestRefused as refusal:
                if refusal.status != HTTPStatus.NOT_FOUND or not self._take_successor():
                    raise
                return await self._step()  # within the limits, now at the successor's price
            if not state.open_calls:
                return await self._answered(response)
        return await self._answer_calls()

    def _make_room(self) -> None:
        """Let old results and steps leave the prompt where the next one would not fit the window."""
        state = self.log.state
        trimmed = trimming(
            state.prompt,
            step_no=state.step_no + 1,
            context_window=self._model.context_window,
            output_tokens=limits.max_output_tokens(self._model, state.config.limits),
            head_bytes=len(self._head),
        )
        if trimmed is not None:
            self.log.stage(EventType.CONTEXT_TRIMMED, trimmed)
            self.log.commit()

    async def _call_model(self) -> ModelResponse:
        log, state = self.log, self.log.state
        step_no = state.step_no + 1
        log.tell_live("model.started", {"step_no": step_no, "model": self._model.id})
        if state.config.limits.max_cost_usd is not None:
            self._call_bound = limits.reserve(state, self._model, len(self._head))
        started = time.perf_counter()
        self._interruptible = asyncio.current_task()
        response = await self._provider.complete(ModelRequest(self._model.wire_id, self._head, state.prompt.turns))
        self._interruptible = None
        duration_ms = (time.perf_counter() - started) * 1000
        payload = answers.model_completed(self._model, step_no, response, duration_ms)
        payload["cost_usd"] = self._cost_usd(self._model, response)
        if payload["cost_usd"] is None and self._call_bound is not None:
            payload["cost_usd"], payload["cost_is_bound"] = money_text(self._call_bound), True
        self._call_bound = None
        log.stage(EventType.MODEL_COMPLETED, payload)
        return response

    def _take_successor(self) -> bool:
        """Go over to the successor of a model that its provider does not know any more; once."""
        found = self._successor() if self._successor is not None else None
        self._successor = self._call_bound = None
        if found is None:
            return False
        _logger.warning(
            "model %s is gone; session %s goes on with %s", self._model.id, self.log.session_id, found[0].id
        )
        self._model, self._head = found
        return True

    async def _answered(self, response: ModelResponse) -> StepResult:
        """The model asked for no tool: an answer, unless it was cut or refused."""
        log = self.log
        if response.stop_reason is StopReason.PAUSE_TURN:  # the provider wants its turn back to go on with it
            await log.durable()
            return StepResult(log.state, StepType.TOOL_CALL)
        problem = answers.problem(self._model, response)
        if problem is not None:
            raise problem
        log.stage(EventType.SESSION_COMPLETED, {"step_no": log.state.step_no})
        await log.durable()
        return StepResult(log.state, StepType.FINAL_ANSWER)

    async def _answer_calls(self) -> StepResult:
        """Bring every open call as far as it can go: intent stored first, then run, then stored; last, ask."""
        log, state = self.log, self.log.state
        calls = list(state.open_calls.values())
        if limits.past_deadline(state, self._segment_started):
            return await self._pause(limits.deadline_pause(state))
        plan = triage(log, self._toolset)
        await log.durable()
        if log.cancel_requested:
            for open_call in plan.fresh:  # the intent is on record, and nobody has acted on it
                error = "not run: the session was cancelled"
                log.stage(
                    EventType.TOOL_COMPLETED, completed(state.step_no, open_call.call, ToolOutcome.NOT_RUN, error=error)
                )
            return await self.finish_cancel()
        if plan.to_run:
            plan.to_ask += await self._run_calls(plan.to_run)
        if self._asked_to_end():
            return await self.finish_cancel()
        if plan.to_ask:
            for request in plan.to_ask:
                log.stage(EventType.APPROVAL_REQUESTED, request)
            await log.durable()
            return StepResult(state, StepType.APPROVAL, calls=calls)
        return StepResult(state, StepType.TOOL_CALL, calls=calls)

    async def _run_calls(self, calls: list[OpenCall]) -> list[ApprovalRequested]:
        """Returns: what tools want to be asked before they go on; these calls have no result yet."""
        task = self._interruptible = asyncio.current_task()
        asked_before = 0 if task is None else task.cancelling()
        if len(calls) == 1:
            asked = [await run_call(self.log, self._toolset, self._sink, calls[0])]
        else:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(run_call(self.log, self._toolset, self._sink, open_call)) for open_call in calls
                ]
            asked = [task.result() for task in tasks]
        if task is not None and task.cancelling() > asked_before:
            raise asyncio.CancelledError  # a tool kept the request to itself; it was not the tool's
        self._interruptible = None
        return [request for request in asked if request is not None]

    async def _pause(self, pause: Pause) -> StepResult:
        payload: SessionPaused = {"reason": pause.reason.value, "detail": pause.detail}
        if self._call_bound is not None:
            payload["unsettled_usd"] = money_text(self._call_bound)
        self.log.stage(EventType.SESSION_PAUSED, payload)
        await self.log.durable()
        return StepResult(self.log.state, StepType.PAUSED, pause.detail)

    async def _fail(self, error: ProviderError) -> StepResult:
        self._interruptible = None
        _logger.warning("model call of session %s failed (%s): %s", self.log.session_id, error.code, error)
        payload: SessionFailed = {
            "code": error.code,
            "message": str(error),
            "hint": error.hint,
            "retryable": error.retryable,
            "resumable": error.resumable,
        }
        # A refusal costs nothing; an answer that was cut off on its way may have been billed.
        if self._call_bound is not None and error.status in (None, HTTPStatus.OK):
            payload["unsettled_usd"] = money_text(self._call_bound)
        self.log.stage(EventType.SESSION_FAILED, payload)
        await self.log.durable()
        return StepResult(self.log.state, StepType.FAILED, str(error))
