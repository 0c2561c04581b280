"""`--record`, `conductor sessions replay` and `conductor sessions export`, through the console script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.console import SCRIPT, Console, Outcome
from tests.cli.model_server import ModelServer, model_server

CANARY = "canary-of-a-key-0123456789"
RUFF = str(Path(SCRIPT).with_name("ruff"))


@pytest.fixture
def recorded(console: Console, desk: Path) -> Path:
    """The recording of a session with a tool and a second message, whose model server is gone."""
    kept = dict(console.env)
    with model_server() as server:
        console.env |= {"LOCAL_LLM_BASE_URL": server.url, "LOCAL_LLM_API_KEY": CANARY}
        server.will_call(("look_up", {"word": "owl"}), content="I look it up.")
        server.will_answer("An OWL.")
        server.will_answer(f"A bird. {CANARY}")
        asked = ("--model", "local/tiny", "--tools", "look_up,post", "--record", "records", "--json")
        session = console.here("run", "what is an owl?", *asked).json
        ended = console.here("run", "and then?", "--continue", session["session_id"], "--record", "records")
        assert ended.code == 0, ended.err
    console.env = kept
    [path] = (console.folder / "records").iterdir()
    return path


def session_id(recording: Path) -> str:
    return recording.stem


def changed(recording: Path, old: str, new: str) -> Path:
    text = recording.read_text()
    assert old in text
    recording.write_text(text.replace(old, new))
    return recording


def test_a_recording_is_replayed_without_server_key_or_database(console: Console, recorded: Path) -> None:
    elsewhere = console.folder / "elsewhere"
    elsewhere.mkdir()
    console = Console(elsewhere)

    ended = console("sessions", "replay", str(recorded))

    assert (ended.code, ended.out) == (0, "A bird. [redacted]\n")
    assert 'step 1  look_up {"word": "owl"} done' in ended.err
    assert ended.err.endswith("completed: 3 steps, 3,702 tokens, $0.00\nas recorded\n")
    assert list(elsewhere.iterdir()) == []


def test_a_replay_that_differs_says_where_and_exits_1(console: Console, recorded: Path) -> None:
    ended = console.here("sessions", "replay", str(changed(recorded, '"meaning":"OWL"', '"meaning":"CAT"')))

    # The result stands in the log and, as text, in the request after it: only the first was changed.
    assert ended.code == 1
    assert "error: the replay differs: model call 2 (step 2): turn 3" in ended.err
    assert "\nhint: where this is meant, record the session anew\n" in ended.err
    assert "\nstopped at the difference: 1 step, " in ended.err
    assert "as recorded" not in ended.err


def test_a_recording_that_is_cut_is_never_as_recorded(console: Console, recorded: Path) -> None:
    lines = recorded.read_bytes().splitlines(keepends=True)
    hint = "hint: once the session has stopped, record or export it anew; conductor resume takes up one that died\n"
    recorded.write_bytes(b"".join(lines[:-1]))

    cut = console.here("sessions", "replay", str(recorded))
    assert cut.code == 1
    assert "the recording ends in the middle of its session: it still runs, its process died, or the file" in cut.err
    assert cut.err.endswith(hint)
    recorded.write_bytes(b"".join(lines) + b"x" * 100)
    junk = console.here("sessions", "replay", str(recorded))
    assert (junk.code, junk.out) == (1, "A bird. [redacted]\n")
    assert "\nerror: the last line of the recording is not whole: its process died, or the file was" in junk.err
    told = console.here("sessions", "replay", str(recorded), "--json")
    assert (told.code, [replay["difference"] for replay in told.json]) == (1, [junk.err.splitlines()[-2][7:]])
    for ended in (cut, junk, told):
        assert "as recorded" not in ended.err

    recorded.write_bytes(b"".join(lines[:3]))  # its first message is in the fourth
    begun = console.here("sessions", "replay", str(recorded))
    assert _code(begun) == (2, f"error: {recorded} does not hold the beginning of a session")


def test_several_calls_in_one_answer_are_replayed(console: Console, desk: Path) -> None:
    kept = dict(console.env)
    with model_server() as server:
        console.env["LOCAL_LLM_BASE_URL"] = server.url
        server.will_call(("look_up", {"word": "owl"}), ("look_up", {"word": "cat"}))
        server.will_answer("Two animals.")
        asked = ("--model", "local/tiny", "--tools", "look_up", "--record", "records")
        assert console.here("run", "what are they?", *asked).code == 0
    console.env = kept
    [path] = (console.folder / "records").iterdir()

    same = console.here("sessions", "replay", str(path))
    assert (same.code, same.out) == (0, "Two animals.\n")
    other = console.here("sessions", "replay", str(changed(path, '"meaning":"CAT"', '"meaning":"DOG"')))
    assert other.code == 1
    assert "error: the replay differs: model call 2 (step 2): turn 3[1].content reads" in other.err


def test_each_of_several_files_gets_its_verdict(console: Console, recorded: Path) -> None:
    other = recorded.with_name("other.jsonl")
    other.write_text(recorded.read_text())
    changed(other, '"meaning":"OWL"', '"meaning":"CAT"')

    ended = console.here("sessions", "replay", str(other), str(recorded))
    assert (ended.code, ended.out) == (1, "A bird. [redacted]\n")
    assert f"error: {other}: the replay differs: model call 2 (step 2): turn 3" in ended.err
    assert ended.err.endswith(f"\n{recorded}: as recorded\n")

    same = console.here("sessions", "replay", str(recorded), str(recorded), "--json")
    assert (same.code, [replay["difference"] for replay in same.json]) == (0, [None, None])
    assert [replay["recorded_session_id"] for replay in same.json] == [session_id(recorded)] * 2
    assert [replay["file"] for replay in same.json] == [str(recorded)] * 2
    assert session_id(recorded) not in {replay["session"]["session_id"] for replay in same.json}


def test_a_live_tool_that_no_recording_calls_is_refused(console: Console, desk: Path, recorded: Path) -> None:
    ended = console.here("sessions", "replay", str(recorded), "--live", "look_up", "--live", "post")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "error: post was not called in this recording\nhint: called: look_up\n"


def test_a_live_tool_runs_with_the_tools_that_are_there(console: Console, desk: Path, recorded: Path) -> None:
    assert console.here("sessions", "replay", str(recorded), "--live", "look_up").code == 0
    code = (desk / "register.py").read_text().replace('["word"].upper()', '["word"].capitalize()')
    (desk / "register.py").write_text(code)

    ended = console("sessions", "replay", str(recorded), "--live", "look_up", "--json")

    assert ended.code == 1
    [replayed] = ended.json
    assert "OWL" in replayed["difference"]
    assert replayed["session"]["steps"][0]["tool_calls"][0]["result"] == {"meaning": "Owl"}


def test_no_key_is_in_a_recording_or_an_export(console: Console, recorded: Path) -> None:
    exported = console.here("sessions", "export", session_id(recorded))
    made = console.here("sessions", "export", session_id(recorded), "--as", "pytest", "--out", "tests")
    assert made.code == 0
    for text in (
        recorded.read_text(),
        exported.out,
        *(path.read_text() for path in (console.folder / "tests").iterdir()),
    ):
        assert CANARY not in text
        assert "[redacted]" in text


def test_the_log_is_exported_as_one_json_value(console: Console, recorded: Path) -> None:
    data = console.here("sessions", "export", session_id(recorded)[-8:]).json
    assert data["session"]["final_answer"] == "A bird. [redacted]"
    assert [event["seq"] for event in data["events"]] == list(range(1, len(data["events"]) + 1))
    assert data["events"][0]["payload"]["model"] == "local/tiny"


def export(console: Console, recorded: Path, *options: str) -> tuple[Path, Path]:
    """A test and its recording, written from the log alone."""
    ended = console.here("sessions", "export", session_id(recorded), "--as", "pytest", "--out", "made/tests", *options)
    assert ended.code == 0, ended.err
    source, data = (console.folder / line for line in ended.out.splitlines())
    return source, data


def run_test(source: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Plain pytest in an empty folder, with an empty environment."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    return subprocess.run(
        [*command, str(source)], cwd=folder, env={}, capture_output=True, text=True, timeout=60, check=False
    )


def test_an_exported_test_runs_anywhere_and_reads_well(console: Console, recorded: Path, tmp_path: Path) -> None:
    source, data = export(console, recorded)
    recorded.unlink()

    ended = run_test(source, tmp_path / "empty")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 passed" in ended.stdout
    assert (source.name, data.name) == (
        f"test_session_{recorded.stem[-8:]}.py",
        f"test_session_{recorded.stem[-8:]}.jsonl",
    )
    assert data.stat().st_mode & 0o777 == 0o600
    text = source.read_text()
    assert '    assert replayed.calls == [("look_up", {"word": "owl"}, "succeeded")]\n' in text
    assert '    assert session.final_answer == "A bird. [redacted]"\n' in text
    assert "    assert session.cost_usd == Decimal(0)\n" in text
    for check in (["check"], ["format", "--check"]):
        ended = subprocess.run(
            [RUFF, *check, "--isolated", str(source)], capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 0, ended.stdout


TAMPERED = [
    ('"content":"A bird. ', '"content":"A fish. '),
    ('"word":"owl"', '"word":"cat"'),
    ('"outcome":"succeeded"', '"outcome":"failed"'),
    ('"cost_usd":"0"', '"cost_usd":"1"'),
    ('"output_tokens":34', '"output_tokens":35'),
]


@pytest.mark.parametrize(("old", "new"), TAMPERED, ids=["answer", "arguments", "outcome", "cost", "tokens"])
def test_an_exported_test_fails_once_its_recording_was_changed(
    console: Console, recorded: Path, tmp_path: Path, old: str, new: str
) -> None:
    source, data = export(console, recorded)
    changed(data, old, new)

    ended = run_test(source, tmp_path / "empty")

    assert ended.returncode == 1
    assert "1 failed" in ended.stdout


def test_files_that_are_there_are_kept_unless_told_otherwise(console: Console, recorded: Path) -> None:
    source, data = export(console, recorded)
    source.write_text("mine")
    refused = console.here("sessions", "export", session_id(recorded), "--as", "pytest", "--out", "made/tests")
    assert (refused.code, source.read_text()) == (2, "mine")
    assert "is there already" in refused.err
    assert "hint: --force writes over it" in refused.err

    data.chmod(0o644)
    export(console, recorded, "--force")

    assert data.stat().st_mode & 0o777 == 0o600
    assert source.read_text() != "mine"


def test_a_resumed_session_is_recorded_in_the_same_file(console: Console, model: ModelServer, desk: Path) -> None:
    model.will_call(("look_up", {"word": "owl"}))
    model.will_answer("An OWL.")
    paused = console.here("go", "--tools", "look_up", "--max-steps", "1", "--record", "records", "--json").json
    ended = console.here("resume", paused["session_id"], "--max-steps", "5", "--record", "records")
    assert ended.code == 0

    [path] = (console.folder / "records").iterdir()
    assert ended.err.endswith(f"\nrecorded: records/{path.name}\n")
    assert console.here("sessions", "replay", str(path)).code == 0


def _code(ended: Outcome) -> tuple[int, Any]:
    return ended.code, ended.err.splitlines()[0]


def test_what_cannot_be_is_refused_in_one_line(console: Console, model: ModelServer) -> None:
    (console.folder / "notes.jsonl").write_text("hello\n")
    (console.folder / "file").touch()
    model.will_answer("ok")

    assert _code(console.here("sessions", "replay", "notes.jsonl")) == (
        2,
        "error: notes.jsonl is not a recording of a session",
    )
    nowhere = console.here("sessions", "replay", "nowhere.jsonl")
    assert (nowhere.code, nowhere.err) == (
        2,
        "error: the recording nowhere.jsonl is missing: export its session again\n"
        "hint: conductor sessions export ID --as pytest --out DIR\n",
    )
    assert _code(console.here("sessions", "export", "x", "--as", "pytst")) == (2, "error: --as 'pytst' is unknown")
    assert _code(console.here("go", "--record", "")) == (
        2,
        "error: Invalid value for '--record': it names no folder",
    )
    assert _code(console.here("go", "--record", "records", "--dry-run")) == (
        2,
        "error: --dry-run calls no model, so there is nothing to --record",
    )
    assert _code(console.here("sessions", "export", "nothing-like-it")) == (2, "error: no session 'nothing-like-it'")
    assert _code(console.here("go", "--record", "file")) == (2, "error: nothing can be recorded in file: File exists")
    assert model.requests == []


def test_an_export_into_a_file_is_refused(console: Console, recorded: Path) -> None:
    ended = console.here("sessions", "export", session_id(recorded), "--as", "pytest", "--out", str(recorded))
    assert _code(ended) == (2, f"error: nothing can be exported to {recorded}: File exists")


def test_an_exported_test_without_its_recording_says_what_to_do(
    console: Console, recorded: Path, tmp_path: Path
) -> None:
    source, data = export(console, recorded)
    data.unlink()
    assert f"the recording {data} is missing: export its session again" in run_test(source, tmp_path / "empty").stdout


def test_help_tells_of_both_in_whole_sentences(console: Console) -> None:
    said = console.here("sessions", "--help").out
    assert "  export  Export a session: its log as JSON, or a pytest test.\n" in said
    assert "  replay  Run recorded sessions again, offline.\n" in said


def test_the_lines_of_a_recording_are_json(recorded: Path) -> None:
    kinds = [json.loads(line)["kind"] for line in recorded.read_text().splitlines()]
    assert kinds[:2] == ["recording", "models"]
    assert (kinds.count("exchange"), kinds.count("tools")) == (3, 2)  # tools once in each command
