"""Attempts at one call: against real servers, counted at the server, their waits as a watcher is told of them."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from conductor_ai.errors import (
    AnswerCut,
    AnswerRefused,
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
from conductor_ai.providers.failures import Timeouts
from conductor_ai.providers.retries import Retry, RetryBudget, may_fall_back, retrying
from conductor_ai.schemas.messages import ModelResponse
from tests.conftest import fail_after
from tests.providers.lines import Line
from tests.servers.provider_server import KEY

QUICK = RetryBudget(wait_initial_s=0.001, wait_max_s=0.002)
PASSING = (408, 409, 429, 500, 502, 503, 504, 529)
FINAL = (307, 400, 401, 402, 403, 404, 413, 418, 422)


class Watched:
    """One call over a line, and what its watcher was told."""

    def __init__(self, line: Line, budget: RetryBudget = QUICK) -> None:
        self.line = line
        self.budget = budget
        self.retries: list[Retry] = []

    @property
    def requests(self) -> int:
        return len(self.line.server.requests)

    async def ask(self) -> ModelResponse:
        async with fail_after(10):
            return await retrying(self.line.ask, self.budget, self.retries.append)

    async def fails(self) -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            await self.ask()
        return caught.value


async def test_what_may_pass_is_tried_again_until_it_does(line: Line) -> None:
    call = Watched(line, RetryBudget(attempts=len(PASSING) + 1, wait_initial_s=0.001, wait_max_s=0.002))
    for status in PASSING:
        line.server.will_answer(status, {"error": {"message": "not now"}})
    line.server.will_answer(body=line.wire.says("at last"))
    assert (await call.ask()).content == "at last"
    assert [retry.error.status for retry in call.retries] == list(PASSING)
    assert [retry.attempt for retry in call.retries] == list(range(2, len(PASSING) + 2))
    assert call.requests == len(PASSING) + 1


async def test_what_stays_refused_is_asked_once(line: Line) -> None:
    call = Watched(line)
    for status in FINAL:
        line.server.will_answer(status, {"error": {"message": "no"}}, {"retry-after": "0"})
        assert (await call.fails()).status == status
    assert call.retries == []
    assert call.requests == len(FINAL)


async def test_a_call_that_succeeds_tells_nobody(line: Line) -> None:
    call = Watched(line)
    line.server.will_answer(body=line.wire.says("at once"))
    assert (await call.ask()).content == "at once"
    assert call.retries == []


async def test_a_reset_connection_is_tried_again(line: Line) -> None:
    call = Watched(line)
    line.server.will_reset()
    line.server.will_reset()
    line.server.will_answer(body=line.wire.says("through"))
    assert (await call.ask()).content == "through"
    assert [type(retry.error) for retry in call.retries] == [ProviderUnavailable] * 2
    assert call.requests == 3


async def test_nobody_listening_is_tried_as_often_as_the_budget_says(line: Line) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: a connection is refused
        call = Watched(line.reconnected(url=f"http://127.0.0.1:{taken.getsockname()[1]}"))
        assert type(await call.fails()) is ProviderUnavailable
    assert [retry.attempt for retry in call.retries] == [2, 3, 4]


async def test_silence_before_the_reply_is_tried_again(line: Line) -> None:
    call = Watched(line.reconnected(timeouts=Timeouts(first_byte_s=0.5)))
    line.server.will_stall()
    line.server.will_answer(body=line.wire.says("awake"))
    assert (await call.ask()).content == "awake"
    assert [type(retry.error) for retry in call.retries] == [ProviderTimeout]


async def test_an_answer_that_had_begun_is_not_asked_for_again(line: Line) -> None:
    call = Watched(line.reconnected(timeouts=Timeouts(idle_s=0.1)))
    line.server.will_cut(b'{"half": "an answer"}', 5)
    assert type(await call.fails()) is TruncatedReply
    line.server.will_stall(b'{"half": ')
    assert type(await call.fails()) is ProviderTimeout
    line.server.will_answer(200, b"<html>")
    assert type(await call.fails()) is MalformedReply
    assert call.retries == []
    assert call.requests == 3


@pytest.mark.parametrize(
    ("headers", "error", "wait_s"),
    [
        ({"retry-after": "0.004"}, {}, 0.004),
        ({"retry-after-ms": "3", "retry-after": "1"}, {}, 0.003),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, {}, 0.0),
        ({}, {"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.005s"}]}, 0.005),
        ({}, {"metadata": {"retry_after_seconds": 0.006}}, 0.006),
    ],
)
@pytest.mark.parametrize("status", [429, 503, 529])
async def test_the_wait_is_exactly_what_the_provider_asked_for(
    line: Line, status: int, headers: dict[str, str], error: dict[str, Any], wait_s: float
) -> None:
    call = Watched(line, RetryBudget(wait_initial_s=9, wait_max_s=9))
    line.server.will_answer(status, {"error": error}, headers)
    line.server.will_answer(body=line.wire.says("now"))
    await call.ask()
    assert [retry.wait_s for retry in call.retries] == [wait_s]


async def test_a_wait_named_by_date_lasts_until_then(line: Line) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    line.server.will_answer(429, {"error": {}}, {"retry-after": at})
    error = await Watched(line).fails()
    assert error.retry_after_s is not None
    assert 86_000 < error.retry_after_s <= 86_400


async def test_a_wait_beyond_the_budget_is_not_begun(line: Line) -> None:
    call = Watched(line)
    line.server.will_answer(429, {"error": {}}, {"retry-after": "300"})
    error = await call.fails()
    assert type(error) is RateLimited
    assert "wait 300 s" in str(error.hint)
    assert call.retries == []
    assert call.requests == 1


async def test_waits_and_attempts_are_paid_out_of_one_budget(line: Line) -> None:
    call = Watched(line, RetryBudget(total_s=60))
    line.server.will_answer(429, {"error": {}}, {"retry-after": "0.02"})
    line.server.will_answer(429, {"error": {}}, {"retry-after": "59.99"})  # would fit, had nothing been spent
    await call.fails()
    assert [retry.wait_s for retry in call.retries] == [0.02]
    assert call.requests == 2


async def test_the_time_of_the_first_attempt_counts(line: Line) -> None:
    budget = RetryBudget(total_s=0.2, wait_initial_s=0.001, wait_max_s=0.002)
    call = Watched(line.reconnected(timeouts=Timeouts(first_byte_s=0.2)), budget)
    line.server.will_stall()
    assert type(await call.fails()) is ProviderTimeout
    assert call.requests == 1


async def test_the_last_attempt_s_error_is_the_one_raised(line: Line) -> None:
    call = Watched(line)
    for status in (500, 502, 503, 504):
        line.server.will_answer(status, {"error": {"message": f"because of {status}"}})
    error = await call.fails()
    assert "because of 504" in str(error)
    assert call.requests == 4


async def test_a_failure_for_good_ends_the_attempts(line: Line) -> None:
    call = Watched(line)
    line.server.will_answer(500, {"error": {}})
    line.server.will_answer(401, {"error": {}})
    assert type(await call.fails()) is KeyRefused
    assert call.requests == 2


async def test_one_attempt_means_none_again(line: Line) -> None:
    call = Watched(line, RetryBudget(attempts=1))
    line.server.will_answer(500, {"error": {}})
    await call.fails()
    assert call.requests == 1


async def test_waits_grow_and_stay_within_their_bound(local_line: Line) -> None:
    call = Watched(local_line, RetryBudget(attempts=6, wait_initial_s=0.002, wait_max_s=0.009))
    for _ in range(6):
        local_line.server.will_answer(500, {"error": {}})
    await call.fails()
    waits = [retry.wait_s for retry in call.retries]
    assert len(waits) == 5
    for wait_s, least_s in zip(waits, (0.002, 0.004, 0.008, 0.009, 0.009), strict=True):
        assert least_s <= wait_s <= min(least_s + 0.002, 0.009)


async def test_a_loading_model_is_waited_for_beyond_the_attempts(local_line: Line) -> None:
    call = Watched(local_line, RetryBudget(attempts=2, wait_initial_s=0.001, wait_max_s=0.002))
    for _ in range(6):
        local_line.server.will_answer(503, {"error": {"message": "Loading model", "type": "unavailable_error"}})
    local_line.server.will_answer(body=local_line.wire.says("loaded"))
    assert (await call.ask()).content == "loaded"
    assert call.requests == 7


async def test_a_model_that_never_loads_costs_the_budget_and_no_more(local_line: Line) -> None:
    call = Watched(local_line, RetryBudget(total_s=0.1, wait_initial_s=0.02, wait_max_s=0.04))
    for _ in range(10):
        local_line.server.will_answer(503, {"error": {"message": "Loading model"}})
    assert type(await call.fails()) is ModelLoading
    assert sum(retry.wait_s for retry in call.retries) < 0.1


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (429, {}, {"message": "x", "details": {"error_code": "enforced_spend_limit_reached"}}),
        (429, {}, {"message": "Your prepayment credits are depleted."}),
        (429, {}, {"message": "x", "metadata": {"limit_source": "openrouter_free_tier_daily"}}),
        (
            429,
            {},
            {"message": "x", "details": [{"violations": [{"quotaId": "RequestsPerDay"}]}, {"retryDelay": "0s"}]},
        ),
        (529, {"x-should-retry": "false"}, {"message": "x"}),
    ],
    ids=["spend limit", "prepaid", "free tier", "quota of the day", "told not to"],
)
async def test_what_no_wait_mends_is_asked_once(
    line: Line, status: int, headers: dict[str, str], error: dict[str, Any]
) -> None:
    call = Watched(line)
    line.server.will_answer(status, {"error": error}, headers)
    assert not (await call.fails()).retryable
    assert call.requests == 1


async def test_an_error_in_place_of_an_answer_counts_by_the_status_it_means(openrouter_line: Line) -> None:
    call = Watched(openrouter_line)
    for code in (429, 502, 402):
        openrouter_line.server.will_answer(200, {"error": {"code": code, "message": "no"}}, {"retry-after": "0"})
    assert type(await call.fails()) is OutOfCredit
    assert [retry.error.status for retry in call.retries] == [429, 502]


@pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyError])
async def test_a_wait_ends_when_the_call_does(line: Line, kind: type[BaseException]) -> None:
    line.server.will_answer(500, {"error": {}})
    waiting = asyncio.Event()

    def tell(retry: Retry) -> None:
        if kind is KeyError:
            raise KeyError("the watcher wants no more of it")
        waiting.set()

    call = asyncio.create_task(retrying(line.ask, RetryBudget(wait_initial_s=60, wait_max_s=60), tell))
    async with fail_after(10):
        if kind is asyncio.CancelledError:
            await waiting.wait()
            call.cancel()
        with pytest.raises(kind):
            await call
    assert len(line.server.requests) == 1


async def test_a_later_attempt_is_cancelled_like_the_first(line: Line) -> None:
    line.server.will_answer(500, {"error": {}})
    line.server.will_stall()
    line.server.will_answer(body=line.wire.says("next"))
    waiting = asyncio.Event()

    def tell(retry: Retry) -> None:
        line.server.arrived.clear()
        waiting.set()

    call = asyncio.create_task(retrying(line.ask, QUICK, tell))
    async with fail_after(10):
        await waiting.wait()
        await line.server.arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await line.ask()).content == "next"


async def test_calls_side_by_side_keep_their_own_count(local_line: Line) -> None:
    for _ in range(20):
        local_line.server.will_answer(500, {"error": {}})
    calls = [Watched(local_line, RetryBudget(attempts=2, wait_initial_s=0.001, wait_max_s=0.002)) for _ in range(10)]
    errors = await asyncio.gather(*(call.fails() for call in calls))
    assert {type(error) for error in errors} == {ProviderUnavailable}
    assert [len(call.retries) for call in calls] == [1] * 10
    assert len(local_line.server.requests) == 20


async def test_a_key_that_the_provider_repeats_is_nowhere(
    line: Line, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    call = Watched(line)
    for status in (429, 500, 529, 503):
        line.server.will_answer(status, {"error": {"message": f"bad day for {KEY}", "metadata": {"raw": KEY}}})
    errors = [await call.fails(), *(retry.error for retry in call.retries)]
    assert len(errors) == 4
    for error in errors:
        told = [str(error), repr(error), str(vars(error)), *traceback.format_exception(error)]
        assert "bad day for [key]" in told[0]
        assert KEY not in "".join(told)
    shown = capsys.readouterr()
    assert shown.out + shown.err == ""
    assert KEY not in caplog.text
    assert [record for record in caplog.records if record.name.startswith(("tenacity", "conductor_ai"))] == []


def made(kind: type[ProviderError], status: int | None = None) -> ProviderError:
    return kind("x", provider="p", model="m", status=status)


@pytest.mark.parametrize(
    "error",
    [
        made(RateLimited, 429),
        made(ProviderUnavailable, 503),
        made(ModelLoading, 503),
        made(ProviderTimeout),
        made(OutOfCredit, 402),
        made(KeyRefused, 401),
        made(MalformedReply, 200),
        made(TruncatedReply),
        made(PromptTooLong, 400),
        made(RequestRefused, 404),
        made(RequestRefused, 413),
    ],
    ids=lambda error: f"{error.code} {error.status}",
)
def test_another_model_may_answer_where_the_cause_lies_with_this_one(error: ProviderError) -> None:
    assert may_fall_back(error)


@pytest.mark.parametrize(
    "error",
    [
        made(RequestRefused, 400),
        made(RequestRefused, 307),
        made(AnswerRefused),
        made(AnswerCut),
        made(ProviderError),
    ],
    ids=lambda error: f"{error.code} {error.status}",
)
def test_no_other_model_is_asked_where_the_request_or_the_answer_is_the_cause(error: ProviderError) -> None:
    assert not may_fall_back(error)


@pytest.mark.parametrize("kind", [MalformedReply, TruncatedReply])
async def test_an_unusable_answer_of_a_provider_of_one_s_own_is_not_asked_for_again(kind: type[ProviderError]) -> None:
    attempts = 0

    async def attempt() -> ModelResponse:
        nonlocal attempts
        attempts += 1
        raise made(kind)

    with pytest.raises(kind):
        await retrying(attempt, QUICK, lambda retry: None)
    assert attempts == 1
