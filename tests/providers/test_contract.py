"""What every provider adapter keeps, whatever its wire."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import aiohttp
import pytest

from conductor_ai.errors import MalformedReply
from conductor_ai.schemas.messages import Message, Role, StopReason
from tests.providers.lines import FIND, HELLO, Line, connected, own_turn, replies_to
from tests.providers.wires import WIRES, Wire


async def test_a_text_answer_ends_the_turn(line: Line) -> None:
    line.server.will_answer(body=line.wire.says("Grüß Gott"))
    response = await line.ask()
    assert (response.content, response.tool_calls) == ("Grüß Gott", ())
    assert response.stop_reason is StopReason.END_TURN
    assert response.wire.provider == line.provider.name == line.wire.name


async def test_a_tool_call_comes_with_its_arguments(line: Line) -> None:
    line.server.will_answer(body=line.wire.calls([("call_1", "find", {"what": "ünï", "n": [1, 2.5, None]})]))
    response = await line.ask(tools=(FIND,))
    assert [(call.name, call.arguments) for call in response.tool_calls] == [
        ("find", {"what": "ünï", "n": [1, 2.5, None]})
    ]
    assert response.stop_reason is StopReason.TOOL_USE
    assert response.tool_calls[0].raw_arguments is None


async def test_integers_of_any_size_come_and_go_exactly(line: Line) -> None:
    large = {"what": "x", "n": [2**64, -(2**63) - 1, 12345678901234567890123]}
    line.server.will_answer(body=line.wire.calls([("call_1", "find", large)]))
    line.server.will_answer(body=line.wire.says("ok"))
    turn = own_turn(await line.ask(tools=(FIND,)))
    assert turn.tool_calls[0].arguments == large
    assert [type(number) for number in large["n"]] == [type(n) for n in turn.tool_calls[0].arguments["n"]]
    foreign = turn._replace(wire=None)
    for again in (turn, foreign):
        line.server.will_answer(body=line.wire.says("ok"))
        await line.ask(HELLO, again, replies_to(again, "found"))
        assert b"12345678901234567890123" in line.server.requests[-1].raw


async def test_parallel_calls_keep_their_order_and_are_answered_in_one_turn(line: Line) -> None:
    asked = [(f"call_{n}", "find", {"what": str(n)}) for n in range(4)]
    line.server.will_answer(body=line.wire.calls(asked))
    line.server.will_answer(body=line.wire.says("done"))
    turn = own_turn(await line.ask(tools=(FIND,)))
    assert [call.arguments for call in turn.tool_calls] == [{"what": str(n)} for n in range(4)]
    response = await line.ask(HELLO, turn, replies_to(turn, "a", "b", "c", "d"), tools=(FIND,))
    assert response.content == "done"
    raw = line.server.requests[-1].raw
    assert raw.index(b'"a"') < raw.index(b'"b"') < raw.index(b'"c"') < raw.index(b'"d"')


async def test_a_failed_tool_is_answered_like_any_other(line: Line) -> None:
    line.server.will_answer(body=line.wire.calls([("call_1", "find", {"what": "x"})]))
    line.server.will_answer(body=line.wire.says("sorry"))
    turn = own_turn(await line.ask(tools=(FIND,)))
    response = await line.ask(HELLO, turn, replies_to(turn, "no such thing", is_error=True))
    assert response.content == "sorry"
    assert b"no such thing" in line.server.requests[-1].raw


async def test_its_own_turn_goes_back_as_the_same_bytes(line: Line) -> None:
    line.server.will_answer(body=line.wire.calls([("call_1", "find", {"what": "x"})]))
    response = await line.ask(tools=(FIND,))
    assert line.provider.encode_turn(own_turn(response)) == response.wire.json


@pytest.mark.parametrize("other", WIRES, ids=lambda wire: f"from {wire.name}")
async def test_a_conversation_goes_on_with_another_provider(line: Line, other: Wire) -> None:
    async with connected(other, line.http) as first:
        # Ids of this form, the same in every step, are usual on one wire and refused on another.
        first.server.will_answer(body=other.calls([("functions.find:0", "find", {"what": "x"})]))
        first.server.will_answer(body=other.calls([("functions.find:0", "find", {"what": "y"})]))
        turns = [own_turn(await first.ask(tools=(FIND,)), step_no) for step_no in (1, 2)]
    line.server.will_answer(body=line.wire.says("I see"))
    history = [HELLO, turns[0], replies_to(turns[0], "one"), turns[1], replies_to(turns[1], "two")]
    assert (await line.ask(*history)).content == "I see"


async def test_the_head_carries_model_limit_tools_and_instructions(line: Line) -> None:
    line.server.will_answer(body=line.wire.says("ok"))
    await line.ask(tools=(FIND,), instructions="Be brief.", max_output_tokens=77)
    seen = line.server.requests[0]
    assert b"77" in seen.raw
    assert b"Be brief." in seen.raw
    assert b'"find"' in seen.raw
    assert b'"required":["what"]' in seen.raw
    assert b"model-1" in seen.raw or "model-1" in seen.path


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_every_stop_reason_is_understood(wire: Wire, http: aiohttp.ClientSession) -> None:
    async with connected(wire, http) as line:
        for reason, (body, expected) in wire.stops.items():
            line.server.will_answer(body=body)
            assert (await line.ask()).stop_reason is expected, reason


async def test_usage_never_counts_a_token_twice(line: Line) -> None:
    body, expected = line.wire.usage
    line.server.will_answer(body=body)
    assert (await line.ask()).usage == expected


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_usage_that_was_not_reported_is_unknown_and_not_zero(wire: Wire, http: aiohttp.ClientSession) -> None:
    place, *counts = wire.counts
    reported = wire.says("x")[place]
    others: list[Any] = [None, {}]
    for count in counts:
        others += [{**reported, count: None}, {name: value for name, value in reported.items() if name != count}]
    bodies = [{**wire.says("x"), place: other} for other in others]
    bodies.append({name: value for name, value in wire.says("x").items() if name != place})
    async with connected(wire, http) as line:
        for body in bodies:
            line.server.will_answer(body=body)
            response = await line.ask()
            assert (response.content, response.usage) == ("x", None), body


async def test_a_reported_zero_is_zero(line: Line) -> None:
    place, *counts = line.wire.counts
    body = line.wire.says("x")
    line.server.will_answer(body={**body, place: {**body[place], **dict.fromkeys(counts, 0)}})
    usage = (await line.ask()).usage
    assert usage is not None
    assert usage.input_tokens == 0


async def test_retry_after_on_an_ordinary_answer_means_nothing(line: Line) -> None:
    line.server.will_answer(body=line.wire.says("fine"), headers={"retry-after": "9"})
    assert (await line.ask()).content == "fine"


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_a_reply_without_a_field_we_need_is_malformed(wire: Wire, http: aiohttp.ClientSession) -> None:
    async with connected(wire, http) as line:
        for path in wire.required:
            body = deepcopy(wire.says("x"))
            target: Any = body
            for step in path[:-1]:
                target = target[step]
            del target[path[-1]]
            line.server.will_answer(body=body)
            with pytest.raises(MalformedReply) as caught:
                await line.ask()
            assert caught.value.provider == wire.name
            assert "maker/model-1" in str(caught.value)


async def test_a_field_of_another_kind_is_malformed(line: Line) -> None:
    bodies: list[Any] = [[], "text", 1, None, {}, {"choices": 1, "content": 1, "candidates": 1}]
    bodies += [{"choices": [None], "content": [None], "candidates": [None]}]
    for body in bodies:
        line.server.will_answer(body=body)
        with pytest.raises(MalformedReply):
            await line.ask()


async def test_a_lone_surrogate_reaches_the_wire_as_a_replacement_character(line: Line) -> None:
    line.server.will_answer(body=line.wire.says("ok"))
    await line.ask(Message(Role.USER, "broken \ud83d here \x00"), instructions="sys \udc00")
    body = line.server.requests[0].json
    assert line.wire.sent_text(body) == "broken \ufffd here \x00"
    assert b"\\ud" not in line.server.requests[0].raw


async def test_a_lone_surrogate_from_the_model_can_go_back(line: Line) -> None:
    line.server.will_answer(body=line.wire.calls([("call_1", "find", {"what": "\udead"})]))
    line.server.will_answer(body=line.wire.says("ok"))
    turn = own_turn(await line.ask(tools=(FIND,)))
    assert turn.tool_calls[0].arguments == {"what": "\udead"}
    await line.ask(HELLO, turn, replies_to(turn, "got \udead"))
    line.server.requests[-1].raw.decode()
    assert b"\\ud" not in line.server.requests[-1].raw.replace(b"\\\\ud", b"")


async def test_a_request_of_many_megabytes_arrives_whole_and_without_a_warning(line: Line) -> None:
    line.server.will_answer(body=line.wire.says("read"))
    text = "x" * (3 * 2**20)
    assert (await line.ask(Message(Role.USER, text))).content == "read"
    assert line.wire.sent_text(line.server.requests[0].json) == text


async def test_a_reply_of_many_megabytes_is_read_whole(line: Line) -> None:
    line.server.will_answer(body=line.wire.says("y" * (3 * 2**20)))
    assert (await line.ask()).content == "y" * (3 * 2**20)
