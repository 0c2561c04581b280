"""Sessions: start, look, go on, cancel, delete."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from conductor_ai import errors as tree
from conductor_ai.api.answers import JSON, no_content, page
from conductor_ai.api.bodies import ResumeBody, RunBody, SendBody
from conductor_ai.api.cursors import cursor_text, cut
from conductor_ai.api.declared import ScopedRoute, needs
from conductor_ai.api.house import Call, current_call
from conductor_ai.api.queries import IdempotencyKey, SessionId, Sessions
from conductor_ai.api.views import Page, SessionSummary, SessionView
from conductor_ai.schemas import json_text
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.orgs import Scope
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.storage.base import IdempotencyMark

router = APIRouter(route_class=ScopedRoute, tags=["agents"])
CallDep = Annotated[Call, Depends(current_call)]

_REQUEST = (tree.UsageError, tree.InvalidInput, tree.UnknownModel, tree.ModelForbidden, tree.MissingKey)
_NEW_REQUEST = (
    *_REQUEST,
    tree.UnpricedModel,
    tree.UnknownTool,
    tree.UnknownAgent,
    tree.MissingExtra,
    tree.ToolUnavailable,
    tree.SSRFError,
)
_ROOM = (tree.TooManySessions, tree.BudgetSpent, tree.AuditUnavailable)
_STATE = (tree.SessionNotFound, tree.SessionBusy, tree.InvalidTransition)


@router.post(
    "/agents/run",
    status_code=202,
    operation_id="run_agent",
    response_model=SessionView,
    **needs(Scope.RUN, *_NEW_REQUEST, *_ROOM, tree.IdempotencyConflict, body=True),
)
async def run_agent(body: RunBody, call: CallDep, request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    """Start a session; answers as soon as it is durable."""
    mark = _mark(idempotency_key, request, call.body)
    session = await call.service.start(body.request(), caller=call.caller, idempotency=mark)
    return await _accepted(session, call)


@router.get(
    "/agents",
    operation_id="list_sessions",
    response_model=Page[SessionSummary],
    **needs(Scope.READ, tree.InvalidInput),
)
async def list_sessions(query: Sessions, call: CallDep) -> Response:
    """The org's sessions, newest first, without their steps."""
    after, limit = query.place("sessions", call.caller.org_id), query.limit
    found = await call.service.sessions(query.chosen(), caller=call.caller, after=after, limit=limit + 1)
    rows, cursor = cut(found, limit, lambda row: cursor_text("sessions", row.org_id, [row.created_at, row.session_id]))
    return page((row.to_dict() for row in rows), cursor)


@router.get(
    "/agents/{session_id}",
    operation_id="get_session",
    response_model=SessionView,
    **needs(Scope.READ, tree.SessionNotFound),
)
async def get_session(session_id: SessionId, call: CallDep) -> Response:
    """One session with its steps."""
    return JSON(await call.service.session(session_id, caller=call.caller))


@router.delete(
    "/agents/{session_id}",
    status_code=204,
    operation_id="delete_session",
    **needs(Scope.RUN, *_STATE, tree.AuditUnavailable),
)
async def delete_session(session_id: SessionId, call: CallDep) -> Response:
    """Remove a session that does not run, and its log. Its audit rows stay."""
    await call.service.delete(session_id, caller=call.caller)
    return no_content()


_CANCELLED = {"model": SessionView, "description": "it is cancelled"}
_cancel = needs(Scope.RUN, *_STATE, tree.AuditUnavailable)
_cancel["responses"][200] = _CANCELLED


@router.post(
    "/agents/{session_id}/cancel",
    status_code=202,
    operation_id="cancel_session",
    response_model=SessionView,
    response_description="it is being cancelled: `cancelled` once its model call and its tools have stopped",
    **_cancel,
)
async def cancel_session(session_id: SessionId, call: CallDep) -> Response:
    """End a session for good. After its end: 409, with what it is."""
    session = await call.service.cancel(session_id, caller=call.caller)
    data = await _whole(session, call) | {"status": session.status.value}
    return JSON(data, 200 if session.status is SessionStatus.CANCELLED else 202)


@router.post(
    "/agents/{session_id}/messages",
    status_code=202,
    operation_id="send_message",
    response_model=SessionView,
    **needs(Scope.RUN, *_NEW_REQUEST, *_ROOM, *_STATE, tree.IdempotencyConflict, body=True),
)
async def send_message(
    session_id: SessionId, body: SendBody, call: CallDep, request: Request, idempotency_key: IdempotencyKey = None
) -> Response:
    """Go on with a session that does not run, or leave it a message for when it does not any more."""
    session = await call.service.send(
        session_id,
        body.to_message(),
        caller=call.caller,
        when_running=body.when_running,
        limits=None if body.limits is None else body.limits.given(),
        idempotency=_mark(idempotency_key, request, call.body),
    )
    return await _accepted(session, call)


@router.post(
    "/agents/{session_id}/resume",
    status_code=202,
    operation_id="resume_session",
    response_model=SessionView,
    **needs(Scope.RUN, *_NEW_REQUEST, *_ROOM, *_STATE, body=True),
)
async def resume_session(session_id: SessionId, call: CallDep, body: ResumeBody | None = None) -> Response:
    """Go on with a session that is paused, or that failed on something that passes. One that is completed or cancelled:
    409, with what it is."""
    limits = None if body is None or body.limits is None else body.limits.given()
    return await _accepted(await call.service.resume(session_id, caller=call.caller, limits=limits), call)


async def _accepted(session: AgentSession, call: Call) -> Response:
    return JSON(await _whole(session, call), 202, {"Location": f"/agents/{session.session_id}"})


async def _whole(session: AgentSession, call: Call) -> dict[str, Any]:
    """A session with its steps."""
    if session.log is None:
        return await call.service.session(session.session_id, caller=call.caller)
    return session.to_dict()


def _mark(key: str | None, request: Request, body: bytes) -> IdempotencyMark | None:
    """What the key stands for: this body at this path, however its JSON is written."""
    if key is None:
        return None
    try:
        canonical = orjson.dumps(json_text.loads(body), option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits
        canonical = body
    digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + canonical)
    return IdempotencyMark(key, digest.hexdigest())
