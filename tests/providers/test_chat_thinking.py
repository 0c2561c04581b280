"""Thinking that a host left in the text of a chat completion: it is reasoning, whole and streamed, and no answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_ai.providers import chat_completions
from conductor_ai.providers.chat_stream import ChatAssembly
from conductor_ai.providers.sse import SSEParser, SSEvent
from conductor_ai.providers.text_react import TextReAct
from conductor_ai.schemas.deltas import Delta, ReasoningDelta, Stop, TextDelta
from conductor_ai.schemas.messages import ModelResponse, StopReason
from tests.providers.lines import FIND, HELLO, Line, connected, own_turn
from tests.providers.stream_wires import pieces
from tests.providers.wires import LOCAL, OPENROUTER
from tests.servers.chat_completions import DONE, chunk, reply, tool_call


@pytest.fixture(params=[OPENROUTER, LOCAL], ids=lambda wire: wire.name)
async def line(request: pytest.FixtureRequest, http: aiohttp.ClientSession) -> AsyncIterator[Line]:
    async with connected(request.param, http) as made:
        yield made


OPENED = {
    "prose": ("<think>secret</think>\nIt is 41.", "secret", "It is 41."),
    "lines": ("\n<think>\nhm\n</think>\n\nIt is\n41.\n", "hm\n", "It is\n41.\n"),
    "same line": ("<think>x</think>Final Answer: ok", "x", "Final Answer: ok"),
    "nothing thought": ("<think>\n\n</think>\n\nIt is 41.", "", "It is 41."),
    "nothing said": ("<think>hm</think>\n", "hm", ""),
    "tags and signs in it": (
        "<think>a < b </thin <think> </ think></think><b>",
        "a < b </thin <think> </ think>",
        "<b>",
    ),
    "a fence in it": ("<think>```\nx</think>{}", "```\nx", "{}"),
    "closed at once": ("</think>\n\nIt is 41.", "", "It is 41."),
    "the tag again, in the answer": ("<think>hm</think>It ends with\n</think>", "hm", "It ends with\n</think>"),
}
UNOPENED = {
    "a line": ("hm\n</think>\n\nIt is 41.", "hm\n", "It is 41."),
    "same line": ("hm\n</think>Action: find", "hm\n", "Action: find"),
    "behind a sentence": ('He says "go".\nSo I go.</think>It is 41.', 'He says "go".\nSo I go.', "It is 41."),
    "behind a word": ("hm hm</think>\nFinal Answer: ok", "hm hm", "Final Answer: ok"),
    "data": ('hm\r\n</think>\r\n\r\n{"n": 41}', "hm\r\n", '{"n": 41}'),
    "a fence in it": ("so:\n```\n</think>\n```\nhm.\n</think>\n41", "so:\n```\n</think>\n```\nhm.\n", "41"),
    "an inch in it": ('27" it is.\nhm.</think>41', '27" it is.\nhm.', "41"),
    "nothing said": ("hm\n</think>\n", "hm\n", ""),
}
UNTOUCHED = {
    "plain": "It is 41.",
    "white space": " \n It is 41. \n",
    "only white space": " \n ",
    "a part of a tag": "\n<thin",
    "a part of the other": " </think",
    "another tag": "<thinking>x</thinking>It is 41.",
    "talk": "Strip everything up to </think> before you parse it.",
    "talk of both": "It begins with <think>\nand ends with\n</think>\nalways.",
    "an attribute": 'XML: <think kind="x">hm.</think>41',
    "inline code": "Write `hm.</think>41` there, or `x</think>`, or `\n`.",
    "code": "Do:\n\n```python\nhead = text.partition(\n</think>\n)\n```\n\nThat is all.",
    "code of one line": "stop = ['x</think>'] and x.split('</think>')",
    "other fences": "~~~\n</think>\n~~~",
    "indented code": "So:\n\n    </think>\n",
    "data": '{"a": "he said \\"hm.</think>41", "b": "x</think>y"}',
    "arguments": 'Action: find\nAction Input: {"what": "hm.</think>41"}',
}


def streamed_text(text: str, size: int = 3, finish: str = "stop") -> list[bytes]:
    cut = [text[at : at + size] for at in range(0, len(text), size)]
    return [*(chunk({"content": piece}) for piece in cut), chunk({}, finish), DONE]


async def both(line: Line, message: dict[str, Any], *events: bytes, finish: str = "stop") -> ModelResponse:
    """The complete answer, which must be the streamed one too."""
    body = reply({"role": "assistant", **message}, finish)
    line.server.will_answer(body=body)
    line.server.will_stream(*events[:-1], chunk(None, usage=body["usage"]), events[-1])
    whole = await line.ask(tools=(FIND,))
    assert (await line.stream(tools=(FIND,)))[1] == whole
    return whole


def told(deltas: list[Delta]) -> tuple[str, str]:
    """The reasoning and the text of a stream."""
    reasoning = "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta))
    return reasoning, "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


@pytest.mark.parametrize(("text", "thought", "said"), OPENED.values(), ids=OPENED)
async def test_a_thought_at_the_beginning_is_reasoning(line: Line, text: str, thought: str, said: str) -> None:
    whole = await both(line, {"content": text}, *streamed_text(text))
    assert (whole.reasoning, whole.content, whole.stop_reason) == (thought, said, StopReason.END_TURN)
    for size in (1, 4, 1000):
        line.server.will_stream(*streamed_text(text, size))
        deltas, _ = await line.stream()
        assert told(deltas) == (thought, said)


@pytest.mark.parametrize(("text", "thought", "said"), UNOPENED.values(), ids=UNOPENED)
async def test_a_thought_may_have_begun_in_the_prompt(line: Line, text: str, thought: str, said: str) -> None:
    whole = await both(line, {"content": text}, *streamed_text(text))
    assert (whole.reasoning, whole.content, whole.stop_reason) == (thought, said, StopReason.END_TURN)


@pytest.mark.parametrize("text", UNTOUCHED.values(), ids=UNTOUCHED)
async def test_what_is_no_thought_is_not_touched(line: Line, text: str) -> None:
    whole = await both(line, {"content": text}, *streamed_text(text))
    assert (whole.reasoning, whole.content, whole.stop_reason) == ("", text, StopReason.END_TURN)
    line.server.will_stream(*streamed_text(text))
    assert told((await line.stream())[0]) == ("", text)


@pytest.mark.parametrize("text", ["<think>still thinking", " <think>\nstill thinking"], ids=["bare", "white space"])
@pytest.mark.parametrize(
    ("finish", "stop"),
    [
        ("stop", StopReason.OTHER),
        ("length", StopReason.MAX_TOKENS),
        ("content_filter", StopReason.CONTENT_FILTER),
    ],
    ids=["stop", "length", "content_filter"],
)
async def test_a_thought_that_is_never_closed_is_no_answer(
    line: Line, text: str, finish: str, stop: StopReason
) -> None:
    whole = await both(line, {"content": text}, *streamed_text(text, finish=finish), finish=finish)
    assert (whole.reasoning, whole.content, whole.stop_reason) == ("still thinking", "", stop)
    line.server.will_stream(*streamed_text(text + " </thin", finish=finish))
    deltas, _ = await line.stream()
    assert told(deltas) == ("still thinking </thin", "")
    assert deltas[-1] == Stop(stop)


async def test_calls_beside_a_thought_are_made_closed_or_not(line: Line) -> None:
    call = tool_call("call_1", "find", '{"what": "x"}')
    for text in ("<think>hm", "<think>hm</think>\n"):
        message = {"content": text, "tool_calls": [call]}
        events = [
            chunk({"content": text}),
            chunk({"tool_calls": [{"index": 0, **call}]}),
            chunk({}, "tool_calls"),
            DONE,
        ]
        whole = await both(line, message, *events, finish="tool_calls")
        assert (whole.reasoning, whole.content, whole.stop_reason) == ("hm", "", StopReason.TOOL_USE)
        assert [made.arguments for made in whole.tool_calls] == [{"what": "x"}]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_in_a_field_of_its_own_stays(line: Line, name: str) -> None:
    for text, said in {
        "<think>hm</think>It is 41.": "It is 41.",
        "</think>\nIt is 41.": "It is 41.",
        "It ends with\n</think>\nalways.": "It ends with\n</think>\nalways.",
    }.items():
        events = [*(chunk({name: piece}) for piece in pieces("The field's words.")), *streamed_text(text)]
        whole = await both(line, {"content": text, name: "The field's words."}, *events)
        assert (whole.reasoning, whole.content) == ("The field's words.", said)
        line.server.will_stream(*events)
        assert told((await line.stream())[0]) == ("The field's words.", said)


async def test_the_turn_goes_back_as_it_came(line: Line) -> None:
    for text in (OPENED["lines"][0], UNOPENED["a line"][0]):
        whole = await both(line, {"content": text}, *streamed_text(text))
        line.server.will_answer(body=reply({"role": "assistant", "content": "ok"}))
        await line.ask(HELLO, own_turn(whole), HELLO)
        assert line.server.requests[-1].json["messages"][1] == {"role": "assistant", "content": text}


async def test_thinking_and_answer_are_told_as_they_come(line: Line) -> None:
    came = ["\n<th", "ink>", "\nhm", " a < b", "x</", "b></thi", "nk>\n", "\nIt", " is <", "think>"]
    line.server.will_stream(*(chunk({"content": piece}) for piece in came), chunk({}, "stop"), DONE)
    deltas, response = await line.stream()
    thought = [ReasoningDelta(text) for text in ("hm", " a < b", "x", "</b>")]
    said = [TextDelta(text) for text in ("It", " is <", "think>")]
    assert deltas == [*thought, *said, Stop(StopReason.END_TURN)]
    assert (response.reasoning, response.content) == ("hm a < bx</b>", "It is <think>")


@pytest.mark.parametrize("text", ["<think>x</think>", "x\n</think>", "x.</think>"], ids=["opened", "line", "word"])
async def test_a_call_in_text_may_stand_on_the_line_of_the_closing_tag(line: Line, text: str) -> None:
    provider = TextReAct(line.provider)
    asked = Line(line.wire, line.server, line.http, provider)
    said = text + 'Action: find\nAction Input: {"what": "x"}'
    whole = await both(asked, {"content": said}, *streamed_text(said))
    assert [(call.name, call.arguments) for call in whole.tool_calls] == [("find", {"what": "x"})]
    assert whole.stop_reason is StopReason.TOOL_USE


def assembled(text: str, cuts: list[int]) -> tuple[list[Delta], ModelResponse | None]:
    assembly = ChatAssembly(lambda *body: chat_completions.read("local", *body), {}, "m", may_close=True)
    cut = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
    events: list[SSEvent] = []
    for raw in [*(chunk({"content": piece}) for piece in cut), chunk({}, "stop"), DONE]:
        events += SSEParser().feed(raw)
    deltas: list[Delta] = []
    for piece, event in zip([*cut, "finish", "done"], events, strict=True):
        more = assembly.add(event)
        assert more is not None or piece in ("", "done"), "what is held back is progress all the same"
        deltas += more or []
    return deltas, assembly.whole()


FRAGMENTS = ("<think>", "</think>", "<th", "ink>", "</", "<", "hm.", "`", '"', "```", "\n", " ", "\\", "é", "🚗", "{")


@given(data=st.data())
def test_any_split_of_any_text_comes_to_the_complete_answer(data: st.DataObject) -> None:
    text = "".join(data.draw(st.lists(st.sampled_from(FRAGMENTS), max_size=12)))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    complete = reply({"role": "assistant", "content": text})
    whole = chat_completions.read("local", {**complete, "usage": None}, {}, "m")
    deltas, response = assembled(text, cuts)
    assert response == whole
    assert deltas[-1] == Stop(whole.stop_reason)
    begins_with_a_tag = text.lstrip().startswith(("<think>", "</think>"))
    assert told(deltas) == ((whole.reasoning, whole.content) if begins_with_a_tag else ("", text))
