"""A batch of appends: what goes into one statement, and what its answer means for each of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from conductor_ai.errors import (
    ApprovalAlreadyDecided,
    ApprovalNotFound,
    CancelRequested,
    ConductorError,
    IdempotencyKeyUsed,
    OwnershipLost,
    StorageError,
    StoreCorrupt,
)
from conductor_ai.schemas import json_text
from conductor_ai.schemas.approvals import ApprovalRecord, ApprovalStatus
from conductor_ai.schemas.audit import ToolExecutionRow
from conductor_ai.schemas.session import ENDED, OVERRULED_BY_CANCEL
from conductor_ai.storage.base import Append, ApprovalDecision, ModelCallRow
from conductor_ai.storage.postgres.append_sql import PROJECTION, TABLES
from conductor_ai.storage.postgres.link import Row
from conductor_ai.storage.rows import APPROVAL_COLUMNS, approval_status, approval_values, storable

_MAX_APPENDS = 256
_MAX_PAYLOAD_CHARS = 16 * 1024 * 1024  # Postgres takes no parameter beyond 1 GB; a batch of one may be larger

_Values = dict[str, Any]


class Handed(NamedTuple):
    """An append in the queue. `at` is the loop's time when it came; without a future nobody waits for it."""

    append: Append
    future: asyncio.Future[bool] | None
    at: float


class Fence(NamedTuple):
    """A session's row as it is now."""

    owner_epoch: int
    last_seq: int
    audit_head: str
    cancel_requested: bool


class Group:
    """Appends of one session that follow each other, stored as if they were one."""

    __slots__ = ("end", "handed", "session_id")

    def __init__(self, first: Handed) -> None:
        self.handed = [first]
        self.session_id = first.append.session_id
        self.end = first.append.last_seq + len(first.append.events)

    @property
    def appends(self) -> list[Append]:
        return [one.append for one in self.handed]

    def takes(self, append: Append) -> bool:
        """Whether `append` goes on where the group ends. One that may be refused for reasons of its own does not."""
        last = self.handed[-1].append
        follows = append.last_seq == self.end and append.owner_epoch == last.owner_epoch
        return follows and not _conditional(append) and last.projection.status not in OVERRULED_BY_CANCEL

    def add(self, handed: Handed) -> None:
        self.handed.append(handed)
        self.end += len(handed.append.events)

    def is_stored(self, fence: Fence | None) -> bool:
        """Whether the session's row is as this group leaves it, and as nothing else does."""
        first, last = self.handed[0].append, self.handed[-1].append
        return (
            fence is not None
            and fence.owner_epoch == last.owner_epoch
            and fence.last_seq == self.end
            and fence.audit_head == last.projection.audit_head
            and (self.end > first.last_seq or bool(last.audit))
        )


def take(queue: deque[Any]) -> tuple[list[Group], list[tuple[Handed, ConductorError]]]:
    """The appends at the head of `queue`, as far as one statement can store them, and those that none can. What must
    wait for the next batch stays in its order."""
    refused: list[tuple[Handed, ConductorError]] = []
    groups: dict[str, Group] = {}
    keys: set[str] = set()
    waiting: list[Any] = []
    blocked: set[str] = set()
    taken, room = 0, _MAX_PAYLOAD_CHARS
    while queue and isinstance(queue[0], Handed) and taken < _MAX_APPENDS and room > 0:
        handed: Handed = queue.popleft()
        taken += 1
        append = handed.append
        group = groups.get(append.session_id)
        key = None if append.idempotency is None else append.idempotency.key
        if append.session_id in blocked or key in keys or (group is not None and not group.takes(append)):
            blocked.add(append.session_id)
            waiting.append(handed)
            continue
        if (error := _refusal(append)) is not None:
            refused.append((handed, error))
            continue
        if group is None:
            groups[append.session_id] = Group(handed)
        else:
            group.add(handed)
        if key is not None:
            keys.add(key)
        room -= sum(len(event.payload) for event in append.events)
    queue.extendleft(reversed(waiting))
    return list(groups.values()), refused


def _refusal(append: Append) -> ConductorError | None:
    """What can be told without the database."""
    session_id = append.session_id
    if append.created is not None and (append.last_seq != 0 or append.owner_epoch != 1):
        return OwnershipLost(f"session {session_id} exists already")
    seq = append.last_seq
    for event in append.events:
        seq += 1
        if event.seq != seq or event.session_id != session_id:
            return StorageError(f"event {event.seq} does not continue session {session_id} at {seq}")
    requested = {record.approval_id: record.status for record in append.approvals_requested}
    for decision in append.approvals_decided:
        status = requested.get(decision.approval_id, ApprovalStatus.PENDING)
        if status is not ApprovalStatus.PENDING and decision.status is not ApprovalStatus.VOID:
            return _decided(decision.approval_id, status)
    return None


def parameters(groups: Sequence[Group]) -> dict[str, str]:
    """Of the statement for these groups, by the names of its parts. Raises: ValueError, TypeError for what is no JSON
    data."""
    batch = _Batch()
    for group in groups:
        batch.add(group)
    named = {name: json_text.dumps(rows) for name, rows in batch.rows.items() if rows}
    if batch.ending:
        named["ending"] = ""
    return named


class Answers:
    """What the statement said of each session."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.let_in: dict[str, bool] = {}
        self._refused: dict[str, ConductorError] = {}
        for what, session_id, first, second in rows:
            if what == "in":
                self.let_in[session_id] = first == "true"
            elif what == "used" or session_id not in self._refused:
                self._refused[session_id] = _refused(what, session_id, first, second)

    def refusal(self, session_id: str) -> ConductorError | None:
        """Why the session was kept out for something else than its fence."""
        return self._refused.get(session_id)


def fenced_off(append: Append, fence: Fence | None, broken: StorageError | None) -> ConductorError:
    """Why the fence, which is as `fence` says, did not let the append in."""
    session_id = append.session_id
    if append.created is not None:
        return OwnershipLost(f"session {session_id} exists already")
    if fence is None:
        return OwnershipLost(f"session {session_id} is no longer there")
    in_place = (append.owner_epoch, append.last_seq) == (fence.owner_epoch, fence.last_seq)
    if in_place and fence.cancel_requested and append.projection.status in OVERRULED_BY_CANCEL:
        return CancelRequested(f"session {session_id} is being cancelled")
    if append.owner_epoch != fence.owner_epoch or append.last_seq <= fence.last_seq:
        return OwnershipLost(f"session {session_id} has another owner")
    message = str(broken) if broken else f"an earlier append of session {session_id} was not stored"
    return type(broken or StorageError(""))(message, hint=broken.hint if broken else None)


def key_used(session_id: str, request_hash: str) -> IdempotencyKeyUsed:
    return IdempotencyKeyUsed(
        f"this idempotency key was used for session {session_id}", session_id=session_id, request_hash=request_hash
    )


def execution_values(row: ToolExecutionRow) -> _Values:
    values = row._asdict()
    for name in ("call_id", "tool_name", "error"):
        values[name] = storable(values[name])
    return values


def _conditional(append: Append) -> bool:
    asks = append.created or append.idempotency or append.approvals_decided or append.delivered
    return bool(asks) or append.projection.status in OVERRULED_BY_CANCEL


def _refused(what: str, session_id: str, first: str, second: str | None) -> ConductorError:
    if what == "used":
        return key_used(first, second or "")
    if what == "gone":
        return OwnershipLost(f"a queued message of session {session_id} was taken by somebody else")
    if second is None:
        return ApprovalNotFound(f"no approval {first}")
    try:
        return _decided(first, approval_status(second, first, session_id))
    except StoreCorrupt as exc:
        return exc


def _decided(approval_id: str, status: ApprovalStatus) -> ApprovalAlreadyDecided:
    return ApprovalAlreadyDecided(f"approval {approval_id} is {status} already")


class _Batch:
    """The rows of the statement's parameters."""

    def __init__(self) -> None:
        self.rows: dict[str, list[_Values]] = {
            name: [] for name in ("created", "changed", *TABLES, "marks", "decided", "delivered")
        }
        self.ending = False

    def add(self, group: Group) -> None:
        first, last = group.handed[0].append, group.handed[-1].append
        self._add_session(group, first, last)
        rows = self.rows
        for append in group.appends:
            rows["session_events"] += [event._asdict() for event in append.events]
            rows["audit_logs"] += [row._asdict() for row in append.audit]
            rows["tool_executions"] += map(execution_values, append.tool_executions)
            rows["model_calls"] += map(_call_values, append.model_calls)
            self._add_approvals(append)
        self._add_requests(first)

    def _add_session(self, group: Group, first: Append, last: Append) -> None:
        projection, usage = last.projection, last.projection.usage
        values = dict(
            zip(
                PROJECTION,
                (
                    projection.status._value_,
                    storable(projection.model),
                    None if projection.pause_reason is None else projection.pause_reason._value_,
                    storable(projection.error),
                    projection.step_no,
                    projection.segment_no,
                    usage.input_tokens,
                    usage.output_tokens,
                    usage.cache_read_tokens,
                    usage.cache_write_tokens,
                    usage.reasoning_tokens,
                    None if projection.cost_usd is None else str(projection.cost_usd),
                    group.end,
                    projection.audit_seq,
                    projection.audit_head,
                    projection.updated_at,
                ),
                strict=True,
            ),
            session_id=group.session_id,
            owner_epoch=last.owner_epoch,
        )
        new = first.created
        if new is None:
            self.rows["changed"].append({**values, "fence_seq": first.last_seq})
            self.ending = self.ending or projection.status in ENDED
            return
        created_at = first.projection.updated_at
        texts = {"org_id": new.org_id, "agent": storable(new.agent), "title": storable(new.title)}
        self.rows["created"].append({**values, **texts, "created_at": created_at})

    def _add_approvals(self, append: Append) -> None:
        requested = {record.approval_id: _approval(record) for record in append.approvals_requested}
        decided: dict[str, _Values] = {}
        for decision in append.approvals_decided:
            if decision.approval_id in requested:  # the statement does not see what it inserts
                requested[decision.approval_id].update(_decision(decision))
            else:
                decided[decision.approval_id] = {"session_id": append.session_id, **_decision(decision)}
        self.rows["approvals"] += requested.values()
        self.rows["decided"] += decided.values()

    def _add_requests(self, append: Append) -> None:
        mark, session_id = append.idempotency, append.session_id
        if mark is not None:
            self.rows["marks"].append(
                {
                    "session_id": session_id,
                    "org_id": None if append.created is None else storable(append.created.org_id),
                    "key": storable(mark.key),
                    "request_hash": storable(mark.request_hash),
                    "created_at": append.projection.updated_at,
                }
            )
        messages = set(append.delivered)
        self.rows["delivered"] += [{"session_id": session_id, "message_id": message} for message in messages]


def _call_values(row: ModelCallRow) -> _Values:
    values = row._asdict()
    values["model"] = storable(row.model)
    values["cost_usd"] = None if row.cost_usd is None else str(row.cost_usd)
    return values


def _approval(record: ApprovalRecord) -> _Values:
    return dict(zip(APPROVAL_COLUMNS, approval_values(record), strict=True))


def _decision(decision: ApprovalDecision) -> _Values:
    return {
        "approval_id": decision.approval_id,
        "status": decision.status.value,
        "decided_at": decision.decided_at,
        "decided_by": storable(decision.decided_by),
        "reason": storable(decision.reason),
    }
