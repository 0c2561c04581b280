"""What a server tells, as its client's callers hold it: views of one moment, which nothing refreshes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self

from conductor_ai.errors import InvalidInput, ServiceError
from conductor_ai.schemas.approvals import ApprovalStatus
from conductor_ai.schemas.session import ENDED, PauseReason, SessionStatus
from conductor_ai.schemas.usage import Usage
from conductor_ai.sdk.context import SessionFile

STOPPED = ENDED | {SessionStatus.WAITING_APPROVAL, SessionStatus.PAUSED}
"""What a session that does not go on by itself is in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSession:
    """A session on a server, as it was when the server was asked.

    `steps` are dictionaries with `step_no, type, content, tool_calls`, the last of a completed session also with
    `final_answer`; in lists they are left out. `cost_usd` is exact US dollars, None where a call had no known price.
    `failure` says why a failed session failed: `code, message, hint, retryable, resumable`. `data` is the whole JSON
    object as the server sent it, also what this version knows nothing of.
    """

    session_id: str
    org_id: str
    status: SessionStatus
    agent: str | None
    model: str
    title: str
    pause_reason: PauseReason | None
    error: str | None
    failure: dict[str, Any] | None
    final_answer: str | None
    output: dict[str, Any] | None
    steps: list[dict[str, Any]]
    usage: Usage
    cost_usd: Decimal | None
    metadata: dict[str, str]
    created_at: str
    updated_at: str
    data: dict[str, Any] = field(repr=False, compare=False)

    @property
    def stopped(self) -> bool:
        """Whether it goes on only when somebody does something: it has ended, is paused, or waits for approval."""
        return self.status in STOPPED

    def to_dict(self) -> dict[str, Any]:
        """JSON data, as `AgentSession.to_dict`."""
        return self.data

    @classmethod
    def of(cls, data: Any) -> Self:
        """Raises: ServiceError where it is no session."""
        with reading("a session"):
            reason, cost = data.get("pause_reason"), data["cost_usd"]
            return cls(
                session_id=data["session_id"],
                org_id=data["org_id"],
                status=SessionStatus(data["status"]),
                agent=data.get("agent"),
                model=data["model"],
                title=data.get("title") or "",
                pause_reason=None if reason is None else PauseReason(reason),
                error=data.get("error"),
                failure=data.get("failure"),
                final_answer=data.get("final_answer"),
                output=data.get("output"),
                steps=list(data.get("steps") or ()),
                usage=usage_of(data["usage"]),
                cost_usd=None if cost is None else Decimal(cost),
                metadata=dict(data.get("metadata") or {}),
                created_at=data["created_at"],
                updated_at=data["updated_at"],
                data=data,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteApproval:
    """A request for a decision over one tool call, or over one action inside it: then `action` names it. `arguments`
    are exactly what will run."""

    approval_id: str
    session_id: str
    step_no: int
    call_id: str
    tool_name: str
    action: str | None
    arguments: dict[str, Any]
    status: ApprovalStatus
    requested_at: str
    decided_at: str | None
    decided_by: str | None
    reason: str | None
    data: dict[str, Any] = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        return self.data

    @classmethod
    def of(cls, data: Any) -> Self:
        """Raises: ServiceError."""
        with reading("an approval"):
            return cls(
                approval_id=data["approval_id"],
                session_id=data["session_id"],
                step_no=data["step_no"],
                call_id=data["call_id"],
                tool_name=data["tool_name"],
                action=data.get("action"),
                arguments=data["arguments"],
                status=ApprovalStatus(data["status"]),
                requested_at=data["requested_at"],
                decided_at=data.get("decided_at"),
                decided_by=data.get("decided_by"),
                reason=data.get("reason"),
                data=data,
            )


@dataclass(frozen=True, slots=True)
class StreamItem:
    """One item of a session's stream.

    An event of the log has its `seq`, and comes once, in order. A live item, such as `model.delta`, has none: it tells
    what goes on meanwhile, is stored nowhere, and may be missed.
    """

    type: str
    seq: int | None
    payload: dict[str, Any]
    created_at: str | None = None


def session_file_of(data: Any) -> SessionFile:
    """Raises: ServiceError."""
    with reading("a file of a session"):
        return SessionFile(
            name=data["name"],
            media_type=data["media_type"],
            size_bytes=int(data["size_bytes"]),
            sha256=data["sha256"],
            created_at=data["created_at"],
            step_no=int(data["step_no"]),
            call_id=data["call_id"],
        )


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns the errors of reading the server's JSON into a ServiceError that says what it should have been."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, InvalidInput) as exc:
        raise ServiceError(f"the server's answer is not {what} as this client knows it: {exc!r:.200}") from exc


def usage_of(data: dict[str, int]) -> Usage:
    """Token counts; one that the server does not name is 0."""
    names = Usage.__dataclass_fields__
    return Usage(**{name: int(data[name]) for name in names if name in data})
