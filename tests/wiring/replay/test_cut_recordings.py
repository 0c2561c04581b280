"""Recordings that end before their session stops: none is taken for one that was replayed as recorded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from conductor_ai.conductor import StartRequest
from conductor_ai.errors import InvalidInput
from conductor_ai.providers.scripted import call, say
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.wiring.replay import Replayed, replay_recording, replay_session
from conductor_ai.wiring.replay.exports import export_test
from tests.agents.conftest import TASK, Gate, Tool, answering
from tests.conftest import fail_after
from tests.wiring.replay.recorded_sessions import Studio, waiting

IN_ITS_SESSION = "the recording ends in the middle of its session: it still runs, its process died, or the file was cut"
IN_A_LINE = "the last line of the recording is not whole: its process died, or the file was damaged"


async def stopped(studio: Studio) -> AgentSession:
    script = [call("look"), call("look"), say("Three.")]
    return await studio.run(script, Tool("look", answering(3)))


async def replayed_from(path: Path, data: bytes) -> Replayed | None:
    """None for a file that is refused."""
    await asyncio.to_thread(path.write_bytes, data)
    try:
        return await asyncio.to_thread(replay_recording, path)
    except InvalidInput:
        return None


@pytest.mark.parametrize("form", ["recording", "log"])
async def test_a_recording_that_is_cut_behind_any_of_its_lines_is_refused_or_told(studio: Studio, form: str) -> None:
    async with fail_after(60):
        session = await stopped(studio)
        data = studio.file(session).read_bytes()
        if form == "log":
            exported = await export_test(studio.settings, studio.conductor, session.session_id)
            [text] = [text for name, text in exported.files.items() if name.endswith(".jsonl")]
            data = text.encode()
        lines = data.splitlines(keepends=True)
        assert b'"session.completed"' in lines[-1]
        cuts = range(len(lines))
        replays = [await replayed_from(studio.file(session), b"".join(lines[:cut])) for cut in cuts]

    refused = [replayed is None for replayed in replays]
    first = refused.index(False)
    assert b'"message.added"' in lines[first - 1]
    assert not any(refused[first:])
    for replayed in replays[first:]:
        assert replayed is not None
        assert replayed.difference is not None
        assert replayed.difference.endswith(IN_ITS_SESSION)


ENDS = [b"x" * 100, b'{"kind":"event","seq":99,"typ', b"\0"]


@pytest.mark.parametrize("end", ENDS, ids=["junk", "half a line", "one byte"])
async def test_what_stands_behind_the_last_whole_line_is_told(studio: Studio, end: bytes) -> None:
    session = await stopped(studio)
    path = studio.file(session)

    replayed = await replayed_from(path, path.read_bytes() + end)

    assert replayed is not None
    assert replayed.difference == IN_A_LINE


async def test_a_recording_that_is_cut_in_half_is_told(studio: Studio) -> None:
    session = await stopped(studio)
    data = studio.file(session).read_bytes()

    replayed = await replayed_from(studio.file(session), data[: len(data) // 2])

    assert replayed is not None
    assert replayed.difference is not None
    assert replayed.difference.endswith(IN_ITS_SESSION)


async def test_a_recording_that_is_cut_behind_a_decision_is_told_once_its_session_went_on(studio: Studio) -> None:
    session = await waiting(studio)
    [approval] = await studio.conductor.approvals()
    assert studio.recording(session).cut is None
    await studio.conductor.decide(approval.approval_id, "denied", by="Ada")
    assert studio.recording(session).cut is None
    await studio.conductor.cancel(session.session_id)

    lines = studio.file(session).read_bytes().splitlines(keepends=True)
    assert b'"session.cancelled"' in lines[-1]
    replayed = await replayed_from(studio.file(session), b"".join(lines[:-1]))

    assert replayed is not None
    assert replayed.difference is not None
    assert replayed.difference.endswith(IN_ITS_SESSION)


async def test_the_recording_of_a_session_that_still_runs_is_told_until_it_stops(studio: Studio) -> None:
    gate = Gate()
    async with fail_after(60):
        conductor = await studio.open([call("wait"), say("Done.")], Tool("wait", gate))
        session = await conductor.start(StartRequest(messages=TASK))
        work = asyncio.ensure_future(conductor.run(session.session_id))
        await gate.entered.wait()
        other = await conductor.start(StartRequest(messages=TASK))
        await conductor.cancel(other.session_id)  # its end is stored once all that came before is in the files
        running = await replay_session(studio.recording(session))
        gate.open.set()
        ended = await work

    assert running.difference is not None
    assert running.difference.endswith(IN_ITS_SESSION)
    assert (await replay_session(studio.recording(ended))).difference is None
