"""What surrounds a command: noisy plugins, a broken `.env`, folders that are none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.console import SCRIPT, Console
from tests.cli.model_server import ModelServer
from tests.cli.test_demo import WITHOUT_RIGHTS

NOISY = """
print("noise at import")
import atexit, os, subprocess, sys
atexit.register(print, "noise at exit")
"""


@pytest.fixture
def noisy_desk(desk: Path) -> Path:
    """The desk, with a tool that prints in every way, and a plugin that prints when it is loaded and at exit."""
    register = desk / "register.py"
    text = register.read_text().replace(
        'arguments["word"].upper()',
        'arguments["word"].upper() + str(print("noise", flush=True) or "") '
        '+ str(subprocess.call(["echo", "noise of a program"])) + str(os.write(1, b"raw noise\\n"))',
    )
    register.write_text(text.replace("from pathlib import Path\n", NOISY + "from pathlib import Path\n"))
    return desk


def test_what_tools_and_plugins_print_goes_to_standard_error(
    console: Console, model: ModelServer, noisy_desk: Path
) -> None:
    model.will_call(("look_up", {"word": "owl"}))
    model.will_answer("An OWL.")
    ended = console("look it up", "--json")
    assert (ended.code, ended.json["final_answer"]) == (0, "An OWL.")
    for said in ("noise", "noise at import", "noise at exit", "noise of a program", "raw noise"):
        assert said in ended.err.splitlines()
    assert console("tools", "call", "look_up", '{"word": "owl"}').out == '{\n  "meaning": "OWL010"\n}\n'


def test_noise_stays_out_of_the_answer_where_standard_error_is_closed(console: Console, noisy_desk: Path) -> None:
    shell = f"exec {SCRIPT} tools call shout --json 2>&-"
    ended = subprocess.run(
        ["bash", "-c", shell], cwd=console.folder, env=console.env, capture_output=True, text=True, check=True
    )
    assert json.loads(ended.stdout)["success"] is True


def test_a_caller_in_the_same_process_gets_its_standard_output_back(console: Console, noisy_desk: Path) -> None:
    program = (
        "import subprocess; from conductor_ai.cli import main; "
        "main(['tools', 'list']); main(['tools', 'call', 'shout']); "
        "print('mine', flush=True); subprocess.call(['echo', 'of a program'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=console.folder,
        env=console.env,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = ended.stdout.splitlines()
    assert "noise at import" in ended.stderr
    assert "noise at import" not in lines
    assert "look_up\tread\tno\tLook a word up." in lines
    assert lines[-3:-1] == ["mine", "of a program"]  # the last is what the plugin prints at exit


@pytest.mark.parametrize("text", ['OK=1\nGOOGLE_API_KEY="unclosed\n', "OK=1\n'=\n"])
def test_a_broken_dot_env_is_one_line_that_names_its_line(console: Console, text: str) -> None:
    (console.folder / ".env").write_text(text)
    ended = console("tools", "list")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[0] == "error: .env line 2 cannot be read"
    assert len(ended.err.splitlines()) == 2
    assert "BROKEN  settings: .env line 2 cannot be read" in console.here("doctor").out


def test_a_plugins_folder_named_in_dot_env_must_exist(console: Console) -> None:
    (console.folder / ".env").write_text("CONDUCTOR_PLUGINS_DIR=nowhere\n")
    ended = console.here("tools", "list")
    assert ended.code == 2
    assert "there is no plugins folder nowhere" in ended.err
    assert "BROKEN  plugins: there is no plugins folder nowhere" in console.here("doctor").out
    (console.folder / ".env").write_text("CONDUCTOR_PLUGINS_DIR=plugins\n")  # as .env.example has it
    assert console.here("tools", "list").code == 0


def test_a_home_that_is_a_file_is_said(console: Console) -> None:
    (console.folder / "home").write_text("")
    console.env["CONDUCTOR_HOME"] = "home"
    ended = console.here("sessions", "list")
    assert (ended.code, ended.out) == (1, "")
    assert "CONDUCTOR_HOME is a file" in ended.err
    assert "CONDUCTOR_HOME is a file" in console.here("demo").err
    report = console.here("doctor")
    assert report.code == 1
    assert "BROKEN  database: CONDUCTOR_HOME is a file" in report.out
    assert "LOCAL_LLM_BASE_URL" in report.out


def test_a_home_that_nobody_may_look_into_is_broken_and_the_rest_is_told(console: Console, tmp_path: Path) -> None:
    (tmp_path / ".conductor").mkdir(mode=0)
    ended = subprocess.run(
        [*WITHOUT_RIGHTS, SCRIPT, "doctor"],
        cwd=tmp_path,
        env=console.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert {"BROKEN  home", "BROKEN  database"} <= {line.partition(":")[0] for line in ended.stdout.splitlines()}
    assert "LOCAL_LLM_BASE_URL" in ended.stdout
