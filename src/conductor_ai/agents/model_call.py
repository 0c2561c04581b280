"""One model call: tried again where that may help, and streamed where somebody watches."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from conductor_ai.agents.limits import Reserve
from conductor_ai.agents.models import ReadyModel
from conductor_ai.agents.session_log import SessionLog
from conductor_ai.providers.base import ModelRequest
from conductor_ai.providers.retries import Retry, RetryBudget, retrying
from conductor_ai.schemas.deltas import Delta
from conductor_ai.schemas.messages import ModelResponse

_Stream = AsyncGenerator[Delta | ModelResponse]


class Called(NamedTuple):
    """The answer, and how often the provider was asked for it."""

    response: ModelResponse
    attempts: int


async def call_model(
    log: SessionLog, model: ReadyModel, step_no: int, budget: RetryBudget, reserve: Reserve | None
) -> Called:
    """Raises: ProviderError, once the budget of attempts or of money is spent, or no further attempt can help."""
    request = ModelRequest(model.info.wire_id, model.head, log.state.prompt.turns)
    attempts = 1

    def tell(retry: Retry) -> None:
        nonlocal attempts
        # One that ended before anything was said may have been answered, and billed, all the same.
        if reserve is not None and retry.error.status is None and not reserve.lose():
            raise retry.error
        attempts += 1
        facts = {"step_no": step_no, "attempt": retry.attempt, "wait_s": retry.wait_s, "message": str(retry.error)}
        log.tell_live("model.retrying", facts)

    if not log.watched:
        return Called(await retrying(lambda: model.provider.complete(request), budget, tell), attempts)
    # Once a part of the answer was seen it is not asked for again: the second one would be another answer.
    item, stream = await retrying(lambda: _begun(model.provider.stream(request)), budget, tell)
    async with aclosing(stream):
        while not isinstance(item, ModelResponse):
            await log.tell_piece(step_no, item)
            item = await anext(stream)
    return Called(item, attempts)


async def _begun(stream: _Stream) -> tuple[Delta | ModelResponse, _Stream]:
    return await anext(stream), stream
