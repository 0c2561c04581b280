"""Anthropic Messages: what only this wire has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conductor_ai.errors import OutOfCredit, ProviderUnavailable
from conductor_ai.schemas.messages import Message, Role, StopReason, ToolCall, ToolReply, WireTurn
from tests.providers.lines import FIND, HELLO, Line, own_turn, replies_to
from tests.servers.anthropic import reply
from tests.servers.provider_server import KEY

THINKING = {"type": "thinking", "thinking": 'Hm.\n"é" / \u2028', "signature": "EqQB+/=="}
REDACTED = {"type": "redacted_thinking", "data": "Emw+/AKqw=="}
MARK = {"cache_control": {"type": "ephemeral"}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"what": "x"}}


async def test_the_request_has_the_documented_shape(anthropic_line: Line) -> None:
    anthropic_line.server.will_answer(body=reply([CALL], "tool_use"))
    anthropic_line.server.will_answer(body=reply([{"type": "text", "text": "ok"}]))
    turn = own_turn(await anthropic_line.ask(tools=(FIND,)))
    await anthropic_line.ask(HELLO, turn, replies_to(turn, "boom", is_error=True), tools=(FIND,), instructions="Sys")
    headers = anthropic_line.server.requests[-1].headers
    assert (headers["x-api-key"], headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert headers["content-type"] == "application/json"
    assert anthropic_line.server.requests[-1].json == {
        "model": "maker/model-1",
        "max_tokens": 100,
        "system": [{"type": "text", "text": "Sys", **MARK}],
        "tools": [{"name": "find", "description": "Find things.", "input_schema": FIND.parameters, **MARK}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hello", **MARK}]},
            {"role": "assistant", "content": [CALL]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "boom", "is_error": True, **MARK},
                ],
            },
        ],
    }


async def test_thinking_goes_back_first_unchanged_with_its_signature(anthropic_line: Line) -> None:
    blocks: list[dict[str, Any]] = [THINKING, REDACTED, {"type": "text", "text": "Let me look."}, CALL]
    anthropic_line.server.will_answer(body=reply(blocks, "tool_use"))
    anthropic_line.server.will_answer(body=reply([{"type": "text", "text": "ok"}]))
    response = await anthropic_line.ask(tools=(FIND,))
    assert response.reasoning == THINKING["thinking"]
    assert response.content == "Let me look."
    turn = own_turn(response)
    await anthropic_line.ask(HELLO, turn, replies_to(turn, "found"))
    assert anthropic_line.server.requests[-1].json["messages"][1]["content"] == blocks


@pytest.mark.parametrize("signature", [{"signature": ""}, {}], ids=["empty", "none"])
async def test_a_thought_that_broke_off_unsigned_stays_out_of_the_conversation(
    anthropic_line: Line, signature: dict[str, str]
) -> None:
    cut = {"type": "thinking", "thinking": "So I wou", **signature}
    anthropic_line.server.will_answer(body=reply([THINKING, cut], "max_tokens"))
    response = await anthropic_line.ask()
    assert response.reasoning.endswith("\nSo I wou")
    assert json.loads(response.wire.json)["content"] == [THINKING]


async def test_an_unsigned_thought_of_a_gateway_goes_back(anthropic_line: Line) -> None:
    unsigned = {"type": "thinking", "thinking": "So I call."}
    anthropic_line.server.will_answer(body=reply([unsigned, CALL], "tool_use"))
    response = await anthropic_line.ask()
    assert json.loads(response.wire.json)["content"] == [unsigned, CALL]


async def test_an_error_under_a_200_is_the_error_it_names(anthropic_line: Line) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_7"}
    anthropic_line.server.will_answer(200, error)
    with pytest.raises(ProviderUnavailable, match="Overloaded") as caught:
        await anthropic_line.ask()
    assert (caught.value.status, caught.value.request_id) == (529, "req_7")


async def test_a_block_of_an_unknown_type_goes_back_too(anthropic_line: Line) -> None:
    blocks: list[dict[str, Any]] = [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web", "input": {}},
        {"type": "next_year", "x": 1},
    ]
    anthropic_line.server.will_answer(body=reply(blocks, "pause_turn"))
    response = await anthropic_line.ask()
    assert response.stop_reason is StopReason.PAUSE_TURN
    assert response.tool_calls == ()
    assert json.loads(response.wire.json) == {"role": "assistant", "content": blocks}


@pytest.mark.parametrize("blocks", [[], [{"type": "text", "text": ""}], [{"type": "text", "text": "\n"}]])
async def test_an_empty_answer_does_not_poison_the_conversation(
    anthropic_line: Line, blocks: list[dict[str, Any]]
) -> None:
    anthropic_line.server.will_answer(body=reply(blocks))
    anthropic_line.server.will_answer(body=reply([{"type": "text", "text": "ok"}]))
    response = await anthropic_line.ask()
    assert response.content == ""
    assert (await anthropic_line.ask(HELLO, own_turn(response), Message(Role.USER, " "))).content == "ok"


@pytest.mark.parametrize(("given", "raw"), [("oops", "oops"), ([1], "[1]"), (7, "7")])
async def test_input_that_is_no_object_is_kept_as_text_and_goes_back_empty(
    anthropic_line: Line, given: Any, raw: str
) -> None:
    anthropic_line.server.will_answer(body=reply([{**CALL, "input": given}], "tool_use"))
    anthropic_line.server.will_answer(body=reply([{"type": "text", "text": "ok"}]))
    turn = own_turn(await anthropic_line.ask(tools=(FIND,)))
    assert (turn.tool_calls[0].arguments, turn.tool_calls[0].raw_arguments) == (None, raw)
    assert (await anthropic_line.ask(HELLO, turn, replies_to(turn, "not an object"))).content == "ok"


@pytest.mark.parametrize("block", [{**CALL, "input": None}, {k: v for k, v in CALL.items() if k != "input"}])
async def test_a_call_without_input_has_no_arguments(anthropic_line: Line, block: dict[str, Any]) -> None:
    anthropic_line.server.will_answer(body=reply([block], "tool_use"))
    anthropic_line.server.will_answer(body=reply([{"type": "text", "text": "ok"}]))
    turn = own_turn(await anthropic_line.ask(tools=(FIND,)))
    assert turn.tool_calls[0].arguments == {}
    assert (await anthropic_line.ask(HELLO, turn, replies_to(turn, "found"))).content == "ok"


async def test_two_calls_under_one_id_are_told_apart(anthropic_line: Line) -> None:
    anthropic_line.server.will_answer(body=reply([CALL, CALL], "tool_use"))
    anthropic_line.server.will_answer(body=reply([{"type": "text", "text": "ok"}]))
    turn = own_turn(await anthropic_line.ask(tools=(FIND,)))
    assert (await anthropic_line.ask(HELLO, turn, replies_to(turn, "a", "b"))).content == "ok"


async def test_max_tokens_within_a_call_keeps_the_call_and_says_so(anthropic_line: Line) -> None:
    anthropic_line.server.will_answer(body=reply([CALL], "max_tokens"))
    response = await anthropic_line.ask(tools=(FIND,))
    assert response.stop_reason is StopReason.MAX_TOKENS
    assert [call.name for call in response.tool_calls] == ["find"]


async def test_a_foreign_turn_is_rebuilt_from_its_text_and_calls(anthropic_line: Line) -> None:
    anthropic_line.server.will_answer(body=reply([{"type": "text", "text": "ok"}]))
    call = ToolCall("c1_0", "find", {"what": "x"}, provider_call_id="functions.find:0", provider="openrouter")
    turn = Message(Role.ASSISTANT, "Looking.", (call,), wire=WireTurn("openrouter", b'{"secret":"wire"}'))
    await anthropic_line.ask(HELLO, turn, Message(Role.TOOL, tool_replies=(ToolReply(call, "found"),)))
    assert anthropic_line.server.requests[-1].json["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "c1_0", "name": "find", "input": {"what": "x"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1_0", "content": "found", **MARK}]},
    ]


async def test_an_empty_account_is_a_400_that_means_402(anthropic_line: Line) -> None:
    message = "Your credit balance is too low to access the Anthropic API."
    anthropic_line.server.will_answer(
        400, {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    )
    with pytest.raises(OutOfCredit) as caught:
        await anthropic_line.ask()
    assert caught.value.status == 400


async def test_the_answer_names_model_and_request(anthropic_line: Line) -> None:
    anthropic_line.server.will_answer(body=reply([]), headers={"request-id": "req_9"})
    response = await anthropic_line.ask()
    assert (response.answered_by, response.request_id) == ("claude-test-1", "req_9")
