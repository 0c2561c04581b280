from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from conductor_ai.errors import UsageError
from conductor_ai.sdk import BaseTool, ToolCategory, ToolDefinition, ToolResult, testing
from conductor_ai.sdk.context import ToolContext, bind, current_context, reset


class Echo(BaseTool):
    @property
    def definition(self) -> ToolDefinition:
        return ToolDefinition(
            name="echo", description="Say who asks.", category=ToolCategory.OTHER, parameters={"type": "object"}
        )

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        await asyncio.sleep(0)
        self.context.progress("asked")
        return ToolResult(tool_name="echo", success=True, result=self.context.call_id)


def test_outside_a_call_the_error_says_where_a_test_gets_a_context() -> None:
    with pytest.raises(UsageError, match=r"conductor_ai\.sdk\.testing"):
        _ = Echo().context


async def test_concurrent_calls_of_one_tool_see_their_own_context() -> None:
    echo = Echo()

    async def call(number: int) -> object:
        bind(ToolContext("org", "session", 1, f"call-{number}", "key"))
        return (await echo.run({})).result

    answers = await asyncio.gather(*(call(number) for number in range(20)))

    assert answers == [f"call-{number}" for number in range(20)]
    with pytest.raises(UsageError):
        current_context()


def test_reset_brings_the_context_before_back() -> None:
    outer = ToolContext("org", "session", 1, "outer", "key")
    token = bind(outer)
    inner = bind(ToolContext("org", "session", 1, "inner", "key"))

    reset(inner)

    assert current_context() is outer
    reset(token)


def test_progress_without_a_watcher_goes_nowhere() -> None:
    ToolContext("org", "session", 1, "call", "key").progress("half done")


async def test_a_test_sets_the_fields_it_cares_about_and_reads_the_progress() -> None:
    deadline = datetime(2026, 1, 31, tzinfo=UTC)
    with testing.context(org_id="acme", call_id="call-7", deadline=deadline) as call:
        result = await Echo().run({})

    assert result.result == "call-7"
    assert (call.context.org_id, call.context.deadline, call.progress) == ("acme", deadline, ["asked"])
