"""`conductor agents`, and `conductor run --agent`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.console import Console
from tests.cli.model_server import ModelServer

READER = """
name = "reader"
description = "Looks words up."
instructions = "Look every word up."
tools = ["look_up"]
limits = {max_steps = 5, max_tokens = 90_000}
"""


@pytest.fixture
def reader(console: Console) -> Path:
    """An agent in the default folder."""
    file = console.folder / "agents" / "reader.toml"
    file.parent.mkdir()
    file.write_text(READER)
    return file


def test_the_bundled_agent_is_there_in_any_folder(console: Console) -> None:
    [agent] = console("agents", "list", "--json").json
    assert (agent["name"], agent["tools"], agent["model"], agent["error"]) == (
        "web-researcher",
        ["web_fetch"],
        None,
        None,
    )
    assert agent["limits"]["max_steps"] == 40
    assert not (console.folder / ".conductor").exists()
    assert console.here("agents", "list").out.startswith("web-researcher\tFinds facts on web pages")


def test_agents_are_listed_a_broken_one_with_its_error(console: Console, reader: Path) -> None:
    (reader.parent / "broken.toml").write_text('name = "broken"\ndescription = 3\n')
    ended = console.here("agents", "list")
    broken, mine, bundled = (line.split("\t") for line in ended.out.splitlines())
    assert ended.code == 0
    assert broken[:2] == ["broken", "broken: agents/broken.toml: instructions is missing"]
    assert mine == ["reader", "Looks words up.", "look_up", "agents/reader.toml"]
    assert bundled[0] == "web-researcher"
    assert [agent["error"] for agent in console.here("agents", "list", "--json").json][1:] == [None, None]


def test_an_agent_of_mine_takes_the_place_of_the_bundled_one(console: Console, reader: Path) -> None:
    mine = reader.parent / "web-researcher.toml"
    mine.write_text(READER.replace('"reader"', '"web-researcher"'))
    assert [agent["path"] for agent in console.here("agents", "list", "--json").json] == [
        "agents/reader.toml",
        "agents/web-researcher.toml",
    ]
    mine.write_text("broken")
    refused = console.here("run", "x", "--agent", "web-researcher", "--dry-run", "--model", "demo/scripted")
    assert refused.code == 2
    assert "agents/web-researcher.toml: it is not TOML" in refused.err


def test_one_agent_is_shown_whole(console: Console, reader: Path) -> None:
    shown = console.here("agents", "show", "reader")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith(
        "name: reader\ndescription: Looks words up.\nmodel: the default model\ntools: look_up\n"
    )
    assert '"max_steps": 5' in shown.out
    assert shown.out.endswith("\nLook every word up.\n")
    as_json = console.here("agents", "show", "reader", "--json").json
    assert as_json["instructions"] == "Look every word up."
    assert as_json["limits"]["max_tokens"] == 90_000


def test_an_unknown_agent_is_a_usage_error_with_near_names(console: Console, reader: Path) -> None:
    for arguments in (["agents", "show", "raeder"], ["run", "x", "--agent", "raeder"], ["raeder", "--agent", "raeder"]):
        ended = console.here(*arguments, "--json")
        assert ended.code == 2
        assert ended.json["error"]["code"] == "unknown_agent"
        assert ended.json["error"]["hint"] == "did you mean reader?"
    assert console.here("agents", "show", "../agents/reader").code == 2


@pytest.mark.parametrize("command", [["agents", "list"], ["run", "x", "--agent", "reader"], ["doctor"]])
def test_a_folder_that_is_named_must_exist(console: Console, command: list[str]) -> None:
    by_option = console.here(*command, "--agents-dir", "nowhere")
    assert by_option.code in (1, 2)
    assert "there is no agents folder nowhere" in by_option.err + by_option.out
    console.env["CONDUCTOR_AGENTS_DIR"] = "nowhere"
    by_variable = console.here(*command)
    assert by_variable.code == by_option.code
    assert "CONDUCTOR_AGENTS_DIR names it" in by_variable.err + by_variable.out


def test_another_folder_may_be_named(console: Console, reader: Path) -> None:
    reader.parent.rename(console.folder / "crew")
    by_option = console.here("agents", "list", "--json", "--agents-dir", "crew").json
    console.env["CONDUCTOR_AGENTS_DIR"] = "crew"
    assert by_option == console.here("agents", "list", "--json").json
    assert by_option[0]["path"] == "crew/reader.toml"


def test_an_agent_runs_with_what_its_file_says(console: Console, reader: Path, desk: Path, model: ModelServer) -> None:
    model.will_call(("look_up", {"word": "owl"}))
    model.will_answer("OWL")
    ended = console("run", "what is an owl?", "--agent", "reader", "--json")
    assert (ended.code, ended.json["agent"], ended.json["final_answer"]) == (0, "reader", "OWL")
    assert "local/tiny  reader" in ended.err
    assert [tool["function"]["name"] for tool in model.requests[0]["tools"]][:1] == ["look_up"]
    assert "post" not in json.dumps(model.requests[0]["tools"])
    assert model.requests[0]["messages"][0] == {"role": "system", "content": "Look every word up."}


def test_options_win_over_the_file(console: Console, reader: Path, desk: Path) -> None:
    reader.write_text(READER + 'model = "nobody/nothing"\n')
    plan = console.here(
        "run", "x", "--agent", "reader", "--model", "demo/scripted", "--tools", "shout,post", "--approve", "post",
        "--system", "Shout.", "--max-steps", "2", "--dry-run", "--json",
    ).json  # fmt: skip
    assert (plan["agent"], plan["model"], plan["instructions"]) == ("reader", "demo/scripted", "Shout.")
    assert [tool["name"] for tool in plan["tools"]] == ["shout", "post"]
    assert (plan["limits"]["max_steps"], plan["limits"]["max_tokens"]) == (2, 90_000)
    assert console.here("run", "x", "--agent", "reader", "--dry-run", "--json").json["error"]["code"] == "unknown_model"


def test_a_session_that_goes_on_takes_no_other_agent(console: Console) -> None:
    ended = console.here("run", "x", "--agent", "reader", "--continue", "0123456789")
    assert ended.code == 2
    assert "--agent cannot change with --continue" in ended.err


def test_doctor_tells_which_agents_can_be_used(console: Console, reader: Path) -> None:
    healthy = console.here("doctor", "--json")
    reader.write_text("broken")
    ended = console.here("doctor", "--json")
    checks = {check["name"]: check["ok"] for check in ended.json["checks"]}
    assert (healthy.code, ended.code) == (0, 1)
    assert (checks["agent reader"], checks["agent web-researcher"]) == (False, True)
