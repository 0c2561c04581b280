"""The call a tool is running for: who asked, which key makes it unique, how long it has."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from conductor_ai.errors import UsageError


def _discard(_: object) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """One tool call. `idempotency_key` stays the same across retries and crashes: hand it to services that take one.

    `deadline` is the moment, in UTC, at which the call is cancelled; None where nothing limits it.
    """

    org_id: str
    session_id: str
    step_no: int
    call_id: str
    idempotency_key: str
    deadline: datetime | None = None
    on_progress: Callable[[str], None] = field(default=_discard, repr=False, compare=False)
    on_record: Callable[[dict[str, Any]], None] = field(default=_discard, repr=False, compare=False)

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
