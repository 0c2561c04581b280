"""`code_run` over a real sandbox: what the model reads, what stays with the session, what the audit row says."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from conductor_ai.errors import ToolUnavailable
from conductor_ai.sdk import ToolResult, testing
from conductor_ai.sdk.context import ToolContext, bind, reset
from conductor_ai.tools.code_run import CodeRunTool
from conductor_ai.tools.sandbox import (
    Capabilities,
    IsolationLevel,
    KilledBy,
    Language,
    RunResult,
    RunSpec,
    Sandbox,
    backends,
)
from conductor_ai.tools.sandbox.bubblewrap import BubblewrapBackend

pytestmark = pytest.mark.usefixtures("bubblewrap_works")


@pytest.fixture
async def tool() -> AsyncIterator[CodeRunTool]:
    backend = BubblewrapBackend()
    yield CodeRunTool(backend)
    await backend.close()


async def run(tool: CodeRunTool, code: str, **arguments: Any) -> ToolResult:
    return await testing.run_tool(tool, {"language": "python", "code": code, **arguments})


async def test_it_says_what_the_program_printed_and_how_it_ended(tool: CodeRunTool) -> None:
    code = "import sys; print(sys.stdin.read()[::-1]); print('careful', file=sys.stderr); sys.exit(3)"
    result = await run(tool, code, stdin="abc")

    assert result.success
    assert result.result | {"usage": None} == {
        "exit_code": 3,
        "stdout": "cba\n",
        "stderr": "careful\n",
        "truncated": False,
        "killed_by": "none",
        "files": [],
        "usage": None,
    }


async def test_javascript_runs_as_well(tool: CodeRunTool) -> None:
    arguments = {"language": "javascript", "code": "console.log([1, 2, 3].map(n => n * n).join())"}
    result = await testing.run_tool(tool, arguments)
    assert (result.result["stdout"], result.result["killed_by"]) == ("1,4,9\n", "none")


async def test_the_sessions_files_are_its_working_folder(tool: CodeRunTool) -> None:
    code = "import os; open('out/b.txt', 'w').write(open('a.txt').read() + open('given.bin').read())"
    given = [
        {"name": "given.bin", "content": base64.b64encode(b"!").decode(), "encoding": "base64"},
        {"name": "out/readme", "content": "results"},
    ]
    with testing.context(files={"a.txt": b"from before"}) as call:
        first = await run(tool, code, files=given)
        second = await run(tool, "print(open('out/b.txt').read())")

    assert {file["name"] for file in first.result["files"]} == {"given.bin", "out/readme", "out/b.txt"}
    assert call.files["out/b.txt"] == b"from before!"
    assert call.files["a.txt"] == b"from before"
    assert (second.result["stdout"], second.result["files"]) == ("from before!\n", [])


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([{"name": "../up", "content": ""}], "no name of a file"),
        ([{"name": "/etc/passwd", "content": ""}], "no name of a file"),
        ([{"name": "a", "content": "%%%", "encoding": "base64"}], "not base64"),
    ],
    ids=["up", "absolute", "base64"],
)
async def test_what_cannot_be_a_file_is_the_models_to_read(
    tool: CodeRunTool, files: list[dict[str, str]], said: str
) -> None:
    result = await run(tool, "print(1)", files=files)
    assert not result.success and said in (result.error or "")


async def test_an_end_at_the_deadline_is_named(tool: CodeRunTool) -> None:
    result = await run(tool, "print('here', flush=True)\nwhile True: pass", timeout_s=0.5)
    assert (result.result["killed_by"], result.result["stdout"]) == ("time", "here\n")


async def test_the_audit_row_names_the_sandbox_and_the_end(tool: CodeRunTool) -> None:
    facts: dict[str, Any] = {}
    context = ToolContext("acme", "s1", 1, "c1", "k1", on_record=facts.update)
    token = bind(context)
    try:
        await tool.run({"language": "python", "code": "raise SystemExit(4)"})
    finally:
        reset(token)
    assert facts | {"cpu_s": None} == {
        "sandbox": "bubblewrap",
        "isolation": "namespaces",
        "killed_by": "none",
        "exit_code": 4,
        "cpu_s": None,
    }


def test_it_asks_once_text_from_outside_was_read_and_is_never_repeated(tool: CodeRunTool) -> None:
    definition = tool.definition
    assert definition.requires_approval_after_untrusted and definition.untrusted_output
    assert (definition.effect, definition.requires_approval) == ("once", False)


class Broken:
    """A backend whose engine has gone after its self test."""

    name = "broken"

    def __init__(self, *, available: bool = True, missing: str | None = None, started: bool = False) -> None:
        self._missing = missing
        self._started = started
        self._found = Capabilities(
            available,
            IsolationLevel.NAMESPACES,
            frozenset({Language.PYTHON}),
            reasons=("it does not start",),
            hint="mend it",
        )
        self.ran = 0

    def missing(self) -> str | None:
        return self._missing

    async def probe(self) -> Capabilities:
        return self._found

    async def run(self, spec: RunSpec) -> RunResult:
        self.ran += 1
        return RunResult(KilledBy.INFRA, None, detail="the engine has gone", started=self._started)

    async def cancel(self, run_id: str) -> None:
        return None

    async def reap(self) -> int:
        return 0

    async def close(self) -> None:
        return None


async def test_a_sandbox_that_fails_is_an_error_and_no_other_steps_in() -> None:
    broken = Broken()
    sandbox = Sandbox({"broken": broken, **backends()})
    tool = CodeRunTool(sandbox=sandbox)

    with testing.context(files={"a": b"1"}) as call:
        result = await run(tool, "print(1)", files=[{"name": "b", "content": "2"}])

    assert result.error == "the sandbox failed before the code started: the engine has gone; try once more"
    assert not result.success
    assert (broken.ran, call.files) == (1, {"a": b"1"})
    await sandbox.close()


async def test_code_that_had_started_is_not_to_be_tried_again() -> None:
    result = await run(CodeRunTool(Broken(started=True)), "print(1)")
    assert not result.success
    assert result.error == (
        "the sandbox broke off after the code had started, so its outcome is unknown: the engine has gone"
    )


async def test_a_language_that_is_not_there_is_the_models_to_read() -> None:
    broken = Broken()
    result = await testing.run_tool(CodeRunTool(broken), {"language": "javascript", "code": "console.log(1)"})
    assert (result.success, result.error) == (False, "JavaScript is not available here; use python")
    assert broken.ran == 0


async def test_the_first_backend_that_works_is_chosen_for_good() -> None:
    sandbox = Sandbox({"gone": Broken(missing="not installed"), "bad": Broken(available=False), **backends()})

    first, found = await sandbox.chosen()

    assert (first.name, found.level) == ("bubblewrap", IsolationLevel.NAMESPACES)
    assert (await sandbox.chosen())[0] is first
    assert sandbox.state() == {"ok": True, "name": "bubblewrap", "isolation": "namespaces"}
    await sandbox.close()


async def test_without_a_backend_it_says_why_and_what_mends_it() -> None:
    sandbox = Sandbox({"gone": Broken(missing="not installed"), "bad": Broken(available=False)})
    assert sandbox.missing() is None  # one of them may work

    with pytest.raises(ToolUnavailable) as caught:
        await sandbox.chosen()

    assert str(caught.value) == "code cannot run here (gone: not installed; bad: it does not start)"
    assert caught.value.hint == "mend it"
    assert sandbox.state() == {"ok": False, "error": f"{caught.value}; mend it"}
    result = await run(CodeRunTool(sandbox=sandbox), "print(1)")
    assert not result.success and "not installed" in (result.error or "")


async def test_a_weaker_isolation_than_was_asked_for_is_refused() -> None:
    sandbox = Sandbox(backends(), wanted="bubblewrap", level=IsolationLevel.KERNEL)
    with pytest.raises(ToolUnavailable, match=r"it isolates by namespaces, and CONDUCTOR_SANDBOX_LEVEL is kernel"):
        await sandbox.chosen()
    await sandbox.close()


def test_nothing_that_could_run_code_is_known_at_once() -> None:
    missing = Sandbox({"a": Broken(missing="no a"), "b": Broken(missing="no b")}).missing()
    assert missing is not None and "a: no a; b: no b" in str(missing) and missing.hint
