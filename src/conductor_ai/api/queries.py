"""What may stand in a path, a query and a head, and what becomes of it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import Header, Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from conductor_ai.api.bodies import Moment
from conductor_ai.api.cursors import place_of
from conductor_ai.errors import ApprovalNotFound, InvalidInput, KeyNotFound, SessionNotFound
from conductor_ai.schemas.approvals import ApprovalStatus
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.storage.base import Cursor, SessionFilter

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_PERIOD = timedelta(days=400)


def _session_id(text: str) -> str:
    # What cannot be an id is not found, as an id of nothing is: the store need not read it.
    if not _ID.fullmatch(text):
        raise SessionNotFound(f"no session {text[:64]!r}")
    return text


def _approval_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ApprovalNotFound(f"no approval {text[:64]!r}")
    return text


def _key_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise KeyNotFound(f"no key {text[:64]!r}")
    return text


SessionId = Annotated[str, Path(), AfterValidator(_session_id)]
FileName = Annotated[str, Path(description="as the list has it, `/` included")]
ApprovalId = Annotated[str, Path(), AfterValidator(_approval_id)]
KeyId = Annotated[str, Path(), AfterValidator(_key_id)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="of several requests with the same key and body one is done; another body is refused",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]([ -~]*[!-~])?$",
    ),
]
LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", description="the last event that the reader has; the stream goes on behind"),
]

ReceivedText = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class QueryModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PageQuery(QueryModel):
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: ReceivedText | None = None

    def place(self, kind: str, org_id: str) -> Cursor | None:
        """Raises: InvalidInput."""
        found = place_of(self.cursor, kind, org_id, parts=2)
        if found is None:
            return None
        try:
            datetime.fromisoformat(found[0])
        except ValueError as exc:
            raise InvalidInput("the cursor is not one of this list") from exc
        return Cursor(*found)


class SessionsQuery(PageQuery):
    status: SessionStatus | None = None
    agent: Annotated[str, StringConstraints(pattern=r"^[ -~]{1,200}$")] | None = None
    created_from: Moment | None = None
    created_before: Moment | None = None

    def chosen(self) -> SessionFilter:
        return SessionFilter(self.status, self.agent, self.created_from, self.created_before)


class ApprovalsQuery(PageQuery):
    status: ApprovalStatus | None = None
    session_id: Annotated[str, AfterValidator(_session_id)] | None = None

    def after(self, org_id: str) -> str | None:
        """Raises: InvalidInput."""
        found = place_of(self.cursor, "approvals", org_id, parts=1)
        if found is None:
            return None
        if not _ID.fullmatch(found[0]):
            raise InvalidInput("the cursor is not one of this list")
        return found[0]


class AuditQuery(PageQuery):
    session_id: Annotated[str, AfterValidator(_session_id)] | None = None


class UsageQuery(QueryModel):
    """Days are UTC."""

    day_from: date | None = Field(default=None, description="left out: the first of this month")
    day_before: date | None = Field(default=None, description="left out: all up to now")

    def period(self) -> tuple[str, str]:
        """Raises: InvalidInput."""
        tomorrow = datetime.now(UTC).date() + timedelta(days=1)
        first = self.day_from or (tomorrow - timedelta(days=1)).replace(day=1)
        before = self.day_before or tomorrow
        if not timedelta(0) < before - first <= _LONGEST_PERIOD:
            raise InvalidInput(f"day_before must be 1 to {_LONGEST_PERIOD.days} days after day_from")
        return first.isoformat(), before.isoformat()


class EventsQuery(QueryModel):
    last_event_id: ReceivedText | None = Field(
        default=None, description="as Last-Event-ID, for whoever cannot send headers"
    )
    ticket: ReceivedText | None = Field(default=None, description="in place of a key; opens one stream, once")

    def after_seq(self, header: str | None) -> int:
        """Raises: InvalidInput for what is no id of an event."""
        given = header if header is not None else self.last_event_id
        if given is None or given == "":
            return 0
        if not (given.isascii() and given.isdecimal() and len(given) <= 15):
            raise InvalidInput("Last-Event-ID must be the id of an event: a whole number")
        return int(given)


Sessions = Annotated[SessionsQuery, Query()]
Approvals = Annotated[ApprovalsQuery, Query()]
Audit = Annotated[AuditQuery, Query()]
Usage = Annotated[UsageQuery, Query()]
Events = Annotated[EventsQuery, Query()]
