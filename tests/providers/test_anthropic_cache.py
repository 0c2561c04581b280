"""Anthropic's prompt cache: where the marks stand, and that a step's request begins with the bytes of the one before.
Source: guide, "Prompt caching": tools, then system, then messages; at most four marks; none on thinking."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from conductor_ai.schemas.messages import Message, Role
from conductor_ai.schemas.usage import Usage
from tests.providers.lines import FIND, HELLO, Line, own_turn, replies_to
from tests.servers.anthropic import cached_blocks, reply

MARK = b',"cache_control":{"type":"ephemeral"}'
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "EqQB+/=="}
OTHER = FIND.model_copy(update={"name": "other"})
OK = [{"type": "text", "text": "ok"}]
END = b"]}"


def calls(step_no: int, count: int = 1) -> list[dict[str, Any]]:
    return [
        {"type": "tool_use", "id": f"toolu_{step_no}_{index}", "name": "find", "input": {"what": "x"}}
        for index in range(count)
    ]


async def session(line: Line, steps: int, count: int = 1) -> list[Message]:
    """A conversation of `steps` steps, each sent on its own; gives it as it stands after the last."""
    messages = [HELLO]
    for step_no in range(1, steps + 1):
        line.server.will_answer(body=reply([THINKING, *calls(step_no, count)], "tool_use"))
        response = await line.ask(*messages, tools=(FIND, OTHER), instructions="Sys")
        turn = own_turn(response, step_no)
        messages += [turn, replies_to(turn, *(f"found {step_no}.{index}" for index in range(count)))]
    return messages


def marked(body: dict[str, Any]) -> list[Any]:
    """What is marked, by the word that tells it apart."""
    blocks = [block for block in cached_blocks(body) if "cache_control" in block]
    return [block.get("name") or block.get("text") or block["content"] for block in blocks]


async def test_the_last_tool_the_instructions_and_the_newest_turns_are_marked(anthropic_line: Line) -> None:
    await session(anthropic_line, 3, count=2)
    assert [marked(seen.json) for seen in anthropic_line.server.requests] == [
        ["other", "Sys", "Hello"],
        ["other", "Sys", "Hello", "found 1.1"],
        ["other", "Sys", "found 1.1", "found 2.1"],
    ]


async def test_without_tools_and_instructions_the_newest_turn_is_marked(anthropic_line: Line) -> None:
    anthropic_line.server.will_answer(body=reply(OK))
    await anthropic_line.ask()
    assert marked(anthropic_line.server.requests[0].json) == ["Hello"]


@pytest.mark.parametrize("content", ["", " \n", 'ends in "}]}', "\\"])
async def test_any_text_can_take_the_mark(anthropic_line: Line, content: str) -> None:
    anthropic_line.server.will_answer(body=reply(OK))
    await anthropic_line.ask(Message(Role.USER, content))
    (message,) = anthropic_line.server.requests[0].json["messages"]
    assert message["content"][-1]["cache_control"] == {"type": "ephemeral"}
    assert message["content"][-1]["text"] == (content if content.strip() else "(empty)")


async def test_a_turn_of_the_model_is_never_marked(anthropic_line: Line) -> None:
    """After `pause_turn` it is the newest, and its last block may be a thought."""
    anthropic_line.server.will_answer(body=reply([{"type": "text", "text": "Wait."}, THINKING], "pause_turn"))
    anthropic_line.server.will_answer(body=reply(OK))
    turn = own_turn(await anthropic_line.ask())
    await anthropic_line.ask(HELLO, turn)
    body = anthropic_line.server.requests[-1].json
    assert marked(body) == ["Hello"]
    assert body["messages"][-1]["content"] == [{"type": "text", "text": "Wait."}, THINKING]


async def test_a_step_sends_the_bytes_of_the_step_before_and_then_its_own(anthropic_line: Line) -> None:
    await session(anthropic_line, 5, count=2)
    sent = [seen.raw for seen in anthropic_line.server.requests]
    for before, after in pairwise(sent):
        assert before.endswith(MARK + b"}]}" + END)
        bare = before.replace(MARK, b"").removesuffix(END)
        assert after.replace(MARK, b"").startswith(bare + b",")
        assert after.startswith(before[: before.index(b'"messages":[')])  # with the marks of tools and instructions


async def test_the_kept_turns_are_not_changed_by_a_call(anthropic_line: Line) -> None:
    request = anthropic_line.request(*await session(anthropic_line, 2), tools=(FIND,))
    kept = [*request.turns]
    anthropic_line.server.will_answer(body=reply(OK))
    await anthropic_line.provider.complete(request)
    assert [*request.turns] == kept
    assert not any(MARK in turn for turn in kept)


async def test_a_stream_sends_the_same_marks(anthropic_line: Line) -> None:
    messages = await session(anthropic_line, 2)
    for _ in range(2):
        anthropic_line.server.will_answer(body=reply(OK))
    await anthropic_line.ask(*messages, tools=(FIND,), instructions="Sys")
    await anthropic_line.stream(*messages, tools=(FIND,), instructions="Sys")
    whole, streamed = (seen.raw for seen in anthropic_line.server.requests[-2:])
    assert streamed == whole.removesuffix(b"}") + b',"stream":true}'


async def test_what_was_read_from_and_written_to_the_cache_is_counted_apart(anthropic_line: Line) -> None:
    counts: dict[str, Any] = {"input_tokens": 3, "cache_read_input_tokens": 900, "cache_creation_input_tokens": 40}
    split = {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 0}
    anthropic_line.server.will_answer(body=reply(OK, output_tokens=7, **counts, cache_creation=split))
    anthropic_line.server.will_answer(body=reply(OK, cache_read_input_tokens=None, cache_creation_input_tokens=None))
    assert (await anthropic_line.ask()).usage == Usage(3, 7, cache_read_tokens=900, cache_write_tokens=40)
    assert (await anthropic_line.ask()).usage == Usage(10, 5)
