"""What a caller passes as messages: taken, or refused in words that name the message."""

from __future__ import annotations

from typing import Any

import pytest

from conductor_ai.errors import InvalidInput
from conductor_ai.schemas.messages import Message, Role, ToolCall, ToolReply, WireTurn, parse_messages

HELLO = Message(Role.USER, "hi")
CALL = ToolCall("c1_0", "find", {})


@pytest.mark.parametrize(
    "message",
    [HELLO, Message(role="user", content="hi"), {"role": "user", "content": "hi"}, {"role": Role.USER, "content": "hi"}]  # type: ignore[arg-type]
    + [{"role": "user", "content": [{"type": "text", "text": "hi"}], "tool_calls": None}],
)
def test_a_message_may_be_an_instance_or_an_object_its_role_a_member_or_text(message: Any) -> None:
    instructions, conversation = parse_messages([message])
    assert (instructions, conversation) == (None, [HELLO])
    assert conversation[0].role is Role.USER


def test_leading_system_messages_become_the_instructions() -> None:
    given: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "system", "content": "Be kind."}, HELLO]
    assert parse_messages(given) == ("Be brief.\n\nBe kind.", [HELLO])


def test_the_wire_form_of_an_earlier_answer_is_left_out() -> None:
    answer = Message(Role.ASSISTANT, "hello", wire=WireTurn("anthropic", b"{}"))
    assert parse_messages([HELLO, answer, HELLO])[1] == [HELLO, Message(Role.ASSISTANT, "hello"), HELLO]


@pytest.mark.parametrize(
    "message",
    [
        Message(Role.USER, ""),
        Message(Role.USER, 5),  # type: ignore[arg-type]
        Message(Role.USER, None),  # type: ignore[arg-type]
        Message("nobody", "hi"),  # type: ignore[arg-type]
        Message(None, "hi"),  # type: ignore[arg-type]
        Message("tool", "hi"),  # type: ignore[arg-type]
        Message(Role.TOOL, "hi", tool_replies=(ToolReply(CALL, "x"),)),
        Message(Role.USER, "hi", tool_replies=(ToolReply(CALL, "x"),)),
        Message(Role.ASSISTANT, "hi", (CALL,)),
        {"role": "tool", "content": "hi"},
        {"role": "assistant", "content": "hi", "tool_calls": [{"id": "c"}]},
        {"role": "user"},
        {"role": "user", "content": []},
        {"role": "user", "content": [{"type": "image"}]},
        {"content": "hi"},
        {"role": ["user"], "content": "hi"},
        "hi",
        None,
    ],
)
def test_a_message_that_cannot_be_is_refused_by_its_number(message: Any) -> None:
    with pytest.raises(InvalidInput, match=r"messages\[1\]"):
        parse_messages([HELLO, message, HELLO])


@pytest.mark.parametrize("given", [None, 5, "hi", b"hi", {"role": "user", "content": "hi"}, iter([HELLO])])
def test_messages_that_are_no_list_are_refused(given: Any) -> None:
    with pytest.raises(InvalidInput, match=f"messages must be a list, got {type(given).__name__}"):
        parse_messages(given)


@pytest.mark.parametrize("given", [[], [Message(Role.ASSISTANT, "x"), HELLO], [HELLO, Message(Role.ASSISTANT, "x")]])
def test_a_conversation_begins_and_ends_with_a_user_message(given: list[Message]) -> None:
    with pytest.raises(InvalidInput, match="start and end"):
        parse_messages(given)


def test_a_system_message_stands_first() -> None:
    with pytest.raises(InvalidInput, match="only stand first"):
        parse_messages([HELLO, {"role": "system", "content": "x"}, HELLO])
