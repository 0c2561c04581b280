"""Gemini generateContent: what only this wire has."""

from __future__ import annotations

from typing import Any

import pytest

from conductor_ai.errors import KeyRefused, MalformedReply, RateLimited
from conductor_ai.schemas.messages import Message, Role, StopReason, ToolCall, ToolReply
from conductor_ai.schemas.usage import Usage
from tests.providers.lines import FIND, HELLO, Line, own_turn, replies_to
from tests.servers.gemini import reply
from tests.servers.provider_server import KEY

SIGNATURE = "CsYBAVSoXO4/+=="


def function_call(what: str, **extra: Any) -> dict[str, Any]:
    return {"functionCall": {"name": "find", "args": {"what": what}, **extra}}


async def test_the_request_has_the_documented_shape(gemini_line: Line) -> None:
    gemini_line.server.will_answer(body=reply([function_call("x")]))
    gemini_line.server.will_answer(body=reply([{"text": "ok"}]))
    turn = own_turn(await gemini_line.ask(tools=(FIND,)))
    await gemini_line.ask(HELLO, turn, replies_to(turn, "found"), tools=(FIND,), instructions="Sys", model="gemini-1")
    seen = gemini_line.server.requests[-1]
    assert seen.path == "/v1beta/models/gemini-1:generateContent"
    assert KEY not in seen.path
    assert seen.json == {
        "generationConfig": {"maxOutputTokens": 100},
        "systemInstruction": {"parts": [{"text": "Sys"}]},
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "find", "description": "Find things.", "parametersJsonSchema": FIND.parameters}
                ]
            }
        ],
        "contents": [
            {"role": "user", "parts": [{"text": "Hello"}]},
            {"role": "model", "parts": [function_call("x")]},
            {"role": "user", "parts": [{"functionResponse": {"name": "find", "response": {"output": "found"}}}]},
        ],
    }


async def test_signatures_go_back_on_the_part_they_came_on(gemini_line: Line) -> None:
    parts: list[dict[str, Any]] = [
        {"text": "Hm.", "thought": True},
        {"text": "", "thoughtSignature": SIGNATURE},
        {"text": "Looking. "},
        {"text": "Twice."},
        {**function_call("a"), "thoughtSignature": SIGNATURE},
        function_call("b"),
        {"executableCode": {"language": "PYTHON", "code": "1"}},
    ]
    gemini_line.server.will_answer(body=reply(parts))
    gemini_line.server.will_answer(body=reply([{"text": "ok"}]))
    response = await gemini_line.ask(tools=(FIND,))
    assert (response.content, response.reasoning) == ("Looking. Twice.", "Hm.")
    assert response.stop_reason is StopReason.TOOL_USE
    turn = own_turn(response)
    await gemini_line.ask(HELLO, turn, replies_to(turn, "1", "2"))
    assert gemini_line.server.requests[-1].json["contents"][1] == {"role": "model", "parts": parts}


async def test_an_id_goes_back_only_where_there_was_one(gemini_line: Line) -> None:
    gemini_line.server.will_answer(body=reply([function_call("a", id="g-1"), function_call("b")]))
    gemini_line.server.will_answer(body=reply([{"text": "ok"}]))
    turn = own_turn(await gemini_line.ask(tools=(FIND,)))
    assert [call.provider_call_id for call in turn.tool_calls] == ["g-1", None]
    await gemini_line.ask(HELLO, turn, replies_to(turn, "1", "2", is_error=True))
    assert gemini_line.server.requests[-1].json["contents"][2]["parts"] == [
        {"functionResponse": {"id": "g-1", "name": "find", "response": {"error": "1"}}},
        {"functionResponse": {"name": "find", "response": {"error": "2"}}},
    ]


async def test_a_blocked_prompt_has_no_candidate_and_is_filtered(gemini_line: Line) -> None:
    body = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 7}}
    gemini_line.server.will_answer(body=body)
    response = await gemini_line.ask()
    assert (response.content, response.stop_reason) == ("", StopReason.CONTENT_FILTER)
    assert response.usage == Usage(input_tokens=7)
    assert response.answered_by == "maker/model-1"


@pytest.mark.parametrize("content", [{}, {"role": "model"}, {"parts": []}, {"parts": None}, None])
@pytest.mark.parametrize(
    ("finish", "expected"), [("SAFETY", StopReason.CONTENT_FILTER), ("MAX_TOKENS", StopReason.MAX_TOKENS)]
)
async def test_a_candidate_without_parts_is_empty_and_can_go_back(
    gemini_line: Line, content: Any, finish: str, expected: StopReason
) -> None:
    gemini_line.server.will_answer(body={"candidates": [{"content": content, "finishReason": finish}]})
    gemini_line.server.will_answer(body=reply([{"text": "ok"}]))
    response = await gemini_line.ask()
    assert (response.content, response.stop_reason, response.usage) == ("", expected, None)
    assert (await gemini_line.ask(HELLO, own_turn(response), HELLO)).content == "ok"


async def test_a_candidate_may_lack_everything(gemini_line: Line) -> None:
    gemini_line.server.will_answer(body={"candidates": [{}]})
    assert (await gemini_line.ask()).stop_reason is StopReason.OTHER


@pytest.mark.parametrize("body", [{"candidates": []}, {"promptFeedback": {}}, {"promptFeedback": None}])
async def test_no_candidate_without_a_reason_is_malformed(gemini_line: Line, body: dict[str, Any]) -> None:
    gemini_line.server.will_answer(body=body)
    with pytest.raises(MalformedReply):
        await gemini_line.ask()


async def test_a_call_without_arguments_has_none(gemini_line: Line) -> None:
    gemini_line.server.will_answer(body=reply([{"functionCall": {"name": "find"}}]))
    assert (await gemini_line.ask()).tool_calls[0].arguments == {}


async def test_arguments_that_are_no_object_are_kept_as_text_and_go_back_empty(gemini_line: Line) -> None:
    part = {"functionCall": {"name": "find", "args": ["x"]}, "thoughtSignature": SIGNATURE}
    gemini_line.server.will_answer(body=reply([part]))
    gemini_line.server.will_answer(body=reply([{"text": "ok"}]))
    turn = own_turn(await gemini_line.ask())
    assert (turn.tool_calls[0].arguments, turn.tool_calls[0].raw_arguments) == (None, '["x"]')
    await gemini_line.ask(HELLO, turn, replies_to(turn, "not an object"))
    assert gemini_line.server.requests[-1].json["contents"][1]["parts"] == [
        {"functionCall": {"name": "find", "args": {}}, "thoughtSignature": SIGNATURE}
    ]


async def test_the_calls_of_another_model_are_signed_as_such_and_carry_no_foreign_id(gemini_line: Line) -> None:
    gemini_line.server.will_answer(body=reply([{"text": "ok"}]))
    calls = tuple(ToolCall(f"c{n}", "find", {"n": n}, None, f"toolu_{n}", "anthropic") for n in (1, 2))
    replies = tuple(ToolReply(call, "found") for call in calls)
    await gemini_line.ask(HELLO, Message(Role.ASSISTANT, "", calls), Message(Role.TOOL, tool_replies=replies))
    assert gemini_line.server.requests[-1].json["contents"][1]["parts"] == [
        {
            "functionCall": {"name": "find", "args": {"n": 1}},
            "thoughtSignature": "skip_thought_signature_validator",
        },
        {"functionCall": {"name": "find", "args": {"n": 2}}},
    ]


async def test_a_wrong_key_is_a_400_that_means_401(gemini_line: Line) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    error = {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT", "details": details}
    gemini_line.server.will_answer(400, {"error": error})
    with pytest.raises(KeyRefused) as caught:
        await gemini_line.ask()
    assert caught.value.status == 400
    assert "GOOGLE_API_KEY" in str(caught.value.hint)


async def test_the_delay_of_a_rate_limit_is_in_the_details(gemini_line: Line) -> None:
    details = [{"@type": "x/google.rpc.Help"}, {"@type": "x/google.rpc.RetryInfo", "retryDelay": "12.5s"}]
    gemini_line.server.will_answer(429, {"error": {"code": 429, "message": "quota", "details": details}})
    with pytest.raises(RateLimited) as caught:
        await gemini_line.ask()
    assert caught.value.retry_after_s == 12.5


async def test_the_answer_names_model_and_request(gemini_line: Line) -> None:
    gemini_line.server.will_answer(body=reply([{"text": "x"}]))
    response = await gemini_line.ask()
    assert (response.answered_by, response.request_id) == ("gemini-test-1", "resp-1")
