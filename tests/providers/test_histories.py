"""Any conversation of ours is a valid request on every wire: JSON, and each call answered once, in the next turn."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conductor_ai.providers.base import HeadSpec, Provider
from conductor_ai.providers.http import open_http
from conductor_ai.schemas import json_text
from conductor_ai.schemas.messages import Message, Role, ToolCall, ToolReply, WireTurn
from conductor_ai.sdk.base import ToolDefinition
from tests.providers.lines import FIND, replies_to
from tests.providers.wires import WIRES, Wire

ANY_TEXT = st.text(st.characters(), max_size=30)  # surrogates and NUL included
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)
IDS = st.none() | st.sampled_from(["toolu_01", "functions.find:0", "call_0", "a b", "x" * 80, ""])
PROVIDERS = ("anthropic", "gemini", "openrouter", "local", "demo")


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, list[tuple[Any, str | None, str | None]], list[tuple[str, bool]]]]:
    """Text of the model, its calls (arguments, raw text, provider's id), and the replies to them."""
    made = []
    for _ in range(draw(st.integers(1, 4))):
        arguments = st.dictionaries(ANY_TEXT, ANY_JSON, max_size=3)
        calls = draw(st.lists(st.tuples(st.none() | arguments, st.none() | ANY_TEXT, IDS), max_size=3))
        replies = [(draw(ANY_TEXT), draw(st.booleans())) for _ in calls]
        made.append((draw(ANY_TEXT), calls, replies))
    return made


def history(made: Any, origin: str, question: str) -> list[Message]:
    """The conversation as the loop builds it when `origin` answered."""
    messages = [Message(Role.USER, question)]
    for step_no, (text, calls, replies) in enumerate(made, 1):
        numbered = tuple(
            ToolCall(f"c{step_no}_{index}", "find", arguments, raw, theirs, origin)
            for index, (arguments, raw, theirs) in enumerate(calls)
        )
        messages.append(Message(Role.ASSISTANT, text, numbered, wire=WireTurn(origin, b'{"not":"yours"}')))
        if numbered:
            answers = zip(numbered, replies, strict=True)
            messages.append(Message(Role.TOOL, tool_replies=tuple(ToolReply(call, *reply) for call, reply in answers)))
        else:
            messages.append(Message(Role.USER, text))
    return messages


def request_of(provider: Provider, messages: list[Message], tools: tuple[ToolDefinition, ...] = (FIND,)) -> Any:
    head = provider.encode_head(HeadSpec("m", messages[0].content, tools, 100))
    turns = [provider.encode_turn(message) for message in messages]
    raw = b"".join((head, b",".join(turns), b"]}"))
    assert "\ud800" not in raw.decode()
    return json.loads(raw)


@pytest.fixture(params=WIRES, ids=lambda wire: wire.name)
async def adapter(request: pytest.FixtureRequest) -> Any:
    async with open_http() as http:
        yield request.param, request.param.connect(http, "http://127.0.0.1:9", None)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=steps(), question=ANY_TEXT, data=st.data())
def test_a_history_of_another_provider_keeps_the_rules(
    adapter: tuple[Wire, Provider], made: Any, question: str, data: st.DataObject
) -> None:
    wire, provider = adapter
    origin = data.draw(st.sampled_from([name for name in PROVIDERS if name != wire.name]))
    body = request_of(provider, history(made, origin, question))
    assert wire.violation(body) is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=steps(), question=ANY_TEXT)
def test_a_turn_that_lost_its_wire_form_keeps_the_rules(
    adapter: tuple[Wire, Provider], made: Any, question: str
) -> None:
    wire, provider = adapter
    messages = []
    for message in history(made, wire.name, question):
        calls = tuple(call._replace(provider_call_id=None) for call in message.tool_calls)
        replies = tuple(
            reply._replace(call=reply.call._replace(provider_call_id=None)) for reply in message.tool_replies
        )
        messages.append(message._replace(tool_calls=calls, tool_replies=replies, wire=None))
    assert wire.violation(request_of(provider, messages)) is None


async def test_kept_pieces_hold_no_spare_room(adapter: tuple[Wire, Provider]) -> None:
    _, provider = adapter
    call = ToolCall("c1_0", "find", {"what": "x"})
    turn = Message(Role.ASSISTANT, "x", (call,))
    for message in (Message(Role.USER, "Hello"), turn, replies_to(turn, "found")):
        encoded = provider.encode_turn(message)
        assert encoded.__sizeof__() == json_text.exact(encoded).__sizeof__()
        assert isinstance(encoded, bytes)
