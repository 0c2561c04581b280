"""Attempts at one model call, within one budget of attempts and of time.

Tenacity repeats, and not stamina on top of it: stamina tells of a retry by hooks of the whole process, which log on
their own unless that process gives them up, and its time limit lets a wait begin that ends beyond it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from conductor_ai.errors import (
    KeyRefused,
    MalformedReply,
    ModelLoading,
    OutOfCredit,
    PromptTooLong,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
    TruncatedReply,
)

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """What one call may spend before it fails.

    Args:
        attempts: How often the provider is asked at most, the first time included. Being told that it is loading the
            model uses none of them up: such a server is well, and gets all of `total_s`.
        total_s: No attempt begins later than this after the first one began; it does not end one that is under way.
        wait_initial_s: The first wait where the provider names none. It doubles from wait to wait, and each has up to
            as much again added by chance, so that sessions which failed together do not come back together.
        wait_max_s: Bounds those waits, not the ones that the provider asks for.
    """

    attempts: int = 4
    total_s: float = 90.0
    wait_initial_s: float = 0.5
    wait_max_s: float = 20.0


class Retry(NamedTuple):
    """What a watcher is told before a wait: after it comes attempt number `attempt`, the first one being 1."""

    attempt: int
    wait_s: float
    error: ProviderError


def may_retry(error: BaseException) -> bool:
    """Whether the same call may be made again: it can help, and nothing of an answer has come.

    A status of refusal is no part of an answer. A reply that was cut, stalled or could not be read is: it was billed,
    and the next one would be another answer.
    """
    return isinstance(error, ProviderError) and error.retryable and not error.answering


_ELSEWHERE = (
    RateLimited,
    ProviderUnavailable,
    ProviderTimeout,
    OutOfCredit,
    KeyRefused,
    MalformedReply,
    TruncatedReply,
    PromptTooLong,
)
_ELSEWHERE_STATUSES = (404, 413)


def may_fall_back(error: ProviderError) -> bool:
    """Whether another model may be asked instead, once the first one's attempts are spent.

    Yes, where the cause lies with one service, account or model:

    - RateLimited, ProviderUnavailable, ProviderTimeout: this one is busy, or away.
    - OutOfCredit, KeyRefused: another provider has an account and a key of its own.
    - MalformedReply, TruncatedReply: this one does not keep to its wire, or not today.
    - RequestRefused with 404 or 413: it does not know the model, or takes less at once; PromptTooLong: the window of
      another model may be larger.

    No, where the request or the answer is what is wrong:

    - Any other RequestRefused: a fault of ours, or of the settings, that another model would only hide.
    - AnswerRefused: a refusal is an answer. Shopping around for a model that does what one has declined is a person's
      decision.
    - AnswerCut: the limit on tokens is the session's own.
    - AnswerInvalid: the model has answered, twice; whether its answer or the schema is wrong, a person sees best.
    """
    if isinstance(error, _ELSEWHERE):
        return True
    return isinstance(error, RequestRefused) and error.status in _ELSEWHERE_STATUSES


async def retrying(attempt: Callable[[], Awaitable[T]], budget: RetryBudget, on_retry: Callable[[Retry], None]) -> T:
    """Await `attempt` until it succeeds, fails for good, or the budget is spent.

    A wait that the provider asks for is kept exactly; where the budget does not hold it, the call fails at once.

    Args:
        attempt: Makes one attempt. An answer that came in part must not be hidden in here: see `may_retry`.
        on_retry: Called before each wait; what it raises ends the call.
    Raises: the last attempt's error, unchanged. A cancelled call ends at once, also while it waits.
    """
    started = time.monotonic()
    try:
        return await attempt()
    except ProviderError as error:
        if not may_retry(error):
            raise
        failed = error
    return await _again(failed, attempt, budget, budget.total_s - (time.monotonic() - started), on_retry)


async def _again(
    failed: ProviderError,
    attempt: Callable[[], Awaitable[T]],
    budget: RetryBudget,
    left_s: float,
    on_retry: Callable[[Retry], None],
) -> T:
    """The further attempts. Most calls need none, and neither load tenacity nor pay for its bookkeeping."""
    from tenacity import AsyncRetrying, retry_if_exception, stop_before_delay, wait_exponential_jitter

    backoff = wait_exponential_jitter(budget.wait_initial_s, budget.wait_max_s, jitter=budget.wait_initial_s)
    too_late = stop_before_delay(left_s)
    pending: ProviderError | None = failed

    async def once() -> T:
        nonlocal pending
        if pending is not None:  # the first attempt, as it went
            error, pending = pending, None
            raise error
        return await attempt()

    def wait_s(state: RetryCallState) -> float:
        named_s = _error(state).retry_after_s
        return backoff(state) if named_s is None else named_s

    def spent(state: RetryCallState) -> bool:
        if too_late(state):
            return True
        return state.attempt_number >= budget.attempts and not isinstance(_error(state), ModelLoading)

    def tell(state: RetryCallState) -> None:
        on_retry(Retry(state.attempt_number + 1, state.upcoming_sleep, _error(state)))

    repeat = AsyncRetrying(
        retry=retry_if_exception(may_retry),
        wait=wait_s,
        stop=spent,
        before_sleep=tell,
        reraise=True,
        sleep=asyncio.sleep,
    )
    return await repeat(once)


def _error(state: RetryCallState) -> ProviderError:
    error = None if state.outcome is None else state.outcome.exception()
    assert isinstance(error, ProviderError)
    return error
