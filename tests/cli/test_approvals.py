"""A tool that needs approval, where nobody is at the terminal."""

from pathlib import Path

import pytest

from tests.cli.console import Console
from tests.cli.model_server import ModelServer


@pytest.fixture
def waiting(console: Console, model: ModelServer, desk: Path) -> str:
    """The id of a session that waits for approval of one letter."""
    model.will_call(("post", {"text": "Dear\u202eall"}))
    ended = console.here("write to all", "--json")
    assert ended.code == 3
    session = ended.json
    assert session["status"] == "waiting_approval"
    return str(session["session_id"])


def test_waiting_is_exit_code_3_with_the_lines_to_go_on(console: Console, model: ModelServer, desk: Path) -> None:
    model.will_call(("post", {"text": "Dear all"}))
    ended = console("write to all")
    approval = console.here("approvals", "list", "--json").json[0]
    assert (ended.code, ended.out) == (3, "")
    assert 'waits:   post {"text": "Dear all"}' in ended.err
    assert f"approve: conductor approvals approve {approval['approval_id']}" in ended.err
    assert f"deny:    conductor approvals deny {approval['approval_id']}" in ended.err
    assert f"then:    conductor resume {approval['session_id']}" in ended.err


def test_an_approved_call_is_made_once_when_the_session_is_resumed(
    console: Console, model: ModelServer, waiting: str
) -> None:
    posted = console.folder / "posted.txt"
    approval_id = console.here("approvals", "list", "--json").json[0]["approval_id"]
    assert console.here("resume", waiting).code == 3
    assert not posted.exists()
    decided = console("approvals", "approve", approval_id[-8:])
    assert (decided.code, decided.out) == (0, f"{approval_id} approved\n")
    assert f"conductor resume {waiting}" in decided.err
    assert console.here("approvals", "approve", approval_id).code == 2
    assert not posted.exists()
    model.will_answer("Sent.")
    assert console("resume", waiting).out == "Sent.\n"
    assert console.here("resume", waiting, "--json").json["final_answer"] == "Sent."
    assert posted.read_text() == "Dear\u202eall\n"


def test_a_denied_call_is_not_made_and_the_model_learns_why(console: Console, model: ModelServer, waiting: str) -> None:
    approval_id = console.here("approvals", "list", "--json").json[0]["approval_id"]
    decided = console.here("approvals", "deny", approval_id, "--reason", "too early", "--json").json
    assert (decided["status"], decided["reason"]) == ("denied", "too early")
    model.will_answer("Not sent.")
    assert console.here("resume", waiting).code == 0
    assert "too early" in str(model.requests[-1]["messages"][-1])
    assert not (console.folder / "posted.txt").exists()


def test_the_list_hides_nothing_of_what_would_be_done(console: Console, waiting: str) -> None:
    assert '  {"text": "Dear\\u202eall"}' in console.here("approvals", "list").out.splitlines()


def test_a_tool_approved_beforehand_does_not_wait(console: Console, model: ModelServer, desk: Path) -> None:
    model.will_call(("post", {"text": "hi"}))
    model.will_answer("Sent.")
    assert console.here("write", "--approve", "post").code == 0
    assert (console.folder / "posted.txt").read_text() == "hi\n"


def test_approving_beforehand_what_is_no_tool_is_refused(console: Console, model: ModelServer) -> None:
    ended = console.here("write", "--approve", "pots")
    assert ended.code == 2
    assert "pots" in ended.err


@pytest.mark.parametrize("part", ["12345678", "1234", "0" * 36])
def test_an_unknown_approval_is_one_clear_line(console: Console, part: str) -> None:
    ended = console.here("approvals", "approve", part)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert "Traceback" not in ended.err
