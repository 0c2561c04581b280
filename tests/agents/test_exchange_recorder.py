"""Recordings as they are written: whole, in order, small, private, without secrets, and never in a session's way."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.conductor.decisions import decide
from conductor_ai.errors import InvalidInput
from conductor_ai.providers.scripted import call, say
from conductor_ai.schemas.exchanges import Exchange, read_recording
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring import Runtime, open_runtime
from conductor_ai.wiring.replay import replay_session
from tests.agents.conftest import TASK, Tool, answering
from tests.agents.house import CLAUDE, TOOL_USE
from tests.providers.wires import ANTHROPIC
from tests.servers import FakeAnthropic
from tests.servers import anthropic as anthropic_server
from tests.servers.provider_server import KEY

CANARIES = {
    "anthropic_api_key": KEY,
    "google_api_key": "canary-of-google-0123456789",
    "supabase_service_key": 'canary "with quotes" \\ 0123456789',
}
LOOKS_LIKE_A_KEY = "sk-ant-canary0123456789abcdef"


class Recorder:
    """Runtimes that record into `folder`, over one home and one server."""

    def __init__(self, path: Path, server: FakeAnthropic, stack: AsyncExitStack) -> None:
        self.folder = path / "records"
        self.server = server
        self.runtime: Runtime
        self._home = path / "home"
        self._stack = stack

    async def runner(self, look: Any = None, *, script: Any = (), model: str = CLAUDE, **options: Any) -> AgentRunner:
        keys: Any = {name: SecretStr(value) for name, value in CANARIES.items()}
        settings = Settings(conductor_home=self._home, anthropic_base_url=self.server.url, **keys)
        opening = open_runtime(settings, script=script, record_dir=self.folder)
        runtime = self.runtime = await self._stack.enter_async_context(opening)
        registry = ToolRegistry()
        registry.register(look or Tool("look", answering({"found": 3})))
        return AgentRunner(model, ["look"], registry, runtime=runtime, **options)

    def lines(self) -> list[dict[str, Any]]:
        [path] = self.folder.iterdir()
        return [json.loads(line) for line in path.read_text().splitlines()]

    def exchanges(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["kind"] == "exchange"]


@pytest.fixture
async def recorder(tmp_path: Path) -> AsyncIterator[Recorder]:
    async with AsyncExitStack() as stack:
        yield Recorder(tmp_path, await stack.enter_async_context(FakeAnthropic()), stack)


async def test_what_is_recorded_is_what_was_sent_and_what_came(recorder: Recorder) -> None:
    recorder.server.will_answer(
        529, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, {"retry-after": "0"}
    )
    recorder.server.will_answer(body=anthropic_server.reply([TOOL_USE], "tool_use"))
    recorder.server.will_answer(body=ANTHROPIC.says("Three."), headers={"request-id": "req_9"})
    runner = await recorder.runner(instructions="Be kind.")

    session = await runner.run(TASK)

    assert session.final_answer == "Three."
    made = [item for item in read_recording(next(recorder.folder.iterdir())).happened if isinstance(item, Exchange)]
    assert [(one.step_no, one.attempt, one.provider) for one in made] == [
        (1, 1, "anthropic"),
        (1, 2, "anthropic"),
        (2, 1, "anthropic"),
    ]
    for exchange, seen in zip(made, recorder.server.requests, strict=True):
        sent = json.loads(json.dumps(seen.json).replace(', "cache_control": {"type": "ephemeral"}', ""))
        recorded = json.dumps({**exchange.head, "messages": list(exchange.turns or ())})
        assert json.loads(recorded.replace(', "cache_control": {"type": "ephemeral"}', "")) == sent
    assert made[0].error is not None
    assert (made[0].error.code, made[0].error.status) == ("provider_unavailable", 529)
    assert made[2].response is not None
    assert made[2].response.content == "Three."


async def test_a_turn_is_written_once_however_long_the_session_is(recorder: Recorder) -> None:
    script = [*(call("look", {"n": number}) for number in range(20)), say("Done.")]
    runner = await recorder.runner(script=script, model="demo/scripted")

    await runner.run(TASK)

    made = recorder.exchanges()
    assert [line["kept_turns"] for line in made] == [0, *range(1, 41, 2)]
    assert [len(line["turns"]) for line in made] == [1, *[2] * 20]
    assert ["head" in line for line in made] == [True, *[False] * 20]
    assert [line["kind"] for line in recorder.lines()].count("tools") == 1


async def test_only_their_owner_reads_them(recorder: Recorder) -> None:
    runner = await recorder.runner(script=[say("Hi.")], model="demo/scripted")
    await runner.run(TASK)
    [path] = recorder.folder.iterdir()
    assert (path.stat().st_mode & 0o777, recorder.folder.stat().st_mode & 0o777) == (0o600, 0o700)


async def test_no_secret_org_person_or_address_is_in_it(recorder: Recorder) -> None:
    async def telling(arguments: dict[str, Any]) -> Any:
        return {"keys": [*CANARIES.values(), LOOKS_LIKE_A_KEY], "as url": f"https://u:{LOOKS_LIKE_A_KEY}@example.org/"}

    echo = {"type": "error", "error": {"type": "authentication_error", "message": f"bad key {KEY} {LOOKS_LIKE_A_KEY}"}}
    recorder.server.will_answer(401, echo)
    recorder.server.will_answer(body=anthropic_server.reply([TOOL_USE], "tool_use"))
    recorder.server.will_answer(body=ANTHROPIC.says(f"I know {CANARIES['google_api_key']}, {LOOKS_LIKE_A_KEY}."))
    runner = await recorder.runner(
        Tool("look", telling), instructions=f"The key is {CANARIES['supabase_service_key']}."
    )

    session = await runner.run([{"role": "user", "content": f"My key: {LOOKS_LIKE_A_KEY}"}], org_id="acme-of-canaries")
    assert session.status is SessionStatus.FAILED
    session = await runner.resume(session.session_id)

    assert session.status is SessionStatus.COMPLETED
    [path] = recorder.folder.iterdir()
    text = path.read_text()
    for secret in (*CANARIES.values(), LOOKS_LIKE_A_KEY, "canary", "acme", str(recorder.server.url)):
        assert secret not in text
        assert json.dumps(secret)[1:-1] not in text
    assert "x-api-key" not in text
    assert text.count("[redacted]") > 5
    assert (await replay_session(read_recording(path))).difference is None


async def test_a_resumed_session_goes_on_in_its_file_whoever_resumes_it(recorder: Recorder) -> None:
    script = [call("look"), call("look"), say("Done.")]
    first = await recorder.runner(script=script, model="demo/scripted", limits={"max_steps": 1})
    session = await first.run(TASK)
    [path] = recorder.folder.iterdir()
    with path.open("ab") as file:
        file.write(b'{"kind":"event","seq":99,"typ')  # a process that died while it wrote

    second = await recorder.runner(script=script, model="demo/scripted")
    await second.resume(session.session_id, limits={"max_steps": 9})

    events = [line["seq"] for line in recorder.lines() if line["kind"] == "event"]
    assert events == list(range(1, len(events) + 1))
    assert [line["step_no"] for line in recorder.exchanges()] == [1, 2, 3]
    assert (await replay_session(read_recording(path))).difference is None


async def test_a_recording_that_begins_in_the_middle_has_the_whole_log(recorder: Recorder, tmp_path: Path) -> None:
    script = [call("look"), say("Done.")]
    unrecorded = await recorder.runner(script=script, model="demo/scripted", limits={"max_steps": 1})
    session = await unrecorded.run(TASK)
    shutil.rmtree(recorder.folder)

    runner = await recorder.runner(script=script, model="demo/scripted")
    await runner.resume(session.session_id, limits={"max_steps": 9})

    [path] = recorder.folder.iterdir()
    assert [line["step_no"] for line in recorder.exchanges()] == [2]
    assert (await replay_session(read_recording(path))).difference is None


async def test_a_disk_that_fails_is_one_warning_and_the_session_goes_on(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    runner = await recorder.runner(script=[call("look"), call("look"), say("Done.")], model="demo/scripted")
    shutil.rmtree(recorder.folder)

    with caplog.at_level(logging.WARNING):
        session = await runner.run(TASK)

    assert session.final_answer == "Done."
    [said] = [record.getMessage() for record in caplog.records if "recording" in record.getMessage()]
    assert said.startswith("recording has stopped, the sessions go on: ")
    assert said.endswith("No such file or directory")


async def test_a_place_where_nothing_can_be_recorded_is_refused_at_once(recorder: Recorder, tmp_path: Path) -> None:
    recorder.folder.write_text("a file")
    with pytest.raises(InvalidInput, match=r"nothing can be recorded in .*: File exists"):
        await recorder.runner()


@pytest.mark.parametrize("there", [True, False])
async def test_somebody_elses_link_is_not_written_through(
    recorder: Recorder, tmp_path: Path, caplog: pytest.LogCaptureFixture, there: bool
) -> None:
    script = [call("look"), say("Done.")]
    runner = await recorder.runner(script=script, model="demo/scripted", limits={"max_steps": 1})
    session = await runner.run(TASK)
    [path] = recorder.folder.iterdir()
    path.unlink()
    elsewhere = tmp_path / "elsewhere"
    if there:
        elsewhere.write_text("mine")
    path.symlink_to(elsewhere)

    await runner.resume(session.session_id, limits={"max_steps": 9})

    assert (elsewhere.read_text() if elsewhere.exists() else None) == ("mine" if there else None)
    assert "recording has stopped" in caplog.text


async def test_a_decision_by_who_does_not_drive_leaves_no_half_recording(recorder: Recorder) -> None:
    letter = Tool("look", answering("sent"), requires_approval=True)
    script = [call("look"), say("Done.")]
    runner = await recorder.runner(letter, script=script, model="demo/scripted")
    session = await runner.run(TASK)
    shutil.move(recorder.folder, recorder.folder.with_name("first"))

    other = await recorder.runner(letter, script=script, model="demo/scripted")
    [approval] = await recorder.runtime.store.approvals("default")
    await decide(recorder.runtime.states, approval.approval_id, "approved", by="Ada", reason=None, org_id="default")
    assert list(recorder.folder.iterdir()) == []
    await other.resume(session.session_id)

    [path] = recorder.folder.iterdir()
    assert "Ada" not in path.read_text()
    replayed = await replay_session(read_recording(path))
    assert (replayed.difference, replayed.calls) == (None, [("look", {}, "succeeded")])
