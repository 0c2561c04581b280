"""What a person asks of the model on the command line, as the door takes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conductor_ai.errors import InvalidInput
from conductor_ai.schemas import json_text
from conductor_ai.schemas.images import Image

_MAX_SCHEMA_BYTES = 256 * 1024


def message_content(text: str, images: Sequence[str]) -> dict[str, Any]:
    """A user message. Of `images`, what begins with http:, https: or data: is a URL, anything else a file.

    Raises: InvalidInput for a file that cannot be read, or is no image.
    """
    if not images:
        return {"role": "user", "content": text}
    return {"role": "user", "content": [*map(_image, images), {"type": "text", "text": text}]}


def parameters_from(temperature: str | None, reasoning_effort: str | None) -> dict[str, Any] | None:
    """The parameters that were given; None where none was."""
    given = {"temperature": temperature, "reasoning_effort": reasoning_effort}
    return {name: value for name, value in given.items() if value is not None} or None


def schema_from(path: Path) -> dict[str, Any]:
    """Raises: InvalidInput where the file holds no JSON schema that can be used."""
    from conductor_ai.agents.answer_schema import AnswerSchema

    try:
        return AnswerSchema.of_json(_json_object(path)).schema
    except InvalidInput as exc:
        raise InvalidInput(f"--response-schema {path}: {exc}", hint=exc.hint) from exc


def _json_object(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():  # a pipe or a device may have no end, or never answer
            raise InvalidInput("there is no such file")
        with path.open("rb") as file:
            data = file.read(_MAX_SCHEMA_BYTES + 1)
    except OSError as exc:
        raise InvalidInput(f"it cannot be read: {exc.strerror or exc}") from exc
    if len(data) > _MAX_SCHEMA_BYTES:
        raise InvalidInput(f"it is larger than {_MAX_SCHEMA_BYTES // 1024} KiB")
    try:
        schema = json_text.loads(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidInput(f"it is not JSON: {exc}") from exc
    if not isinstance(schema, dict):
        raise InvalidInput("it is not a JSON schema, which is an object")
    return schema


def _image(given: str) -> Image:
    is_url = given.lower().startswith(("http:", "https:", "data:"))
    try:
        return Image.of_url(given) if is_url else Image.of_file(given)
    except InvalidInput as exc:
        raise InvalidInput(f"--image {exc}", hint=exc.hint) from exc
