"""What whoever watches is told of an answer: all of its text, and no secret in it, however it was cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_ai.agents.live_answer import LiveAnswer, joined
from conductor_ai.observability.redaction import REDACTED, Redactor
from conductor_ai.providers.scripted import call, say
from conductor_ai.schemas.credentials import forms_of
from conductor_ai.schemas.deltas import (
    Delta,
    ReasoningDelta,
    Stop,
    TextDelta,
    ToolArguments,
    ToolCallEnd,
    ToolCallStart,
    UsageUpdate,
)
from conductor_ai.schemas.messages import StopReason
from conductor_ai.schemas.usage import Usage
from tests.agents.conftest import TASK, Bench, Tool, answering

SECRET = "canary-0123456789-abcdef"


def heard(pieces: Sequence[Delta], *secrets: str, ended: bool = True) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    live = LiveAnswer(3, Redactor(secrets), told.append)
    for piece in pieces:
        live.take(piece)
    if ended:
        live.end()
    return told


def text_of(told: Sequence[dict[str, Any]], kind: str = "text") -> str:
    return "".join(item["text"] for item in told if item["kind"] == kind)


async def test_a_secret_that_comes_in_many_pieces_is_told_to_nobody(bench: Bench) -> None:
    text = f"The key is {SECRET}, and so it goes on: {SECRET}"
    answer = call("look", {"key": SECRET, "n": 1}, text=text)
    runner = await bench.runner([answer, say("Done.")], [Tool("look", answering(1))])
    bench.runtime.redactor.add(SECRET)

    items = [item async for item in runner.stream(TASK)]

    pieces = [item["payload"] for item in items if item["type"] == "model.delta" and item["payload"]["step_no"] == 1]
    [stored] = [item["payload"] for item in items if item["type"] == "model.completed"][:1]
    assert len([piece for piece in pieces if piece["kind"] == "text"]) > 2
    assert text_of(pieces) == stored["content"] == text.replace(SECRET, REDACTED)
    assert json.loads(text_of(pieces, "tool_arguments")) == {"key": REDACTED, "n": 1}
    assert "canary" not in json.dumps(items)


# Of two letters: so beginnings of secrets are everywhere, and secrets overlap.
SHORT, WORDS = st.text("ab", max_size=4), st.text("ab", min_size=8, max_size=12)


@st.composite
def cut_texts(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Secrets, some within others, and the pieces of a text with many of their beginnings and some of them whole."""
    secrets = draw(st.lists(WORDS, min_size=1, max_size=2))
    secrets += [draw(SHORT) + secret + draw(SHORT) for secret in secrets]
    beginnings = [secret[:end] for secret in secrets for end in range(1, len(secret) + 1)]
    text = "".join(draw(st.lists(st.sampled_from(["-", *secrets, *beginnings]), max_size=12)))
    ends = sorted(draw(st.sets(st.integers(0, len(text)))) | {0, len(text)})
    return secrets, [text[start:end] for start, end in pairwise(ends)]


@given(cut_texts())
def test_however_a_text_is_cut_its_pieces_join_to_the_clean_text(drawn: tuple[list[str], list[str]]) -> None:
    secrets, pieces = drawn
    told = heard([TextDelta(piece) for piece in pieces], *secrets)
    assert text_of(told) == Redactor(secrets).clean("".join(pieces))
    assert all(item["text"] for item in told)


@pytest.mark.parametrize("secret", ["hunter2hunter2/", "ÿ>?~pass word"], ids=["plain", "odd"])
def test_every_form_of_a_secret_is_hidden_wherever_it_is_cut(secret: str) -> None:
    for form in forms_of(secret):
        for cut in range(1, len(form)):
            told = heard([TextDelta("x" + form[:cut]), TextDelta(form[cut:])], secret, ended=False)
            assert REDACTED in text_of(told), (form, cut)


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_the_forms_of_a_secret_are_found_across_pieces(size: int) -> None:
    secret = 'p@ss/w"ord+\\ünd?~'
    arguments = json.dumps({"key": secret, "deeper": json.dumps(secret), "safe": "x"})
    pieces = [ToolArguments(0, arguments[start : start + size]) for start in range(0, len(arguments), size)]
    told = heard([ToolCallStart(0, "look"), *pieces, ToolCallEnd(0)], secret)
    assert json.loads(text_of(told, "tool_arguments")) == {"key": REDACTED, "deeper": f'"{REDACTED}"', "safe": "x"}


def test_only_what_may_begin_a_secret_is_held_back() -> None:
    pieces = ["It is 9 can", "non", "balls, ", SECRET, "!"]
    told = heard([TextDelta(piece) for piece in pieces], SECRET, ended=False)
    assert [item["text"] for item in told] == ["It is 9 ", "cannon", "balls, ", REDACTED, "!"]


def test_texts_of_each_kind_and_call_are_joined_apart() -> None:
    first, second = SECRET[:9], SECRET[9:]
    pieces: list[Delta] = [
        TextDelta(first),
        ReasoningDelta(first),
        ToolCallStart(0, "look"),
        ToolCallStart(1, "look"),
        ToolArguments(0, first),
        ToolArguments(1, first),
        ToolArguments(1, second),
        ToolArguments(0, " off"),
        ToolCallEnd(1),
        ToolCallEnd(0),
        TextDelta(second),
    ]
    told = heard(pieces, SECRET)
    arguments = {item["call_index"]: item["text"] for item in told if item["kind"] == "tool_arguments"}
    assert arguments == {0: f"{first} off", 1: REDACTED}
    assert (text_of(told), text_of(told, "reasoning")) == (REDACTED, first)


def test_what_was_held_back_comes_before_the_end_of_its_call_and_of_the_answer() -> None:
    pieces: list[Delta] = [TextDelta("see can"), ToolCallStart(0, "x"), ToolArguments(0, "{can"), ToolCallEnd(0)]
    told = heard([*pieces, Stop(StopReason.TOOL_USE), TextDelta("c")], SECRET)
    assert [(item["kind"], item.get("text")) for item in told] == [
        ("text", "see "),
        ("tool_call_start", None),
        ("tool_arguments", "{"),
        ("tool_arguments", "can"),
        ("tool_call_end", None),
        ("text", "can"),
        ("stop", None),
        ("text", "c"),
    ]


def test_a_piece_is_plain_json_data() -> None:
    pieces: list[Delta] = [
        ReasoningDelta("r"),
        ToolCallStart(2, f"look-{SECRET}"),
        ToolArguments(2, "{}"),
        ToolCallEnd(2),
        UsageUpdate(Usage(input_tokens=3)),
        Stop(StopReason.END_TURN),
    ]
    told = heard(pieces, SECRET)
    assert told == [
        {"step_no": 3, "kind": "reasoning", "text": "r"},
        {"step_no": 3, "kind": "tool_call_start", "call_index": 2, "name": f"look-{REDACTED}"},
        {"step_no": 3, "kind": "tool_arguments", "call_index": 2, "text": "{}"},
        {"step_no": 3, "kind": "tool_call_end", "call_index": 2},
        {"step_no": 3, "kind": "usage", "usage": Usage(input_tokens=3).to_dict()},
        {"step_no": 3, "kind": "stop", "reason": "end_turn"},
    ]
    assert type(told[-1]["reason"]) is str


def test_of_counts_the_first_and_the_last_are_told() -> None:
    counts = [UsageUpdate(Usage(output_tokens=number)) for number in (1, 2, 3)]
    pieces: list[Delta] = [
        counts[0],
        TextDelta("a"),
        counts[1],
        TextDelta("b"),
        counts[2],
        Stop(StopReason.END_TURN),
        counts[2],
    ]
    told = heard(pieces)
    assert [item.get("text") or item.get("usage", {}).get("output_tokens") for item in told] == [1, "a", "b", 3, None]


def test_a_secret_that_becomes_known_is_hidden_from_then_on() -> None:
    told: list[dict[str, Any]] = []
    redactor = Redactor()
    live = LiveAnswer(1, redactor, told.append)
    live.take(TextDelta("x" + SECRET[:4]))
    redactor.add("other-0123456789")
    live.take(TextDelta(" other"))
    redactor.add(SECRET)
    live.take(TextDelta("-0123456789 " + SECRET[:4]))
    live.take(TextDelta(SECRET[4:]))
    live.end()
    assert text_of(told) == f"x{SECRET[:4]} {REDACTED} {REDACTED}"


def test_pieces_that_were_kept_come_as_few_and_say_the_same() -> None:
    counts = [UsageUpdate(Usage(output_tokens=number)) for number in (1, 2, 3)]
    pieces: list[Delta] = [
        ReasoningDelta("Hm"),
        ReasoningDelta("m."),
        *(piece for number, count in enumerate(counts) for piece in (TextDelta(f"{number} "), count)),
        ToolCallStart(0, "look"),
        ToolArguments(0, '{"a"'),
        ToolArguments(0, ": 1}"),
        ToolArguments(1, "{}"),
        ToolCallEnd(0),
        Stop(StopReason.TOOL_USE),
    ]
    few = list(joined(pieces))

    assert few == [
        ReasoningDelta("Hmm."),
        TextDelta("0 1 2 "),
        counts[-1],
        ToolCallStart(0, "look"),
        ToolArguments(0, '{"a": 1}'),
        ToolArguments(1, "{}"),
        ToolCallEnd(0),
        Stop(StopReason.TOOL_USE),
    ]
    assert [type(piece) for piece in few][:2] == [ReasoningDelta, TextDelta]
    assert list(joined(pieces[-1:])) == pieces[-1:]
