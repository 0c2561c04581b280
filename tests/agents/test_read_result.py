"""read_result: what left the prompt, or was shown in part, is read back."""

from __future__ import annotations

import re
from typing import Any

import pytest

from conductor_ai.providers.scripted import Line, Moment
from conductor_ai.schemas.events import Event, EventType
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.sdk import BaseTool
from tests.agents.conftest import TASK, Bench, Tool, answering


def only(events: list[Event], kind: EventType) -> list[dict[str, Any]]:
    return [event.payload for event in events if event.type is kind]


@pytest.mark.parametrize("letter", ["a", "ж", "漢", "\ud800"], ids=["ascii", "cyrillic", "han", "lone surrogate"])
async def test_a_result_over_the_cap_is_kept_whole_and_read_on_part_by_part(bench: Bench, letter: str) -> None:
    text = "".join(f"{letter * 40}{number:06d}" for number in range(4_000))
    read: list[str] = []

    def script(moment: Moment) -> Line:
        if moment.turn == 0:
            return Line("", (("long", {}),))
        content = moment.replies[0].content
        found = re.search(r'"offset":(\d+)}|read on with offset (\d+)', content)
        if moment.turn > 1:
            read.append(content.split("\n", 1)[1])
        if found is None:
            return Line("done")
        return Line("", (("read_result", {"call_id": "c1_0", "offset": int(found[1] or found[2])}),))

    runner = await bench.runner(script, [Tool("long", answering(text))], limits={"max_result_chars": 30_000})
    session = await runner.run(TASK)

    assert session.status is SessionStatus.COMPLETED
    stored = only(await bench.events(session.session_id), EventType.TOOL_COMPLETED)[0]
    assert stored["result"] == text
    # What no text on a wire can hold is replaced there, one for one.
    assert text.replace("\ud800", "\ufffd").endswith("".join(read))
    assert len("".join(read)) == len(text) - 30_000


async def reads(bench: Bench, tool: BaseTool, *calls: dict[str, Any]) -> list[tuple[str, bool]]:
    """What `read_result` answers to each call, in a session that has called `tool` once."""
    answers: list[tuple[str, bool]] = []

    def script(moment: Moment) -> Line:
        if moment.turn > 1:
            answers.append((moment.replies[0].content, moment.replies[0].is_error))
        if moment.turn == 0:
            return Line("", ((tool.definition.name, {}),))
        return Line("", (("read_result", calls[moment.turn - 1]),)) if moment.turn <= len(calls) else Line("done")

    runner = await bench.runner(script, [tool])
    assert (await runner.run(TASK)).status is SessionStatus.COMPLETED
    return answers


async def test_read_result_lists_finds_and_says_what_it_has_not(bench: Bench) -> None:
    tool = Tool("look", answering({"dealers": ["Ada Motors", "Bolt Cars"], "phone": "555-0100"}))
    answers = await reads(
        bench,
        tool,
        {},
        {"call_id": "c1_0"},
        {"call_id": "c1_0", "search": "BOLT"},
        {"call_id": "c1_0", "search": "nowhere"},
        {"call_id": "c9_0"},
        {"call_id": "c1_0", "offset": 10_000},
        {"call_id": "c1_0", "offset": -1},
        {"search": "look"},
        {"search": "no such tool"},
    )
    texts = [text for text, _ in answers]

    assert texts[0].startswith("[1 calls with a result]\nc1_0 look {}: ")
    assert '"Ada Motors"' in texts[1]
    assert "this is the end" in texts[1]
    assert "1 places with 'BOLT'" in texts[2]
    assert "Bolt Cars" in texts[2]
    assert "does not stand in it" in texts[3]
    assert "c1_0 look" in texts[7]
    assert texts[8].startswith("[0 calls")
    assert [is_error for _, is_error in answers] == [False, False, False, False, True, True, True, False, False]


async def test_a_failed_call_is_read_back_too(bench: Bench) -> None:
    async def fail(arguments: dict[str, Any]) -> Any:
        raise ValueError("the file of dealers is gone")

    [(text, is_error)] = await reads(bench, Tool("look", fail), {"call_id": "c1_0"})

    assert "the file of dealers is gone" in text
    assert not is_error
