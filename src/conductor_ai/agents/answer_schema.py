"""Answers that must fit a schema: how the model gives one, and whether it fits.

A provider that holds its model to the schema is asked to. Elsewhere the model is offered a tool, `final_answer`, whose
arguments are the answer. Whichever way was asked for, either is taken: a text that is JSON and fits, or the call.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from conductor_ai.errors import InvalidInput, InvalidTool
from conductor_ai.schemas import json_text
from conductor_ai.schemas.messages import ToolCall
from conductor_ai.sdk.base import ToolCategory, ToolDefinition
from conductor_ai.tools.arguments import ArgumentValidator

if TYPE_CHECKING:
    from pydantic import BaseModel

_logger = logging.getLogger(__name__)

FINAL_ANSWER_NAME = "final_answer"
"""The tool by which a model gives an answer that must fit a schema. The loop takes its calls; nothing is run."""
ACCEPTED = "accepted"

_FENCED = re.compile(r"^[ \t]*```[a-zA-Z0-9]{0,16}[ \t]*\r?$(.*?)```[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_PROBLEMS = 5
_PROBLEM_CHARS = 300


class Verdict(NamedTuple):
    """`answer` is JSON data that fits where `problem` is None; `problem` is in words for the model."""

    answer: dict[str, Any] | None = None
    problem: str | None = None


class AnswerSchema:
    """A schema that answers must fit, compiled once.

    Args:
        schema: JSON schema of an object.
        model: The Pydantic model that it was made from, whose own validators must be content as well.
    Raises: InvalidInput where the schema is none, is broken, or refers to anything outside itself.
    """

    def __init__(self, schema: dict[str, Any], model: type[BaseModel] | None = None) -> None:
        self.schema = schema = _with_root_type(schema)
        self.model = model
        if schema.get("type") != "object":
            raise InvalidInput(
                "response_schema must describe an object", hint='{"type": "object", "properties": {...}}'
            )
        try:
            self.definition = ToolDefinition(
                name=FINAL_ANSWER_NAME,
                description="Give the final answer: its arguments are the answer, and a text is none. Call it alone, "
                "once, when you need no other tool any more.",
                category=ToolCategory.DATA,
                effect="read",
                parameters=schema,
            )
            self._validator = ArgumentValidator(self.definition)
        except (InvalidTool, ValueError) as exc:
            raise InvalidInput(f"response_schema is not a JSON schema that can be used: {_reason(exc)}") from exc

    @classmethod
    def of(cls, value: type[BaseModel] | dict[str, Any] | None) -> AnswerSchema | None:
        """From what a caller may pass: a JSON schema or a Pydantic model. Raises: InvalidInput."""
        if value is None:
            return None
        if isinstance(value, dict):
            return cls.of_json(value)
        from pydantic import BaseModel
        from pydantic.errors import PydanticUserError

        given: object = value
        if not (isinstance(given, type) and issubclass(given, BaseModel)):
            raise InvalidInput(f"response_schema must be a JSON schema or a Pydantic model, got {given!r}")
        try:
            return cls(value.model_json_schema(), value)
        except PydanticUserError as exc:
            raise InvalidInput(f"response_schema: {value.__name__} has no JSON schema: {exc}") from exc

    @classmethod
    def of_json(cls, schema: dict[str, Any]) -> AnswerSchema:
        """From a JSON schema. Raises: InvalidInput."""
        return cls(_json_data(schema))

    def of_text(self, text: str) -> Verdict:
        """An answer given as text: JSON, bare or in the one code fence of a text."""
        said = text.strip()
        fenced = _FENCED.findall(said)
        for candidate in (said, *(fenced if len(fenced) == 1 else ())):
            try:
                return self._judged(json_text.loads(candidate))
            except (ValueError, RecursionError):
                continue
        return Verdict(problem="it is not one JSON object")

    def of_call(self, call: ToolCall) -> Verdict:
        """An answer given as a call of the answer tool."""
        if call.arguments is None:
            return Verdict(problem=f"it is not a JSON object: {(call.raw_arguments or '')[:200]}")
        return self._judged(json_text.loads(json_text.dumps(call.arguments)))

    def instance(self, answer: dict[str, Any]) -> Any:
        """An answer that fits, as an instance of the Pydantic model; without one, as it is."""
        return answer if self.model is None else self.model.model_validate_json(json_text.dumps(answer))

    def _judged(self, answer: Any) -> Verdict:
        if not isinstance(answer, dict):
            return Verdict(problem="it is not one JSON object")
        problem = self._validator.check(answer) or self._model_problem(answer)
        return Verdict(problem=problem) if problem else Verdict(answer)

    def _model_problem(self, answer: dict[str, Any]) -> str | None:
        if self.model is None:
            return None
        from pydantic import ValidationError

        try:
            self.instance(answer)
        except ValidationError as exc:
            errors = exc.errors(include_url=False, include_context=False, include_input=False)[:_PROBLEMS]
            return "; ".join(_described(error["loc"], error["msg"]) for error in errors)[:_PROBLEM_CHARS]
        except Exception as exc:  # a validator is foreign code: what it cannot take is no answer
            _logger.exception("a validator of %s failed", self.model.__name__)
            return f"{type(exc).__name__}: {exc}"[:_PROBLEM_CHARS]
        return None


def rejection(problem: str) -> str:
    """What a model is told of an answer that it gave as text."""
    return (
        f"it does not fit the schema that is asked for: {problem}. Give it again: one JSON object that fits, and "
        f"nothing else. Where there is a tool {FINAL_ANSWER_NAME}, call that with it."
    )


def _with_root_type(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that refers to its own root's definition, as Pydantic makes of a model which holds itself, with the type
    of that beside it."""
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    definitions = schema.get("$defs")
    target = definitions.get(name) if isinstance(definitions, dict) else None
    if "type" in schema or not isinstance(target, dict) or target.get("type") != "object":
        return schema
    return {"type": "object", **schema}


def _reason(exc: InvalidTool | ValueError) -> str:
    from pydantic import ValidationError

    if isinstance(exc, ValidationError):
        return str(exc.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")
    return str(exc).partition("not a valid schema: ")[2] or str(exc).partition("\n")[0]


def _described(location: tuple[int | str, ...], message: str) -> str:
    where, message = ".".join(map(str, location)), message.removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _json_data(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json_text.loads(json_text.dumps(schema))
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidInput(f"response_schema is not JSON data: {exc}") from exc
    return data
