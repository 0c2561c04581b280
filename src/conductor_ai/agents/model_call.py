"""One model call: tried again where that may help, and streamed where somebody watches or may be about to."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import NamedTuple

from conductor_ai.agents.exchange_recorder import Asked, RecordedProvider
from conductor_ai.agents.limits import Reserve
from conductor_ai.agents.live_answer import LiveAnswer, joined
from conductor_ai.agents.models import ReadyModel
from conductor_ai.agents.session_log import SessionLog
from conductor_ai.errors import ProviderError
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
    asked = _asked(model, log, step_no)
    attempts = 1
    failed: ProviderError | None = None

    def tell(retry: Retry) -> None:
        nonlocal attempts, failed
        failed = retry.error
        if reserve is not None:
            reserve.under_way = False
            # One that ended before anything was said may have been answered, and billed, all the same.
            if retry.error.may_be_billed and not reserve.lose():
                raise retry.error
        attempts += 1
        facts = {"step_no": step_no, "attempt": retry.attempt, "wait_s": retry.wait_s, "message": str(retry.error)}
        log.tell_live("model.retrying", facts)

    async def begin() -> None:
        if reserve is not None and not await reserve.begin() and failed is not None:
            raise failed

    async def whole() -> ModelResponse:
        await begin()
        return await asked.complete(request)

    async def begun() -> tuple[Delta | ModelResponse, _Stream]:
        await begin()
        stream = asked.stream(request)
        return await anext(stream), stream

    if not (log.watched or log.watchers_due):
        return Called(await retrying(whole, budget, tell), attempts)
    # Once a part of the answer was seen it is not asked for again: the second one would be another answer.
    item, stream = await retrying(begun, budget, tell)
    live = LiveAnswer(step_no, log.redactor, partial(log.tell_clean, "model.delta"))
    async with aclosing(stream):
        response = await _told(log, live, item, stream)
    log.watchers_due = False
    return Called(response, attempts)


async def _told(log: SessionLog, live: LiveAnswer, item: Delta | ModelResponse, stream: _Stream) -> ModelResponse:
    """The whole answer, once all of it is told. `item` is its first piece.

    What comes while nobody watches is kept as it came, and told to the first who comes while the answer still does.
    """
    unseen: list[Delta] = []
    while not isinstance(item, ModelResponse):
        unseen.append(item)
        if log.watched:
            for piece in joined(unseen):
                live.take(piece)
            unseen.clear()
        if log.on_piece is not None and (room := log.on_piece()) is not None:
            await room  # so a reader that is slow slows the provider down
        item = await anext(stream)
    if log.watched:
        for piece in joined(unseen):
            live.take(piece)
        live.end()
    return item


def _asked(model: ReadyModel, log: SessionLog, step_no: int) -> Asked:
    """Who answers: the model's provider, which wants to know whose call it is where calls are recorded."""
    provider = model.provider
    return provider.during(log.session_id, step_no) if isinstance(provider, RecordedProvider) else provider
