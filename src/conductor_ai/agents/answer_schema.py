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
NOT_ALONE = "not taken: other calls stand beside it. Call final_answer alone, once you have seen what they return."

_FENCED = re.compile(r"```[a-zA-Z0-9]{0,16}[ \t]*\n(.*)\n[ \t]*```", re.DOTALL)
_PROBLEMS = 5
_PROBLEM_CHARS = 300


class Verdict(NamedTuple):
    """`answer` is JSON data that fits where `problem` is None; `problem` is in words for the model."""

    answer: Any = None
    problem: str | None = None


class AnswerSchema:
    """A schema that answers must fit, compiled once.

    Args:
        schema: JSON schema of an object.
        model: The Pydantic model that it was made from, whose own validators must be content as well.
    Raises: InvalidInput where the schema is none, is broken, or refers to anything outside itself.
    """

    def __init__(self, schema: dict[str, Any], model: type[BaseModel] | None = None) -> None:
        self.schema = schema
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
            reason = str(exc).partition("not a valid schema: ")[2] or str(exc).partition("\n")[0]
            raise InvalidInput(f"response_schema is not a JSON schema that can be used: {reason}") from exc

    @classmethod
    def of(cls, value: type[BaseModel] | dict[str, Any] | None) -> AnswerSchema | None:
        """From what a caller may pass: a JSON schema or a Pydantic model. Raises: InvalidInput."""
        if value is None:
            return None
        if isinstance(value, dict):
            return cls(_json_data(value))
        from pydantic import BaseModel
        from pydantic.errors import PydanticUserError

        given: object = value
        if not (isinstance(given, type) and issubclass(given, BaseModel)):
            raise InvalidInput(f"response_schema must be a JSON schema or a Pydantic model, got {given!r}")
        try:
            return cls(value.model_json_schema(), value)
        except PydanticUserError as exc:
            raise InvalidInput(f"response_schema: {value.__name__} has no JSON schema: {exc}") from exc

    def of_text(self, text: str) -> Verdict:
        """An answer given as text: JSON, fenced or bare."""
        stripped = text.strip()
        fenced = _FENCED.fullmatch(stripped)
        try:
            answer = json_text.loads(fenced[1] if fenced else stripped)
        except (ValueError, RecursionError):
            return Verdict(problem="it is not one JSON object")
        return self._judged(answer)

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


def _described(location: tuple[int | str, ...], message: str) -> str:
    where = ".".join(map(str, location))
    return f"{where}: {message}" if where else message


def _json_data(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json_text.loads(json_text.dumps(schema))
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidInput(f"response_schema is not JSON data: {exc}") from exc
    return data
