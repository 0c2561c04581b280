"""The end of a session's work: its answer is taken or, where it does not fit its schema, given back once."""

from __future__ import annotations

from collections.abc import Sequence

from conductor_ai.agents import answers
from conductor_ai.agents.answer_schema import ACCEPTED, FINAL_ANSWER_NAME, NOT_ALONE, AnswerSchema, Verdict, rejection
from conductor_ai.agents.session_log import SessionLog
from conductor_ai.agents.session_state import OpenCall
from conductor_ai.agents.step_result import StepResult
from conductor_ai.agents.tool_calls import completed
from conductor_ai.model_catalog import ModelInfo
from conductor_ai.schemas.events import AnswerRejected, EventType, SessionCompleted, ToolOutcome
from conductor_ai.schemas.steps import StepType

_UNREADABLE_CALL = (
    "the tool call in it could not be read. Call tools by their names, with arguments that fit, or answer in words."
)


async def complete(
    log: SessionLog, model: ModelInfo, verdict: Verdict | None, asked: OpenCall | None = None
) -> StepResult:
    """Complete the session with the answer of its newest turn, unless that does not fit.

    Args:
        verdict: On the answer; None where no schema was asked for.
        asked: The call of the answer tool by which it was given.
    Raises: AnswerInvalid for the second answer that does not fit.
    """
    if verdict is not None and verdict.problem is not None:
        return await _reject(log, model, verdict.problem, asked)
    payload: SessionCompleted = {"step_no": log.state.step_no}
    if verdict is not None:
        payload["answer"] = verdict.answer
    if asked is not None:
        outcome = completed(log.state.step_no, asked.call, ToolOutcome.SUCCEEDED, ACCEPTED)
        log.stage(EventType.TOOL_COMPLETED, outcome)
    log.stage(EventType.SESSION_COMPLETED, payload)
    await log.durable()
    return StepResult(log.state, StepType.FINAL_ANSWER, calls=[] if asked is None else [asked], completed=payload)


async def take_called_answer(
    log: SessionLog, model: ModelInfo, schema: AnswerSchema, calls: Sequence[OpenCall]
) -> StepResult | None:
    """Take a call of the answer tool for the answer; None where there is none, or none that could be one.

    Beside other calls it is not taken: whoever answers with them under way does not know what they return.
    Raises: AnswerInvalid for the second answer that does not fit.
    """
    asked = [open_call for open_call in calls if open_call.call.name == FINAL_ANSWER_NAME]
    if not asked:
        return None
    if len(calls) == 1:
        cut = Verdict(problem="it was cut before its end; make it shorter") if log.state.answer_cut else None
        return await complete(log, model, cut or schema.of_call(asked[0].call), asked[0])
    for open_call in asked:
        if open_call.completed is None:
            outcome = completed(log.state.step_no, open_call.call, ToolOutcome.NOT_RUN, error=NOT_ALONE)
            log.stage(EventType.TOOL_COMPLETED, outcome)
    return None


async def ask_again(log: SessionLog) -> StepResult | None:
    """Tell the model, once, that the tool call it wrote could not be read; None where it was told something already."""
    if log.state.answers_rejected:
        return None
    log.stage(EventType.ANSWER_REJECTED, {"step_no": log.state.step_no, "problem": _UNREADABLE_CALL})
    await log.durable()
    return StepResult(log.state, StepType.TOOL_CALL)


async def _reject(log: SessionLog, model: ModelInfo, problem: str, asked: OpenCall | None) -> StepResult:
    state = log.state
    payload: AnswerRejected = {"step_no": state.step_no, "problem": problem}
    if asked is None:
        payload["problem"] = rejection(problem)
    else:
        payload["call_id"] = asked.call.call_id
        error = f"not taken as the answer: {problem}"
        log.stage(EventType.TOOL_COMPLETED, completed(state.step_no, asked.call, ToolOutcome.FAILED, error=error))
    if state.answers_rejected:
        raise answers.unfit(model, problem)
    log.stage(EventType.ANSWER_REJECTED, payload)
    await log.durable()
    return StepResult(state, StepType.TOOL_CALL, calls=[] if asked is None else [asked])
