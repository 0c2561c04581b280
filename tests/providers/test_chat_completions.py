"""Chat completions: what OpenRouter and local servers share, and what only one of them has."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from conductor_ai.errors import (
    KeyRefused,
    OutOfCredit,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
)
from conductor_ai.providers.local import LocalProvider
from conductor_ai.schemas.messages import Message, Role, StopReason, ToolCall, ToolReply, WireTurn
from conductor_ai.schemas.usage import Usage
from tests.providers.lines import FIND, HELLO, Line, own_turn, replies_to
from tests.servers.chat_completions import reply, tool_call


def called(*calls: dict[str, Any], **extra: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **extra}


async def test_the_request_has_the_documented_shape(openrouter_line: Line) -> None:
    openrouter_line.server.will_answer(body=reply(called(tool_call("c", "find", "{}")), "tool_calls"))
    openrouter_line.server.will_answer(body=reply({"role": "assistant", "content": "ok"}))
    turn = own_turn(await openrouter_line.ask(tools=(FIND,)))
    await openrouter_line.ask(HELLO, turn, replies_to(turn, "found"), tools=(FIND,), instructions="Sys")
    function = {"name": "find", "description": "Find things.", "parameters": FIND.parameters}
    assert openrouter_line.server.requests[-1].json == {
        "model": "maker/model-1",
        "max_tokens": 100,
        "provider": {"require_parameters": True},
        "tools": [{"type": "function", "function": function}],
        "messages": [
            {"role": "system", "content": "Sys"},
            {"role": "user", "content": "Hello"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "found"},
        ],
    }


async def test_without_tools_any_host_may_answer(openrouter_line: Line) -> None:
    openrouter_line.server.will_answer(body=reply({"role": "assistant", "content": "ok"}))
    await openrouter_line.ask()
    assert set(openrouter_line.server.requests[0].json) == {"model", "max_tokens", "messages"}


async def test_a_local_server_is_not_told_about_hosts_and_needs_no_key(local_line: Line) -> None:
    local_line.server.will_answer(body=reply({"role": "assistant", "content": "ok"}))
    provider = LocalProvider(local_line.http, base_url=local_line.server.url)
    line = Line(local_line.wire, local_line.server, local_line.http, provider)
    await line.ask(tools=(FIND,))
    seen = line.server.requests[0]
    assert "provider" not in seen.json
    assert "authorization" not in {name.lower() for name in seen.headers}


async def test_reasoning_goes_back_untouched_with_the_calls(openrouter_line: Line) -> None:
    details = [
        {"type": "reasoning.text", "text": "Hm.", "signature": "EqQB+/==", "format": "x-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "Zm9v", "id": None, "index": 1},
    ]
    message = called(
        {"index": 0, **tool_call("functions.find:0", "find", '{"what": "x"}'), "extra_content": {"google": {"s": "t"}}},
        reasoning="Hm.",
        reasoning_details=details,
        refusal=None,
        annotations=[],
    )
    openrouter_line.server.will_answer(body=reply(message, "tool_calls"))
    openrouter_line.server.will_answer(body=reply({"role": "assistant", "content": "ok"}))
    response = await openrouter_line.ask(tools=(FIND,))
    assert response.reasoning == "Hm."
    turn = own_turn(response)
    await openrouter_line.ask(HELLO, turn, replies_to(turn, "found"))
    sent = openrouter_line.server.requests[-1].json["messages"]
    assert sent[1]["reasoning_details"] == details
    assert sent[1]["tool_calls"] == message["tool_calls"]
    assert sent[2]["tool_call_id"] == "functions.find:0"


async def test_reasoning_content_of_a_local_server_goes_back(local_line: Line) -> None:
    local_line.server.will_answer(body=reply({"role": "assistant", "content": "x", "reasoning_content": "Hm."}))
    response = await local_line.ask()
    assert response.reasoning == "Hm."
    assert json.loads(response.wire.json)["reasoning_content"] == "Hm."


@pytest.mark.parametrize(
    ("text", "arguments", "raw", "goes_back"),
    [
        ('{"what": "x"}', {"what": "x"}, None, '{"what": "x"}'),
        ("", {}, None, "{}"),
        ("  \n", {}, None, "{}"),
        ("{}", {}, None, "{}"),
        (None, {}, None, "{}"),
        ({"what": "x"}, {"what": "x"}, None, '{"what":"x"}'),
        ("[1]", None, "[1]", "{}"),
        ("null", None, "null", "{}"),
        ('{"what": ', None, '{"what": ', "{}"),
        ("NaN", None, "NaN", "{}"),
        ("```json\n{}\n```", None, "```json\n{}\n```", "{}"),
        ("[" * 100_000, None, "[" * 100_000, "{}"),
        (7, None, "7", "{}"),
    ],
)
async def test_arguments_are_read_as_models_write_them(
    openrouter_line: Line, text: Any, arguments: Any, raw: str | None, goes_back: str
) -> None:
    openrouter_line.server.will_answer(body=reply(called(tool_call("c", "find", text)), "tool_calls"))
    openrouter_line.server.will_answer(body=reply({"role": "assistant", "content": "ok"}))
    turn = own_turn(await openrouter_line.ask(tools=(FIND,)))
    assert (turn.tool_calls[0].arguments, turn.tool_calls[0].raw_arguments) == (arguments, raw)
    await openrouter_line.ask(HELLO, turn, replies_to(turn, "found"))
    sent = openrouter_line.server.requests[-1].json["messages"][1]
    assert sent["tool_calls"][0]["function"]["arguments"] == goes_back


@pytest.mark.parametrize("ids", [(None, None), ("", ""), ("same", "same")])
async def test_calls_without_an_id_of_their_own_get_one(local_line: Line, ids: tuple[str | None, ...]) -> None:
    local_line.server.will_answer(body=reply(called(*(tool_call(id_, "find", "{}") for id_ in ids)), "tool_calls"))
    local_line.server.will_answer(body=reply({"role": "assistant", "content": "ok"}))
    turn = own_turn(await local_line.ask(tools=(FIND,)))
    assert (await local_line.ask(HELLO, turn, replies_to(turn, "a", "b"))).content == "ok"


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, ""), ("x", "x"), ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "odd"}], "ab")],
)
async def test_content_may_be_text_nothing_or_parts(local_line: Line, content: Any, text: str) -> None:
    local_line.server.will_answer(body=reply({"role": "assistant", "content": content}))
    assert (await local_line.ask()).content == text


async def test_a_foreign_turn_is_rebuilt_under_our_own_ids(openrouter_line: Line) -> None:
    openrouter_line.server.will_answer(body=reply({"role": "assistant", "content": "ok"}))
    call = ToolCall("c1_0", "find", {"what": "x"}, None, "toolu_1", "anthropic")
    broken = ToolCall("c1_1", "find", None, "oops", None, "anthropic")
    turn = Message(Role.ASSISTANT, "", (call, broken), wire=WireTurn("anthropic", b"{}"))
    replies = (ToolReply(call, "found"), ToolReply(broken, "not JSON", is_error=True))
    await openrouter_line.ask(HELLO, turn, Message(Role.TOOL, tool_replies=replies))
    sent = openrouter_line.server.requests[-1].json["messages"][1:]
    assert [(made["id"], made["function"]["arguments"]) for made in sent[0]["tool_calls"]] == [
        ("c1_0", '{"what":"x"}'),
        ("c1_1", "{}"),
    ]
    assert [(message["role"], message["tool_call_id"]) for message in sent[1:]] == [("tool", "c1_0"), ("tool", "c1_1")]


async def test_details_of_the_usage_may_be_null(local_line: Line) -> None:
    local_line.server.will_answer(body=reply({"role": "assistant", "content": "x"}, prompt_tokens_details=None))
    assert (await local_line.ask()).usage == Usage(input_tokens=10, output_tokens=5)


async def test_a_bill_without_a_count_is_kept(openrouter_line: Line) -> None:
    body = {**reply({"role": "assistant", "content": "x"}), "usage": {"cost": 0.01}}
    openrouter_line.server.will_answer(body=body)
    response = await openrouter_line.ask()
    assert (response.usage, response.billed_cost_usd) == (None, Decimal("0.01"))


@pytest.mark.parametrize(
    ("usage", "billed"),
    [
        ({}, None),
        ({"cost": 0.00014625}, Decimal("0.00014625")),
        ({"cost": 0}, Decimal(0)),
        ({"cost": 1e-7, "is_byok": False}, Decimal("1E-7")),
        ({"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}}, Decimal("0.21")),
        ({"cost": 0.01, "is_byok": True, "cost_details": None}, None),
    ],
)
async def test_the_billed_cost_is_exact(openrouter_line: Line, usage: dict[str, Any], billed: Decimal | None) -> None:
    openrouter_line.server.will_answer(body=reply({"role": "assistant", "content": "x"}, **usage))
    assert (await openrouter_line.ask()).billed_cost_usd == billed


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429, "message": "slow"}, RateLimited),
        ({"code": 402, "message": "credits"}, OutOfCredit),
        ({"code": 401, "message": "key"}, KeyRefused),
        ({"code": 400, "message": "bad"}, RequestRefused),
        (
            {"code": 502, "message": "upstream", "metadata": {"provider_name": "H", "raw": "queue full"}},
            ProviderUnavailable,
        ),
        ({"code": "server_error", "message": "x"}, ProviderUnavailable),
        ({"message": "x"}, ProviderUnavailable),
        ("just text", ProviderUnavailable),
    ],
)
async def test_an_error_inside_a_200_is_an_error(openrouter_line: Line, error: Any, kind: type[ProviderError]) -> None:
    started = reply({"role": "assistant", "content": "half"}, "error")
    started["choices"][0]["error"] = error
    for body in (
        {"error": error, "user_id": "u"},
        {**reply({"role": "assistant", "content": ""}), "error": error},
        started,
    ):
        openrouter_line.server.will_answer(body=body)
        with pytest.raises(ProviderError) as caught:
            await openrouter_line.ask()
        assert type(caught.value) is kind
    if isinstance(error, dict) and "metadata" in error:
        assert "queue full" in str(caught.value)


async def test_a_choice_that_ended_in_an_error_is_one(openrouter_line: Line) -> None:
    openrouter_line.server.will_answer(body=reply({"role": "assistant", "content": "half"}, "error"))
    with pytest.raises(ProviderUnavailable):
        await openrouter_line.ask()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "flagged", "metadata": {"reasons": ["violence"], "flagged_input": "..."}}, RequestRefused),
        ({"message": "Your chosen model requires moderation and your input was flagged"}, RequestRefused),
        ({"message": "Request blocked: prompt injection patterns detected", "metadata": None}, RequestRefused),
        ({"message": "spent", "metadata": {"limit_source": "openrouter_key_limit"}}, OutOfCredit),
        ({"message": "Key limit exceeded (total limit)"}, OutOfCredit),
        ({"message": "This key may not call that model"}, KeyRefused),
    ],
)
async def test_a_403_is_told_apart(openrouter_line: Line, error: dict[str, Any], kind: type[ProviderError]) -> None:
    openrouter_line.server.will_answer(403, {"error": {"code": 403, **error}})
    with pytest.raises(ProviderError) as caught:
        await openrouter_line.ask()
    assert type(caught.value) is kind
    assert caught.value.status == 403


async def test_the_answer_names_model_and_request(openrouter_line: Line) -> None:
    openrouter_line.server.will_answer(body=reply({"role": "assistant", "content": "x"}))
    openrouter_line.server.will_answer(
        body={"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}, headers={"X-Generation-Id": "gen-h"}
    )
    first, second = await openrouter_line.ask(), await openrouter_line.ask()
    assert (first.answered_by, first.request_id) == ("maker/model-1", "gen-1")
    assert (second.answered_by, second.request_id) == ("maker/model-1", "gen-h")
    assert second.stop_reason is StopReason.END_TURN
