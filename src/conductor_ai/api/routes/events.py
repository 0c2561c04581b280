"""A session's event stream, and the tickets that open one."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from conductor_ai import errors as tree
from conductor_ai.api.answers import JSON
from conductor_ai.api.declared import ScopedRoute, needs
from conductor_ai.api.event_stream import EventStream, begun
from conductor_ai.api.queries import Events, LastEventId, SessionId
from conductor_ai.api.routes.agents import CallDep
from conductor_ai.api.tickets import TICKET_S
from conductor_ai.api.views import TicketView
from conductor_ai.schemas.orgs import Scope

router = APIRouter(route_class=ScopedRoute, tags=["agents"])

_stream = needs(Scope.READ, tree.SessionNotFound)
_stream["responses"][200] = {
    "description": "Server-sent events: `event` is an event's type and `id` its number in the log; `delta` is a piece "
    "of an answer and `live` what else happens meanwhile, without an `id`. It ends after `session.completed`, "
    "`session.failed`, `session.cancelled` or `session.paused`. An `error` that ends it is a Problem.",
    "content": {
        "text/event-stream": {
            "schema": {"type": "string"},
            "example": 'id: 1\nevent: session.created\ndata: {"session_id": "...", "seq": 1, '
            '"type": "session.created", "payload": {}, "created_at": "..."}\n\n',
        }
    },
}


@router.get(
    "/agents/{session_id}/events", status_code=200, operation_id="stream_events", response_class=EventStream, **_stream
)
async def stream_events(
    session_id: SessionId, query: Events, call: CallDep, last_event_id: LastEventId = None
) -> Response:
    """What happens in a session, from the log and then live. Closing the stream never stops the session."""
    after_seq = query.after_seq(last_event_id)
    items = call.service.follow(session_id, caller=call.caller, after_seq=after_seq)
    return await begun(items, call, lambda: call.service.store.session(session_id, call.caller.org_id))


@router.post(
    "/agents/{session_id}/events/ticket",
    status_code=201,
    operation_id="create_event_ticket",
    response_model=TicketView,
    **needs(Scope.READ, tree.SessionNotFound),
)
async def create_event_ticket(session_id: SessionId, call: CallDep) -> Response:
    """A ticket that opens one stream of this session, once, for a browser's EventSource: that cannot send a key."""
    await call.service.store.session(session_id, call.caller.org_id)
    ticket = call.house.tickets.make(session_id, call.caller)
    url = f"/agents/{session_id}/events?ticket={ticket}"
    return JSON({"ticket": ticket, "expires_in_s": TICKET_S, "url": url}, 201)
