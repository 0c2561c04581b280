"""The tools a process knows, by name."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError

from conductor_ai.errors import DuplicateTool, InvalidTool, MissingExtra, ToolUnavailable, UnknownTool
from conductor_ai.sdk.base import BaseTool, ToolDefinition
from conductor_ai.sdk.function_tool import FunctionTool
from conductor_ai.tools.arguments import ArgumentValidator
from conductor_ai.tools.plugin_loader import PluginInfo, PluginLoader

__all__ = ["PluginInfo", "PluginLoader", "RegisteredTool", "ToolRegistry", "registry"]

RESERVED_NAMES = frozenset({"read_result", "final_answer"})
"""Tools that a session brings itself."""


@dataclass(frozen=True, slots=True)
class RegisteredTool:
    """A tool with its definition as read when it was registered, and where its code is: `FILE (NAME)`."""

    tool: BaseTool
    definition: ToolDefinition
    origin: str


class ToolRegistry:
    """Tools by name, in the order in which they were registered."""

    def __init__(self) -> None:
        self._tools: dict[str, RegisteredTool] = {}
        self._unavailable: dict[str, MissingExtra | ToolUnavailable] = {}

    def register(self, tool: BaseTool) -> None:
        """Add a tool. The same tool from the same file again is a no-op; the first stays.

        Raises:
            DuplicateTool: another tool has the name; the message says where both are.
            InvalidTool: not an instance of BaseTool, or its definition cannot be used.
        """
        definition = _definition(tool)
        if definition.name in RESERVED_NAMES:
            raise InvalidTool(f"a tool cannot be called {definition.name!r}: a session brings one of that name itself")
        known = self._tools.get(definition.name)
        origin = _origin(tool)
        if definition.name in self._unavailable:
            # Else the name would mean another tool on the day that ours works.
            raise DuplicateTool(
                f"two tools are called {definition.name!r}: one in {origin}, and one of conductor-ai, "
                "which is not available here",
                hint="rename yours",
            )
        if known is None:
            ArgumentValidator(definition)
            self._tools[definition.name] = RegisteredTool(tool, definition, origin)
        elif (known.origin, known.definition) != (origin, definition):
            raise DuplicateTool(
                f"two tools are called {definition.name!r}: one in {known.origin}, one in {origin}",
                hint="rename one of them",
            )

    def keep_unavailable(self, name: str, error: MissingExtra | ToolUnavailable) -> None:
        """Keep the name of a tool of ours that cannot work here: whoever asks for it is told what it lacks."""
        self._unavailable[name] = error

    @property
    def unavailable(self) -> dict[str, MissingExtra | ToolUnavailable]:
        """The tools that cannot be used here, with what each of them lacks."""
        return dict(self._unavailable)

    def get_tool(self, name: str) -> BaseTool:
        """Raises: as `registered`."""
        return self.registered(name).tool

    def registered(self, name: str) -> RegisteredTool:
        """Raises: UnknownTool, whose hint names the nearest tools; MissingExtra or ToolUnavailable for one of ours that
        cannot work here."""
        try:
            return self._tools[name]
        except KeyError:
            if (lacking := self._unavailable.get(name)) is not None:
                raise type(lacking)(str(lacking), hint=lacking.hint) from None
            near = get_close_matches(name, self._tools)
            if near:
                hint = f"did you mean {' or '.join(near)}?"
            else:
                hint = f"tools are: {', '.join(self._tools)}" if self._tools else "no tool is registered"
            raise UnknownTool(f"unknown tool {name!r}", hint=hint) from None

    @property
    def tools(self) -> list[BaseTool]:
        return [registered.tool for registered in self._tools.values()]

    @property
    def definitions(self) -> list[ToolDefinition]:
        return [registered.definition for registered in self._tools.values()]

    def register_together(self, register: Callable[[ToolRegistry], object]) -> list[str]:
        """Call a plugin's `register` and keep what it registered, or nothing at all where it raises.

        Returns: the names it registered, known ones included.
        """
        draft = _Draft(self)
        try:
            answer = register(draft)
            if inspect.iscoroutine(answer):
                answer.close()
                raise InvalidTool("register must be a plain def: it is called, not awaited")
        finally:
            draft.closed = True
        self._tools = draft._tools
        return draft.names


class _Draft(ToolRegistry):
    """What the registry would be if a plugin's `register` succeeded."""

    def __init__(self, base: ToolRegistry) -> None:
        super().__init__()
        self._tools = dict(base._tools)
        self._unavailable = base._unavailable
        self.names: list[str] = []
        self.closed = False

    def register(self, tool: BaseTool) -> None:
        if self.closed:
            raise InvalidTool("a plugin registers its tools while its register function runs, not later")
        super().register(tool)
        name = tool.definition.name
        if name not in self.names:
            self.names.append(name)


def _definition(tool: object) -> ToolDefinition:
    if not isinstance(tool, BaseTool):
        hint = "register an instance, not its class" if inspect.isclass(tool) else "derive it from BaseTool"
        raise InvalidTool(f"{tool!r} is not an instance of BaseTool", hint=hint)
    try:
        definition: object = tool.definition
    except ValidationError as exc:
        problems = (f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in exc.errors())
        raise InvalidTool(f"tool {type(tool).__qualname__}: its definition is refused: {'; '.join(problems)}") from exc
    if not isinstance(definition, ToolDefinition):
        kind = type(definition).__name__
        raise InvalidTool(
            f"tool {type(tool).__qualname__}: definition is a {kind}, not a ToolDefinition",
            hint="is @property missing?",
        )
    return definition


def _origin(tool: BaseTool) -> str:
    if isinstance(tool, FunctionTool):
        code = inspect.unwrap(tool.function).__code__
        return f"{_real(code.co_filename)} ({code.co_qualname})"
    kind: type = type(tool)
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return f"{_real(file) if file else kind.__module__} ({kind.__qualname__})"


def _real(file: str) -> str:
    return str(Path(file).resolve()) if Path(file).is_file() else file


registry = ToolRegistry()
"""The registry of programs that need only one."""
