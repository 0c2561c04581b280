"""`conductor demo --full`: a page, a database and code, with an approval on the way."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.cli.console import Console

pytestmark = pytest.mark.usefixtures("bubblewrap_works")

PNG = b"\x89PNG\r\n\x1a\n"


def test_it_asks_before_the_code_runs_and_goes_on_once_it_is_approved(console: Console, tmp_path: Path) -> None:
    asked = console("demo", "--full", "--json")
    assert (asked.code, asked.json["status"]) == (3, "waiting_approval"), asked.err
    session_id = asked.json["session_id"]
    [first] = asked.json["steps"][:1]
    assert [(call["name"], call["outcome"]) for call in first["tool_calls"]] == [
        ("web_fetch", "succeeded"),
        ("sql_query", "succeeded"),
    ]
    assert all(call["provenance"] for call in first["tool_calls"])

    [approval] = console("approvals", "list", "--json").json
    assert approval["tool_name"] == "code_run" and "matplotlib" in approval["arguments"]["code"]
    assert console("approvals", "approve", approval["approval_id"]).code == 0
    [line] = [line for line in asked.err.splitlines() if "to resume it later: export " in line]
    for word in shlex.split(line.partition(": export ")[2]):
        name, _, value = word.partition("=")
        console.env[name] = value
    ended = console("resume", session_id, "--json")

    assert (ended.code, ended.json["status"]) == (0, "completed"), ended.err
    assert ended.json["final_answer"].startswith("These states sell fewer cars than the demand index says:\n- ")
    folder = tmp_path / "saved"
    saved = console("sessions", "files", session_id, "--save", str(folder))
    assert saved.code == 0, saved.err
    assert (folder / "gaps.png").read_bytes().startswith(PNG)
    assert (folder / "gaps.csv").read_text().startswith("state,dealers,cars,expected,gap\n")


@pytest.mark.slow
def test_the_code_may_be_approved_beforehand(console: Console) -> None:
    ended = console("demo", "--full", "--yes", "--json")
    assert (ended.code, ended.json["status"]) == (0, "completed"), ended.err


def test_the_short_demo_has_nothing_to_approve(console: Console) -> None:
    refused = console("demo", "--yes")
    assert refused.code == 2 and "--yes goes with --full" in refused.err
