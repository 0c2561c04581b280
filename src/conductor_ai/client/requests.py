"""What a caller asks for, as the JSON that the API takes. The server checks it; here only its form is changed."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from conductor_ai.errors import InvalidInput
from conductor_ai.schemas.images import Image
from conductor_ai.schemas.limits import Limits
from conductor_ai.schemas.messages import Message
from conductor_ai.schemas.parameters import Parameters


def wire_messages(messages: Sequence[Message | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Raises: InvalidInput where it is no list of messages."""
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
        raise InvalidInput(f"messages must be a list, got {type(messages).__name__}")
    return [wire_message(message) for message in messages]


def wire_message(message: str | Message | Mapping[str, Any]) -> dict[str, Any]:
    """One message; plain text is the user's. Images, also those in `content`, travel as base64 or by their URL."""
    if isinstance(message, str):
        return {"role": "user", "content": message}
    if isinstance(message, Message):
        if not message.images:
            return {"role": str(message.role), "content": message.content}
        text = [{"type": "text", "text": message.content}] if message.content else []
        return {"role": str(message.role), "content": [*map(_part, message.images), *text]}
    if not isinstance(message, Mapping):
        raise InvalidInput(f"a message is an object with role and content, got {type(message).__name__}")
    content = message.get("content")
    return {**message, "content": [_part(part) for part in content]} if isinstance(content, list) else dict(message)


def wire_limits(limits: Limits | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Those that were named: money as text."""
    if isinstance(limits, Limits):
        return limits.to_dict()
    if limits is None:
        return None
    return {name: format(value, "f") if isinstance(value, Decimal) else value for name, value in limits.items()}


def wire_parameters(parameters: Parameters | Mapping[str, Any] | None) -> dict[str, Any] | None:
    if isinstance(parameters, Parameters):
        return {name: value for name, value in parameters.to_dict().items() if value is not None}
    return None if parameters is None else dict(parameters)


def given(**values: Any) -> dict[str, Any]:
    """Those that are not None: what a caller leaves open, the server decides."""
    return {name: value for name, value in values.items() if value is not None}


def _part(part: Any) -> Any:
    if isinstance(part, Image):
        fetched = {"media_type": part.media_type, "data": part.data}
        return {"type": "image", **(fetched if part.is_fetched else {"url": part.url})}
    if isinstance(part, Mapping) and isinstance(part.get("data"), bytes | bytearray):
        return {**part, "data": base64.b64encode(part["data"]).decode()}
    return part
