"""Approvals: what waits for a person, and what they decide."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from starlette.responses import Response

from conductor_ai import errors as tree
from conductor_ai.api.answers import JSON, page
from conductor_ai.api.bodies import DecisionBody
from conductor_ai.api.cursors import cursor_text, cut
from conductor_ai.api.declared import ScopedRoute, needs
from conductor_ai.api.queries import ApprovalId, Approvals
from conductor_ai.api.routes.agents import CallDep
from conductor_ai.api.views import ApprovalView, Page
from conductor_ai.schemas.orgs import Scope

router = APIRouter(route_class=ScopedRoute, tags=["approvals"])

_DECISIONS: dict[str, Literal["approved", "denied"]] = {"approve": "approved", "deny": "denied"}


@router.get(
    "/approvals",
    operation_id="list_approvals",
    response_model=Page[ApprovalView],
    **needs(Scope.READ, tree.InvalidInput, tree.SessionNotFound),
)
async def list_approvals(query: Approvals, call: CallDep) -> Response:
    """Requests for a decision, oldest first; `status=pending` are those that wait."""
    org_id, limit = call.caller.org_id, query.limit
    found = await call.service.approvals(
        caller=call.caller,
        status=query.status,
        session_id=query.session_id,
        after=query.after(org_id),
        limit=limit + 1,
    )
    rows, cursor = cut(found, limit, lambda row: cursor_text("approvals", org_id, [row.approval_id]))
    return page((row.to_dict() for row in rows), cursor)


@router.get(
    "/approvals/{approval_id}",
    operation_id="get_approval",
    response_model=ApprovalView,
    **needs(Scope.READ, tree.ApprovalNotFound),
)
async def get_approval(approval_id: ApprovalId, call: CallDep) -> Response:
    """One request for a decision, with the exact arguments that it is about."""
    return JSON((await call.service.store.approval(approval_id, call.caller.org_id)).to_dict())


@router.post(
    "/approvals/{approval_id}",
    operation_id="decide_approval",
    response_model=ApprovalView,
    **needs(
        Scope.APPROVE,
        tree.ApprovalNotFound,
        tree.ApprovalAlreadyDecided,
        tree.ApprovalVoid,
        tree.SessionBusy,
        tree.OwnershipLost,
        tree.AuditUnavailable,
        body=True,
    ),
)
async def decide_approval(approval_id: ApprovalId, body: DecisionBody, call: CallDep) -> Response:
    """Approve or deny. The session goes on by itself once nothing is undecided; the same decision again is harmless."""
    decision = _DECISIONS[body.decision]
    decided = await call.service.decide(approval_id, decision, caller=call.caller, reason=body.reason)
    return JSON(decided.to_dict())
