"""A drive: one session being driven by this process, one step at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

from conductor_ai.agents import answers, limits
from conductor_ai.agents.answer_schema import AnswerSchema
from conductor_ai.agents.call_run import run_call
from conductor_ai.agents.cancel_watch import SOMEBODY
from conductor_ai.agents.closing import cancel
from conductor_ai.agents.context_window import give_up_newest, trimming
from conductor_ai.agents.final_answer import take_call, take_text
from conductor_ai.agents.limits import Pause, Reserve
from conductor_ai.agents.model_call import call_model
from conductor_ai.agents.models import Lineup
from conductor_ai.agents.org_money import Hold
from conductor_ai.agents.session_log import SessionLog
from conductor_ai.agents.session_state import OpenCall
from conductor_ai.agents.step_result import StepResult
from conductor_ai.agents.tool_calls import Toolset, completed
from conductor_ai.agents.triage import triage
from conductor_ai.errors import BudgetSpent, CancelRequested, PromptTooLong, ProviderError, SignatureRefused
from conductor_ai.model_catalog import ModelInfo
from conductor_ai.observability.audit import SessionSink
from conductor_ai.providers.retries import RetryBudget
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.costs import CallCost
from conductor_ai.schemas.events import (
    ApprovalRequested,
    ContextTrimmed,
    EventType,
    ModelSwitched,
    SessionFailed,
    SessionPaused,
    ToolOutcome,
)
from conductor_ai.schemas.messages import ModelResponse, StopReason
from conductor_ai.schemas.session import ENDED, PauseReason, SessionStatus
from conductor_ai.schemas.steps import StepType

_logger = logging.getLogger(__name__)

CostUSD = Callable[[ModelInfo, ModelResponse], CallCost]
"""What a call cost, and who says so."""


class Drive:
    """Owns a claimed session until `step` has brought it to a stop; the claimer lets go of it then."""

    def __init__(
        self,
        log: SessionLog,
        toolset: Toolset,
        lineup: Lineup,
        schema: AnswerSchema | None = None,
        *,
        cost_usd: CostUSD,
        retry_budget: RetryBudget,
    ) -> None:
        config = log.state.config
        self.log = log
        self.view = AgentSession(
            log.session_id, config.org_id, log.state.status, log.state.model, config.agent, log.title
        )
        self.view.created_at = log.created_at
        self.stopped = asyncio.Event()
        self.leaving = False
        """This process gives the session up as it is, for another to go on: an end from outside is no pause then."""
        self._toolset = toolset
        self._lineup = lineup
        self._schema = schema
        self._retry_budget = retry_budget
        self._cost_usd = cost_usd
        self._sink = SessionSink(config.org_id, log.session_id, log.redactor, log.record)
        self._segment_started = time.monotonic()
        self._stepping = False
        self._cancelled_by_us = False
        self._unsigned_at: int | None = None
        self._reserve: Reserve | None = None
        self._interruptible: asyncio.Task[Any] | None = None

    @property
    def model(self) -> ModelInfo:
        """The model in use."""
        return self._lineup.current.info

    @property
    def _lost_usd(self) -> Decimal:
        """What attempts may have cost that are in no event yet."""
        return Decimal(0) if self._reserve is None else self._reserve.lost_usd(with_this=False)

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
            # Somebody may ask for its end while it comes to wait or to pause, or is about to end otherwise.
            with suppress(CancelRequested):
                result = await self._step_or_stop()
                if not self.log.cancel_requested or self.log.state.status in ENDED:
                    return result
            return await self.finish_cancel()
        finally:
            self._stepping = False

    async def finish_cancel(self) -> StepResult:
        reserve, self._reserve = self._reserve, None
        # What was asked for here is on record already.
        is_known = self.log.state.status is SessionStatus.CANCELLING
        by = SOMEBODY if is_known else await self.log.who_cancels()
        await cancel(self.log, by, limits.unsettled_text(reserve))
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
            # What has stopped already stays as it stopped; a question that came up meanwhile is not lost.
            if self.leaving:
                await self._asked()
            elif self.running and not await self._asked():
                await self._pause(Pause(PauseReason.INTERRUPTED, "interrupted"))
            raise

    def _asked_to_end(self) -> bool:
        """A method: it may change while a step waits, which a type checker that has seen it once does not expect."""
        return self.log.cancel_requested

    def refresh(self) -> None:
        """Bring the caller's view up to date."""
        view, state = self.view, self.log.state
        view.status, view.pause_reason, view.error = state.status, state.pause_reason, state.error
        view.model = state.model
        view.usage, view.cost_usd, view.updated_at = state.usage, state.cost_usd, self.log.updated_at

    async def _step(self) -> StepResult:
        state = self.log.state
        if self.log.cancel_requested:
            return await self.finish_cancel()
        if not state.open_calls:
            model = self._lineup.current
            pause = limits.reached(state, model.info, len(model.head), self._segment_started, self._lost_usd)
            if pause is not None:
                return await self._pause(pause)
            self._make_room()
            try:
                hold = await self._org_hold()
            except BudgetSpent as error:
                return await self._pause(Pause(PauseReason.ORG_BUDGET, str(error)))
            try:
                response = await self._call_model(hold)
                if not state.open_calls:
                    return await self._answered(response)
            except ProviderError as error:
                if not (
                    self._make_all_room(error) or await self._tell_unsigned(error) or await self._switch_model(error)
                ):
                    raise
                return await self._step()  # within the limits, which may be those of another model now
        return await self._answer_calls()

    def _make_room(self) -> None:
        """Let old results and steps leave the prompt where the next one would not fit the window."""
        state, model = self.log.state, self._lineup.current
        trimmed = trimming(
            state.prompt,
            step_no=state.step_no + 1,
            context_window=model.info.context_window,
            output_tokens=limits.max_output_tokens(model.info, state.config.limits),
            head_bytes=len(model.head),
        )
        if trimmed is not None:
            self.log.stage(EventType.CONTEXT_TRIMMED, trimmed)
            self.log.commit()

    def _make_all_room(self, error: ProviderError) -> bool:
        """Let all results leave the prompt where the provider says that it is too long: the estimate was wrong."""
        if not isinstance(error, PromptTooLong):
            return False
        state = self.log.state
        window = self._lineup.current.info.context_window
        trimmed = give_up_newest(state.prompt, step_no=state.step_no + 1, context_window=window)
        if trimmed is None:
            return False
        self._settle_failed(trimmed, error)
        self._interruptible = None
        self.log.stage(EventType.CONTEXT_TRIMMED, trimmed)
        self.log.commit()
        return True

    async def _tell_unsigned(self, error: ProviderError) -> bool:
        """Tell the model the history without what it signed, where the provider says that this does not hold any more:
        old results have left the prompt before it. Nothing of it is an event: a resumed session finds out again."""
        if not isinstance(error, SignatureRefused) or self._unsigned_at == self.log.state.seq:
            return False
        _logger.info("session %s goes on without earlier signatures: %s", self.log.session_id, error)
        self._interruptible = None
        if self._reserve is not None:
            self._reserve.under_way = False  # what was lost before the refusal, the next call takes over
        model = self._lineup.current
        await self.log.retell(model.provider.encode_turn, model.info.id, signed=False)
        self._unsigned_at = self.log.state.seq
        return True

    async def _org_hold(self) -> Hold | None:
        """What the next call may cost, set aside of the org's money where that is limited. Raises: BudgetSpent."""
        money, org_id = self.log.money, self.log.state.config.org_id
        if not await money.is_limited(org_id):
            return None
        model = self._lineup.current
        await limits.prices_at_hand([model.info])
        bound = limits.reserve(self.log.state, model.info, len(model.head))
        if bound is None:
            raise BudgetSpent(f"{model.info.id} has no known price, so the org's budget cannot be kept")
        return await money.hold(org_id, bound)

    async def _call_model(self, hold: Hold | None) -> ModelResponse:
        log, state, model = self.log, self.log.state, self._lineup.current
        step_no = state.step_no + 1
        log.tell_live("model.started", {"step_no": step_no, "model": model.info.id})
        reserve = self._reserve = Reserve.of(state, model.info, len(model.head), self._lost_usd, hold)
        started = time.perf_counter()
        self._interruptible = asyncio.current_task()
        try:
            response, attempts = await call_model(log, model, step_no, self._budget(), reserve)
        except BaseException as error:
            if reserve is not None:
                reserve.settle(error=error)
            raise
        self._interruptible = None
        duration_ms = (time.perf_counter() - started) * 1000
        payload = answers.model_completed(model.info, step_no, response, duration_ms, attempts)
        cost = self._cost_usd(model.info, response)
        answers.put_cost(payload, cost, None if reserve is None else reserve.attempt_usd)
        if reserve is not None:
            reserve.settle(cost.usd)
        if hold is None and cost.usd is not None and await log.money.is_limited(state.config.org_id):
            log.money.spend(state.config.org_id, cost.usd)  # limited only since this call began
        if (lost_usd := limits.unsettled_text(reserve, answered=True)) is not None:
            payload["unsettled_usd"] = lost_usd
        self._reserve = None
        log.stage(EventType.MODEL_COMPLETED, payload)
        return response

    def _budget(self) -> RetryBudget:
        """What a call may spend on attempts: no wait goes beyond the segment's deadline."""
        deadline_s = self.log.state.config.limits.deadline_s
        if deadline_s is None:
            return self._retry_budget
        left_s = max(0.0, deadline_s - (time.monotonic() - self._segment_started))
        return replace(self._retry_budget, total_s=min(self._retry_budget.total_s, left_s))

    async def _switch_model(self, error: ProviderError) -> bool:
        """Go over to the model that follows in the session's order, and tell it the history in its own words."""
        log, gone = self.log, self._lineup.current.info
        model = self._lineup.take_next(error)
        if model is None:
            return False
        _logger.warning("%s fails; session %s goes on with %s: %s", gone.id, log.session_id, model.info.id, error)
        payload: ModelSwitched = {
            "step_no": log.state.step_no + 1,
            "from_model": gone.id,
            "to_model": model.info.id,
            "code": error.code,
            "message": str(error),
        }
        self._settle_failed(payload, error)
        log.stage(EventType.MODEL_SWITCHED, payload)
        self._interruptible = None
        await log.retell(model.provider.encode_turn, model.info.id)
        return True

    async def _answered(self, response: ModelResponse) -> StepResult:
        """The model asked for no tool: an answer, unless it was cut or refused."""
        log = self.log
        if self._asked_to_end():  # between the answer's last byte and here: what was accepted comes first
            return await self.finish_cancel()
        if response.stop_reason is StopReason.PAUSE_TURN:  # the provider wants its turn back to go on with it
            await log.durable()
            return StepResult(log.state, StepType.TOOL_CALL)
        return await take_text(log, self._lineup.current.info, self._schema)

    async def _answer_calls(self) -> StepResult:
        """Bring every open call as far as it can go: intent stored first, then run, then stored; last, ask."""
        log, state = self.log, self.log.state
        calls = list(state.open_calls.values())
        if self._schema is not None:
            answered = await take_call(log, self._lineup.current.info, self._schema, calls)
            if answered is not None:
                return answered
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
            await self._run_calls(plan.to_run)
        if self._asked_to_end():
            return await self.finish_cancel()
        if await self._asked(plan.to_ask):
            return StepResult(state, StepType.APPROVAL, calls=calls)
        return StepResult(state, StepType.TOOL_CALL, calls=calls)

    async def _asked(self, before_the_call: Sequence[ApprovalRequested] = ()) -> bool:
        """Put before a person what must be decided before calls run, or before tools go on. False where nothing is."""
        log = self.log
        inside = [open_call.to_ask for open_call in log.state.open_calls.values() if open_call.to_ask is not None]
        for request in (*inside, *before_the_call):
            log.stage(EventType.APPROVAL_REQUESTED, request)
        if inside or before_the_call:
            await log.durable()
            return True
        return False

    async def _run_calls(self, calls: list[OpenCall]) -> None:
        task = self._interruptible = asyncio.current_task()
        asked_before = 0 if task is None else task.cancelling()
        if len(calls) == 1:
            await run_call(self.log, self._toolset, self._sink, calls[0])
        else:
            async with asyncio.TaskGroup() as group:
                for open_call in calls:
                    group.create_task(run_call(self.log, self._toolset, self._sink, open_call))
        if task is not None and task.cancelling() > asked_before:
            raise asyncio.CancelledError  # a tool kept the request to itself; it was not the tool's
        self._interruptible = None

    async def _pause(self, pause: Pause) -> StepResult:
        payload: SessionPaused = {"reason": pause.reason.value, "detail": pause.detail}
        if (lost_usd := limits.unsettled_text(self._reserve)) is not None:
            payload["unsettled_usd"] = lost_usd
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
        self._settle_failed(payload, error)
        self.log.stage(EventType.SESSION_FAILED, payload)
        await self.log.durable()
        return StepResult(self.log.state, StepType.FAILED, str(error))

    def _settle_failed(self, payload: SessionFailed | ModelSwitched | ContextTrimmed, error: ProviderError) -> None:
        reserve, self._reserve = self._reserve, None
        if (lost_usd := limits.unsettled_text(reserve, error)) is not None:
            payload["unsettled_usd"] = lost_usd
