"""The line that goes on with a session, wherever one can go on; and how events read."""

from typing import Any

import pytest

from conductor_ai.cli.narration import Narrator
from tests.cli.console import Console
from tests.cli.model_server import ModelServer


def test_a_failed_session_that_can_go_on_says_how(console: Console, model: ModelServer) -> None:
    model.will_refuse(401, "bad key")
    ended = console.here("hello there")
    assert ended.code == 1
    session_id = console.here("sessions", "list", "--json").json[0]["session_id"]
    assert f"resume:  conductor resume {session_id}" in ended.err.splitlines()
    assert f"resume:  conductor resume {session_id}" in console.here("sessions", "show", session_id).err
    model.will_answer("Hello.")
    assert console.here("resume", session_id).out == "Hello.\n"
    assert "resume" not in console.here("sessions", "show", session_id).err


def test_a_session_that_failed_for_good_offers_no_resume(console: Console, model: ModelServer) -> None:
    model.will_decline()
    ended = console.here("hello there")
    session_id = console.here("sessions", "list", "--json").json[0]["session_id"]
    assert ended.code == 1
    assert "resume:" not in ended.err
    assert "resume:" not in console.here("sessions", "show", session_id).err


def test_a_paused_session_is_shown_with_its_resume_line(console: Console, model: ModelServer) -> None:
    model.will_call(("no_such_tool", {}))
    session_id = console.here("hello there", "--max-steps", "1", "--json").json["session_id"]
    assert f"resume:  conductor resume {session_id}" in console.here("sessions", "show", session_id).err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("outcome unknown: the process died; check", "outcome unknown: the process died; check"),
        ("timed out; outcome unknown: check first", "outcome unknown: timed out; check first"),
    ],
)
def test_an_unknown_outcome_is_said_once(error: str, said: str) -> None:
    payload: dict[str, Any] = {"call_id": "c", "step_no": 1, "name": "post", "outcome": "unknown", "error": error}
    (line,) = Narrator().lines({"type": "tool.completed", "payload": payload})
    assert line.text == f"step 1  post {said}"


@pytest.mark.parametrize(
    ("by", "said"), [("ann", "post approved by ann"), ("approved before the run", "post approved before the run")]
)
def test_a_decision_reads_as_a_sentence(by: str, said: str) -> None:
    payload = {"tool_name": "post", "decision": "approved", "by": by}
    (line,) = Narrator().lines({"type": "approval.decided", "payload": payload})
    assert line.text == f"  {said}"
