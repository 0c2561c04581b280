"""Answers that are built from plain data: a model of Pydantic's describes them in the document, and costs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.responses import Response

from conductor_ai.schemas import json_text


class JSON(Response):
    media_type = "application/json"

    def __init__(self, data: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(json_text.wire_dumps(data), status, headers)


def page(items: Iterable[Any], next_cursor: str | None = None) -> JSON:
    return JSON({"items": list(items), "next_cursor": next_cursor})


def no_content() -> Response:
    return Response(status_code=204)
