"""What a model's text comes to: calls in all the forms that models write, and answers that stay answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_ai.providers.text_react_parser import Reading, read_answer, read_lone_calls

OFFERED = frozenset({"find", "send-mail"})
X = ("find", {"what": "x"})
NATIVE_JSON = '{"name": "find", "arguments": {"what": "x"}}'
# DeepSeek's tokens as its template has them, and as some hosts pass them on.
BAR, BLOCK = "\uff5c", "\u2581"
LEAKED = "<|tool_calls_begin|><|tool_call_begin|>function<|tool_sep|>find\n```json\n{}\n```<|tool_call_end|>"


def deepseek(text: str) -> str:
    return text.replace("|", BAR).replace("_", BLOCK)


def made(reading: Reading | None) -> list[tuple[str, Any]]:
    assert reading is not None
    return [(call.name, call.arguments) for call in reading.calls]


READABLE = {
    "our form": 'Thought: I look.\nAction: find\nAction Input: {"what": "x"}',
    "without a thought": 'Action: find\nAction Input: {"what": "x"}',
    "CR LF": 'Thought: I look.\r\nAction: find\r\nAction Input: {"what": "x"}\r\n',
    "bold": '**Thought:** I look.\n**Action:** find\n**Action Input:** {"what": "x"}',
    "quoted name": 'Action: `find`\nAction Input: {"what": "x"}',
    "numbered": 'Action 1: find\nAction Input 1: {"what": "x"}',
    "wide colon": 'Action\uff1afind\nAction Input\uff1a{"what": "x"}',
    "fenced input": 'Action: find\nAction Input:\n```json\n{"what": "x"}\n```',
    "input over lines": 'Action: find\nAction Input: {\n  "what":\n    "x"\n}\n',
    "a remark behind": 'Action: find\nAction Input: {"what": "x"} (only once)',
    "all fenced": '```\nAction: find\nAction Input: {"what": "x"}\n```',
    "as a function": 'Action: find({"what": "x"})',
    "inline": 'Action: find {"what": "x"}',
    "JSON action": 'Thought: so.\nAction:\n```json\n{"action": "find", "action_input": {"what": "x"}}\n```',
    "single quotes": "Action: find\nAction Input: {'what': 'x'}",
    "trailing comma": 'Action: find\nAction Input: {"what": "x",}',
    "bare JSON": NATIVE_JSON,
    "fenced JSON": f"```json\n{NATIVE_JSON}\n```",
    "JSON behind prose": f"I will look.\n\n```json\n{NATIVE_JSON}\n```",
    "JSON on the last line": f"I will look.\n{NATIVE_JSON}",
    "tool and tool_input": '{"tool": "find", "tool_input": {"what": "x"}}',
    "action and action_input": '{"action": "find", "action_input": {"what": "x"}}',
    "function": '{"type": "function", "function": {"name": "find", "arguments": "{\\"what\\": \\"x\\"}"}}',
    "parameters": '{"type": "function", "name": "find", "parameters": {"what": "x"}}',
    "tool_calls": f'{{"tool_calls": [{NATIVE_JSON}]}}',
    "tags": f"<tool_call>\n{NATIVE_JSON}\n</tool_call>",
    "tags behind prose": f"Let me look.\n<tool_call>\n{NATIVE_JSON}\n</tool_call><|im_end|>",
    "a tag left open": f"<tool_call>{NATIVE_JSON}",
    "a fence in a tag": f"<tool_call>\n```json\n{NATIVE_JSON}\n```\n</tool_call>",
    "DeepSeek R1": deepseek(LEAKED).replace("{}", '{"what": "x"}'),
    "DeepSeek R1 in ASCII": LEAKED.replace("{}", '{"what": "x"}'),
    "DeepSeek V3.1": deepseek('<|tool_call_begin|>find<|tool_sep|>{"what": "x"}<|tool_call_end|><|tool_calls_end|>'),
    "DeepSeek, the first tokens lost": deepseek('function<|tool_sep|>find\n{"what": "x"}<|tool_call_end|>'),
    "Kimi": '<|tool_call_begin|>functions.find:0<|tool_call_argument_begin|>{"what": "x"}<|tool_call_end|>',
    "thinking without its first tag": f"Action: send-mail\nAction Input: {{}}\n</think>\n\n{NATIVE_JSON}",
    "thinking left in": f"<think>Action: send-mail\nAction Input: {{}}\n</think>\n{NATIVE_JSON}",
}


@pytest.mark.parametrize("text", READABLE.values(), ids=READABLE)
def test_one_call_is_read_in_any_form(text: str) -> None:
    assert made(read_answer(text, OFFERED)) == [X]


def test_deepseek_tokens_are_the_ones_of_its_template() -> None:
    assert deepseek("<|tool_sep|>") == "<\uff5ctool\u2581sep\uff5c>"


@pytest.mark.parametrize(
    "text",
    [
        'Action: find\nAction Input: {"what": "x"}\nAction: send-mail\nAction Input: {}',
        'Action: find\nAction Input: {"what": "x"}\n\nThought: and\nAction: send-mail\nAction Input: None',
        f'[{NATIVE_JSON}, {{"name": "send-mail", "arguments": {{}}}}]',
        f'{NATIVE_JSON}\n{{"name": "send-mail", "arguments": ""}}',
        f'<tool_call>{NATIVE_JSON}</tool_call>\n<tool_call>{{"name": "send-mail", "arguments": {{}}}}</tool_call>',
        f'<tool_call>{NATIVE_JSON}<tool_call>{{"name": "send-mail", "arguments": {{}}}}</tool_call>',
        deepseek('find<|tool_sep|>{"what": "x"}<|tool_call_end|>\n<|tool_call_begin|>send-mail<|tool_sep|>{}'),
        deepseek(
            'find<|tool_sep|>{"what": "x"}<|tool_call_end|><|tool_call_begin|>send-mail<|tool_sep|><|tool_call_end|>'
        ),
    ],
    ids=["lines", "thoughts between", "list", "JSON lines", "tags", "tags left open", "tokens", "no arguments"],
)
def test_several_calls_keep_their_order(text: str) -> None:
    assert made(read_answer(text, OFFERED)) == [X, ("send-mail", {})]


@pytest.mark.parametrize("given", ["", " {}", " None", " null", "\n```json\n{}\n```", " ()"])
def test_no_arguments_are_an_empty_object(given: str) -> None:
    assert made(read_answer(f"Action: find\nAction Input:{given}\nObservation: 3", OFFERED)) == [("find", {})]
    assert made(read_answer("Action: find", OFFERED)) == [("find", {})]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("{'say': 'it\\'s \"so\"', 'yes': True, 'no': False, 'none': None}", {"say": 'it\'s "so"'}),
        ('{"say": "a, ]", "n": [1, 2, ],}', {"say": "a, ]", "n": [1, 2]}),
        ('{"say": "two\nlines\tand True, }"}', {"say": "two\nlines\tand True, }"}),
        ('{"n": 12345678901234567890123}', {"n": 12345678901234567890123}),
    ],
)
def test_only_what_is_no_json_is_repaired(given: str, read: dict[str, Any]) -> None:
    [(_, arguments)] = made(read_answer(f"Action: find\nAction Input: {given}", OFFERED))
    assert arguments is not None
    assert arguments.items() >= read.items()
    assert arguments.get("yes") in (True, None)
    assert arguments.get("none") is None


UNREADABLE = {
    "broken JSON": ('Action: find\nAction Input: {"what": "x"', "find"),
    "no JSON": ("Action: find\nAction Input: Munich", "find"),
    "a list": ("Action: find\nAction Input: [1]", "find"),
    "broken inline": ('Action: find {"what": x}', "find"),
    "an unknown tool": ("Action: buy\nAction Input: {}", "buy"),
    "a name that no provider takes": ("Action: Final & done\nAction Input: 3", "Final___done"),
    "broken bare JSON": ('{"name": "find", "arguments": {"what": "x"}', "find"),
    "arguments that are no object": ('{"name": "find", "arguments": "Munich"}', "find"),
    "an unknown tool in a tag": ('<tool_call>{"name": "buy", "arguments": {}}</tool_call>', "buy"),
    "no object in a fenced tag": ('<tool_call>\n```json\n{"name": "find"}\n```\n</tool_call>\n</tools>', "find"),
    "rubbish in a tag": ("<tool_call>find it</tool_call>", "unreadable_call"),
    "broken arguments behind a token": (deepseek('find<|tool_sep|>{"what": <|tool_call_end|>'), "find"),
}


@pytest.mark.parametrize(("text", "name"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_looks_like_a_call_and_cannot_be_read_is_told_apart(text: str, name: str) -> None:
    reading = read_answer(text, OFFERED)
    assert made(reading) == [(name, None)]
    assert reading is not None
    assert reading.calls[0].raw


def test_a_call_that_cannot_be_read_does_not_hide_the_next() -> None:
    text = f"<tool_call>find it</tool_call>\n<tool_call>{NATIVE_JSON}</tool_call>"
    assert made(read_answer(text, OFFERED)) == [("unreadable_call", None), X]


PLAIN = {
    "text": "There are three dealers.",
    "empty": "",
    "JSON": '{"dealers": [{"name": "find", "city": "Munich"}]}',
    "JSON of a name": '{"name": "find"}',
    "JSON with more than a call has": '{"name": "find", "arguments": {}, "city": "Munich"}',
    "JSON of another type": '{"type": "company", "name": "find", "parameters": {}}',
    "a call of nobody": '{"name": "buy", "arguments": {"what": "x"}}',
    "a tool described": '{"name": "find", "parameters": {"type": "object", "properties": {}}}',
    "a fence in the middle": f"Write it so:\n```json\n{NATIVE_JSON}\n```\nThen it runs.",
    "minutes of a meeting": "Action: John calls the dealer.\nObservation: he is late.\nThought: so are we.",
    "a list of actions": "- Action: find out more\n- Action: send-mail later",
    "a quoted page": '> Action: find\n> Action Input: {"what": "x"}\n\nThat is what the page says.',
    "talk about tags": "The template has <tool_call> and </tool_call> around a call.",
    "talk about tokens": deepseek("It ends with <|tool_sep|> and so on."),
    "a derivation": "We add 40 and 2.\n\n**Final Answer:** 42",
    "JSON behind an answer": f"It is so.\nFinal Answer: it is\n```json\n{NATIVE_JSON}\n```",
    "thinking that never ends": f"<think>I write:\n{NATIVE_JSON}",
    "JSON shown on a line": f"It looks like this:\n{NATIVE_JSON}\nand then it runs.",
    "an action without a name": "Action: {now}\nAction:\nwe go.",
    "calls in an answer": "We add.\nFinal Answer: 42\nAction: find\nAction Input: {}",
    "calls only thought of": '<think>Action: find\nAction Input: {"what": "x"}</think>There are three.',
}


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN)
def test_a_plain_answer_is_left_as_it_is(text: str) -> None:
    assert read_answer(text, OFFERED) is None
    assert read_lone_calls(text, OFFERED) == ()


def test_without_offered_tools_nothing_is_read() -> None:
    for text in READABLE.values():
        assert read_answer(text, frozenset()) is None
        assert read_lone_calls(text, frozenset()) == ()


@pytest.mark.parametrize(
    "text",
    [
        "Final Answer: 42 **cars**",
        "Thought: I know it.\nFinal Answer: 42 **cars**",
        "**Final Answer:** 42 **cars**\n",
        "<think>hm</think>\nThought: I know it.\n\nFinal Answer:\n42 **cars**",
        "Action: none\nAction Input: none\nFinal Answer: 42 **cars**",
    ],
)
def test_the_label_of_a_final_answer_is_taken_off(text: str) -> None:
    reading = read_answer(text, OFFERED)
    assert reading == Reading("42 **cars**", (), len(text))


def test_what_stands_in_a_final_answer_is_no_call() -> None:
    answer = f'To search, write:\nAction: find\nAction Input: {{"what": "x"}}\n<tool_call>{NATIVE_JSON}</tool_call>'
    assert read_answer(f"Final Answer: {answer}", OFFERED) == Reading(answer, (), len(f"Final Answer: {answer}"))


@pytest.mark.parametrize("call", [NATIVE_JSON, f"Let me look.\n```json\n{NATIVE_JSON}\n```"], ids=["bare", "fenced"])
@pytest.mark.parametrize("made_up", ["Observation: 3", "Final Answer: 3"])
def test_what_follows_a_call_in_json_does_not_count_either(call: str, made_up: str) -> None:
    reading = read_answer(f"{call}\n{made_up}\nObservation: 4", OFFERED)
    assert made(reading) == [X]
    assert reading is not None
    assert (reading.end, reading.guessed) == (len(call), True)


@pytest.mark.parametrize("made_up", ["Observation: 3 found", "Observation (c1_0, find): 3", "**Observation:** 3"])
def test_an_observation_that_the_model_made_up_does_not_count(made_up: str) -> None:
    call = 'Thought: I look.\nAction: find\nAction Input: {"what": "x"}'
    text = f"{call}\n{made_up}\nAction: send-mail\nAction Input: {{}}\nFinal Answer: 3"
    reading = read_answer(text, OFFERED)
    assert made(reading) == [X]
    assert reading is not None
    assert (text[: reading.end], reading.said, reading.guessed) == (call, "I look.", True)


def test_marks_inside_of_arguments_are_arguments() -> None:
    what = "Observation: no\nAction: send-mail\nAction Input: {}\nFinal Answer: done </think>"
    for written in (json.dumps({"what": what}), f'{{"what": "{what}"}}'):
        assert made(read_answer(f"Action: find\nAction Input: {written}", OFFERED)) == [("find", {"what": what})]
        lone = f'{{"name": "find", "arguments": {written}}}'
        assert made(read_answer(lone, OFFERED)) == [("find", {"what": what})]


@pytest.mark.parametrize("fenced", [False, True])
@pytest.mark.parametrize("call", [NATIVE_JSON, '{"name": "find", "arguments": "{\\"what\\": \\"x\\"}"}'])
def test_a_lone_call_as_json_is_read(call: str, fenced: bool) -> None:
    text = f"```json\n{call}\n```" if fenced else f" {call}\n"
    assert [(made.name, made.arguments) for made in read_lone_calls(text, OFFERED)] == [X]


@pytest.mark.parametrize(
    "text",
    [
        f"Sure:\n{NATIVE_JSON}",
        f"{NATIVE_JSON}\nThat is all.",
        f"```json\n{NATIVE_JSON}\n```\n```json\n{{}}\n```",
        f"```json\n{{}}\n```\n```json\n{NATIVE_JSON}\n```",
        '{"name": "find", "arguments": "Munich"}',
        '{"name": "find", "arguments": ["x"]}',
        'Action: find\nAction Input: {"what": "x"}',
        f"[{NATIVE_JSON}, 1]",
    ],
)
def test_anything_but_a_lone_call_is_no_lone_call(text: str) -> None:
    assert read_lone_calls(text, OFFERED) == ()


PIECES = st.sampled_from(
    [
        *READABLE.values(), *PLAIN.values(), "Action:", "Action Input:", "Observation:", "Final Answer:", "Thought:",
        "find", "{", "}", "[", "]", '"', "'", "\\", "```", "`", "\n", " ", ",", ":", "<tool_call>", "</tool_call>",
        "<|tool_sep|>", deepseek("<|tool_sep|>"), "function", "</think>", '{"name":', '"arguments":', "(", ")", "None",
        "\ud800", "\0", "\u2028", "1" * 5000,
    ]
)  # fmt: skip
TEXTS = st.lists(PIECES | st.text(max_size=8), max_size=12).map("".join)


@given(text=TEXTS)
def test_whatever_a_model_writes_only_offered_tools_are_called(text: str) -> None:
    for reading in (read_answer(text, OFFERED), Reading("", read_lone_calls(text, OFFERED), len(text))):
        if reading is None:
            continue
        assert 0 <= reading.end <= len(text)
        for call in reading.calls:
            assert call.name in OFFERED or call.arguments is None
            assert call.arguments is None or isinstance(call.arguments, dict)
            assert (call.arguments is None) == (call.raw is not None)
            assert len(call.name) <= 64


@given(text=st.text(st.characters(exclude_characters=":\uff1a{[<"), max_size=200))
def test_text_without_a_mark_is_a_plain_answer(text: str) -> None:
    assert read_answer(text, OFFERED) is None


@given(
    arguments=st.dictionaries(
        st.text(max_size=8),
        st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=8), max_size=2),
        max_size=3,
    ),
    indent=st.sampled_from([None, 2]),
    ascii_only=st.booleans(),
)
def test_arguments_come_through_exactly(arguments: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    given_as = json.dumps(arguments, indent=indent, ensure_ascii=ascii_only)
    assert made(read_answer(f"Action: find\nAction Input: {given_as}\nObservation: 3", OFFERED)) == [
        ("find", arguments)
    ]


HOSTILE = {
    "open quotes": 'Action: find\nAction Input: {"' + '\\"' * 20_000,
    "open brackets": "Action: find\nAction Input: " + '{"a":' * 20_000,
    "closed deep": "Action: find\nAction Input: " + '{"a":' * 20_000 + "1" + "}" * 20_000,
    "commas": "Action: find\nAction Input: {" + ", " * 20_000 + "}",
    "lines": "Action: find\n" * 5_000,
    "tags": "<tool_call>" * 5_000,
    "tokens": "<|a|>" * 20_000,
    "blanks": "Action:" + " " * 50_000 + "x",
    "stars": "*" * 50_000 + "Action",
    "fences": "```" * 20_000,
    "braces on lines": "{\n" * 20_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_read_to_its_end(text: str) -> None:
    reading = read_answer(text, OFFERED)
    assert reading is None or all(call.name in OFFERED for call in reading.calls if call.arguments is not None)
