"""What goes wrong around a command, and the little things that must always work."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.cli.console import SCRIPT, Console
from tests.cli.model_server import ModelServer


def test_help_lists_commands_and_exit_codes(console: Console) -> None:
    for arguments in (["--help"], ["-h"], []):
        ended = console(*arguments)
        assert ended.code == 0
        assert "approvals" in ended.out
        assert "130  interrupted or cancelled" in ended.out


def test_the_version_is_told(console: Console) -> None:
    ended = console.here("--version")
    assert (ended.code, ended.out) == (0, f"conductor-ai {version('conductor-ai')}\n")


def test_help_loads_neither_rich_nor_anything_that_runs_agents(console: Console) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", SCRIPT, "--help"],
        env={"PATH": console.env["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.split("|")[-1].strip() for line in ended.stderr.splitlines() if line.startswith("import time:")}
    assert "typer" in loaded
    assert loaded.isdisjoint({"rich", "asyncio", "pydantic", "sqlalchemy", "aiohttp", "structlog", "orjson", "json"})


@pytest.mark.parametrize("arguments", [["tools", "list", "--nothing"], ["tools"], ["run", "a", "b"], ["sesions"]])
def test_a_wrong_command_line_is_one_error_line_and_a_hint(console: Console, arguments: list[str]) -> None:
    ended = console.here(*arguments)
    assert (ended.code, ended.out) == (2, "")
    error, hint = ended.err.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")


def test_without_a_key_the_message_says_what_to_set_and_offers_the_demo(console: Console) -> None:
    ended = console.here("find dealers")
    assert ended.code == 2
    assert "ANTHROPIC_API_KEY" in ended.err
    assert "conductor demo" in ended.err


def test_a_key_in_dot_env_is_read(console: Console, model: ModelServer) -> None:
    (console.folder / ".env").write_text(f"LOCAL_LLM_BASE_URL={console.env.pop('LOCAL_LLM_BASE_URL')}\n")
    model.will_answer("ok")
    assert console("hello there").code == 0


@pytest.mark.parametrize("name", ["gpt-4o", "openai/gpt-4o"])
def test_openai_models_are_refused(console: Console, name: str) -> None:
    ended = console.here("hello there", "--model", name, "--json")
    assert (ended.code, ended.json["error"]["code"]) == (2, "model_forbidden")


def test_a_live_session_cannot_be_resumed_by_another_process(console: Console, model: ModelServer) -> None:
    held = model.will_hold()
    with console.start("run", "think") as process:
        assert held.arrived.wait(30)
        session_id = console.here("sessions", "list", "--json").json[0]["session_id"]
        ended = console("resume", session_id)
        process.terminate()
        process.communicate(timeout=30)
    assert ended.code == 2
    assert str(process.pid) in ended.err


def test_a_reader_that_leaves_early_is_no_error(console: Console, model: ModelServer) -> None:
    model.will_answer("line\n" * 100_000)
    shell = f"{SCRIPT} run 'talk a lot' 2>err | head -1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(
        ["bash", "-c", shell], cwd=console.folder, env=console.env, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "line\n0\n"
    assert "Traceback" not in (console.folder / "err").read_text()


def test_a_full_disk_behind_standard_output_is_one_clear_line(console: Console) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [SCRIPT, "tools", "list"],
            cwd=console.folder,
            env=console.env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert len(ended.stderr.splitlines()) == 1


def test_closed_streams_do_not_stop_the_work(console: Console, model: ModelServer) -> None:
    model.will_answer("ok")
    shell = f"exec {SCRIPT} run 'hello there' <&- >&- 2>&-"
    ended = subprocess.run(["bash", "-c", shell], cwd=console.folder, env=console.env, check=False)
    assert ended.returncode == 0


def test_a_corrupt_database_is_one_clear_line_and_is_left_as_it_is(console: Console, model: ModelServer) -> None:
    model.will_answer("ok")
    assert console.here("hello there").code == 0
    database = next(path for path in (console.folder / ".conductor").iterdir() if path.suffix == ".db")
    database.write_bytes(b"this is no database" * 1000)
    ended = console.here("sessions", "list")
    assert ended.code == 1
    assert ended.err.startswith("error: ")
    assert "Traceback" not in ended.err
    assert database.read_bytes() == b"this is no database" * 1000


def test_debug_shows_the_trace_wherever_it_stands(console: Console) -> None:
    for arguments in (["--debug", "find dealers"], ["run", "find dealers", "--debug"]):
        ended = console.here(*arguments)
        assert ended.code == 2
        assert "Traceback" in ended.err


def test_a_missing_plugins_folder_is_a_usage_error(console: Console) -> None:
    ended = console.here("tools", "list", "--plugins-dir", "nowhere")
    assert ended.code == 2
    assert "nowhere" in ended.err
