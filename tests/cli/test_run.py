"""`conductor run` and `conductor "task"` as processes without a terminal."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.console import Console
from tests.cli.model_server import ModelServer


def test_a_task_is_run_and_only_its_answer_goes_to_standard_output(console: Console, model: ModelServer) -> None:
    model.will_answer("Forty-two.")
    ended = console("what is the answer?")
    assert (ended.code, ended.out) == (0, "Forty-two.\n")
    assert "step 1  local/tiny" in ended.err
    assert "1,200 in + 34 out tokens" in ended.err
    assert "completed: 1 step, 1,234 tokens" in ended.err
    assert model.requests[0]["messages"][-1] == {"role": "user", "content": "what is the answer?"}


def test_json_is_one_object_with_the_promised_keys(console: Console, model: ModelServer, desk: Path) -> None:
    model.will_call(("look_up", {"word": "owl"}))
    model.will_answer("An OWL.")
    ended = console("run", "look owl up", "--json", "--tools", "look_up")
    session = ended.json
    assert ended.code == 0
    assert {"session_id", "status", "final_answer", "steps", "usage", "cost_usd"} <= session.keys()
    assert session["status"] == "completed"
    assert session["final_answer"] == session["steps"][-1]["final_answer"] == "An OWL."
    assert session["steps"][0]["tool_calls"][0]["result"] == {"meaning": "OWL"}


def test_the_view_names_step_tool_arguments_and_time(console: Console, model: ModelServer, desk: Path) -> None:
    model.will_call(("look_up", {"word": "owl"}), content="I look it up.")
    model.will_answer("done")
    lines = console.here("go", "--tools", "look_up").err.splitlines()
    assert 'step 1  look_up {"word": "owl"}' in lines
    assert "  I look it up." in lines
    assert any(line.startswith('step 1  look_up {"word": "owl"} done  ') and line.endswith(" ms") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "sent"), [(["sum it up"], "sum it up\n\none\ntwo"), ([], "one\ntwo"), (["run"], "one\ntwo")]
)
def test_piped_text_is_context_or_the_task(
    console: Console, model: ModelServer, arguments: list[str], sent: str
) -> None:
    model.will_answer("ok")
    assert console(*arguments, stdin=b"one\ntwo\n").code == 0
    assert model.requests[0]["messages"][-1]["content"] == sent


def test_a_pipe_that_stays_silent_is_waited_for_and_said(console: Console, model: ModelServer) -> None:
    model.will_answer("ok")
    with console.start("sum it up", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        assert process.stderr.readline().startswith("reading standard input to its end")
        process.communicate("late\n", timeout=30)
    assert model.requests[0]["messages"][-1]["content"] == "sum it up\n\nlate"


@pytest.mark.slow
def test_a_pipe_that_nobody_writes_to_is_left_alone_in_the_end(console: Console, model: ModelServer) -> None:
    model.will_answer("ok")
    with console.start("sum it up", stdin=subprocess.PIPE) as process:
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert "going on without it" in process.stderr.read()
    assert model.requests[0]["messages"][-1]["content"] == "sum it up"


def test_bytes_that_are_no_text_reach_the_model_readable(console: Console, model: ModelServer) -> None:
    model.will_answer("ok")
    assert console("read", stdin=b"caf\xe9 \x00 end").code == 0
    assert model.requests[0]["messages"][-1]["content"] == "read\n\ncaf\\xe9 \x00 end"


def test_a_task_with_bytes_that_are_no_text_is_run(console: Console, model: ModelServer) -> None:
    model.will_answer("ok")
    assert console("run", b"caf\xe9").code == 0
    assert console.here("sessions", "list", "--json").json[0]["status"] == "completed"


@pytest.mark.parametrize("arguments", [["run"], ["run", "  "], ["--json"]])
def test_no_task_is_a_usage_error(console: Console, arguments: list[str]) -> None:
    ended = console.here(*arguments)
    assert ended.code == 2
    assert "error: no task given" in ended.err


def test_options_reach_the_session(console: Console, model: ModelServer, desk: Path) -> None:
    model.will_answer("ok")
    assert (
        console.here("--system", "Be brief.", "--tools", "look_up,shout", "--max-steps", "3", "hello there").code == 0
    )
    request = model.requests[0]
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}
    assert [tool["function"]["name"] for tool in request["tools"]] == ["look_up", "shout", "read_result"]


def test_a_step_limit_pauses_and_a_raised_one_resumes(console: Console, model: ModelServer, desk: Path) -> None:
    model.will_call(("look_up", {"word": "owl"}))
    paused = console.here("go", "--max-steps", "1")
    session_id = console.here("sessions", "list", "--json").json[0]["session_id"]
    assert (paused.code, paused.out) == (4, "")
    assert f"resume:  conductor resume {session_id} --max-steps N" in paused.err
    model.will_answer("done")
    resumed = console("resume", session_id, "--max-steps", "5")
    assert (resumed.code, resumed.out) == (0, "done\n")


def test_a_finished_session_is_continued_with_a_new_message(console: Console, model: ModelServer) -> None:
    model.will_answer("Hello.")
    session_id = console.here("hello there", "--json").json["session_id"]
    model.will_answer("Still here.")
    ended = console("run", "and now?", "--continue", session_id[-8:])
    assert (ended.code, ended.out) == (0, "Still here.\n")
    assert [message["content"] for message in model.requests[1]["messages"]] == ["hello there", "Hello.", "and now?"]


def test_what_a_session_was_started_with_cannot_be_changed_when_it_continues(console: Console) -> None:
    ended = console.here("run", "x", "--continue", "12345678", "--model", "local/tiny")
    assert ended.code == 2
    assert "error: --model cannot change with --continue" in ended.err


def test_a_refusing_provider_is_exit_code_1_with_one_clear_line(console: Console, model: ModelServer) -> None:
    model.will_refuse(400, "no such model")
    ended = console.here("hi there")
    assert (ended.code, ended.out) == (1, "")
    assert "error: " in ended.err
    assert "Traceback" not in ended.err


def test_a_refused_key_says_which_variable_to_look_at(console: Console, model: ModelServer) -> None:
    model.will_refuse(401, "bad key")
    ended = console.here("hi there", "--json")
    session = ended.json
    assert (ended.code, session["status"], session["final_answer"]) == (1, "failed", None)
    assert "LOCAL_LLM_API_KEY" in ended.err
    model.will_answer("ok now")
    assert console.here("resume", session["session_id"]).out == "ok now\n"


def test_a_session_that_failed_for_good_goes_on_with_a_new_message_only(console: Console, model: ModelServer) -> None:
    model.will_decline()
    ended = console.here("hi there", "--json")
    assert ended.code == 1
    assert console.here("resume", ended.json["session_id"]).code == 2
    model.will_answer("Hello.")
    assert console.here("run", "try again", "--continue", ended.json["session_id"]).out == "Hello.\n"


def test_a_model_that_is_gone_soon_is_warned_of(console: Console, model: ModelServer) -> None:
    home = console.folder / ".conductor"
    home.mkdir()
    (home / "models.toml").write_text('[models."local/tiny"]\nname = "Tiny"\nretires_on = 2020-01-01\n')
    model.will_answer("ok")
    ended = console.here("hi there")
    assert ended.code == 0
    assert "warning: local/tiny was retired by its provider on 2020-01-01" in ended.err


def test_a_dry_run_shows_the_plan_and_stores_and_calls_nothing(
    console: Console, model: ModelServer, desk: Path
) -> None:
    plan = console.here("go", "--dry-run", "--json", "--approve", "post").json
    tools = {tool["name"]: tool for tool in plan["tools"]}
    assert plan["model"] == "local/tiny"
    assert tools["post"] == {"name": "post", "effect": "once", "requires_approval": False}
    assert "model: local/tiny" in console.here("go", "--dry-run").out
    assert model.requests == []
    assert console.here("sessions", "list", "--json").json == []


def test_tool_output_and_model_text_cannot_steer_the_terminal(console: Console, model: ModelServer, desk: Path) -> None:
    model.will_call(("shout", {}))
    model.will_answer("\x1b[31mred [bold]x[/bold] \u202e")
    ended = console("go", "--tools", "shout")
    assert ended.out == "\\x1b[31mred [bold]x[/bold] \\u202e\n"
    shown = console.here("sessions", "show", console.here("sessions", "list", "--json").json[0]["session_id"])
    assert "\x1b" not in ended.err + shown.out
    assert "[bold]b[/bold]" in shown.out


def test_a_terminal_without_unicode_shows_escapes_and_json_stays_json(console: Console, model: ModelServer) -> None:
    model.will_answer("grüße 👋")
    ended = console("hi there", LC_ALL="C", PYTHONIOENCODING="ascii")
    assert (ended.code, ended.out) == (0, "gr\\xfc\\xdfe \\U0001f44b\n")
    session_id = console.here("sessions", "list", "--json").json[0]["session_id"]
    shown = console("sessions", "show", session_id, "--json", PYTHONIOENCODING="ascii")
    assert shown.json["final_answer"] == "grüße 👋"


def test_json_mode_reports_an_error_as_json_too(console: Console) -> None:
    ended = console.here("run", "x", "--json", "--model", "nobody/nothing")
    assert ended.code == 2
    error = json.loads(ended.out)["error"]
    assert error.keys() == {"code", "message", "hint"}
    assert error["code"] == "unknown_model"
    assert f"error: {error['message']}" in ended.err
