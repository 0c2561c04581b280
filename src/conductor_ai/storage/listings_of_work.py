"""What sweeps look for in the sessions of all orgs, in SQLAlchemy Core; imported as `listings` is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, exists, false, literal_column, not_, or_, select, union
from sqlalchemy.sql import literal

from conductor_ai.schemas.approvals import ApprovalStatus
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.storage.base import Runnable
from conductor_ai.storage.column_types import Moment
from conductor_ai.storage.tables import approvals, orgs, queued_messages, sessions

_RUNNING = (SessionStatus.QUEUED, SessionStatus.RUNNING, SessionStatus.CANCELLING)
# Named, as all statuses are here: what a newer version or an accident left in a row is nobody's to touch.
_RESTING = tuple(status for status in SessionStatus if status not in _RUNNING)
_NEVER_DAYS = 365_000  # no session is a thousand years old, and no date lies much further back

_columns = (sessions.c.org_id, sessions.c.session_id, sessions.c.status, sessions.c.created_at)


def list_runnable(
    connection: Connection, *, limit: int | None, driven: ColumnElement[bool] | None = None
) -> list[Runnable]:
    """Sessions that wait for a driver, oldest first.

    Args:
        driven: Tells of a row of `sessions` that a live process has it in hand; such rows are left out.
    """
    undecided = exists().where(
        approvals.c.session_id == sessions.c.session_id, approvals.c.status == ApprovalStatus.PENDING.value
    )
    has_message = sessions.c.session_id.in_(select(queued_messages.c.session_id))
    # Each with an index of its own: over all three at once a database would look at every session there is.
    found = [
        select(*_columns).where(
            _is_one_of(*_RUNNING, SessionStatus.WAITING_APPROVAL),
            or_(sessions.c.status != SessionStatus.WAITING_APPROVAL.value, not_(undecided)),
        ),
        select(*_columns).where(sessions.c.cancel_requested_at.is_not(None), _is_one_of(*SessionStatus)),
        select(*_columns).where(_is_one_of(SessionStatus.COMPLETED, SessionStatus.FAILED), has_message),
    ]
    if driven is not None:
        found = [statement.where(not_(driven)) for statement in found]
    one = union(*found).subquery()
    rows = connection.execute(select(one).order_by(one.c.created_at, one.c.session_id).limit(limit))
    return [Runnable(org_id, session_id, SessionStatus(status)) for org_id, session_id, status, _ in rows]


def list_expired(connection: Connection, default_days: int | None, limit: int, *, now: datetime) -> list[Runnable]:
    """Sessions that do not run and were last changed before their org's retention, oldest first."""
    days = connection.execute(select(orgs.c.retention_days).where(orgs.c.retention_days.is_not(None)).distinct())
    # One that cannot be read is its org's trouble, and keeps what that org has.
    too_old = [
        and_(orgs.c.retention_days == kept, _older_than(kept, now)) for (kept,) in days.all() if isinstance(kept, int)
    ]
    if default_days is not None:
        too_old.append(and_(orgs.c.retention_days.is_(None), _older_than(default_days, now)))
    statement = (
        select(*_columns[:3])
        .select_from(sessions.outerjoin(orgs, orgs.c.org_id == sessions.c.org_id))
        .where(_is_one_of(*_RESTING), or_(false(), *too_old))
        .order_by(sessions.c.updated_at, sessions.c.session_id)
        .limit(limit)
    )
    rows = connection.execute(statement)
    return [Runnable(org_id, session_id, SessionStatus(status)) for org_id, session_id, status in rows]


def _older_than(days: int, now: datetime) -> ColumnElement[bool]:
    limit = now.astimezone(UTC) - timedelta(days=min(days, _NEVER_DAYS))
    return sessions.c.updated_at < literal(limit.isoformat(timespec="microseconds"), Moment)


def _is_one_of(*statuses: SessionStatus) -> ColumnElement[bool]:
    # Written out, since an index with a condition serves only statements that show the same condition.
    return sessions.c.status.in_([literal_column(f"'{status.value}'") for status in statuses])
