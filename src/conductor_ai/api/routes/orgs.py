"""The caller's own org: its limits, its keys, what it used, what is on record about it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from conductor_ai import errors as tree
from conductor_ai.api.answers import JSON, page
from conductor_ai.api.bodies import KeyBody, OrgLimitsBody
from conductor_ai.api.cursors import cursor_text, cut
from conductor_ai.api.declared import ScopedRoute, needs
from conductor_ai.api.queries import Audit, KeyId, Usage
from conductor_ai.api.routes.agents import CallDep
from conductor_ai.api.views import AuditView, KeyView, NewKeyView, OrgView, Page, RotatedKeyView, UsageDayView
from conductor_ai.schemas import json_text
from conductor_ai.schemas.audit import AuditRow
from conductor_ai.schemas.orgs import Scope

router = APIRouter(route_class=ScopedRoute, tags=["orgs"])


@router.get("/org", operation_id="get_org", response_model=OrgView, **needs(Scope.READ))
async def get_org(call: CallDep) -> Response:
    """The org and its limits; null is no limit."""
    return JSON((await call.service.orgs.get(call.caller.org_id)).to_dict())


@router.patch(
    "/org",
    operation_id="set_org_limits",
    response_model=OrgView,
    **needs(Scope.ADMIN, tree.InvalidInput, tree.AuditUnavailable, body=True),
)
async def set_org_limits(body: OrgLimitsBody, call: CallDep) -> Response:
    """Replace some limits of the org."""
    caller = call.caller
    return JSON((await call.service.orgs.set_limits(caller.org_id, body.given(), by=caller.name)).to_dict())


@router.get("/keys", operation_id="list_keys", response_model=Page[KeyView], **needs(Scope.ADMIN))
async def list_keys(call: CallDep) -> Response:
    """The org's keys, oldest first, revoked and expired ones too. A key itself cannot be shown again."""
    return page(key.to_dict() for key in await call.service.keys.list(call.caller.org_id))


@router.post(
    "/keys",
    status_code=201,
    operation_id="create_key",
    response_model=NewKeyView,
    **needs(Scope.ADMIN, tree.InvalidInput, tree.AuditUnavailable, body=True),
)
async def create_key(body: KeyBody, call: CallDep) -> Response:
    """A new key of the org, shown this once."""
    caller = call.caller
    made = await call.service.keys.create(
        caller.org_id, scopes=body.scopes, name=body.name, expires_at=body.expires_at, by=caller.name
    )
    return JSON({**made[0].to_dict(), "key": made[1]}, 201)


@router.post(
    "/keys/{key_id}/rotate",
    status_code=201,
    operation_id="rotate_key",
    response_model=RotatedKeyView,
    **needs(Scope.ADMIN, tree.KeyNotFound, tree.InvalidInput, tree.AuditUnavailable),
)
async def rotate_key(key_id: KeyId, call: CallDep) -> Response:
    """A new key like this one, which works on for 24 hours at most: `old_key_expires_at` says until when. Whoever holds
    one of the two counts as holder of both."""
    caller = call.caller
    record, key, old = await call.service.keys.rotate(key_id, caller.org_id, by=caller.name)
    return JSON({**record.to_dict(), "key": key, "old_key_expires_at": old.expires_at}, 201)


@router.delete(
    "/keys/{key_id}",
    operation_id="revoke_key",
    response_model=KeyView,
    **needs(Scope.ADMIN, tree.KeyNotFound, tree.AuditUnavailable),
)
async def revoke_key(key_id: KeyId, call: CallDep) -> Response:
    """End a key for good. Streams that it opened end within seconds."""
    caller = call.caller
    return JSON((await call.service.keys.revoke(key_id, caller.org_id, by=caller.name)).to_dict())


@router.get(
    "/usage", operation_id="get_usage", response_model=Page[UsageDayView], **needs(Scope.READ, tree.InvalidInput)
)
async def get_usage(query: Usage, call: CallDep) -> Response:
    """Calls, tokens and cost by day and model. Days are UTC."""
    day_from, day_before = query.period()
    rows = await call.service.usage(caller=call.caller, day_from=day_from, day_before=day_before)
    return page(row.to_dict() for row in rows)


@router.get(
    "/audit",
    operation_id="list_audit",
    response_model=Page[AuditView],
    **needs(Scope.READ, tree.InvalidInput, tree.SessionNotFound),
)
async def list_audit(query: Audit, call: CallDep) -> Response:
    """The org's audit, newest first, of deleted sessions too."""
    org_id, limit = call.caller.org_id, query.limit
    after = query.place("audit", org_id)
    found = await call.service.audit_log(caller=call.caller, session_id=query.session_id, after=after, limit=limit + 1)
    rows, cursor = cut(found, limit, lambda row: cursor_text("audit", org_id, [row.created_at, row.id]))
    return page(map(_audit_row, rows), cursor)


def _audit_row(row: AuditRow) -> dict[str, Any]:
    data = row._asdict()
    del data["org_id"]
    return {**data, "metadata": json_text.loads(row.metadata)}
