"""What an author needs to test a tool without a model, a session or a network.

async def test_it():
    with testing.context() as call:
        result = await testing.run_tool(my_tool, {"day": "2026-01-31"})
    assert result.success
    assert call.progress == ["looking"]

A tool that works with the session's files finds those that the test names, and leaves its own in `call.files`:

async def test_it_plots():
    with testing.context(files={"sales.csv": b"day,sold\n"}) as call:
        await testing.run_tool(my_tool, {})
    assert call.files["plot.png"].startswith(b"\x89PNG")
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from conductor_ai.errors import InvalidInput, InvalidTool, UsageError
from conductor_ai.sdk.arguments import ArgumentValidator
from conductor_ai.sdk.base import BaseTool, ToolDefinition, ToolResult
from conductor_ai.sdk.context import SessionFile, ToolContext, bind, current_context, reset
from conductor_ai.sdk.files import check_media_type, check_name, check_room, media_type_of

__all__ = ["RecordedCall", "context", "run_tool"]


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A call as the tool sees it, the texts it gave to `progress`, oldest first, and the session's files by name, as
    they are now."""

    context: ToolContext
    progress: list[str]
    files: Mapping[str, bytes]


@contextmanager
def context(
    *,
    org_id: str = "test-org",
    session_id: str = "test-session",
    step_no: int = 1,
    call_id: str = "test-call",
    idempotency_key: str = "test-key",
    deadline: datetime | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Iterator[RecordedCall]:
    """Be inside a tool call: `self.context` and `current_context()` answer with these values.

    Args:
        files: Those that earlier calls left with the session.
    Raises: InvalidInput for files that no session could have.
    """
    progress: list[str] = []
    in_memory = _Files(step_no, call_id)
    for name, content in (files or {}).items():
        in_memory.put(name, content, None)
    bound = ToolContext(
        org_id, session_id, step_no, call_id, idempotency_key, deadline, progress.append, files=in_memory
    )
    token = bind(bound)
    try:
        yield RecordedCall(bound, progress, in_memory.contents)
    finally:
        reset(token)


class _Files:
    """`SessionFiles` in memory, under the rules of a session's."""

    def __init__(self, step_no: int, call_id: str) -> None:
        self.contents: dict[str, bytes] = {}
        self._files: dict[str, SessionFile] = {}
        self._step_no = step_no
        self._call_id = call_id

    async def list(self) -> list[SessionFile]:
        return [self._files[name] for name in sorted(self._files)]

    async def read(self, name: str) -> bytes:
        check_name(name)
        if name not in self.contents:
            raise InvalidInput(f"the session has no file {name!r}")
        return self.contents[name]

    async def write(self, name: str, content: bytes, media_type: str | None = None) -> SessionFile:
        return self.put(name, content, media_type)

    def put(self, name: str, content: bytes, media_type: str | None) -> SessionFile:
        check_name(name)
        if media_type is not None:
            check_media_type(media_type)
        check_room(((file.name, file.size_bytes) for file in self._files.values()), name, len(content))
        file = SessionFile(
            name=name,
            media_type=media_type or media_type_of(name),
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
            step_no=self._step_no,
            call_id=self._call_id,
        )
        self.contents[name], self._files[name] = bytes(content), file
        return file


async def run_tool(tool: BaseTool, arguments: dict[str, Any]) -> ToolResult:
    """Call a tool as a session does, in the context that is bound or else in one of `context()`.

    Arguments that break the tool's schema come back as the failed result the model would read; the tool does not run.
    An exception of the tool passes through, so that a test shows its traceback; a session makes it a failed result.

    Raises:
        AssertionError: the tool did not keep to its side: the message says what a session would trip over.
    """
    definition = _checked_definition(tool)
    given = deepcopy(arguments)
    problem = _validator(definition).check(given)
    if problem is not None:
        return ToolResult(tool_name=definition.name, success=False, error=f"invalid arguments: {problem}")
    try:
        current_context()
    except UsageError:
        with context():
            answer: object = await tool.run(given)
    else:
        answer = await tool.run(given)
    return _checked_result(answer, definition.name)


def _checked_definition(tool: BaseTool) -> ToolDefinition:
    if not isinstance(tool, BaseTool):
        raise AssertionError(f"{tool!r} is not an instance of BaseTool")
    definition: object = tool.definition
    if not isinstance(definition, ToolDefinition):
        raise AssertionError(
            f"definition is a {type(definition).__name__}, not a ToolDefinition: is @property missing?"
        )
    if definition != tool.definition:
        raise AssertionError(f"the definition of {definition.name} changes from read to read; a session reads it once")
    return definition


def _validator(definition: ToolDefinition) -> ArgumentValidator:
    try:
        return ArgumentValidator(definition)
    except InvalidTool as exc:
        raise AssertionError(str(exc)) from exc


def _checked_result(answer: object, name: str) -> ToolResult:
    if not isinstance(answer, ToolResult):
        raise AssertionError(f"{name} returned a {type(answer).__name__}, not a ToolResult")
    if answer.tool_name != name:
        raise AssertionError(f"the result of {name} says tool_name={answer.tool_name!r}")
    if answer.success and answer.error is not None:
        raise AssertionError(f"the result of {name} is a success and has an error: {answer.error}")
    if not answer.success and not answer.error:
        raise AssertionError(f"the failed result of {name} has no error: the model needs to know what to try next")
    try:
        json.dumps(answer.result, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise AssertionError(f"the result of {name} is not JSON data: {exc}") from exc
    return answer
