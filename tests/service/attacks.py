"""What somebody with a valid key of one org can try against another's: one entry for each route of the API."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

OURS = "org-b"
FILE = "data/plot.png"
"""Each session of the other org has one of this name."""


@dataclass(frozen=True)
class Prey:
    """What is known of an org from outside: ids that were seen, cursors that were found. `ours` is a session of the
    attacker's own, and `ticket` is for it."""

    org_id: str
    completed: str
    waiting: str
    paused: str
    approval_id: str
    key_id: str
    idempotency_key: str
    created_at: str
    ours: str
    ticket: str

    def ids(self) -> tuple[str, ...]:
        """What a request may name, longest first."""
        return tuple(
            sorted(
                {value for value in vars(self).values() if value not in (self.ours, self.ticket)}, key=len, reverse=True
            )
        )


@dataclass(frozen=True)
class Request:
    path: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    has_key: bool = True


Attack = Callable[[Prey], Request]

RUN = {"messages": [{"role": "user", "content": "say One."}], "tools": []}
NEXT = {"content": "say Two."}


def cursor(kind: str, org_id: str, *place: str) -> str:
    """As the API makes them: they are no secret."""
    return urlsafe_b64encode(orjson.dumps([kind, org_id, *place])).rstrip(b"=").decode()


def on_session(end: str = "", body: Any = None, **headers: str) -> tuple[Attack, ...]:
    """The same against a session in each of its states."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return (
        lambda prey: Request(f"/agents/{prey.completed}{end}", body, sent),
        lambda prey: Request(f"/agents/{prey.waiting}{end}", body, sent),
        lambda prey: Request(f"/agents/{prey.paused}{end}", body, sent),
    )


def on_list(path: str, kind: str, *place: Callable[[Prey], str]) -> tuple[Attack, ...]:
    """With a cursor that was theirs, and with one made for the attacker's own org out of their row."""
    return (
        lambda prey: Request(path),
        lambda prey: Request(path, query={"cursor": cursor(kind, prey.org_id, *(part(prey) for part in place))}),
        lambda prey: Request(path, query={"cursor": cursor(kind, OURS, *(part(prey) for part in place))}),
    )


def plain(path: str, body: Any = None) -> tuple[Attack, ...]:
    """There is nothing of an org's that the request could name; what it answers must have nothing of theirs."""
    return (lambda prey: Request(path, body),)


def created_at(prey: Prey) -> str:
    return prey.created_at


def completed(prey: Prey) -> str:
    return prey.completed


ATTACKS: dict[tuple[str, str], tuple[Attack, ...]] = {
    ("POST", "/agents/run"): (
        lambda prey: Request("/agents/run", RUN, {"Idempotency-Key": prey.idempotency_key}),
        lambda prey: Request("/agents/run", {**RUN, "org_id": prey.org_id}),
        lambda prey: Request("/agents/run", {**RUN, "session_id": prey.completed}),
    ),
    ("GET", "/agents"): on_list("/agents", "sessions", created_at, completed),
    ("GET", "/agents/{session_id}"): on_session(),
    ("DELETE", "/agents/{session_id}"): on_session(),
    ("POST", "/agents/{session_id}/cancel"): on_session("/cancel"),
    ("POST", "/agents/{session_id}/messages"): (
        *on_session("/messages", NEXT),
        *on_session("/messages", {**NEXT, "when_running": "enqueue"}),
        lambda prey: Request(f"/agents/{prey.completed}/messages", NEXT, {"Idempotency-Key": prey.idempotency_key}),
    ),
    ("POST", "/agents/{session_id}/resume"): (
        *on_session("/resume", {"limits": {"max_steps": 9}}),
        *on_session("/resume"),
    ),
    ("GET", "/agents/{session_id}/events"): (
        *on_session("/events"),
        *on_session("/events", Last_Event_ID="1"),
        lambda prey: Request(f"/agents/{prey.waiting}/events", query={"last_event_id": "1"}),
        lambda prey: Request(
            f"/agents/{prey.waiting}/events",
            headers={"Forwarded": "for=203.0.113.5"},
            query={"ticket": prey.ticket},
            has_key=False,
        ),
    ),
    ("POST", "/agents/{session_id}/events/ticket"): on_session("/events/ticket"),
    ("GET", "/agents/{session_id}/files"): on_session("/files"),
    ("GET", "/agents/{session_id}/files/{name}"): (
        *on_session(f"/files/{FILE}"),
        *on_session("/files/nothing.txt"),
        lambda prey: Request(f"/agents/{prey.ours}/files/{FILE}"),
        lambda prey: Request(f"/agents/{prey.ours}/files/../../{prey.completed}/files/{FILE}"),
        lambda prey: Request(f"/agents/{prey.ours}/files/..%2F..%2F{prey.completed}%2Ffiles%2F{FILE}"),
    ),
    ("GET", "/approvals"): (
        *on_list("/approvals", "approvals", lambda prey: prey.approval_id),
        lambda prey: Request("/approvals", query={"session_id": prey.waiting}),
        lambda prey: Request("/approvals", query={"session_id": prey.waiting, "status": "pending"}),
    ),
    ("GET", "/approvals/{approval_id}"): (lambda prey: Request(f"/approvals/{prey.approval_id}"),),
    ("POST", "/approvals/{approval_id}"): (
        lambda prey: Request(f"/approvals/{prey.approval_id}", {"decision": "approve"}),
        lambda prey: Request(f"/approvals/{prey.approval_id}", {"decision": "deny", "reason": "mine"}),
        lambda prey: Request(f"/approvals/{prey.approval_id}", {"decision": "approve", "org_id": prey.org_id}),
    ),
    ("GET", "/tools"): plain("/tools"),
    ("GET", "/models"): plain("/models"),
    ("GET", "/definitions"): plain("/definitions"),
    ("GET", "/org"): plain("/org"),
    ("PATCH", "/org"): (
        lambda prey: Request("/org", {"requests_per_minute": 100_000}),
        lambda prey: Request("/org", {"requests_per_minute": 100_000, "org_id": prey.org_id}),
    ),
    ("GET", "/keys"): plain("/keys"),
    ("POST", "/keys"): (
        lambda prey: Request("/keys", {"scopes": ["read"], "name": "mine"}),
        lambda prey: Request("/keys", {"scopes": ["read"], "org_id": prey.org_id}),
        lambda prey: Request("/keys", {"scopes": ["read"], "key_id": prey.key_id}),
    ),
    ("POST", "/keys/{key_id}/rotate"): (lambda prey: Request(f"/keys/{prey.key_id}/rotate"),),
    ("DELETE", "/keys/{key_id}"): (lambda prey: Request(f"/keys/{prey.key_id}"),),
    ("GET", "/usage"): plain("/usage"),
    ("GET", "/audit"): (
        *on_list("/audit", "audit", created_at, completed),
        lambda prey: Request("/audit", query={"session_id": prey.completed}),
    ),
    ("GET", "/health"): plain("/health"),
    ("GET", "/health/live"): plain("/health/live"),
    ("GET", "/health/ready"): plain("/health/ready"),
    ("GET", "/metrics"): plain("/metrics"),
}
"""Every route is here, or `test_every_route_has_its_attacks` fails."""


def everywhere(attack: Attack) -> tuple[Attack, ...]:
    """What is tried with every request: to name the other org beside it."""

    def in_head(prey: Prey) -> Request:
        request = attack(prey)
        return Request(
            request.path, request.body, {**request.headers, "X-Org-ID": prey.org_id}, request.query, request.has_key
        )

    def in_query(prey: Prey) -> Request:
        request = attack(prey)
        return Request(
            request.path, request.body, request.headers, {**request.query, "org_id": prey.org_id}, request.has_key
        )

    return attack, in_head, in_query
