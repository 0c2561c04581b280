"""Several calls in one answer: each wire says their results in its own way, as one message or as many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.wiring.replay import replay_session
from tests.agents.conftest import Tool
from tests.agents.house import CLAUDE, DEEPSEEK, FLASH
from tests.conftest import fail_after
from tests.providers.wires import ANTHROPIC, GEMINI, LOCAL, OPENROUTER, Wire
from tests.servers import ProviderServer
from tests.wiring.replay.recorded_sessions import Studio

OWN = "maker/own"


class Line(NamedTuple):
    """`place` is where the second result of an answer stands in the turn that holds it."""

    name: str
    wire: Wire
    model: str
    server: Callable[[Studio], ProviderServer]
    place: str
    in_text: bool = False


LINES = [
    Line("anthropic", ANTHROPIC, CLAUDE, lambda studio: studio.house.claude, ".content[1].content"),
    Line("gemini", GEMINI, FLASH, lambda studio: studio.house.flash, ".parts[1].functionResponse"),
    Line("openrouter", OPENROUTER, DEEPSEEK, lambda studio: studio.house.deepseek, "[1].content"),
    Line("local", LOCAL, "local/tiny", lambda studio: studio.local, "[1].content"),
    Line("text", OPENROUTER, OWN, lambda studio: studio.house.deepseek, ".content", in_text=True),
]


def look(changed: int | None = None) -> Tool:
    """`changed` is the `n` to which the tool says something else."""

    async def body(arguments: dict[str, Any]) -> Any:
        return {"found": "other" if arguments["n"] == changed else arguments["n"]}

    return Tool("look", body)


async def recorded(studio: Studio, line: Line) -> AgentSession:
    """A session of two answers with two calls each; its servers are gone."""
    server = line.server(studio)
    for numbers in ((1, 2), (3, 4)):
        if line.in_text:
            text = "\n".join(f'Action: look\nAction Input: {{"n": {number}}}' for number in numbers)
            server.will_answer(body=line.wire.says(text))
        else:
            calls = [(f"call_{number}", "look", {"n": number}) for number in numbers]
            server.will_answer(body=line.wire.calls(calls))
    server.will_answer(body=line.wire.says("Final Answer: Four." if line.in_text else "Four."))
    studio.settings.conductor_home.mkdir()
    studio.settings.models_file.write_text(f'[models."{OWN}"]\nnative_tools = false\n')
    session = await studio.run((), look(), models=[line.model])
    for opened in studio.servers:
        await opened.__aexit__()
    assert session.final_answer == "Four."
    assert [len(step.tool_calls) for step in session.steps] == [2, 2, 0]
    return session


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
async def test_a_session_with_several_calls_in_one_answer_is_replayed_from_its_recording_and_from_its_log(
    studio: Studio, line: Line
) -> None:
    async with fail_after(60):
        session = await recorded(studio, line)
        replays = await studio.replays(session)

    for replayed in replays:
        assert replayed.difference is None
        assert replayed.calls == [("look", {"n": number}, "succeeded") for number in (1, 2, 3, 4)]
        assert replayed.session.final_answer == "Four."


@pytest.mark.parametrize(("changed", "turn"), [(2, 3), (4, 5)], ids=["first turn", "later turn"])
@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
async def test_another_result_among_several_is_told_with_its_place(
    studio: Studio, line: Line, changed: int, turn: int
) -> None:
    async with fail_after(60):
        session = await recorded(studio, line)
        replayed = await replay_session(studio.recording(session), live=[look(changed)])

    assert replayed.difference is not None
    step = turn // 2 + 1
    assert replayed.difference.startswith(f"model call {step} (step {step}): turn {turn}{line.place}")
    assert "other" in replayed.difference
