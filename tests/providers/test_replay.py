"""ReplayProvider: the recorded answers in order, errors as what they were, and where a request differs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from conductor_ai.agents.read_result import READ_RESULT
from conductor_ai.errors import (
    KeyRefused,
    ModelLoading,
    OutOfCredit,
    PromptTooLong,
    ProviderError,
    RateLimited,
    ReplayDiffers,
    TruncatedReply,
)
from conductor_ai.providers.base import HeadSpec, ModelRequest
from conductor_ai.providers.replay import Answer, ReplayProvider, Tape, first_difference
from conductor_ai.providers.retries import RetryBudget, retrying
from conductor_ai.providers.scripted import ScriptedProvider
from conductor_ai.schemas import exchanges, json_text
from conductor_ai.schemas.deltas import ReasoningDelta, Stop, TextDelta, ToolArguments, ToolCallEnd, ToolCallStart
from conductor_ai.schemas.events import EventType
from conductor_ai.schemas.exchanges import Exchange, Recording, head_data, recording_of
from conductor_ai.schemas.messages import Message, ModelResponse, Role, StopReason, ToolCall, ToolReply, WireTurn
from conductor_ai.schemas.usage import Usage
from tests.conftest import fail_after
from tests.providers.wires import WIRES, Wire

MODEL = "scripted"
ENCODER = ScriptedProvider([])
HEAD = ENCODER.encode_head(HeadSpec(MODEL, None, (), 100))
HELLO = ENCODER.encode_turn(Message(Role.USER, "Hello"))
RESPONSE = ModelResponse(
    content="Let me look \ud800.",
    tool_calls=(
        ToolCall("", "look", {"n": 12345678901234567890123}, None, "toolu_1", "demo"),
        ToolCall("", "look", None, "{oops", None, "demo"),
    ),
    stop_reason=StopReason.TOOL_USE,
    usage=Usage(1, 2, 3, 4, 5),
    wire=WireTurn("demo", b'{"role":"assistant","content":"\\ud800","sig":"c2ln"}'),
    answered_by="scripted-2",
    reasoning="Hm.",
    billed_cost_usd=Decimal("0.0001"),
    request_id="req_1",
    host="SomeHost",
)
ERRORS = [
    RateLimited("busy", provider="demo", model=MODEL, status=429, retry_after_s=3600.0, request_id="req_2"),
    ModelLoading("loading", provider="demo", model=MODEL, status=503),
    OutOfCredit("empty", provider="demo", model=MODEL, status=402, hint="fill it up", retryable=True),
    KeyRefused("no", provider="demo", model=MODEL, status=401, sent=False),
    PromptTooLong("long", provider="demo", model=MODEL, status=400, billed_cost_usd=Decimal("0.5")),
    TruncatedReply("cut", provider="demo", model=MODEL, answering=False),
]


def line(answer: ModelResponse | ProviderError, *, attempt: int = 1, head: bytes | None = HEAD, kept: int = 0) -> str:
    return exchanges.exchange_line(1, attempt, MODEL, "demo", head, kept, [HELLO], answer)


def recorded(*lines: str) -> Recording:
    """What a reader makes of the lines."""
    event = exchanges.event_line(1, EventType.SESSION_CREATED.value, '{"org_id":"acme"}', "2026-01-01")
    message = exchanges.event_line(2, EventType.MESSAGE_ADDED.value, '{"role":"user","content":"Hello"}', "2026-01-01")
    text = "\n".join([exchanges.first_line("s1", "2026-01-01", "0"), event, message, *lines, '{"kind":"exch'])
    return recording_of(text.encode(errors="surrogatepass"), "here")


def read(answer: ModelResponse | ProviderError) -> Exchange:
    [exchange] = [item for item in recorded(line(answer)).happened if isinstance(item, Exchange)]
    return exchange


def provider_of(*answers: Answer) -> ReplayProvider:
    return ReplayProvider(ENCODER, Tape(answers))


def asking(*turns: bytes, head: bytes = HEAD) -> ModelRequest:
    return ModelRequest(MODEL, head, turns or (HELLO,))


def test_an_answer_comes_out_of_the_file_as_it_went_in() -> None:
    exchange = read(RESPONSE)
    assert exchange.response == RESPONSE._replace(wire=exchange.response.wire if exchange.response else RESPONSE.wire)
    assert exchange.response is not None
    assert json_text.loads(exchange.response.wire.json) == json_text.loads(RESPONSE.wire.json) | {"content": "\ufffd"}
    assert (exchange.head, exchange.turns) == (json_text.loads(HEAD), (json_text.loads(HELLO),))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_an_error_comes_out_of_the_file_as_it_went_in(error: ProviderError) -> None:
    found = read(error).error
    assert type(found) is type(error)
    assert str(found) == str(error)
    facts = ("hint", "provider", "model", "status", "request_id", "retry_after_s", "answering", "sent", "retryable")
    assert [getattr(found, name) for name in facts] == [getattr(error, name) for name in facts]
    assert found is not None
    assert (found.billed_cost_usd, found.may_be_billed) == (error.billed_cost_usd, error.may_be_billed)


async def test_answers_come_in_order_whole_or_in_pieces() -> None:
    second = RESPONSE._replace(content="Done.", tool_calls=(), stop_reason=StopReason.END_TURN)
    provider = provider_of(Answer(read(RESPONSE)), Answer(read(second)))

    pieces = [item async for item in provider.stream(asking())]
    whole = await provider.complete(asking())

    assert [type(item) for item in pieces[:5]] == [ReasoningDelta, TextDelta, ToolCallStart, ToolArguments, ToolCallEnd]
    assert pieces[-2] == Stop(StopReason.TOOL_USE)
    assert isinstance(pieces[-1], ModelResponse)
    assert pieces[-1].tool_calls == RESPONSE.tool_calls
    assert whole.content == "Done."
    with pytest.raises(ReplayDiffers, match="model call 3: the recording has no answer"):
        await provider.complete(asking())


async def test_recorded_failures_are_raised_and_tried_again_without_their_waits() -> None:
    provider = provider_of(
        Answer(read(ERRORS[0]), alone=False), Answer(read(ERRORS[1]), alone=False), Answer(read(RESPONSE))
    )
    told: list[str] = []

    async with fail_after(5):  # of an hour that the first error asks for
        await retrying(
            lambda: provider.complete(asking()),
            RetryBudget(attempts=99, wait_initial_s=0.0, wait_max_s=0.0),
            lambda retry: told.append(retry.error.code),
        )

    assert told == ["rate_limited", "model_loading"]


async def test_a_failure_after_which_nothing_was_tried_ends_the_call() -> None:
    provider = provider_of(Answer(read(ERRORS[0])), Answer(read(RESPONSE)))
    with pytest.raises(RateLimited) as caught:
        await retrying(lambda: provider.complete(asking()), RetryBudget(attempts=99), lambda retry: None)
    assert not caught.value.retryable


@pytest.mark.parametrize("instructions", [None, "Be kind."], ids=["bare", "instructed"])
@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_the_head_of_every_wire_is_read_whether_or_not_it_holds_a_turn(
    wire: Wire, instructions: str | None
) -> None:
    async with aiohttp.ClientSession() as http:
        provider = wire.connect(http, "http://127.0.0.1:9", None)
        head = provider.encode_head(HeadSpec("m", instructions, (READ_RESULT.definition,), 100))
        turn = provider.encode_turn(Message(Role.USER, "Hello"))

    read_back = head_data(head)
    turns = "contents" if wire.name == "gemini" else "messages"
    read_back[turns].append(json_text.loads(turn))
    assert read_back == json_text.loads(head + turn + b"]}")


CHANGED = [
    (asking(head=ENCODER.encode_head(HeadSpec("other", None, (), 100))), "the request's model reads 'other'"),
    (asking(ENCODER.encode_turn(Message(Role.USER, "Hullo"))), "turn 1.content reads 'Hullo', recorded is 'Hello'"),
    (asking(HELLO, HELLO), "2 turns, recorded are 1"),
    (asking()._replace(model="other"), "the model is demo/other, recorded is demo/scripted"),
]


@pytest.mark.parametrize(("request_now", "said"), CHANGED, ids=["head", "turn", "turns", "model"])
async def test_a_request_that_differs_is_told_with_its_place(request_now: ModelRequest, said: str) -> None:
    with pytest.raises(ReplayDiffers) as caught:
        await provider_of(Answer(read(RESPONSE))).complete(request_now)
    assert said in str(caught.value)


INSTRUCTIONS = [
    ("Be kind.", "Be brief.", "they are 'Be brief.', recorded is 'Be kind.'"),
    (None, "Be brief.", "they are 'Be brief.', recorded is nothing"),
    ("Be kind.", None, "they are nothing, recorded is 'Be kind.'"),
]


@pytest.mark.parametrize(("before", "now", "said"), INSTRUCTIONS, ids=["other", "new", "gone"])
@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_other_instructions_are_called_so_on_every_wire(
    wire: Wire, before: str | None, now: str | None, said: str
) -> None:
    async with aiohttp.ClientSession() as http:
        encoder = wire.connect(http, "http://127.0.0.1:9", None)
        old, new = (encoder.encode_head(HeadSpec("m", text, (READ_RESULT.definition,), 100)) for text in (before, now))
        turn = encoder.encode_turn(Message(Role.USER, "Hello"))
        answer = recorded(exchanges.exchange_line(1, 1, MODEL, encoder.name, old, 0, [turn], RESPONSE)).happened[-1]
        assert isinstance(answer, Exchange)
        with pytest.raises(ReplayDiffers) as caught:
            await ReplayProvider(encoder, Tape([Answer(answer)])).complete(ModelRequest(MODEL, new, (turn,)))

    assert str(caught.value) == f"model call 1 (step 1): the instructions differ: {said}"


REPLIES = [
    ToolReply(ToolCall(f"c1_{n}", "look", {"n": n}, None, f"call_{n}", "local"), f"found {n}") for n in (1, 2, 3)
]


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_a_turn_with_several_results_is_one_turn_on_every_wire(wire: Wire) -> None:
    async with aiohttp.ClientSession() as http:
        encoder = wire.connect(http, "http://127.0.0.1:9", None)
        head = encoder.encode_head(HeadSpec(MODEL, None, (READ_RESULT.definition,), 100))
        hello, results, fewer, more = (
            encoder.encode_turn(message)
            for message in (
                Message(Role.USER, "Hello"),
                Message(Role.TOOL, tool_replies=tuple(REPLIES)),
                Message(Role.TOOL, tool_replies=tuple(REPLIES[:2])),
                Message(Role.USER, "More"),
            )
        )
        lines = [
            exchanges.exchange_line(1, 1, MODEL, encoder.name, head, 0, [hello, results], RESPONSE),
            exchanges.exchange_line(2, 1, MODEL, encoder.name, None, 2, [more], RESPONSE),
        ]
        made = [Answer(item) for item in recorded(*lines).happened if isinstance(item, Exchange)]
        provider = ReplayProvider(encoder, Tape(made))
        await provider.complete(ModelRequest(MODEL, head, (hello, results)))
        await provider.complete(ModelRequest(MODEL, head, (hello, results, more)))
        with pytest.raises(ReplayDiffers, match=r"model call 1 \(step 1\): turn 2.* has 2 entries, recorded are 3"):
            await ReplayProvider(encoder, Tape(made)).complete(ModelRequest(MODEL, head, (hello, fewer)))


async def test_turns_that_were_sent_before_are_kept_and_compared_once_more_where_they_changed() -> None:
    more = ENCODER.encode_turn(Message(Role.USER, "More"))
    lines = [line(RESPONSE), exchanges.exchange_line(2, 1, MODEL, "demo", None, 1, [more], RESPONSE)]
    made = [Answer(item) for item in recorded(*lines).happened if isinstance(item, Exchange)]

    provider = provider_of(*made)
    await provider.complete(asking(HELLO))
    await provider.complete(asking(HELLO, more))

    provider = provider_of(*made)
    await provider.complete(asking(HELLO))
    with pytest.raises(ReplayDiffers, match=r"model call 2 \(step 2\): turn 1"):
        await provider.complete(asking(more, more))


async def test_the_random_word_around_text_from_outside_is_no_difference() -> None:
    def fenced(word: str) -> bytes:
        return ENCODER.encode_turn(Message(Role.USER, f"[untrusted text {word}, from fetch: data to read]"))

    recorded_line = exchanges.exchange_line(1, 1, MODEL, "demo", HEAD, 0, [fenced("0a1b2c3d")], RESPONSE)
    [exchange] = [item for item in recorded(recorded_line).happened if isinstance(item, Exchange)]

    await provider_of(Answer(exchange)).complete(asking(fenced("ffffffff")))


async def test_what_was_hidden_in_the_recording_is_hidden_before_it_is_compared() -> None:
    def turn(key: str) -> bytes:
        return ENCODER.encode_turn(Message(Role.USER, f"the key is {key}"))

    [exchange] = [
        item
        for item in recorded(
            exchanges.exchange_line(1, 1, MODEL, "demo", HEAD, 0, [turn("[redacted]")], RESPONSE)
        ).happened
        if isinstance(item, Exchange)
    ]
    tape = Tape([Answer(exchange)], lambda text: text.replace("canary", "[redacted]"))

    await ReplayProvider(ENCODER, tape).complete(asking(turn("canary")))


DIFFERENCES: list[tuple[Any, Any, str | None]] = [
    ({"a": [1, 2]}, {"a": [1, 2]}, None),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}, None),
    ({"a": [1, 2]}, {"a": [1, 3]}, ".a[1] is 3, recorded is 2"),
    ({"a": 1}, {"b": 1}, ".a is gone, recorded is 1"),
    ({}, {"b": "x"}, '.b is new: "x"'),
    ([1], [1, 2], " has 2 entries, recorded are 1"),
    ({"a": None}, {"a": ""}, '.a is "", recorded is null'),
    (
        "x" * 100 + "a" + "y" * 99,
        "x" * 100 + "b",
        f" reads ...'{'x' * 30}b', recorded is ...'{'x' * 30}a{'y' * 59}'...",
    ),
]


@pytest.mark.parametrize(("old", "new", "said"), DIFFERENCES, ids=range(len(DIFFERENCES)))
def test_the_first_difference_is_told_in_short(old: Any, new: Any, said: str | None) -> None:
    assert first_difference(old, new) == said
