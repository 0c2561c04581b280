from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from conductor_ai.errors import InvalidTool
from conductor_ai.sdk import BaseTool, ToolCategory, ToolDefinition, ToolResult


def definition(**changes: Any) -> ToolDefinition:
    fields: dict[str, Any] = {
        "name": "find_slots",
        "description": "List slots.",
        "category": ToolCategory.DATA,
        "parameters": {"type": "object", "properties": {}},
    }
    return ToolDefinition(**{**fields, **changes})


def test_a_definition_is_careful_by_default() -> None:
    plain = definition()

    assert plain.effect == "once"
    assert (plain.requires_approval, plain.untrusted_output, plain.timeout_s) == (False, False, None)


@pytest.mark.parametrize("timeout_s", [0, -1, 604_801, 1e12, float("inf"), float("nan")])
def test_a_timeout_is_above_zero_and_at_most_a_week(timeout_s: float) -> None:
    with pytest.raises(ValidationError, match="timeout_s"):
        definition(timeout_s=timeout_s)
    assert definition(timeout_s=604_800).timeout_s == 604_800.0


def test_a_definition_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        definition().requires_approval = True


@pytest.mark.parametrize("name", ["", "a b", "a.b", "naïve", "x" * 65, "tool\n"])
def test_a_name_that_some_provider_refuses_is_refused_here(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        definition(name=name)


def test_a_mistyped_option_is_refused_and_not_ignored() -> None:
    with pytest.raises(ValidationError, match="require_approval"):
        definition(require_approval=True)


@pytest.mark.parametrize(
    "parameters", [{}, {"type": "array"}, {"properties": {}}, {"type": "object", "properties": ["day"]}]
)
def test_parameters_must_describe_an_object(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="parameters"):
        definition(parameters=parameters)


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan")])
def test_a_timeout_is_a_time(timeout_s: float) -> None:
    with pytest.raises(ValidationError, match="timeout_s"):
        definition(timeout_s=timeout_s)


def test_an_unknown_effect_is_refused() -> None:
    with pytest.raises(ValidationError, match="effect"):
        definition(effect="twice")


def test_a_result_takes_the_time_as_a_whole_number() -> None:
    result = ToolResult(tool_name="my_tool", success=True, result={"data": "..."}, execution_time_ms=100)

    assert result.execution_time_ms == 100.0
    assert result.error is None


def test_a_tool_that_does_not_run_asynchronously_is_refused_where_it_is_written() -> None:
    with pytest.raises(InvalidTool, match="run must be an async def"):

        class Blocking(BaseTool):
            @property
            def definition(self) -> ToolDefinition:
                return definition()

            def run(self, arguments: dict[str, Any]) -> ToolResult:  # type: ignore[override]
                return ToolResult(tool_name="find_slots", success=True)
