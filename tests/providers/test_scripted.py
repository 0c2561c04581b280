"""The scripted model: what comes next follows from the conversation alone."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from conductor_ai.errors import RequestRefused
from conductor_ai.providers.base import HeadSpec, ModelRequest
from conductor_ai.providers.scripted import Cue, Moment, Script, ScriptedProvider, call, say, together
from conductor_ai.schemas.deltas import Stop, TextDelta, ToolArguments, ToolCallEnd, ToolCallStart, UsageUpdate
from conductor_ai.schemas.images import Image
from conductor_ai.schemas.messages import Message, ModelResponse, Role, StopReason, ToolCall, WireTurn
from conductor_ai.schemas.usage import Usage
from tests.providers.lines import FIND, HELLO, own_turn, replies_to


async def ask(script: Script, messages: Sequence[Message] = (HELLO,)) -> ModelResponse:
    """A new provider each time, as after a crash."""
    provider = ScriptedProvider(script)
    head = provider.encode_head(HeadSpec("scripted", "Sys", (FIND,), 100))
    return await provider.complete(ModelRequest("scripted", head, [provider.encode_turn(turn) for turn in messages]))


async def converse(script: Script, *results: tuple[str, ...]) -> list[Message]:
    """The conversation after each step's tools replied `results`."""
    messages = [HELLO]
    for step_no, contents in enumerate(results, 1):
        turn = own_turn(await ask(script, messages), step_no)
        messages += [turn, replies_to(turn, *contents)]
    return messages


async def test_it_says_what_stands_in_the_script_and_uses_no_token() -> None:
    response = await ask([say("Hi")])
    assert (response.content, response.tool_calls, response.stop_reason) == ("Hi", (), StopReason.END_TURN)
    assert (response.usage, response.billed_cost_usd, response.answered_by) == (Usage(), None, "scripted")


async def test_it_goes_on_from_the_turns_alone() -> None:
    script = [call("find", {"what": "a"}), call("find", {"what": "b"}, "More."), say("done")]
    first = await ask(script)
    assert (first.tool_calls[0].arguments, first.stop_reason) == ({"what": "a"}, StopReason.TOOL_USE)
    second = await ask(script, await converse(script, ("1",)))
    assert (second.content, second.tool_calls[0].arguments) == ("More.", {"what": "b"})
    assert (await ask(script, await converse(script, ("1",), ("2",)))).content == "done"


async def test_an_answer_is_made_out_of_what_the_tools_replied() -> None:
    script = [
        together(call("find", {"what": "a"}, "Both."), call("find", {"what": "b"})),
        call("sum", lambda moment: {"of": [reply.data for reply in moment.replies]}),
        say(lambda moment: f"{moment.prompt}: {moment.replies[0].content} of {len(moment.history)}"),
    ]
    first = await ask(script)
    assert first.content == "Both."
    assert [made.arguments for made in first.tool_calls] == [{"what": "a"}, {"what": "b"}]
    second = await ask(script, await converse(script, ("20", "22")))
    assert second.tool_calls[0].arguments == {"of": [20, 22]}
    assert (await ask(script, await converse(script, ("20", "22"), ("42",)))).content == "Hello: 42 of 3"


async def test_a_script_may_be_a_function_of_the_moment() -> None:
    seen: list[Moment] = []

    def script(moment: Moment) -> Cue:
        seen.append(moment)
        return call("find") if moment.turn == 0 else say("failed" if moment.replies[0].is_error else "fine")

    turn = own_turn(await ask(script))
    messages = [HELLO, turn, replies_to(turn, "no", is_error=True), Message(Role.USER, "And now?")]
    assert (await ask(script, messages)).content == "failed"
    assert (seen[-1].prompt, seen[-1].replies[0].tool, seen[-1].replies[0].arguments) == ("And now?", "find", {})


async def test_a_script_knows_how_many_images_the_newest_message_has() -> None:
    seen: list[tuple[str, int]] = []

    def script(moment: Moment) -> Cue:
        seen.append((moment.prompt, moment.images))
        return say("ok")

    image = Image("image/png", "iVBORw0KGgo=")
    two = Message(Role.USER, "Compare", images=(image, image))
    turn = own_turn(await ask(script, [two]))
    note = Message(Role.USER, "(3 turns left out)", left_out=3)
    await ask(script, [two, turn, note])
    await ask(script, [two, turn, Message(Role.USER, "And now?")])
    assert seen == [("Compare", 2), ("Compare", 2), ("And now?", 0)]
    provider = ScriptedProvider(script)
    assert json.loads(provider.encode_turn(two)) == {"role": "user", "content": "Compare", "images": 2}
    assert json.loads(provider.encode_turn(HELLO)) == {"role": "user", "content": "Hello"}


async def test_a_script_that_has_ended_says_so() -> None:
    with pytest.raises(RequestRefused, match="demo/scripted ends after 1 turns"):
        await ask([call("find")], await converse([call("find")], ("x",)))


async def test_it_reads_turns_that_another_model_made() -> None:
    made = ToolCall("c1_0", "find", {"what": "x"}, None, "toolu_1", "anthropic")
    turn = Message(Role.ASSISTANT, "Hm", (made,), wire=WireTurn("anthropic", b"{}"))
    answer = say(lambda moment: json.dumps(moment.replies[0].arguments))
    assert (await ask([say("never"), answer], [HELLO, turn, replies_to(turn, "1")])).content == '{"what": "x"}'


async def test_a_lone_surrogate_does_not_stop_it() -> None:
    answer = await ask([say(lambda moment: moment.prompt)], [Message(Role.USER, "a\ud800b")])
    assert answer.content == "a\ufffdb"


async def test_it_streams_its_text_in_pieces_and_then_the_same_answer() -> None:
    text = "Two things to find, one after the other; the answer follows. \U0001f697"
    script = [together(call("find", {"what": "a"}, text), call("find"))]
    provider = ScriptedProvider(script)
    request = ModelRequest("scripted", b"{}", [provider.encode_turn(HELLO)])
    *deltas, last = [item async for item in provider.stream(request)]
    texts = [delta.text for delta in deltas if isinstance(delta, TextDelta)]
    assert len(texts) > 3
    assert "".join(texts) == text
    assert deltas[len(texts) :] == [
        ToolCallStart(0, "find"),
        ToolArguments(0, '{"what":"a"}'),
        ToolCallEnd(0),
        ToolCallStart(1, "find"),
        ToolArguments(1, "{}"),
        ToolCallEnd(1),
        UsageUpdate(Usage()),
        Stop(StopReason.TOOL_USE),
    ]
    assert last == await provider.complete(request)


async def test_a_stream_of_a_script_that_has_ended_says_so() -> None:
    provider = ScriptedProvider([])
    with pytest.raises(RequestRefused):
        await anext(provider.stream(ModelRequest("scripted", b"{}", [provider.encode_turn(HELLO)])))
