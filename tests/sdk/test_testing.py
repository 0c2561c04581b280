"""What `run_tool` holds against a tool is what a session would trip over."""

from __future__ import annotations

from typing import Any

import pytest

from conductor_ai.sdk import BaseTool, ToolCategory, ToolDefinition, ToolResult, testing

GOOD = ToolResult(tool_name="probe", success=True, result=1)


class Probe(BaseTool):
    """Answers what it is told to, whether or not that is well-formed."""

    def __init__(self, answer: Any = GOOD, parameters: dict[str, Any] | None = None) -> None:
        self.answer = answer
        self.parameters = parameters or {"type": "object", "properties": {"count": {"type": "integer"}}}
        self.seen: list[dict[str, Any]] = []

    @property
    def definition(self) -> ToolDefinition:
        return ToolDefinition(
            name="probe", description="Probe.", category=ToolCategory.OTHER, parameters=self.parameters
        )

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        self.seen.append(arguments)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


async def test_a_good_tool_answers() -> None:
    assert await testing.run_tool(Probe(), {}) == GOOD


async def test_wrong_arguments_come_back_as_the_model_would_read_them() -> None:
    probe = Probe()
    result = await testing.run_tool(probe, {"count": "many"})

    assert result.error == 'invalid arguments: count: "many" is not of type "integer"'
    assert probe.seen == []


async def test_the_callers_arguments_stay_as_they_are() -> None:
    probe, arguments = Probe(), {"count": 3.0}
    await testing.run_tool(probe, arguments)

    assert (repr(arguments), repr(probe.seen)) == ("{'count': 3.0}", "[{'count': 3}]")


async def test_an_exception_shows_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        await testing.run_tool(Probe(ZeroDivisionError()), {})


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"data": 1}, "returned a dict, not a ToolResult"),
        (ToolResult(tool_name="other", success=True), "says tool_name='other'"),
        (ToolResult(tool_name="probe", success=True, error="oops"), "is a success and has an error"),
        (ToolResult(tool_name="probe", success=False), "has no error"),
        (ToolResult(tool_name="probe", success=True, result={1, 2}), "is not JSON data"),
        (ToolResult(tool_name="probe", success=True, result=float("nan")), "is not JSON data"),
    ],
)
async def test_an_ill_formed_answer_fails_the_test(answer: Any, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        await testing.run_tool(Probe(answer), {})


async def test_a_broken_schema_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="not a valid schema"):
        await testing.run_tool(Probe(parameters={"type": "object", "properties": {"x": {"type": "nope"}}}), {})


async def test_a_class_instead_of_an_instance_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="not an instance of BaseTool"):
        await testing.run_tool(Probe, {})  # type: ignore[arg-type]


async def test_a_definition_that_is_no_property_fails_the_test() -> None:
    class Forgetful(Probe):
        def definition(self) -> ToolDefinition:  # type: ignore[override]
            return super().definition

    with pytest.raises(AssertionError, match="is @property missing"):
        await testing.run_tool(Forgetful(), {})


async def test_a_definition_that_changes_fails_the_test() -> None:
    class Restless(Probe):
        @property
        def definition(self) -> ToolDefinition:
            self.parameters = {**self.parameters, "description": str(len(str(self.parameters)))}
            return super().definition

    with pytest.raises(AssertionError, match="changes from read to read"):
        await testing.run_tool(Restless(), {})
