"""The end of a session's work: its answer is taken or, where it is none, given back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conductor_ai.agents import answers
from conductor_ai.agents.answer_schema import ACCEPTED, FINAL_ANSWER_NAME, AnswerSchema, Verdict, rejection
from conductor_ai.agents.session_log import SessionLog
from conductor_ai.agents.session_state import OpenCall
from conductor_ai.agents.step_result import StepResult
from conductor_ai.agents.tool_calls import completed
from conductor_ai.model_catalog import ModelInfo
from conductor_ai.schemas.events import AnswerRejected, EventType, RejectedFor, SessionCompleted, ToolOutcome
from conductor_ai.schemas.messages import StopReason
from conductor_ai.schemas.steps import StepType

_REJECTIONS = {RejectedFor.UNFIT: 1, RejectedFor.BESIDE_CALLS: 2, RejectedFor.UNREADABLE_CALL: 1}
"""How often an answer is given back for each reason; the next one is a failure."""
_UNREADABLE_CALL = (
    "the tool call in it could not be read. Call tools by their names, with arguments that fit, or answer in words."
)
_BESIDE_CALLS = "other calls stand beside it. Call final_answer alone, once you have seen what they return"
_UNFIT = "does not fit the schema, and it was told so before"
_ANOTHER = "not taken: another answer of the same turn was."


async def take_text(log: SessionLog, model: ModelInfo, schema: AnswerSchema | None) -> StepResult:
    """Take the text of the session's newest turn, which asks for no tool, for the answer.

    Raises: a ProviderError for one that is none, once the model was told so; at once where it was cut or refused.
    """
    said: dict[str, Any] = log.state.newest or {}
    unreadable = said["stop_reason"] == StopReason.MALFORMED_CALL
    if unreadable and not _spent(log, RejectedFor.UNREADABLE_CALL):
        return await _ask_again(log, RejectedFor.UNREADABLE_CALL, _UNREADABLE_CALL)
    problem = answers.cut_or_refused(model, said)
    if problem is None and (unreadable or schema is None):
        problem = answers.empty(model, said)
    if problem is not None:
        raise problem
    if schema is None:
        return await _complete(log)
    verdict = schema.of_text(said["content"])
    if verdict.problem is None:
        return await _complete(log, verdict)
    if _spent(log, RejectedFor.UNFIT):
        raise answers.rejected_again(model, f"{_UNFIT}: {verdict.problem}")
    return await _ask_again(log, RejectedFor.UNFIT, rejection(verdict.problem))


async def take_call(
    log: SessionLog, model: ModelInfo, schema: AnswerSchema, calls: Sequence[OpenCall]
) -> StepResult | None:
    """Take a call of the answer tool for the answer; None where there is none, or none that could be one.

    Beside other calls it is not taken: whoever answers with them under way does not know what they return.
    Raises: as `take_text`.
    """
    asked = [one for one in calls if one.call.name == FINAL_ANSWER_NAME and one.completed is None]
    if not asked:
        return None
    if len(asked) < len(calls):
        _not_taken(log, model, asked)
        return None
    problem = answers.cut_or_refused(model, log.state.newest or {})
    if problem is not None:
        for each in asked:
            _end(log, each, ToolOutcome.NOT_RUN, f"not taken: {problem}")
        raise problem
    verdicts = [schema.of_call(each.call) for each in asked]
    fits = next((index for index, verdict in enumerate(verdicts) if verdict.problem is None), None)
    if fits is None:
        return await _reject_calls(log, model, asked, verdicts)
    for index, each in enumerate(asked):
        _end(log, each, *((ToolOutcome.SUCCEEDED, None) if index == fits else (ToolOutcome.NOT_RUN, _ANOTHER)))
    return await _complete(log, verdicts[fits], asked)


async def _complete(log: SessionLog, verdict: Verdict | None = None, asked: Sequence[OpenCall] = ()) -> StepResult:
    payload: SessionCompleted = {"step_no": log.state.step_no}
    if verdict is not None and verdict.answer is not None:
        payload["answer"] = verdict.answer
    log.stage(EventType.SESSION_COMPLETED, payload)
    await log.durable()
    return StepResult(log.state, StepType.FINAL_ANSWER, calls=asked, completed=payload)


async def _ask_again(log: SessionLog, reason: RejectedFor, problem: str) -> StepResult:
    log.stage(EventType.ANSWER_REJECTED, {"step_no": log.state.step_no, "reason": reason.value, "problem": problem})
    await log.durable()
    return StepResult(log.state, StepType.TOOL_CALL)


async def _reject_calls(
    log: SessionLog, model: ModelInfo, asked: Sequence[OpenCall], verdicts: Sequence[Verdict]
) -> StepResult:
    for each, verdict in zip(asked, verdicts, strict=True):
        _end(log, each, ToolOutcome.FAILED, f"not taken as the answer: {verdict.problem}")
    problem = verdicts[0].problem or ""
    if _spent(log, RejectedFor.UNFIT):
        raise answers.rejected_again(model, f"{_UNFIT}: {problem}")
    _stage_rejected(log, RejectedFor.UNFIT, problem, asked[0])
    await log.durable()
    return StepResult(log.state, StepType.TOOL_CALL, calls=asked)


def _not_taken(log: SessionLog, model: ModelInfo, asked: Sequence[OpenCall]) -> None:
    if _spent(log, RejectedFor.BESIDE_CALLS):
        raise answers.rejected_again(model, "is never given alone: each time other calls stand beside it")
    _stage_rejected(log, RejectedFor.BESIDE_CALLS, _BESIDE_CALLS, asked[0])
    for each in asked:
        _end(log, each, ToolOutcome.NOT_RUN, f"not taken: {_BESIDE_CALLS}.")


def _spent(log: SessionLog, reason: RejectedFor) -> bool:
    return log.state.rejected[reason] >= _REJECTIONS[reason]


def _stage_rejected(log: SessionLog, reason: RejectedFor, problem: str, asked: OpenCall) -> None:
    payload: AnswerRejected = {
        "step_no": log.state.step_no,
        "reason": reason.value,
        "problem": problem,
        "call_id": asked.call.call_id,
    }
    log.stage(EventType.ANSWER_REJECTED, payload)


def _end(log: SessionLog, asked: OpenCall, outcome: ToolOutcome, error: str | None) -> None:
    """Give a call its result: every call of a model has one, though nothing was run."""
    result = ACCEPTED if error is None else None
    log.stage(EventType.TOOL_COMPLETED, completed(log.state.step_no, asked.call, outcome, result, error))
