from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from conductor_ai.errors import InvalidTool
from conductor_ai.sdk import BaseTool, PluginRegistry, ToolCategory, ToolDefinition, ToolResult


class MyTool(BaseTool):
    """The plan's example, with `ToolCategory` imported and real properties."""

    def __init__(self, name: str = "my_tool") -> None:
        self._name = name

    @property
    def definition(self) -> ToolDefinition:
        return ToolDefinition(
            name=self._name,
            description="Does something useful",
            category=ToolCategory.DATA,
            parameters={"type": "object", "properties": {"text": {"type": "string"}}},
        )

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        return ToolResult(tool_name=self._name, success=True, result={"data": arguments}, execution_time_ms=100)


async def greet(name: str) -> str:
    """Greet somebody."""
    return f"hello {name}"


def test_classes_instances_and_functions_become_instances_in_order() -> None:
    registry = PluginRegistry()

    registry.tool(MyTool)
    other = registry.tool(MyTool("other_tool"))
    function = registry.tool(greet)

    assert [tool.definition.name for tool in registry.tools] == ["my_tool", "other_tool", "greet"]
    assert registry.tools[1:] == [other, function]


def test_a_decorated_class_stays_the_class() -> None:
    assert PluginRegistry().tool(MyTool) is MyTool


async def test_a_decorated_function_stays_callable() -> None:
    tool = PluginRegistry().tool(greet)

    assert await tool("Ada") == "hello Ada"
    assert tool.__doc__ == "Greet somebody."


def test_options_replace_what_the_function_says_of_itself() -> None:
    registry = PluginRegistry()

    @registry.tool(
        name="greet_person",
        description="Say hello.",
        category=ToolCategory.COMMUNICATION,
        effect="idempotent",
        requires_approval=True,
        requires_approval_after_untrusted=True,
        timeout_s=5,
        untrusted_output=True,
    )
    async def hello(name: str) -> str:
        return name

    assert hello.definition.model_dump(exclude={"parameters"}) == {
        "name": "greet_person",
        "description": "Say hello.",
        "category": "communication",
        "requires_approval": True,
        "requires_approval_after_untrusted": True,
        "timeout_s": 5.0,
        "effect": "idempotent",
        "untrusted_output": True,
    }


def test_changing_the_list_of_tools_does_not_change_the_registry() -> None:
    registry = PluginRegistry()
    registry.tool(MyTool)

    registry.tools.clear()

    assert len(registry.tools) == 1


class NeedsArguments(MyTool):
    def __init__(self, service: object) -> None:
        super().__init__()


class Unfinished(BaseTool):
    pass


async def no_docstring(name: str) -> str:
    return name


async def no_hint(name) -> str:  # type: ignore[no-untyped-def]
    """Greet."""
    return str(name)


async def anything(**options: str) -> str:
    """Greet."""
    return ""


async def many(*names: str) -> str:
    """Greet."""
    return ""


async def by_position(name: str, /) -> str:
    """Greet."""
    return name


def blocking(name: str) -> str:
    """Greet."""
    return name


async def yielding(name: str) -> AsyncIterator[str]:
    """Greet."""
    yield name


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (NeedsArguments, "class NeedsArguments cannot be built without arguments: missing a required argument"),
        (Unfinished, "class Unfinished lacks definition and run"),
        (dict, "class dict is no BaseTool"),
        (no_docstring, "tool 'no_docstring' has no docstring"),
        (no_hint, "tool 'no_hint': argument 'name' has no type hint"),
        (anything, "tool 'anything' takes **options"),
        (many, "tool 'many' takes *names"),
        (by_position, "argument 'name' is positional only"),
        (blocking, "tool 'blocking' is a plain def: write async def"),
        (yielding, "tool 'yielding' yields"),
        ("greet", "'greet' cannot be a tool"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_where_it_is_decorated(target: Any, words: str) -> None:
    registry = PluginRegistry()

    with pytest.raises(InvalidTool) as caught:
        registry.tool(target)

    assert words in str(caught.value)
    assert registry.tools == []


@pytest.mark.parametrize("target", [MyTool, MyTool()])
def test_options_of_a_class_belong_into_its_definition(target: Any) -> None:
    with pytest.raises(InvalidTool, match="put effect into its ToolDefinition"):
        PluginRegistry().tool(effect="read")(target)


def test_options_beside_the_function_are_refused() -> None:
    with pytest.raises(InvalidTool, match="options go before the function"):
        PluginRegistry().tool(greet, effect="read")  # type: ignore[call-overload]
