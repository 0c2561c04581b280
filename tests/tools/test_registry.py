from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conductor_ai.errors import DuplicateTool, InvalidTool, MissingExtra, UnknownTool
from conductor_ai.sdk import BaseTool, PluginRegistry, ToolCategory, ToolDefinition, ToolResult
from conductor_ai.tools import base
from conductor_ai.tools.registry import PluginLoader, ToolRegistry
from conductor_ai.tools.registry import registry as global_registry

PLUGINS = Path(__file__).parents[2] / "plugins"


class Named(BaseTool):
    def __init__(self, name: str = "named", description: str = "Do it.") -> None:
        self.name = name
        self.description = description

    @property
    def definition(self) -> ToolDefinition:
        return ToolDefinition(
            name=self.name, description=self.description, category=ToolCategory.DATA, parameters={"type": "object"}
        )

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        return ToolResult(tool_name=self.name, success=True, result=arguments)


class AlsoNamed(Named):
    pass


async def test_the_plans_example_finds_and_runs_a_tool_by_name() -> None:
    registry = ToolRegistry()
    registry.register(Named("web_fetch"))
    PluginLoader.discover_and_register(registry, plugins_dir=PLUGINS)

    result = await registry.get_tool("web_fetch").run({"url": "https://example.com"})
    found = await registry.get_tool("find_dealers").run({"state": "CA"})

    assert result.result == {"url": "https://example.com"}
    assert found.result["count"] == 6


def test_tools_and_definitions_keep_their_order() -> None:
    registry = ToolRegistry()
    tools = [Named(name) for name in ("c", "a", "b")]
    for tool in tools:
        registry.register(tool)

    assert registry.tools == tools
    assert [definition.name for definition in registry.definitions] == ["c", "a", "b"]


def test_the_same_tool_from_the_same_file_again_is_a_no_op() -> None:
    registry, first = ToolRegistry(), Named()
    registry.register(first)

    registry.register(first)
    registry.register(Named())

    assert registry.tools == [first]


@pytest.mark.parametrize("other", [AlsoNamed(), Named(description="Do something else.")])
def test_another_tool_of_the_same_name_is_refused_and_both_are_named(other: BaseTool) -> None:
    registry, first = ToolRegistry(), Named()
    registry.register(first)

    with pytest.raises(DuplicateTool) as caught:
        registry.register(other)

    assert f"'named': one in {__file__} (Named), one in {__file__} ({type(other).__name__})" in str(caught.value)
    assert registry.tools == [first]


def test_function_tools_of_one_name_are_told_apart_by_their_functions() -> None:
    plugin, registry = PluginRegistry(), ToolRegistry()

    @plugin.tool(name="look")
    async def look_here() -> None:
        """Look."""

    @plugin.tool(name="look")
    async def look_there() -> None:
        """Look."""

    registry.register(look_here)
    registry.register(look_here)
    with pytest.raises(DuplicateTool, match=r"look_here\), one in .*look_there\)"):
        registry.register(look_there)


def test_an_unknown_tool_is_answered_with_its_neighbours() -> None:
    registry = ToolRegistry()
    for name in ("find_dealers", "save_shortlist"):
        registry.register(Named(name))

    with pytest.raises(UnknownTool, match="unknown tool 'find_dealer'") as near:
        registry.get_tool("find_dealer")
    with pytest.raises(UnknownTool) as far:
        registry.get_tool("xyz")
    with pytest.raises(UnknownTool) as empty:
        ToolRegistry().get_tool("xyz")

    assert near.value.hint == "did you mean find_dealers?"
    assert far.value.hint == "tools are: find_dealers, save_shortlist"
    assert empty.value.hint == "no tool is registered"


class BrokenSchema(Named):
    @property
    def definition(self) -> ToolDefinition:
        return super().definition.model_copy(update={"parameters": {"type": "object", "required": 3}})


class BadName(Named):
    def __init__(self) -> None:
        super().__init__("not a name")


class NoProperty(Named):
    def definition(self) -> ToolDefinition:  # type: ignore[override]
        return super().definition


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        (Named, "is not an instance of BaseTool"),
        ("named", "is not an instance of BaseTool"),
        (BrokenSchema(), "tool 'named': its parameters are not a valid schema"),
        (BadName(), "tool BadName: its definition is refused: name: String should match pattern"),
        (NoProperty(), "tool NoProperty: definition is a method, not a ToolDefinition"),
    ],
)
def test_what_cannot_be_used_is_refused_when_it_is_registered(tool: Any, words: str) -> None:
    registry = ToolRegistry()

    with pytest.raises(InvalidTool) as caught:
        registry.register(tool)

    assert words in str(caught.value)
    assert registry.tools == []


def test_the_global_registry_is_an_ordinary_one() -> None:
    assert type(global_registry) is ToolRegistry


def test_the_plans_path_of_the_vocabulary_is_the_same_vocabulary() -> None:
    assert base.BaseTool is BaseTool
    assert base.ToolDefinition is ToolDefinition


def test_a_tool_that_lacks_its_extra_is_no_tool_but_says_what_to_install() -> None:
    registry = ToolRegistry()
    registry.keep_unavailable("named", MissingExtra("named needs the extra", hint="pip install it"))

    for _ in range(2):
        with pytest.raises(MissingExtra, match="named needs the extra") as caught:
            registry.get_tool("named")
        assert caught.value.hint == "pip install it"
    assert (registry.tools, list(registry.unavailable)) == ([], ["named"])


def test_the_name_of_a_tool_that_lacks_its_extra_is_taken() -> None:
    registry = ToolRegistry()
    registry.keep_unavailable("named", MissingExtra("named needs the extra"))

    with pytest.raises(DuplicateTool, match=r"two tools are called 'named'.*which is not available here"):
        registry.register_together(lambda draft: draft.register(Named()))
    registry.register_together(lambda draft: draft.register(Named("other")))
    assert [definition.name for definition in registry.definitions] == ["other"]
