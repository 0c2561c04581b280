"""A plain `async def` as a tool: its type hints and docstring are the definition."""

from __future__ import annotations

import functools
import inspect
import math
import typing
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypedDict, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from conductor_ai.errors import InvalidTool
from conductor_ai.sdk.base import BaseTool, ToolCategory, ToolDefinition, ToolEffect, ToolResult
from conductor_ai.sdk.docstrings import parse_docstring

if typing.TYPE_CHECKING:
    from pydantic.json_schema import GenerateJsonSchema

P = ParamSpec("P")
R = TypeVar("R")


class ToolOptions(TypedDict, total=False):
    """What `@registry.tool(...)` takes; each replaces what the function says of itself."""

    name: str
    description: str
    category: ToolCategory
    requires_approval: bool
    requires_approval_after_untrusted: bool
    timeout_s: float | None
    effect: ToolEffect
    untrusted_output: bool


class FunctionTool(BaseTool, Generic[P, R]):
    """A tool made of a function, which stays callable as it was.

    `run` turns the arguments into the hinted types. A plain return value becomes `result`, made JSON data; an exception
    becomes `error`, its type and message, and so does a number that JSON does not have: NaN or infinity. An argument
    that is not given is left to the function's own default.
    """

    def __init__(self, function: Callable[P, Coroutine[Any, Any, R]], options: ToolOptions | None = None) -> None:
        """Raises: InvalidTool where the signature cannot be a tool's. Hints are resolved when first needed, so they may
        name classes that the module defines further down."""
        functools.update_wrapper(self, function)
        self.function = function
        self.options: ToolOptions = options or {}
        self.name = self.options.get("name", getattr(function, "__name__", type(function).__name__))
        _check_function(function, self.name, described="description" in self.options)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.function(*args, **kwargs)

    @property
    def definition(self) -> ToolDefinition:
        return self._built[0]

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        model = self._built[1]
        try:
            parsed = model.model_validate(arguments)
        except ValidationError as exc:
            return self._failed(_describe(exc))
        names = {field: info.alias for field, info in model.model_fields.items()}
        given: dict[str, Any] = {str(names[field]): getattr(parsed, field) for field in parsed.model_fields_set}
        try:
            value = await self.function(**given)  # type: ignore[call-arg]  # the model holds P's names
        except Exception as exc:  # an author's code ends here: the model reads what went wrong
            return self._failed(f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__)
        if isinstance(value, ToolResult):
            return value
        return self._succeeded(value)

    def _succeeded(self, value: object) -> ToolResult:
        from pydantic_core import to_jsonable_python

        try:
            data = to_jsonable_python(value, inf_nan_mode="constants")
            _refuse_not_finite(data, "result")
        except ValueError as exc:
            return self._failed(f"the tool ran, but its {type(value).__name__} cannot be written as JSON: {exc}")
        return ToolResult(tool_name=self.name, success=True, result=data)

    def _failed(self, error: str) -> ToolResult:
        return ToolResult(tool_name=self.name, success=False, error=error)

    @functools.cached_property
    def _built(self) -> tuple[ToolDefinition, type[BaseModel]]:
        docstring = parse_docstring(self.function.__doc__ or "")
        hints = _resolved_hints(self.function, self.name)
        unknown = sorted(docstring.arguments.keys() - hints.keys())
        if unknown:
            raise InvalidTool(f"tool {self.name!r} does not take {', '.join(unknown)}, which its docstring describes")
        model, parameters = _arguments_model(self.function, self.name, hints, docstring.arguments)
        fields: dict[str, Any] = {
            "name": self.name,
            "description": docstring.description,
            "category": ToolCategory.OTHER,
            "parameters": parameters,
            **self.options,
        }
        try:
            return ToolDefinition(**fields), model
        except ValidationError as exc:
            raise InvalidTool(f"tool {self.name!r}: {_describe(exc)}") from exc


def _refuse_not_finite(data: object, where: str) -> None:
    # Written as null it would read as "unknown" or "none", which nobody has said.
    if isinstance(data, float) and not math.isfinite(data):
        raise ValueError(f"{where} is {data}; return a finite number, None or text")
    if isinstance(data, list):
        for position, item in enumerate(data):
            _refuse_not_finite(item, f"{where}[{position}]")
    elif isinstance(data, dict):
        for key, item in data.items():
            _refuse_not_finite(item, f"{where}.{key}")


def _check_function(function: object, name: str, *, described: bool) -> None:
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise InvalidTool(f"{function!r} cannot be a tool: register a BaseTool or an async def")
    if inspect.isasyncgenfunction(function):
        raise InvalidTool(f"tool {name!r} yields: a tool returns its result; collect the items and return them")
    if not inspect.iscoroutinefunction(function):
        raise InvalidTool(
            f"tool {name!r} is a plain def: write async def",
            hint="work that blocks belongs in await asyncio.to_thread(...)",
        )
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise InvalidTool(f"tool {name!r} takes {stars}{parameter.name}: a model needs each argument by name")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise InvalidTool(f"tool {name!r}: argument {parameter.name!r} is positional only; arguments come by name")
        if parameter.annotation is parameter.empty:
            raise InvalidTool(f"tool {name!r}: argument {parameter.name!r} has no type hint")
    if not described and not (function.__doc__ or "").strip():
        raise InvalidTool(f"tool {name!r} has no docstring: it is what the model chooses a tool by")


def _resolved_hints(function: Callable[..., object], name: str) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as exc:
        raise InvalidTool(
            f"tool {name!r}: a type hint names {exc.name!r}, which the module does not have at run time"
        ) from exc
    except (AttributeError, SyntaxError, TypeError) as exc:
        raise InvalidTool(f"tool {name!r}: a type hint is not a type: {exc}") from exc
    return {parameter: hints[parameter] for parameter in inspect.signature(function).parameters}


def _arguments_model(
    function: Callable[..., object], name: str, hints: dict[str, Any], descriptions: dict[str, str]
) -> tuple[type[BaseModel], dict[str, Any]]:
    from pydantic.errors import PydanticUserError

    def build(names: list[str]) -> tuple[type[BaseModel], dict[str, Any]]:
        fields: dict[str, Any] = {}
        for position, parameter in enumerate(names):
            default = inspect.signature(function).parameters[parameter].default
            info: dict[str, Any] = {"default": ... if default is inspect.Parameter.empty else default}
            if parameter in descriptions:
                info["description"] = descriptions[parameter]
            # Under a name of ours: an argument may be called `json` or `_x`, which a model's field may not.
            fields[f"argument_{position}"] = (hints[parameter], Field(alias=parameter, **info))
        model: type[BaseModel] = create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields)
        schema = model.model_json_schema(schema_generator=_schema_generator())
        schema.pop("title", None)
        return model, {"type": "object", "properties": {}, **schema}

    try:
        return build(list(hints))
    except (PydanticUserError, TypeError) as exc:
        for parameter in hints:
            try:
                build([parameter])
            except (PydanticUserError, TypeError):
                shown = inspect.signature(function).parameters[parameter].annotation
                raise InvalidTool(
                    f"tool {name!r}: the hint of argument {parameter!r} cannot become JSON schema: {shown}",
                    hint="use str, int, float, bool, date, datetime, Literal, enums, lists, dicts or pydantic models",
                ) from exc
        raise


@functools.cache
def _schema_generator() -> type[GenerateJsonSchema]:
    # Loaded on first use: most programs that import the SDK never ask for a schema.
    from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

    class ArgumentSchema(GenerateJsonSchema):
        # A default that JSON cannot hold is left to the function; a title repeats the argument's name.
        ignored_warning_kinds: typing.ClassVar[set[JsonSchemaWarningKind]] = {  # type: ignore[misc]
            "skipped-choice",
            "non-serializable-default",
        }

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    return ArgumentSchema


def _describe(exc: ValidationError) -> str:
    problems = exc.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}" for problem in problems[:5]
    )
