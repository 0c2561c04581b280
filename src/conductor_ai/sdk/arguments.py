"""A model's arguments against the JSON schema a tool declared."""

from __future__ import annotations

from typing import Any, NoReturn

import jsonschema_rs

from conductor_ai.errors import InvalidTool
from conductor_ai.sdk.base import ToolDefinition
from conductor_ai.sdk.integers import IntegerPlaces

_MAX_PROBLEMS = 5
_MAX_PROBLEM_CHARS = 200
_LARGE_CHARS = 50_000
# What a model writes instead is usually near; an example mends it in one go.
_EXAMPLES = {
    "date": "2026-01-31",
    "time": "09:30:00Z",
    "date-time": "2026-01-31T09:30:00Z, with its offset",
    "duration": "PT1H30M",
    "email": "name@example.com",
    "uri": "https://example.com/page",
}


class ArgumentValidator:
    """The arguments of one tool, checked: its schema is compiled once, formats are on, references stay inside it."""

    def __init__(self, definition: ToolDefinition) -> None:
        """Raises: InvalidTool where the schema is broken or refers to anything outside itself."""
        schema = definition.parameters
        try:
            self._compiled = jsonschema_rs.validator_for(schema, validate_formats=True, retriever=_refuse)
        except (ValueError, RecursionError) as exc:
            reason = str(exc).partition("\n")[0]
            if place := ".".join(map(str, getattr(exc, "instance_path", ()))):
                reason = f"{place}: {reason}"
            raise InvalidTool(f"tool {definition.name!r}: its parameters are not a valid schema: {reason}") from exc
        self._integers = IntegerPlaces.of(schema)

    def check(self, arguments: dict[str, Any]) -> str | None:
        """What is wrong and where, in one line of at most five problems; None where nothing is.

        Of arguments that pass, integral floats become ints, in place, where the schema says integer: JSON knows one
        kind of number, models write `3.0`, and Python's `range` does not take it.
        """
        try:
            if not self._compiled.is_valid(arguments):
                return "; ".join(_describe(problem) for problem in self._problems(arguments))
        except UnicodeEncodeError:
            return "a string holds half of a surrogate pair, which is no Unicode text"
        except (ValueError, RecursionError) as exc:
            return f"the arguments are not JSON data: {str(exc)[:_MAX_PROBLEM_CHARS]}"
        if self._integers is not None:
            self._integers.mend(arguments)
        return None

    def _problems(self, arguments: dict[str, Any]) -> list[jsonschema_rs.ValidationError]:
        if len(repr(arguments)) > _LARGE_CHARS:
            # `iter_errors` finds them all before it hands out the first: 17 us for each of a million wrong items.
            try:
                self._compiled.validate(arguments)
            except jsonschema_rs.ValidationError as first:
                return [first]
        return list(self._compiled.iter_errors(arguments))[:_MAX_PROBLEMS]


def _refuse(uri: str) -> NoReturn:
    # jsonschema-rs by default fetches references over http and from files.
    raise ValueError(f"references outside the schema are refused: {uri}")


def _describe(problem: jsonschema_rs.ValidationError) -> str:
    where = ".".join(str(part) for part in problem.instance_path)
    text = f"{where}: {_reason(problem)}" if where else _reason(problem)
    text = " ".join(text.split())
    return text if len(text) <= _MAX_PROBLEM_CHARS else f"{text[:_MAX_PROBLEM_CHARS]}..."


def _reason(problem: jsonschema_rs.ValidationError) -> str:
    kind = problem.kind.as_dict()
    if problem.kind.name == "format" and kind.get("format") in _EXAMPLES:
        return f"{problem.message} (like {_EXAMPLES[kind['format']]})"
    if problem.kind.name in ("anyOf", "oneOf"):
        # "not valid under any of the schemas" says nothing; the branches' own words do.
        branches = [branch[0] for branch in kind["context"] if branch]
        return ", and ".join(dict.fromkeys(branch.message for branch in branches)) or problem.message
    return problem.message
