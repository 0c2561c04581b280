"""The call a tool is running for: who asked, which key makes it unique, how long it has."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from conductor_ai.errors import UsageError


def _discard(_: object) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class SessionFile:
    """A file that is stored with a session. `name` is relative, with `/` between folders; `created_at` is ISO 8601 UTC.
    `step_no` and `call_id` say which call wrote it last."""

    name: str
    media_type: str
    size_bytes: int
    sha256: str
    created_at: str
    step_no: int
    call_id: str


class SessionFiles(Protocol):
    """The files of one session. They are there for its later calls, and for people, until the session is deleted."""

    async def list(self) -> list[SessionFile]:
        """By name."""
        ...

    async def read(self, name: str) -> bytes:
        """Raises: InvalidInput where there is no such file."""
        ...

    async def write(self, name: str, content: bytes, media_type: str | None = None) -> SessionFile:
        """Store a file, in place of one of the same name; it is durable on return. Without a media type it is told by
        the name. Raises: InvalidInput for a bad name or a file beyond the limits, StorageError."""
        ...


@dataclass(frozen=True, slots=True)
class ToolContext:
    """One tool call. `idempotency_key` stays the same across retries and crashes: hand it to services that take one.

    `deadline` is the moment, in UTC, at which the call is cancelled; None where nothing limits it. `files` are the
    session's; None outside one.
    """

    org_id: str
    session_id: str
    step_no: int
    call_id: str
    idempotency_key: str
    deadline: datetime | None = None
    on_progress: Callable[[str], None] = field(default=_discard, repr=False, compare=False)
    on_record: Callable[[dict[str, Any]], None] = field(default=_discard, repr=False, compare=False)
    files: SessionFiles | None = field(default=None, repr=False, compare=False)

    def progress(self, text: str) -> None:
        """Tell whoever watches the session how far the call is. Live only: never stored, never shown to the model."""
        self.on_progress(text)

    def record(self, **facts: Any) -> None:
        """Put facts into the audit row of this call, beside its outcome: where it went, what it touched. JSON data.

        A later fact of the same name replaces an earlier one. The facts are kept however the call ends.
        """
        self.on_record(facts)


_current: ContextVar[ToolContext] = ContextVar("conductor_ai_tool_context")

bind = _current.set
"""Make a context the current one, in this task only; returns the token for `reset`."""
reset = _current.reset


def current_context() -> ToolContext:
    """The context of the call that is running now. Raises: UsageError outside one."""
    try:
        return _current.get()
    except LookupError:
        raise UsageError(
            "no tool call is running, so there is no context; in a test, use conductor_ai.sdk.testing",
            hint="with conductor_ai.sdk.testing.context(): ...",
        ) from None
