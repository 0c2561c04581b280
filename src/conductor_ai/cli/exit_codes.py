"""What the exit code of `conductor` says. Scripts rely on the numbers; they never change once released."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from conductor_ai.errors import ApprovalError, ConductorError, KeyNotFound, SessionError, UsageError

if TYPE_CHECKING:
    from conductor_ai.cli.door import SessionView


class ExitCode(IntEnum):
    COMPLETED = 0
    FAILED = 1
    USAGE = 2
    WAITING_APPROVAL = 3
    PAUSED = 4
    INTERRUPTED = 130


def of_error(error: ConductorError) -> ExitCode:
    """USAGE where another request would have worked, FAILED where the world let us down."""
    is_usage = isinstance(error, UsageError | SessionError | ApprovalError | KeyNotFound)
    return ExitCode.USAGE if is_usage else ExitCode.FAILED


def of_session(session: SessionView) -> ExitCode:
    """The code of a session that is driven no more."""
    from conductor_ai.schemas.session import PauseReason, SessionStatus

    match session.status:
        case SessionStatus.COMPLETED:
            return ExitCode.COMPLETED
        case SessionStatus.WAITING_APPROVAL:
            return ExitCode.WAITING_APPROVAL
        case SessionStatus.PAUSED if session.pause_reason is not PauseReason.INTERRUPTED:
            return ExitCode.PAUSED
        case SessionStatus.FAILED:
            return ExitCode.FAILED
    return ExitCode.INTERRUPTED
