"""The checker sees what it is there to see: each way to spoil a sound session is reported."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from conductor_ai.agents.runner import AgentRunner
from conductor_ai.providers.scripted import call, say, together
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring import open_conductor, open_runtime
from tests.agents.conftest import TASK, Tool, answering
from tests.crash.invariants import Effect, violations
from tests.crash.log_reader import LogReader

# 1-2 begin the session; 3 the calls, 4 the intent of look, 5 its result, 6 the request for send, 7 the decision,
# 8 resumed, 9 the intent of send, 10 its result, 11 the answer, 12 the end.
COPY = "INSERT INTO session_events SELECT session_id, 13, type, payload, created_at FROM session_events"
SPOILT = [
    ("DELETE FROM session_events WHERE seq = 5", "the log has a gap"),
    ("DELETE FROM session_events WHERE seq = 12", "last_seq 12, its log has 11"),
    ("UPDATE session_events SET type = 'message.added' WHERE seq = 1", "does not begin with one session.created"),
    ("UPDATE sessions SET status = 'running'", "the session says running"),
    ("UPDATE sessions SET input_tokens = input_tokens + 1", "input_tokens, its steps sum up to"),
    ("UPDATE sessions SET cost_usd = '1.5'", "it cost 1.5"),
    (
        "UPDATE session_events SET payload = json_replace(payload, '$.step_no', 1) WHERE seq = 11",
        "a step is missing or stored twice",
    ),
    (
        "UPDATE session_events SET payload = json_replace(payload, '$.call_id', 'c1_0') WHERE seq = 10",
        "call c1_0 has 2 results",
    ),
    (
        "UPDATE session_events SET payload = json_replace(payload, '$.call_id', 'c1_0') WHERE seq = 10",
        "call c1_1 has 0 results",
    ),
    ("UPDATE session_events SET type = 'message.added' WHERE seq = 4", "look acted without an intent in the log"),
    ("UPDATE session_events SET type = 'message.added' WHERE seq = 9", "succeeded without an intent before it"),
    (
        "UPDATE session_events SET payload = json_replace(payload, '$.idempotency_key', 'k') WHERE seq = 9",
        "the idempotency key of c1_1 changed",
    ),
    ("UPDATE approvals SET status = 'pending'", "the approvals are"),
    ("UPDATE session_events SET type = 'message.added' WHERE seq = 7", "was started without an approval"),
    (f"{COPY} WHERE seq = 3", "went on after session.completed"),
    (f"{COPY} WHERE seq = 3", "call c1_0 was asked for 2 times"),
    (f"{COPY} WHERE seq = 4", "a call has two intents"),
    (f"{COPY} WHERE seq = 5", "call c1_0 has 2 results"),
    (f"{COPY} WHERE seq = 6", "call c1_1 was put before a person 2 times"),
    (f"{COPY} WHERE seq = 7", "was decided twice, or never asked for"),
    ("UPDATE session_events SET payload = replace(payload, 'seen', 'unseen') WHERE seq = 5", "event 5 is not the one"),
    ("UPDATE audit_logs SET metadata = replace(metadata, 'look', 'peek')", "the audit chain breaks at"),
    ("DELETE FROM audit_logs WHERE chain_seq = (SELECT max(chain_seq) FROM audit_logs)", "the audit chain breaks at"),
    ("DELETE FROM audit_logs WHERE metadata LIKE '%\"event_seq\":10%'", "event 10 (tool.completed) has 0 audit rows"),
    ("DELETE FROM tool_executions WHERE tool_name = 'send'", "tool_executions has"),
]


@pytest.fixture
async def sound(tmp_path: Path) -> LogReader:
    """The log of a completed session: look and send in one step, send approved."""
    registry = ToolRegistry()
    registry.register(Tool("look", answering("seen")))
    registry.register(Tool("send", answering("sent"), effect="once", requires_approval=True))
    settings = Settings(conductor_home=tmp_path)
    script = [together(call("look"), call("send")), say("Done.")]
    async with open_runtime(settings, script=script) as runtime:
        runner = AgentRunner("demo/scripted", ["look", "send"], registry, runtime=runtime)
        session = await runner.run(TASK)
        async with open_conductor(settings) as conductor:
            [approval] = await conductor.approvals()
            await conductor.decide(approval.approval_id, "approved", by="ann")
        await runner.resume(session.session_id)
    return LogReader(tmp_path / "conductor.db")


def effects(log: LogReader) -> list[Effect]:
    return [Effect(tool, f"{log.session_id()}:c1_{number}", 1) for number, tool in enumerate(("look", "send"))]


async def test_a_sound_session_has_no_violation(sound: LogReader) -> None:
    assert sound.types()[-1] == "session.completed"
    assert violations(sound, effects(sound), guarded=["send"]) == []


@pytest.mark.parametrize(("statement", "reported"), SPOILT)
async def test_a_spoilt_session_is_reported(sound: LogReader, statement: str, reported: str) -> None:
    with closing(sqlite3.connect(sound.database)) as connection, connection:
        assert connection.execute(statement).rowcount > 0
    assert any(reported in found for found in violations(sound, effects(sound), guarded=["send"]))


async def test_effects_are_counted_per_call(sound: LogReader) -> None:
    look, send = effects(sound)
    assert violations(sound, [look, look, send]) == []
    assert violations(sound, [look, send, send]) == [f"send (once) ran 2 times: {send.key}"]
    assert violations(sound, [look]) == ["call c1_1 is said to have succeeded and never ran"]
    assert violations(sound, [look, send, Effect("send", "other:c1_0", 1)]) == ["send acted for no session: other:c1_0"]
