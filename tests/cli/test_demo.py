"""`conductor demo`: a first run without keys, anywhere."""

import os
import subprocess
from pathlib import Path

from tests.cli.console import SCRIPT, Console

# Root may write anywhere, until it gives that right away.
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


def test_the_demo_says_what_is_scripted_and_runs_real_tools(console: Console) -> None:
    ended = console("demo")
    assert ended.code == 0
    assert "only the model's choices are scripted" in "".join(ended.err.splitlines()[:3])
    assert 'find_dealers {"state": "CA"} done' in ended.err
    session = console.here("sessions", "list", "--json").json[0]
    shown = console.here("sessions", "show", session["session_id"], "--json").json
    assert shown["final_answer"] + "\n" == ended.out
    saved = next(call for step in shown["steps"] for call in step["tool_calls"] if call["name"] == "save_shortlist")
    assert (console.folder / saved["result"]["file"]).exists()


def test_the_demo_as_json_is_a_session(console: Console) -> None:
    session = console.here("demo", "--json").json
    assert (session["status"], session["model"]) == ("completed", "demo/scripted")


def test_the_demo_ignores_what_is_broken_in_the_folder(console: Console) -> None:
    broken = console.folder / "plugins" / "example_plugin"
    broken.mkdir(parents=True)
    (broken / "register.py").write_text("import nothing_of_this_name")
    ended = console.here("demo")
    assert ended.code == 0
    assert "warning" not in ended.err


def test_the_demo_runs_where_nothing_can_be_written(console: Console, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "sealed", tmp_path / "tmp"
    elsewhere.mkdir()
    folder.mkdir(mode=0o555)
    ended = subprocess.run(
        [*WITHOUT_RIGHTS, SCRIPT, "demo", "--json"],
        cwd=folder,
        env=console.env | {"TMPDIR": str(elsewhere)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0
    assert f"export CONDUCTOR_HOME={elsewhere}" in ended.stderr
    assert list(folder.iterdir()) == []
