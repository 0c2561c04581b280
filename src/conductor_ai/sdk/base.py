"""What a tool is: how it describes itself to the model, how it runs, what it gives back."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from conductor_ai.errors import InvalidTool
from conductor_ai.sdk.context import ToolContext, current_context

ToolEffect: TypeAlias = Literal["read", "idempotent", "once"]
"""What happens if a call is repeated: nothing (`read`), the same outcome (`idempotent`), or harm (`once`)."""

MAX_TIMEOUT_S = 7 * 86_400.0
"""The longest time that one call may take."""


class ToolCategory(StrEnum):
    """What a tool is about; people filter and group by it."""

    DATA = "data"
    WEB = "web"
    FILE = "file"
    CODE = "code"
    COMMUNICATION = "communication"
    OTHER = "other"


def _object_schema(parameters: dict[str, Any]) -> dict[str, Any]:
    # Every provider demands an object at the top; only one of them says so in words a person understands.
    if parameters.get("type") != "object":
        raise ValueError('parameters must be the JSON schema of an object: {"type": "object", "properties": {...}}')
    if not isinstance(parameters.get("properties", {}), dict):
        raise ValueError("parameters['properties'] must map each argument's name to its JSON schema")
    return parameters


class ToolDefinition(BaseModel):
    """A tool as the model, the approver and the loop know it.

    `name` is limited to what every provider accepts. `description` is what the model chooses by. `parameters` is the
    JSON schema of the arguments, an object; arguments are checked against it before `run`. `timeout_s` is at most 7
    days, None takes the session's limit. `untrusted_output` marks text that comes from outside (web pages, mail): it
    may try to give orders. `requires_approval_after_untrusted` asks a person once the session has read such text from
    another tool. An unknown field is refused, so that a mistyped `requires_approval` cannot go unnoticed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str = Field(min_length=1)
    category: ToolCategory
    parameters: Annotated[dict[str, Any], AfterValidator(_object_schema)]
    requires_approval: bool = False
    requires_approval_after_untrusted: bool = False
    timeout_s: float | None = Field(default=None, gt=0, le=MAX_TIMEOUT_S, allow_inf_nan=False)
    effect: ToolEffect = "once"
    untrusted_output: bool = False


class ToolResult(BaseModel):
    """What one call came to. `result` is JSON data; `error` tells the model what to try next.

    The runner measures time itself: `execution_time_ms` is for callers that run a tool without one. `source` says where
    text of an `untrusted_output` tool came from, as the URL of a page: the model and the log see it as its label.
    """

    model_config = ConfigDict(extra="forbid")

    tool_name: str
    success: bool
    result: Any = None
    error: str | None = None
    execution_time_ms: float = Field(default=0.0, ge=0)
    source: str | None = None


class BaseTool(ABC):
    """One tool. An instance serves any number of concurrent calls; what belongs to one call is in `context`."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if not inspect.iscoroutinefunction(cls.run):
            raise InvalidTool(f"class {cls.__qualname__}: run must be an async def")

    @property
    @abstractmethod
    def definition(self) -> ToolDefinition:
        """The same on every read: the loop reads it once."""

    def effect_of(self, arguments: dict[str, Any]) -> ToolEffect:
        """What happens if this very call is repeated, for a tool whose calls differ: a GET may be, a POST may not.

        `arguments` were checked. The same for the same arguments: a resumed session asks again.
        """
        return self.definition.effect

    @abstractmethod
    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        """Do the work. `arguments` were checked against `definition.parameters`, formats included.

        An exception is not fatal: the model reads its type and message as the call's error.
        """

    @property
    def context(self) -> ToolContext:
        """The call that is running now. Raises: UsageError outside one."""
        return current_context()
