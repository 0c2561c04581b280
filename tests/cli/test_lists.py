"""Commands that show: sessions, tools, models, plugins."""

import sys
from pathlib import Path

import pytest

from tests.cli.console import Console
from tests.cli.model_server import ModelServer


@pytest.mark.parametrize("noun", ["sessions", "approvals"])
def test_listing_in_an_empty_folder_prints_an_empty_array_and_makes_no_database(console: Console, noun: str) -> None:
    ended = console(noun, "list", "--json")
    assert (ended.code, ended.json) == (0, [])
    assert not (console.folder / ".conductor").exists()


def test_no_sessions_yet_is_said_on_standard_error(console: Console) -> None:
    ended = console.here("sessions", "list")
    assert (ended.code, ended.out, ended.err) == (0, "", "no sessions yet\n")


def test_sessions_are_listed_newest_first_and_shown_with_their_steps(
    console: Console, model: ModelServer, desk: Path
) -> None:
    model.will_answer("one")
    model.will_call(("look_up", {"word": "owl"}))
    model.will_answer("two")
    console.here("first task")
    console.here("second task")
    second, first = console.here("sessions", "list", "--json").json
    assert [first["title"], second["title"]] == ["first task", "second task"]
    assert first.keys().isdisjoint({"steps", "final_answer"})
    assert (
        console.here("sessions", "list", "--status", "completed", "--limit", "1").out.split("\t")[0]
        == second["session_id"]
    )
    shown = console.here("sessions", "show", second["session_id"][-12:])
    assert 'look_up {"word": "owl"}' in shown.out
    assert '{"meaning": "OWL"}' in shown.out
    assert console.here("sessions", "show", second["session_id"], "--json").json["final_answer"] == "two"


def test_a_part_that_fits_several_sessions_is_refused(console: Console, model: ModelServer) -> None:
    model.will_answer("one")
    model.will_answer("two")
    ids = [console.here(f"task {n}", "--json").json["session_id"] for n in "ab"]
    common = ids[0][:6]
    assert ids[1].startswith(common)
    ended = console.here("sessions", "show", common)
    assert ended.code == 2
    assert "fits 2 sessions" in ended.err


def test_a_deleted_session_is_gone(console: Console, model: ModelServer) -> None:
    model.will_answer("one")
    session_id = console.here("a task", "--json").json["session_id"]
    assert console.here("sessions", "delete", session_id, "--json").json == {"session_id": session_id, "deleted": True}
    gone = console.here("sessions", "show", session_id)
    assert gone.code == 2
    assert session_id in gone.err


def test_an_unknown_status_names_the_known_ones(console: Console) -> None:
    ended = console.here("sessions", "list", "--status", "done")
    assert ended.code == 2
    assert "waiting_approval" in ended.err


def test_a_session_can_be_cancelled_and_a_cancelled_one_cannot(
    console: Console, model: ModelServer, desk: Path
) -> None:
    model.will_call(("post", {"text": "hi"}))
    session_id = console.here("write", "--json").json["session_id"]
    assert console.here("cancel", session_id, "--json").json["status"] == "cancelled"
    again = console.here("cancel", session_id)
    assert again.code == 2
    assert console.here("resume", session_id).code == 130


def test_tools_are_listed_and_called(console: Console, desk: Path) -> None:
    tools = {tool["name"]: tool for tool in console.here("tools", "list", "--json").json}
    assert tools["post"]["requires_approval"] is True
    assert "look_up\tread\tno\tLook a word up." in console.here("tools", "list").out.splitlines()
    called = console.here("tools", "call", "look_up", '{"word": "owl"}')
    assert (called.code, called.out) == (0, '{\n  "meaning": "OWL"\n}\n')
    assert console.here("tools", "call", "look_up", '{"word": "owl"}', "--json").json["success"] is True


def test_a_tool_that_lacks_its_extra_is_listed_with_the_line_that_installs_it(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable = console.here("tools", "list", "--json").json
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    row = console.here("tools", "list").out.splitlines()[0].split("\t")
    assert row[:3] == ["web_fetch", "unavailable", "-"]
    assert 'pip install "conductor-ai[web]"' in row[3]
    assert console.here("tools", "list", "--json").json == [tool for tool in usable if tool["name"] != "web_fetch"]
    refused = console.here("run", "x", "--tools", "web_fetch", "--model", "demo/scripted", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (2, "missing_extra")
    doctor = console.here("doctor", "--json")
    assert doctor.json["ok"]
    assert any("pip install" in check["detail"] for check in doctor.json["checks"] if check["name"] == "tool web_fetch")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["look_up", "{"], "not JSON"),
        (["look_up", "[]"], "must be a JSON object"),
        (["look_up", "{}"], "word"),
        (["nothing"], "unknown tool 'nothing'"),
        (["post", '{"text": "hi"}'], "post needs approval"),
    ],
)
def test_a_call_that_cannot_be_is_a_usage_error(console: Console, desk: Path, arguments: list[str], said: str) -> None:
    ended = console.here("tools", "call", *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert not (console.folder / "posted.txt").exists()


def test_a_tool_that_fails_is_exit_code_1(console: Console, desk: Path) -> None:
    register = desk / "register.py"
    register.write_text(register.read_text().replace('arguments["word"].upper()', "1 / 0"))
    ended = console.here("tools", "call", "look_up", '{"word": "owl"}')
    assert (ended.code, ended.out) == (1, "")
    assert "division by zero" in ended.err


def test_yes_allows_one_call(console: Console, desk: Path) -> None:
    assert console.here("tools", "call", "post", '{"text": "hi"}', "--yes").out == "posted\n"


def test_models_are_listed_with_whether_they_see(console: Console) -> None:
    rows = {row.split("\t")[0]: row.split("\t") for row in console.here("models", "list").out.splitlines()}
    assert rows["claude-opus-5-5"][3:5] == ["1,000,000", "yes"]
    assert rows["moonshotai/kimi-k2"][4] == "no"
    child = console.on_terminal("models", "list")
    child.expect(r"window +vision +price in / out")


def test_models_are_listed_with_id_and_price(console: Console) -> None:
    models = {model["id"]: model for model in console.here("models", "list", "--json").json}
    assert float(models["claude-sonnet-4-5-20250929"]["price"]["input"]) == 3.0
    assert "$3.00 / $15.00" in console.here("models", "list").out


def test_plugins_are_listed_the_broken_one_with_its_error(console: Console, desk: Path) -> None:
    broken = desk.parent / "broken"
    broken.mkdir()
    (broken / "__init__.py").touch()
    (broken / "register.py").write_text("def register(registry:\n")
    ended = console.here("plugins", "list", "--json")
    plugins = {plugin["name"]: plugin for plugin in ended.json}
    assert ended.code == 0
    assert set(plugins["desk"]["tools"]) == {"look_up", "post", "shout"}
    assert "SyntaxError" in plugins["broken"]["error"]
    assert "warning: plugin broken was not loaded" in ended.err


def test_a_new_plugin_works_at_once(console: Console) -> None:
    made = console("plugins", "new", "my_shop", "--json").json
    assert Path(made["path"]).is_relative_to(console.folder) or not Path(made["path"]).is_absolute()
    mine = next(plugin for plugin in console.here("plugins", "list", "--json").json if plugin["name"] == "my_shop")
    assert mine["error"] is None
    assert mine["tools"]
    assert console.here("plugins", "new", "my_shop").code == 2
