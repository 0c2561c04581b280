"""The gate: what each request passes, in this order, before any of it is parsed and any route is looked for.

Its id; the rules on Host and Origin; the size that its body declares; who makes it; how often its org may ask; then its
body is read, within bounds. Whatever is raised behind the gate becomes an answer here, and only here.
"""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.routing import Match

from conductor_ai.api.callers import caller_of
from conductor_ai.api.errors import PROBLEM_TYPE, headers_of, problem_bytes, problem_of
from conductor_ai.api.house import Call
from conductor_ai.api.incoming import Head, read_body, refuse_declared_size, with_body
from conductor_ai.api.refusals import HTTPRefusal, InternalError, MethodNotAllowed, NoSuchRoute
from conductor_ai.errors import ConductorError, InvalidTransition, SessionBusy, SessionError, StorageError
from conductor_ai.schemas.ids import new_id

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from conductor_ai.api.house import House
    from conductor_ai.schemas.orgs import Caller

_logger = logging.getLogger(__name__)
_requests = logging.getLogger("conductor_ai.api.requests")

_PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Org-ID, X-Request-ID",
    ),
    (b"access-control-max-age", b"600"),
)
_EXPOSED = (b"access-control-expose-headers", b"Location, Retry-After, X-Request-ID")


class Gate:
    """Pure ASGI: one layer around the whole app."""

    def __init__(self, app: ASGIApp, *, house: House) -> None:
        self._app = app
        self._house = house

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        started = perf_counter()
        answer = _Answer(send)
        try:
            head = Head.of(scope)
            answer.request_id = head.request_id
            await self._pass(scope, head, receive, answer)
        except ConductorError as exc:
            await self._tell(scope, answer, exc)
        except HTTPException as exc:
            await self._tell(scope, answer, _refusal(exc), _allow(scope) if exc.status_code == 405 else ())
        except Exception:  # the edge: whatever it is, the caller gets an answer without it
            _logger.exception("request %s failed: %s %s", answer.request_id, scope["method"], scope["path"])
            await self._tell(scope, answer, InternalError("something went wrong here", hint="the log says what"))
        finally:
            seconds = perf_counter() - started
            route = getattr(scope.get("route"), "path", "unmatched")
            self._house.metrics.answered(scope["method"], route, answer.status, None if answer.is_stream else seconds)
            if answer.status:
                answer.log(scope["method"], route, seconds)

    async def _pass(self, scope: Scope, head: Head, receive: Receive, answer: _Answer) -> None:
        house = self._house
        house.rules.check(head)
        if head.origin is not None and house.rules.allows_origin(head.origin):
            answer.origin = head.origin.encode("latin-1")
            if scope["method"] == "OPTIONS" and head.requested_method is not None:
                await answer.empty(204, _PREFLIGHT)
                return
        refuse_declared_size(head)
        caller = answer.caller = await caller_of(scope, head, house)
        if caller is not None:
            await house.service.orgs.admit(caller)
        body = b""
        if head.has_body:
            body = await read_body(receive)
            receive = with_body(body, receive)
        scope["conductor.call"] = Call(house, head.request_id, caller, body)
        await self._app(scope, receive, answer.send)

    async def _tell(
        self, scope: Scope, answer: _Answer, error: ConductorError, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        if answer.status:
            _logger.warning("request %s failed after its answer had begun: %s", answer.request_id, error)
            return
        problem = problem_of(error, answer.request_id, self._house.redactor)
        if isinstance(error, InvalidTransition | SessionBusy):
            problem |= await self._state_of_session(scope)
        if problem["status"] >= 500 and not isinstance(error, InternalError):
            _logger.warning("request %s is answered with %s: %s", answer.request_id, problem["status"], error)
        body = problem_bytes(problem)
        await answer.whole(problem["status"], PROBLEM_TYPE.encode(), body, [*headers_of(error), *headers])

    async def _state_of_session(self, scope: Scope) -> dict[str, Any]:
        """What the session is now that refuses to become something else."""
        session_id, call = scope.get("path_params", {}).get("session_id"), scope.get("conductor.call")
        if session_id is None or call is None:
            return {}
        try:
            record = await call.service.store.session(session_id, call.caller.org_id)
        except (SessionError, StorageError):  # it was deleted, or cannot be read: the error itself is told all the same
            return {}
        return {"session_status": record.status.value, "pause_reason": record.pause_reason}


def _refusal(exc: HTTPException) -> HTTPRefusal:
    """What the framework itself refuses: paths and methods that are not there."""
    if exc.status_code == 405:
        return MethodNotAllowed("this path does not know the method")
    if exc.status_code == 404:
        return NoSuchRoute("there is nothing at this path")
    return HTTPRefusal(f"the request was refused with {exc.status_code}")


def _allow(scope: Scope) -> tuple[tuple[bytes, bytes], ...]:
    """The methods of all routes with this path: the framework names those of the first."""
    routes = [route for route in scope["app"].routes if route.matches(scope)[0] is not Match.NONE]
    methods = sorted({method for route in routes for method in route.methods})
    return ((b"allow", ", ".join(methods).encode()),)


class _Answer:
    """Sends, and sees to the headers that every answer has. `status` is 0 until the head is sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.request_id = new_id()
        self.origin: bytes | None = None
        self.caller: Caller | None = None
        self.status = 0
        self.is_stream = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message["headers"] = list(message.get("headers", ()))
            self.is_stream = (b"content-type", b"text/event-stream") in headers
            headers += (
                (b"x-request-id", self.request_id.encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"cache-control", b"no-store"),
            )
            if self.origin is not None:
                headers += ((b"access-control-allow-origin", self.origin), (b"vary", b"Origin"), _EXPOSED)
        await self._send(message)

    def log(self, method: str, route: str, seconds: float) -> None:
        """By it whoever has a request's id finds out what became of the request. Nothing that was sent is in it."""
        level = logging.ERROR if self.status >= 500 else logging.INFO
        org_id, key_id = ("-", "-") if self.caller is None else (self.caller.org_id, self.caller.key_id or "-")
        facts = (method, route, self.status, seconds * 1000, self.request_id, key_id, org_id)
        _requests.log(level, "%s %s %d in %.1f ms, request %s, key %s, org %s", *facts)

    async def whole(self, status: int, media_type: bytes, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        head = [(b"content-type", media_type), (b"content-length", str(len(body)).encode()), *headers]
        await self.send({"type": "http.response.start", "status": status, "headers": head})
        await self.send({"type": "http.response.body", "body": body})

    async def empty(self, status: int, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await self.send({"type": "http.response.body", "body": b""})
