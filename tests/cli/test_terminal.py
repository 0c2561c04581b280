"""What a person at a terminal meets: questions, Ctrl-C, and a view that stays readable."""

import re
import signal
from pathlib import Path

import pexpect
import pytest

from tests.cli.console import Console
from tests.cli.model_server import ModelServer


def exit_code(child: "pexpect.spawn[str]") -> int | None:
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


def session_of(console: Console) -> dict[str, object]:
    found: dict[str, object] = console.here("sessions", "list", "--json").json[0]
    return found


def test_an_approval_is_asked_inline_and_the_session_goes_on(console: Console, model: ModelServer, desk: Path) -> None:
    model.will_call(("post", {"text": "Dear all"}))
    model.will_answer("Sent.")
    child = console.on_terminal("write to all")
    child.expect_exact('"text": "Dear all"')
    child.expect_exact("allow post? [y/n]")
    child.sendline("maybe")
    child.expect_exact("allow post? [y/n]")
    child.sendline("y")
    child.expect_exact("Sent.")
    assert exit_code(child) == 0
    assert (console.folder / "posted.txt").read_text() == "Dear all\n"


def test_a_no_is_told_to_the_model(console: Console, model: ModelServer, desk: Path) -> None:
    model.will_call(("post", {"text": "Dear all"}))
    model.will_answer("Not sent.")
    child = console.on_terminal("write to all")
    child.expect_exact("allow post? [y/n]")
    child.sendline("n")
    child.expect_exact("Not sent.")
    assert exit_code(child) == 0
    assert not (console.folder / "posted.txt").exists()


def test_a_decision_from_elsewhere_counts_and_the_session_goes_on(
    console: Console, model: ModelServer, desk: Path
) -> None:
    model.will_call(("post", {"text": "Dear all"}))
    model.will_answer("Not sent.")
    child = console.on_terminal("write to all")
    child.expect_exact("allow post? [y/n]")
    approval_id = console.here("approvals", "list", "--json").json[0]["approval_id"]
    assert console.here("approvals", "deny", approval_id).code == 0
    child.sendline("y")
    child.expect_exact("was already denied")
    child.expect_exact("Not sent.")
    assert exit_code(child) == 0
    assert not (console.folder / "posted.txt").exists()


def test_a_session_cancelled_while_it_asks_ends_as_cancelled(console: Console, model: ModelServer, desk: Path) -> None:
    model.will_call(("post", {"text": "Dear all"}))
    child = console.on_terminal("write to all")
    child.expect_exact("allow post? [y/n]")
    assert console.here("cancel", str(session_of(console)["session_id"])).code == 0
    child.sendline("y")
    assert exit_code(child) == 130
    assert not (console.folder / "posted.txt").exists()


def test_a_question_left_open_keeps_the_session_waiting(console: Console, model: ModelServer, desk: Path) -> None:
    model.will_call(("post", {"text": "Dear all"}))
    child = console.on_terminal("write to all")
    child.expect_exact("allow post? [y/n]")
    child.sendeof()
    child.expect_exact("conductor approvals approve")
    assert exit_code(child) == 3
    assert session_of(console)["status"] == "waiting_approval"


def test_with_json_nobody_is_asked(console: Console, model: ModelServer, desk: Path) -> None:
    model.will_call(("post", {"text": "Dear all"}))
    child = console.on_terminal("write to all", "--json")
    child.expect_exact('"waiting_approval"')
    assert exit_code(child) == 3


def test_ctrl_c_at_a_question_leaves_it_open(console: Console, model: ModelServer, desk: Path) -> None:
    model.will_call(("post", {"text": "Dear all"}))
    child = console.on_terminal("write to all")
    child.expect_exact("allow post? [y/n]")
    child.sendintr()
    child.expect_exact("conductor resume")
    assert exit_code(child) == 130
    assert session_of(console)["status"] == "waiting_approval"


def test_ctrl_c_pauses_and_prints_the_line_that_goes_on(console: Console, model: ModelServer) -> None:
    held = model.will_hold()
    child = console.on_terminal("think about it")
    assert held.arrived.wait(30)
    child.sendintr()
    child.expect_exact("stopping cleanly")
    child.expect(r"conductor resume ([0-9a-f-]{36})")
    assert isinstance(child.match, re.Match)
    resumed = str(child.match.group(1))
    assert exit_code(child) == 130
    session = session_of(console)
    assert (session["session_id"], session["status"], session["pause_reason"]) == (resumed, "paused", "interrupted")
    model.will_answer("Thought.")
    assert console.here("resume", resumed).out == "Thought.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_without_a_terminal_pauses_too(console: Console, model: ModelServer, number: signal.Signals) -> None:
    held = model.will_hold()
    with console.start("run", "think about it", "--json") as process:
        assert held.arrived.wait(30)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert '"pause_reason": "interrupted"' in out
    assert "conductor resume" in err


def test_the_view_moves_on_a_terminal_and_the_answer_stays(console: Console, model: ModelServer, desk: Path) -> None:
    model.will_call(("look_up", {"word": "owl"}))
    model.will_answer("[red]An owl[/red]")
    child = console.on_terminal("look it up")
    child.expect("local/tiny is thinking|writes a call of look_up")  # as fast as the model is
    child.expect_exact('look_up {"word": "owl"}')
    child.expect_exact("[red]An owl[/red]")
    assert exit_code(child) == 0


def test_a_list_on_a_terminal_has_headings_and_whole_ids(console: Console, model: ModelServer) -> None:
    model.will_answer("hello")
    session_id = console.here("[bold]hi[/bold] there", "--json").json["session_id"]
    child = console.on_terminal("sessions", "list")
    child.expect_exact("session")
    child.expect_exact(session_id)
    child.expect_exact("[bold]hi[/bold] there")
    assert exit_code(child) == 0


def test_no_color_is_respected(console: Console, model: ModelServer) -> None:
    model.will_answer("plain")
    child = console.on_terminal("say it", NO_COLOR="1")
    assert exit_code(child) == 0
    assert child.before is not None
    assert "\x1b[3" not in child.before


def test_deleting_asks_on_a_terminal(console: Console, model: ModelServer) -> None:
    model.will_answer("hello")
    session_id = console.here("hi there", "--json").json["session_id"]
    child = console.on_terminal("sessions", "delete", session_id)
    child.expect_exact("for good? [y/n]")
    child.sendline("n")
    assert exit_code(child) == 0
    assert session_of(console)["session_id"] == session_id


def test_a_tool_that_needs_approval_asks_before_a_direct_call(console: Console, desk: Path) -> None:
    child = console.on_terminal("tools", "call", "post", '{"text": "hi"}')
    child.expect_exact('"text": "hi"')
    child.expect_exact("allow post? [y/n]")
    child.sendline("yes")
    child.expect_exact("posted")
    assert exit_code(child) == 0
