"""Who answered through OpenRouter, and what it costs, also where the answer failed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import openai
import pytest

from conductor_ai.errors import ProviderError
from tests.providers.lines import Line
from tests.servers.chat_completions import DONE, chunk, event, reply
from tests.servers.provider_server import KEY

FAILED = {"code": 502, "message": "host failed"}
BILL = {"prompt_tokens": 10, "completion_tokens": 3, "cost": 0.00125}
OWN_KEY = {**BILL, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}}


def said(**fields: Any) -> dict[str, Any]:
    return {**reply({"role": "assistant", "content": "Hi"}), **fields}


async def failure_of(line: Line, *, streamed: bool = False) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await (line.stream() if streamed else line.ask())
    return caught.value


async def test_the_answer_names_its_model_and_who_ran_it(openrouter_line: Line) -> None:
    body = said(model="maker/model-2", provider="Host B")
    for _ in range(2):
        openrouter_line.server.will_answer(body=body)
    response = await openrouter_line.ask()
    async with openai.AsyncOpenAI(api_key=KEY, base_url=openrouter_line.server.url, max_retries=0) as client:
        theirs = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])
    assert (response.answered_by, response.host) == ("maker/model-2", "Host B")
    assert (response.answered_by, response.host) == (theirs.model, (theirs.model_extra or {})["provider"])


async def test_a_stream_names_them_too(openrouter_line: Line) -> None:
    """In every chunk, or only in one of them."""
    named = {"model": "maker/model-2", "provider": "Host B"}
    unnamed = {"model": "", "provider": None}
    openrouter_line.server.will_stream(
        b": OPENROUTER PROCESSING\n\n",
        chunk({"role": "assistant", "content": ""}, **unnamed),
        chunk({"content": "Hi"}, **named),
        chunk({}, "stop", **unnamed),
        chunk(None, usage=BILL, **unnamed),
        DONE,
    )
    openrouter_line.server.will_answer(body=said(**named, usage=BILL))
    _, streamed = await openrouter_line.stream()
    assert (streamed.answered_by, streamed.host) == ("maker/model-2", "Host B")
    assert streamed == await openrouter_line.ask()


async def test_nobody_is_named_where_nobody_is_chosen(openrouter_line: Line, local_line: Line) -> None:
    unnamed = said()
    del unnamed["provider"]
    openrouter_line.server.will_answer(body=unnamed)
    local_line.server.will_answer(body=said(provider="Host B"))
    assert (await openrouter_line.ask()).host is None
    assert (await local_line.ask()).host is None


def _in_the_choice(error: Any, **fields: Any) -> dict[str, Any]:
    body = reply({"role": "assistant", "content": "half"}, "error")
    body["choices"][0]["error"] = error
    return {**body, **fields}


@pytest.mark.parametrize(
    ("body", "billed"),
    [
        ({"error": FAILED, "usage": BILL}, Decimal("0.00125")),
        (said(error=FAILED, usage=BILL), Decimal("0.00125")),
        (_in_the_choice(FAILED, usage=BILL), Decimal("0.00125")),
        (_in_the_choice(None, usage=BILL), Decimal("0.00125")),
        ({"error": FAILED, "usage": OWN_KEY}, Decimal("0.20125")),
        ({"error": FAILED, "usage": {**BILL, "cost": 0}}, Decimal(0)),
        ({"error": FAILED, "usage": {"prompt_tokens": 10}}, None),
        ({"error": FAILED, "usage": "none"}, None),
        ({"error": FAILED}, None),
    ],
    ids=["bare", "beside a choice", "in a choice", "finish_reason", "own key", "free", "no cost", "no object", "none"],
)
async def test_a_failed_answer_has_the_cost_that_stands_beside_it(
    openrouter_line: Line, body: dict[str, Any], billed: Decimal | None
) -> None:
    openrouter_line.server.will_answer(body=body)
    error = await failure_of(openrouter_line)
    assert (error.billed_cost_usd, error.status) == (billed, 502)


@pytest.mark.parametrize(
    ("events", "billed"),
    [
        ([chunk({"content": ""}, error=FAILED, usage=BILL)], Decimal("0.00125")),
        ([chunk({}, "length"), chunk({"content": ""}, "error", usage=BILL)], Decimal("0.00125")),
        ([chunk({}, "length"), chunk(None, usage=BILL), event({"error": FAILED})], Decimal("0.00125")),
        ([event({"error": FAILED})], None),
    ],
    ids=["with the error", "after a stop", "before the error", "none"],
)
async def test_so_has_a_stream_that_failed(openrouter_line: Line, events: list[bytes], billed: Decimal | None) -> None:
    openrouter_line.server.will_stream(chunk({"role": "assistant", "content": "half"}), *events, DONE)
    error = await failure_of(openrouter_line, streamed=True)
    assert (error.billed_cost_usd, error.answering) == (billed, True)


async def test_only_openrouter_bills_so(openrouter_line: Line, local_line: Line) -> None:
    """What a local server says is no bill, and a refused request costs nothing."""
    local_line.server.will_answer(body={"error": FAILED, "usage": BILL})
    openrouter_line.server.will_answer(502, {"error": FAILED})
    assert (await failure_of(local_line)).billed_cost_usd is None
    assert (await failure_of(openrouter_line)).billed_cost_usd is None
