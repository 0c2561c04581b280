"""A tool that asks in the middle of its work: what a person is shown, at the terminal and elsewhere."""

import pexpect
import pytest

from tests.cli.console import Console
from tests.cli.model_server import ModelServer

WORKSHOP = '''
from pathlib import Path

from conductor_ai.sdk import PluginRegistry
from conductor_ai.sdk.security.approval import require_approval

registry = PluginRegistry()


@require_approval(category="code_execution")
async def run_code(code: str, shell: bool = False) -> str:
    with Path("ran.txt").open("a") as file:
        file.write(code + "\\n")
    return "ran it"


@registry.tool(effect="once")
async def machine(code: str) -> str:
    """Run code."""
    return await run_code(code)


@registry.tool(effect="once", requires_approval=True)
async def twice(code: str) -> str:
    """Run code, asked about twice."""
    return await run_code(code)


def register(global_registry):
    for tool in registry.tools:
        global_registry.register(tool)
'''
WHO = "machine: code_execution: run_code"


@pytest.fixture(autouse=True)
def workshop(console: Console) -> None:
    folder = console.folder / "plugins" / "workshop"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "register.py").write_text(WORKSHOP)


def ran(console: Console) -> str:
    file = console.folder / "ran.txt"
    return file.read_text() if file.exists() else ""


def exit_code(child: "pexpect.spawn[str]") -> int | None:
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


def test_a_run_without_a_terminal_says_what_waits_and_the_lists_name_it(console: Console, model: ModelServer) -> None:
    model.will_call(("machine", {"code": "1\u202e"}))
    waiting = console("compute")
    assert (waiting.code, waiting.out) == (3, "")
    # What asks, then the arguments: nothing hidden.
    assert f'waits:   {WHO} {{"code": "1\\u202e", "shell": false}}' in waiting.err
    assert f"approval needed: {WHO}(" in waiting.err

    [record] = console.here("approvals", "list", "--json").json
    assert (record["tool_name"], record["action"]) == ("machine", "code_execution: run_code")
    assert record["arguments"] == {"code": "1\u202e", "shell": False}
    listed = console.here("approvals", "list").out.splitlines()
    assert listed[0] == f"{record['approval_id']}  {WHO}  session {record['session_id']}"
    assert listed[1] == '  {"code": "1\\u202e", "shell": false}'

    decided = console.here("approvals", "approve", record["approval_id"])
    assert decided.out == f"{record['approval_id']} approved\n"
    assert WHO in decided.err
    assert ran(console) == ""
    model.will_answer("Computed.")
    assert console.here("resume", record["session_id"]).out == "Computed.\n"
    assert ran(console) == "1\u202e\n"


def test_at_the_terminal_the_action_is_asked_about_inline(console: Console, model: ModelServer) -> None:
    model.will_call(("machine", {"code": "1 + 1"}))
    model.will_answer("Computed.")
    child = console.on_terminal("compute")
    child.expect_exact(f"{WHO} wants to run with exactly these arguments:")
    child.expect_exact('"code": "1 + 1"')
    child.expect_exact(f"allow {WHO}? [y/n]")
    assert ran(console) == ""
    child.sendline("y")
    child.expect_exact("Computed.")
    assert exit_code(child) == 0
    assert ran(console) == "1 + 1\n"


def test_a_tool_approved_beforehand_is_not_asked_about(console: Console, model: ModelServer) -> None:
    model.will_call(("machine", {"code": "1 + 1"}))
    model.will_answer("Computed.")
    assert console.here("compute", "--approve", "machine").code == 0
    assert ran(console) == "1 + 1\n"


def test_a_direct_call_asks_at_the_terminal(console: Console) -> None:
    child = console.on_terminal("tools", "call", "machine", '{"code": "1 + 1"}')
    child.expect_exact('"code": "1 + 1"')
    child.expect_exact(f"allow {WHO}? [y/n]")
    child.sendline("y")
    child.expect_exact("ran it")
    assert exit_code(child) == 0
    assert ran(console) == "1 + 1\n"


def test_a_direct_call_that_is_not_allowed_is_exit_code_2(console: Console) -> None:
    child = console.on_terminal("tools", "call", "machine", '{"code": "1 + 1"}')
    child.expect_exact(f"allow {WHO}? [y/n]")
    child.sendline("n")
    child.expect_exact(f"error: {WHO} was not called: not allowed")
    assert exit_code(child) == 2
    assert ran(console) == ""


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_direct_call_with_nobody_to_ask_is_a_usage_error_that_names_yes(console: Console, options: list[str]) -> None:
    ended = console.here("tools", "call", "machine", '{"code": "1 + 1"}', *options)
    assert ended.code == 2
    assert f"error: {WHO} needs approval" in ended.err
    assert "--yes" in ended.err
    assert ran(console) == ""


@pytest.mark.parametrize("tool", ["machine", "twice"])
def test_yes_allows_one_call_and_all_that_it_asks_for(console: Console, tool: str) -> None:
    assert console.here("tools", "call", tool, '{"code": "1 + 1"}', "--yes").out == "ran it\n"
    assert ran(console) == "1 + 1\n"
