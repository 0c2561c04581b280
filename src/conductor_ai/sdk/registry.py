"""Where a plugin collects its tools before it hands them over."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar, Unpack, overload

from conductor_ai.errors import InvalidTool
from conductor_ai.sdk.base import BaseTool
from conductor_ai.sdk.function_tool import FunctionTool, ToolOptions

P = ParamSpec("P")
R = TypeVar("R")
ToolT = TypeVar("ToolT", bound=BaseTool)


class FunctionDecorator(Protocol):
    """What `@registry.tool(...)` returns: for functions only, a class says all this in its definition."""

    def __call__(self, target: Callable[P, Coroutine[Any, Any, R]], /) -> FunctionTool[P, R]: ...


class PluginRegistry:
    """The tools of one plugin, in the order in which they were given.

    registry = PluginRegistry()

    @registry.tool(effect="read")
    async def find_slots(day: date) -> list[str]:
        '''List the free booking slots of a day, earliest first.'''

    def register(global_registry):
        for tool in registry.tools:
            global_registry.register(tool)
    """

    def __init__(self) -> None:
        self._tools: list[BaseTool] = []

    @property
    def tools(self) -> list[BaseTool]:
        return list(self._tools)

    @overload
    def tool(self, target: type[ToolT], /) -> type[ToolT]: ...
    @overload
    def tool(self, target: ToolT, /) -> ToolT: ...
    @overload
    def tool(self, target: Callable[P, Coroutine[Any, Any, R]], /) -> FunctionTool[P, R]: ...
    @overload
    def tool(self, target: None = None, /, **options: Unpack[ToolOptions]) -> FunctionDecorator: ...

    def tool(self, target: Any = None, /, **options: Unpack[ToolOptions]) -> Any:
        """Add a tool: a BaseTool class (built here, without arguments), an instance, or an `async def`.

        A class or an instance is returned as it is, a function as the tool it became, still callable.
        Raises: InvalidTool, which says what to mend.
        """
        if target is None:
            return lambda function: self._add(function, options)
        if options:
            raise InvalidTool("options go before the function: @registry.tool(effect=...) above the async def")
        return self._add(target, options)

    def _add(self, target: Any, options: ToolOptions) -> Any:
        is_class = inspect.isclass(target)
        if options and (is_class or isinstance(target, BaseTool)):
            raise InvalidTool(f"{target!r} is no function: put {', '.join(options)} into its ToolDefinition")
        if is_class:
            self._tools.append(_build(target))
            return target
        tool = target if isinstance(target, BaseTool) else FunctionTool(target, options)
        self._tools.append(tool)
        return tool


def _build(tool_class: type) -> BaseTool:
    name = tool_class.__qualname__
    if not issubclass(tool_class, BaseTool):
        raise InvalidTool(f"class {name} is no BaseTool: derive it from conductor_ai.sdk.BaseTool")
    if inspect.isabstract(tool_class):
        raise InvalidTool(f"class {name} lacks {' and '.join(sorted(tool_class.__abstractmethods__))}")
    try:
        inspect.signature(tool_class).bind()
    except TypeError as exc:
        raise InvalidTool(
            f"class {name} cannot be built without arguments: {exc}",
            hint=f"registry.tool({name}(...)) takes an instance",
        ) from exc
    return tool_class()
