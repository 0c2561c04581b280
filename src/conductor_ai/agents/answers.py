"""Between a model's reply and the log: the event it becomes, and whether a reply without calls is an answer."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from conductor_ai.errors import AnswerCut, AnswerInvalid, AnswerRefused, MalformedReply, ProviderError
from conductor_ai.model_catalog import ModelInfo
from conductor_ai.schemas import json_text
from conductor_ai.schemas.costs import UNKNOWN_COST, CallCost, CostSource
from conductor_ai.schemas.events import ModelCompleted, ToolCallPayload
from conductor_ai.schemas.messages import ModelResponse, StopReason
from conductor_ai.schemas.usage import Usage, money_text


def model_completed(
    model: ModelInfo, step_no: int, response: ModelResponse, duration_ms: float, attempts: int = 1
) -> ModelCompleted:
    """The event of one model call; `put_cost` fills in what it cost. Its tool calls get their numbers here."""
    payload: ModelCompleted = {
        "step_no": step_no,
        "model": model.id,
        "answered_by": response.answered_by,
        "content": response.content,
        "tool_calls": _numbered(step_no, response),
        "stop_reason": response.stop_reason.value,
        "usage": (response.usage or Usage()).to_dict(),
        "cost_usd": None,
        "cost_source": UNKNOWN_COST.source.value,
        "price_as_of": None,
        "duration_ms": round(duration_ms, 3),
        "wire": {"provider": response.wire.provider, "turn": json_text.Fragment(response.wire.json)},
    }
    if response.reasoning:
        payload["reasoning"] = response.reasoning
    if attempts > 1:
        payload["attempts"] = attempts
    if response.request_id is not None:
        payload["request_id"] = response.request_id
    if response.host is not None:
        payload["host"] = response.host
    return payload


def put_cost(payload: ModelCompleted, cost: CallCost, bound: Decimal | None) -> None:
    """Write down what the call cost.

    Args:
        bound: What was set aside for the call, None where money is not limited. It counts where the cost is not known.
    """
    if cost.usd is None and bound is not None:
        cost = CallCost(bound, CostSource.BOUND)
    payload["cost_usd"] = None if cost.usd is None else money_text(cost.usd)
    payload["cost_source"] = cost.source.value
    payload["price_as_of"] = None if cost.price_as_of is None else cost.price_as_of.isoformat()


def _numbered(step_no: int, response: ModelResponse) -> list[ToolCallPayload]:
    calls: list[ToolCallPayload] = []
    for index, call in enumerate(response.tool_calls):
        data: ToolCallPayload = {"call_id": f"c{step_no}_{index}", "name": call.name, "arguments": call.arguments}
        if call.raw_arguments is not None:
            data["raw_arguments"] = call.raw_arguments
        if call.provider_call_id is not None:
            data["provider_call_id"] = call.provider_call_id
        calls.append(data)
    return calls


def rejected_again(model: ModelInfo, why: str) -> AnswerInvalid:
    """The failure of an answer that cannot be taken, after the session's model was told so before."""
    return AnswerInvalid(
        f"the answer of {model.id} {why}",
        provider=model.provider,
        model=model.id,
        hint="what came is in the log; add a message to let it try again, or make the schema simpler",
    )


def cut_or_refused(model: ModelInfo, completed: Mapping[str, Any]) -> ProviderError | None:
    """Why the answer of a `model.completed` is none, where its model or provider ended it early."""
    stop, request_id = completed["stop_reason"], completed.get("request_id")
    if stop in (StopReason.REFUSAL, StopReason.CONTENT_FILTER):
        return AnswerRefused(
            f"{model.id} refused to answer", provider=model.provider, model=model.id, request_id=request_id
        )
    if stop in (StopReason.MAX_TOKENS, StopReason.CONTEXT_WINDOW):
        return AnswerCut(
            f"the answer of {model.id} was cut ({stop})",
            provider=model.provider,
            model=model.id,
            request_id=request_id,
            hint="what came is in the log; add a message to let it go on, or start anew with more max_output_tokens",
        )
    return None


def empty(model: ModelInfo, completed: Mapping[str, Any]) -> MalformedReply | None:
    """Why a `model.completed` without tool calls is no answer, where it says nothing."""
    stop = completed["stop_reason"]
    if stop != StopReason.MALFORMED_CALL and (completed["content"] or stop == StopReason.END_TURN):
        return None
    what = "wrote a tool call that cannot be read" if stop == StopReason.MALFORMED_CALL else "gave an empty answer"
    return MalformedReply(
        f"{model.id} {what} ({stop})",
        provider=model.provider,
        model=model.id,
        request_id=completed.get("request_id"),
    )
