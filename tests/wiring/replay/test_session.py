"""Sessions run once more from what is left of them: their recording, or their log alone. No provider is there then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.conductor import StartRequest
from conductor_ai.errors import InvalidInput, ReplayDiffers
from conductor_ai.providers.scripted import Line, call, say
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.exchanges import read_recording
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring import open_runtime
from conductor_ai.wiring.replay import replay_recording, replay_session
from conductor_ai.wiring.replay.exports import export_test
from tests.agents.conftest import TASK, Gate, Tool, answering
from tests.agents.house import CLAUDE
from tests.agents.machine import Machine
from tests.conftest import fail_after
from tests.providers.wires import ANTHROPIC, OPENROUTER
from tests.wiring.replay.recorded_sessions import SCHEMA, SESSIONS, Studio, asked_inside_a_call, cut_by_its_deadline


@pytest.mark.parametrize("session_of", SESSIONS, ids=lambda session_of: session_of.__name__)
async def test_a_session_comes_to_the_same_from_its_recording_and_from_its_log(
    studio: Studio, session_of: Callable[[Studio], Awaitable[AgentSession]]
) -> None:
    async with fail_after(60):
        stopped = await session_of(studio)
        session = await studio.conductor.session(stopped.session_id)
        for server in studio.servers:
            await server.__aexit__()
        replays = await studio.replays(session)

    calls = [(call.name, call.arguments, call.outcome) for step in session.steps for call in step.tool_calls]
    for replayed in replays:
        assert replayed.difference is None
        assert replayed.calls == calls
        assert replayed.session.final_answer == session.final_answer
        assert replayed.session.output == session.output
        assert (replayed.session.usage, replayed.session.cost_usd) == (session.usage, session.cost_usd)
        assert [step.content for step in replayed.session.steps] == [step.content for step in session.steps]


async def test_a_live_tool_really_runs_and_what_it_does_otherwise_is_told(studio: Studio) -> None:
    session = await studio.run([call("look", {"n": 1}), say("Three.")], Tool("look", answering({"found": 3})))
    recording = studio.recording(session)
    same, other = Tool("look", answering({"found": 3})), Tool("look", answering({"found": 4}))

    assert (await replay_session(recording, live=[same])).difference is None
    replayed = await replay_session(recording, live=[other])

    assert (same.calls, other.calls) == ([{"n": 1}], [{"n": 1}])
    assert replayed.difference is not None
    assert "turn 3" in replayed.difference
    assert "found" in replayed.difference


async def test_a_live_tool_asks_again_and_is_answered_as_then(studio: Studio) -> None:
    session = await asked_inside_a_call(studio)
    machine = Machine()

    replayed = await replay_session(studio.recording(session), live=[machine.tool])

    assert replayed.difference is None
    assert (len(machine.begun), machine.ran) == (2, ["1"])


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("turn 1", {"task": "Do something else."}),
    ("the instructions differ", {"instructions": "Be brief."}),
    ("the request's tools", {"tools": []}),
]


@pytest.mark.parametrize(("place", "changed"), CHANGES, ids=[place for place, _ in CHANGES])
async def test_what_is_asked_otherwise_than_then_is_told_with_its_place(
    studio: Studio, place: str, changed: dict[str, Any]
) -> None:
    studio.house.claude.will_answer(body=ANTHROPIC.says("Hi."))
    look = Tool("look", answering(3))
    session = await studio.run((), look, models=[CLAUDE], instructions="Be kind.")
    registry = ToolRegistry()
    registry.register(look)
    options = {"tools": ["look"], "instructions": "Be kind.", **changed}
    task = options.pop("task", TASK[0]["content"])

    async with open_runtime(replay=studio.records / f"{session.session_id}.jsonl") as runtime:
        runner = AgentRunner(CLAUDE, registry=registry, runtime=runtime, **options)
        with pytest.raises(ReplayDiffers) as caught:
            await runner.run([{"role": "user", "content": task}])

    assert place in str(caught.value)


async def test_a_runtime_that_replays_needs_no_key_streams_as_well_and_keeps_nothing(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "elsewhere"
    monkeypatch.setenv("CONDUCTOR_HOME", str(home))
    studio.house.claude.will_answer(body=ANTHROPIC.says("Hi."))
    session = await studio.run((), models=[CLAUDE])
    path = studio.records / f"{session.session_id}.jsonl"

    async with open_runtime(replay=path) as runtime:
        items = [item async for item in AgentRunner(CLAUDE, runtime=runtime).stream(TASK)]

    assert [item["payload"]["text"] for item in items if item["payload"].get("kind") == "text"] == ["Hi."]
    assert items[-1]["type"] == "session.completed"
    assert not home.exists()
    assert len(studio.house.claude.requests) == 1


async def test_an_agent_that_goes_on_where_the_recorded_session_was_ended_is_told_so(studio: Studio) -> None:
    session = await cut_by_its_deadline(studio)

    async with open_runtime(replay=studio.records / f"{session.session_id}.jsonl") as runtime:
        registry = ToolRegistry()
        registry.register(Tool("look", answering(3)))
        with pytest.raises(ReplayDiffers, match="the recorded session was interrupted here"):
            await AgentRunner("demo/scripted", ["look"], registry, runtime=runtime).run(TASK)


async def test_an_answer_that_was_tampered_with_is_a_difference(studio: Studio) -> None:
    session = await studio.run([call("look"), say("Three.")], Tool("look", answering(3)))
    path = studio.records / f"{session.session_id}.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "event" and line["type"] == "tool.completed":
            line["payload"]["result"] = 4
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    replayed = await replay_session(read_recording(path))

    assert replayed.difference is not None
    assert replayed.difference.startswith("model call 2 (step 2): turn 3")


def _nothing(lines: list[bytes]) -> Sequence[bytes]:
    return []


BROKEN: list[tuple[Callable[[list[bytes]], Sequence[bytes]], str]] = [
    (_nothing, "is not a recording"),
    (lambda lines: [b'{"hello":1}', *lines[1:]], "is not a recording"),
    (lambda lines: [lines[0].replace(b'"format":1', b'"format":2'), *lines[1:]], "has format 2"),
    (lambda lines: [*lines[:3], b"oops", *lines[3:]], "line 4 cannot be read"),
    (lambda lines: lines[:1], "does not hold the beginning"),
]


@pytest.mark.parametrize(("breaks", "said"), BROKEN, ids=["empty", "other", "format", "line", "head"])
async def test_a_file_that_is_no_recording_is_refused_in_one_line(
    studio: Studio, breaks: Callable[[list[bytes]], Sequence[bytes]], said: str
) -> None:
    session = await studio.run([say("Hi.")])
    path = studio.records / f"{session.session_id}.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in breaks(path.read_bytes().splitlines())))

    with pytest.raises(InvalidInput, match=said):
        read_recording(path)


@pytest.mark.parametrize(("name", "said"), [("gone.jsonl", "is missing: export"), (".", "cannot be read: Is a dir")])
async def test_paths_may_be_text_and_one_that_is_no_file_is_refused_in_one_line(
    tmp_path: Path, name: str, said: str
) -> None:
    given = str(tmp_path / name)
    with pytest.raises(InvalidInput, match=said):
        async with open_runtime(replay=given):
            raise AssertionError("it has nothing to replay")
    with pytest.raises(InvalidInput, match=said):
        await asyncio.to_thread(replay_recording, given)


async def test_a_folder_to_record_into_may_be_text_and_must_have_a_name(studio: Studio) -> None:
    async with open_runtime(studio.settings, script=[say("Hi.")], record_dir=str(studio.records)) as runtime:
        session = await AgentRunner("demo/scripted", runtime=runtime).run(TASK)
    assert (await replay_session(studio.recording(session))).difference is None

    with pytest.raises(InvalidInput, match="names no folder"):
        async with open_runtime(studio.settings, record_dir=""):
            raise AssertionError("it has nowhere to record to")


async def test_the_name_of_a_tool_is_no_live_tool(studio: Studio) -> None:
    session = await studio.run([say("Hi.")])
    with pytest.raises(InvalidInput, match="live takes tools, and 'look' is none"):
        await replay_session(studio.recording(session), live=["look"])  # type: ignore[list-item]


async def test_a_session_that_still_runs_is_not_exported(studio: Studio) -> None:
    gate = Gate()
    conductor = await studio.open([call("wait"), say("Done.")], Tool("wait", gate))
    session = await conductor.start(StartRequest(messages=TASK))
    work = asyncio.ensure_future(conductor.run(session.session_id))
    await gate.entered.wait()

    with pytest.raises(InvalidInput, match="is running"):
        await export_test(studio.settings, conductor, session.session_id)

    gate.open.set()
    await work


async def test_a_session_whose_tools_and_models_nobody_knows_any_more_is_exported_all_the_same(studio: Studio) -> None:
    studio.settings.conductor_home.mkdir()
    models = studio.settings.models_file
    models.write_text('[models."maker/own"]\nnative_tools = false\n')
    studio.house.deepseek.will_answer(body=OPENROUTER.says('Action: look\nAction Input: {"n": 2}'))
    studio.house.deepseek.will_answer(body=OPENROUTER.says("Final Answer: Two."))
    session = await studio.run((), Tool("look", answering(2)), models=["maker/own"])
    assert session.final_answer == "Two."
    models.unlink()

    await studio.open()
    exported = await export_test(studio.settings, studio.conductor, session.session_id)

    assert exported.replayed.calls == [("look", {"n": 2}, "succeeded")]


async def test_an_answer_that_another_rule_refused_then_is_a_difference(studio: Studio) -> None:
    script = [Line("", (("final_answer", {"count": 0}),)), call("final_answer", {"count": 2})]
    session = await studio.run(script, response_schema=SCHEMA)
    recording = studio.recording(session)
    recording.events[0].payload["response_schema"] = {"type": "object", "properties": {}}

    replayed = await replay_session(recording)

    assert replayed.difference is not None
    assert "final_answer (c1_0)" in replayed.difference or "answer of step 1" in replayed.difference
