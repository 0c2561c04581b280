"""What a refusal says beyond its status: how long to wait, and what no wait will mend."""

from __future__ import annotations

from typing import Any

import pytest

from conductor_ai.errors import ModelLoading, OutOfCredit, PromptTooLong, ProviderError, RateLimited, RequestRefused
from conductor_ai.providers.failures import Failures
from tests.conftest import fail_after
from tests.providers.lines import Line


async def refused(line: Line) -> ProviderError:
    async with fail_after(10):
        with pytest.raises(ProviderError) as caught:
            await line.ask()
    return caught.value


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12.5s"}
LONG_AGO_MS = "1445412480000"


@pytest.mark.parametrize(
    ("error", "delay"),
    [
        ({"details": [{"reason": "OTHER"}, "x", RETRY_INFO]}, 12.5),
        ({"details": [{"retryDelay": "soon"}]}, None),
        ({"details": [{"retryDelay": 12}]}, None),
        ({"metadata": {"retry_after_seconds": 11, "retry_after_seconds_raw": 10.918}}, 11.0),
        ({"metadata": {"retry_after_seconds": True}}, None),
        ({"metadata": {"headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": LONG_AGO_MS}}}, 0.0),
        ({"metadata": {"headers": {"X-RateLimit-Limit": "20"}}}, None),
        ({"metadata": {"headers": None}}, None),
        ({"metadata": None, "details": None}, None),
    ],
)
async def test_the_delay_may_stand_in_the_body(line: Line, error: dict[str, Any], delay: float | None) -> None:
    line.server.will_answer(429, {"error": {"message": "slow down", **error}})
    assert (await refused(line)).retry_after_s == delay


QUOTA_OF_A_DAY = {"violations": [{"quotaId": "PerMinute"}, {"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]}
SPENT: list[tuple[int, dict[str, Any]]] = [
    (429, {"type": "rate_limit_error", "message": "x", "details": {"error_code": "enforced_spend_limit_reached"}}),
    (429, {"type": "rate_limit_error", "message": "Extra usage is required for long context requests."}),
    (400, {"type": "invalid_request_error", "message": "You have reached your specified API usage limits. Until ..."}),
    (400, {"message": "You have reached your specified workspace API usage limits."}),
    (429, {"status": "RESOURCE_EXHAUSTED", "message": "Your prepayment credits are depleted."}),
    (429, {"status": "RESOURCE_EXHAUSTED", "message": "Your project has exceeded its monthly spending cap."}),
    (429, {"message": "Provider returned error", "metadata": {"raw": "insufficient balance"}}),
    (429, {"message": "x", "code": "insufficient_quota"}),
]
OF_THE_DAY: list[dict[str, Any]] = [
    {"message": "You exceeded your current quota", "details": [QUOTA_OF_A_DAY, RETRY_INFO]},
    {"message": "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day"},
    {"message": "x", "metadata": {"limit_source": "openrouter_free_tier_daily"}},
]
OF_THE_MINUTE: list[dict[str, Any]] = [
    {
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "details": [{"violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}]}],
    },
    {"message": "Rate limit exceeded: free-models-per-min."},
    {"message": "x", "details": [{"violations": "x"}, {"violations": ["x"]}]},
    {"type": "rate_limit_error", "message": "Number of request tokens has exceeded your per-minute rate limit"},
]


@pytest.mark.parametrize(("status", "error"), SPENT)
async def test_a_spent_account_is_no_rate_limit(line: Line, status: int, error: dict[str, Any]) -> None:
    line.server.will_answer(status, {"error": error})
    found = await refused(line)
    assert type(found) is OutOfCredit
    assert found.status == status
    assert not found.retryable


@pytest.mark.parametrize("error", OF_THE_DAY)
async def test_a_quota_of_the_day_is_not_waited_for(line: Line, error: dict[str, Any]) -> None:
    line.server.will_answer(429, {"error": error})
    found = await refused(line)
    assert type(found) is RateLimited
    assert not found.retryable
    assert found.resumable
    assert found.retry_after_s is None
    assert "day's quota" in str(found.hint)


@pytest.mark.parametrize("error", OF_THE_MINUTE)
async def test_a_quota_of_the_minute_is_waited_for(line: Line, error: dict[str, Any]) -> None:
    line.server.will_answer(429, {"error": error})
    found = await refused(line)
    assert type(found) is RateLimited
    assert found.retryable


@pytest.mark.parametrize("error", [SPENT[0][1], OF_THE_DAY[0]])
async def test_a_delay_in_the_head_says_that_waiting_helps(line: Line, error: dict[str, Any]) -> None:
    line.server.will_answer(429, {"error": error}, {"retry-after": "7"})
    found = await refused(line)
    assert type(found) is RateLimited
    assert found.retryable
    assert found.retry_after_s == 7.0


async def test_a_tool_about_spending_in_a_400_is_no_spent_account(line: Line) -> None:
    line.server.will_answer(400, {"error": {"message": "tools.0: spend_limit: credits are required"}})
    assert type(await refused(line)) is RequestRefused


@pytest.mark.parametrize("status", [429, 500])
async def test_a_service_may_say_that_a_retry_is_no_use(line: Line, status: int) -> None:
    line.server.will_answer(status, {"error": {}}, {"x-should-retry": "false"})
    assert not (await refused(line)).retryable
    line.server.will_answer(status, {"error": {}}, {"x-should-retry": "true"})
    assert (await refused(line)).retryable


def test_the_head_of_a_200_says_nothing_about_an_error_inside_it() -> None:
    heads = {"retry-after": "7", "x-should-retry": "false", "request-id": "req_1"}
    error = Failures("p", "K", "U").refusal(529, {"error": {}}, heads, "m", within_200=True)
    assert (error.retry_after_s, error.retryable, error.answering) == (None, True, False)
    assert error.request_id == "req_1"


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 208310 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000",
        "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).",
        "This endpoint's maximum context length is 131072 tokens. However, you requested about 140000 tokens",
        "the request exceeds the available context size, try increasing it",
    ],
)
async def test_a_prompt_beyond_the_window_is_told_apart(line: Line, message: str) -> None:
    line.server.will_answer(400, {"error": {"message": message}})
    found = await refused(line)
    assert type(found) is PromptTooLong
    assert not found.retryable


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
        {"error": "Model maker/model-1 is currently loading", "estimated_time": 20.0},
    ],
)
async def test_a_model_that_is_loading_is_told_apart(line: Line, body: dict[str, Any]) -> None:
    line.server.will_answer(503, body)
    assert type(await refused(line)) is ModelLoading


async def test_an_error_in_a_list_is_read(line: Line) -> None:
    line.server.will_answer(429, [{"error": {"code": 429, "message": "slow down"}}])
    assert "slow down" in str(await refused(line))
