import pytest

from conductor_ai.cli.exit_codes import ExitCode, of_error, of_session
from conductor_ai.errors import (
    ApprovalVoid,
    AuditUnavailable,
    ConductorError,
    KeyRefused,
    MissingKey,
    SessionBusy,
    StoreCorrupt,
)
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.session import PauseReason, SessionStatus


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MissingKey("x"), 2),
        (SessionBusy("x", pid=1), 2),
        (ApprovalVoid("x"), 2),
        (KeyRefused("x", provider="p", model="m"), 1),
        (StoreCorrupt("x"), 1),
        (AuditUnavailable("x"), 1),
    ],
)
def test_an_error_is_usage_where_another_request_would_have_worked(error: ConductorError, code: int) -> None:
    assert of_error(error) == code


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        (SessionStatus.COMPLETED, None, ExitCode.COMPLETED),
        (SessionStatus.FAILED, None, ExitCode.FAILED),
        (SessionStatus.WAITING_APPROVAL, None, ExitCode.WAITING_APPROVAL),
        (SessionStatus.PAUSED, PauseReason.MAX_COST, ExitCode.PAUSED),
        (SessionStatus.PAUSED, PauseReason.INTERRUPTED, ExitCode.INTERRUPTED),
        (SessionStatus.CANCELLED, None, ExitCode.INTERRUPTED),
    ],
)
def test_a_session_that_stopped_has_the_exit_code_of_its_status(
    status: SessionStatus, reason: PauseReason | None, code: ExitCode
) -> None:
    assert of_session(AgentSession("s", "o", status, "m", pause_reason=reason)) is code
