"""`--server URL`: the commands over sessions of a real `conductor serve` process, from a folder that has nothing."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.console import Console
from tests.cli.model_server import ModelServer

AGENT = 'name = "clerk"\ndescription = "Looks things up."\ninstructions = "Be brief."\ntools = ["look_up"]\n'


@pytest.fixture
def url(console: Console, model: ModelServer, desk: Path) -> Iterator[str]:
    """Where the server is that runs in the folder with the tools and one agent."""
    (console.folder / "agents").mkdir()
    (console.folder / "agents" / "clerk.toml").write_text(AGENT)
    process = console.start("serve", "--port", "0", "--json")
    assert process.stdout is not None
    try:
        yield str(json.loads(process.stdout.readline())["url"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


@pytest.fixture
def away(tmp_path_factory: pytest.TempPathFactory) -> Console:
    """A machine without models, tools or sessions."""
    return Console(tmp_path_factory.mktemp("away"))


def test_a_run_is_shown_as_a_local_one_is(away: Console, url: str, model: ModelServer) -> None:
    model.will_call(("look_up", {"word": "conductor"}))
    model.will_answer("It leads.")

    ran = away("--server", url, "what does conductor mean?", "--agent", "clerk")

    assert (ran.code, ran.out) == (0, "It leads.\n")
    assert 'look_up {"word": "conductor"} done' in ran.err
    assert "completed: 2 steps, 2,468 tokens, $0.00" in ran.err
    assert list(away.folder.iterdir()) == []


def test_sessions_are_listed_shown_continued_and_deleted(away: Console, url: str, model: ModelServer) -> None:
    model.will_answer("First.")
    model.will_answer("Second.")

    ran = away.here("run", "one", "--json", "--server", url).json
    part = ran["session_id"][-8:]
    continued = away.here("run", "two", "--continue", part, "--server", url)
    listed = away.here("sessions", "list", "--status", "completed", "--server", url)
    shown = away.here("sessions", "show", part, "--server", url)
    as_json = away.here("sessions", "show", part, "--json", "--server", url).json
    again = away.here("resume", part, "--server", url)
    deleted = away.here("sessions", "delete", part, "--server", url)
    gone = away.here("sessions", "show", ran["session_id"], "--server", url)

    assert (ran["final_answer"], continued.out, again.out) == ("First.", "Second.\n", "Second.\n")
    assert "First." not in continued.err  # what was before is not shown again
    assert listed.out.startswith(f"{ran['session_id']}\tcompleted\t")
    assert "step 2  final_answer" in shown.out
    assert "cost    $0.00 (" in shown.out
    assert [step["final_answer"] for step in as_json["steps"]] == ["First.", "Second."]
    assert deleted.out == f"{ran['session_id']} deleted\n"
    assert (gone.code, "no session" in gone.err) == (2, True)


def test_approvals_are_decided_from_afar_and_the_session_goes_on(away: Console, url: str, model: ModelServer) -> None:
    model.will_call(("post", {"text": "hello"}), ("post", {"text": "goodbye"}))
    model.will_answer("One letter is on its way.")

    ran = away.here("write", "--tools", "post", "--server", url)
    first, second = away.here("approvals", "list", "--json", "--server", url).json
    approved = away.here("approvals", "approve", first["approval_id"], "--server", url)
    denied = away.here("approvals", "deny", second["approval_id"][-8:], "--reason", "one is enough", "--server", url)
    followed = away.here("resume", first["session_id"], "--server", url)

    assert ran.code == 3
    assert ran.err.count("approval needed: post") == 2
    assert f"conductor approvals approve {first['approval_id']} --server {url}" in ran.err
    assert f"conductor resume {first['session_id']} --server {url}" in ran.err
    assert (approved.code, "goes on by itself" in approved.err) == (0, True)
    assert denied.out == f"{second['approval_id']} denied\n"
    assert (followed.code, followed.out) == (0, "One letter is on its way.\n")
    assert "one is enough" in str(model.requests[1])


def test_a_person_at_the_terminal_is_asked(away: Console, url: str, model: ModelServer) -> None:
    model.will_call(("post", {"text": "hello"}))
    model.will_answer("It is on its way.")

    terminal = away.on_terminal("write", "--tools", "post", "--server", url)
    terminal.expect_exact("allow post? [y/n] ")
    terminal.sendline("y")
    terminal.expect_exact("It is on its way.")
    terminal.wait()

    assert terminal.exitstatus == 0


def test_ctrl_c_leaves_the_session_to_its_server(away: Console, url: str, model: ModelServer) -> None:
    held = model.will_hold()

    process = away.start("think", "--server", url)
    assert held.arrived.wait(30)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    [session] = away.here("sessions", "list", "--json", "--server", url).json
    cancelled = away.here("cancel", session["session_id"], "--server", url)

    assert process.returncode == 130
    assert session["status"] == "running"
    assert "leaving the session to its server" in said
    assert f"to see it again: conductor resume {session['session_id']} --server {url}" in said
    assert cancelled.out.split() in ([session["session_id"], "cancelling"], [session["session_id"], "cancelled"])


def test_a_paused_session_is_resumed_with_another_limit(away: Console, url: str, model: ModelServer) -> None:
    model.will_call(("look_up", {"word": "conductor"}))
    model.will_answer("It leads.")

    paused = away.here("look", "--max-steps", "1", "--server", url)
    [session] = away.here("sessions", "list", "--json", "--server", url).json
    resumed = away.here("resume", session["session_id"], "--max-steps", "5", "--server", url)

    assert paused.code == 4
    assert (resumed.code, resumed.out) == (0, "It leads.\n")
    assert "look_up" not in resumed.err  # the view goes on where it was


def test_what_the_server_has_is_listed(away: Console, url: str) -> None:
    tools = away.here("tools", "list", "--server", url)
    agents = away.here("agents", "list", "--json", "--server", url).json
    agent = away.here("agents", "show", "clerk", "--server", url)
    models = away.here("models", "list", "--server", url)
    nobody = away.here("agents", "show", "nobody", "--server", url)

    assert "post\tonce\tyes\tPost a letter." in tools.out
    assert "clerk" in [each["name"] for each in agents]
    assert "tools: look_up\n" in agent.out
    assert "demo/scripted\t" in models.out
    assert (nobody.code, "agents are: clerk" in nobody.err) == (2, True)


def test_the_key_comes_from_the_environment_and_is_shown_by_nobody(away: Console, console: Console, url: str) -> None:
    key = console("keys", "create", "--org", "default", "--scopes", "read", "--json").json["key"]
    wrong = f"{key[:-8]}AAAAAAAA"

    away.env["CONDUCTOR_API_KEY"] = key
    right = away.here("sessions", "list", "--server", url)
    scoped = away.here("run", "anything", "--server", url)
    away.env["CONDUCTOR_API_KEY"] = wrong
    refused = away.here("sessions", "list", "--debug", "--json", "--server", url)

    assert (right.code, right.err) == (0, "no sessions yet\n")
    assert (refused.code, refused.json["error"]["code"]) == (1, "unauthorized")
    assert "CONDUCTOR_API_KEY" in refused.err
    assert (scoped.code, "error: " in scoped.err) == (1, True)
    assert not [text for text in (refused.out, refused.err, scoped.err) if wrong[-40:] in text or key[-40:] in text]


@pytest.mark.parametrize(
    "option",
    [["--plugins-dir", "p"], ["--agents-dir", "a"], ["--record", "r"], ["--dry-run"], ["--approve", "post"]],
    ids=lambda option: option[0],
)
def test_options_about_this_machine_are_refused(away: Console, option: list[str]) -> None:
    refused = away.here("run", "anything", "--server", "http://127.0.0.1:9", *option)

    assert (refused.code, f"{option[0]} does not go with --server" in refused.err) == (2, True)


def test_a_server_that_is_not_there_is_one_clear_line(away: Console, unused_tcp_port: int) -> None:
    nobody = away.here("sessions", "list", "--server", f"http://127.0.0.1:{unused_tcp_port}")
    no_address = away.here("sessions", "list", "--server", "localhost")

    assert nobody.code == 1
    assert nobody.err.startswith(f"error: http://127.0.0.1:{unused_tcp_port} cannot be reached: Connection refused\n")
    assert (no_address.code, "--server must be an address" in no_address.err) == (2, True)
