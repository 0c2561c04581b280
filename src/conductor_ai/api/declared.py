"""What a route declares: the scope that it needs, and every error that it can answer with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from conductor_ai import errors as tree
from conductor_ai.api import refusals
from conductor_ai.api.errors import PROBLEM_TYPE, status_of, title_of
from conductor_ai.api.house import call_of
from conductor_ai.errors import ConductorError, Forbidden
from conductor_ai.schemas import json_text
from conductor_ai.schemas.orgs import Scope

_SCOPE = "x-required-scope"
_KEY = "key"

_ALWAYS = (
    refusals.MalformedHead,
    refusals.OriginRefused,
    refusals.Misdirected,
    refusals.InvalidRequest,
    refusals.InternalError,
)
_KNOWN_CALLER = (tree.Unauthorized, tree.Forbidden, tree.InvalidInput, tree.TooManyRequests)
_BODY = (refusals.InvalidJSON, refusals.JSONTooDeep, refusals.BodyTooLarge, refusals.NotJSON)
_STORED = (tree.StoreUnavailable, tree.StorageError)


def needs(scope: Scope, *errors: type[ConductorError], body: bool = False) -> dict[str, Any]:
    """Arguments of a route for callers with `scope`, which may also answer with `errors`."""
    all_errors = (*_ALWAYS, *_KNOWN_CALLER, *_STORED, *(_BODY if body else ()), *errors)
    extra: dict[str, Any] = {_SCOPE: scope.value, "security": [{_KEY: []}]}
    return {"responses": responses(*all_errors), "openapi_extra": extra}


def open_to_anybody(*errors: type[ConductorError]) -> dict[str, Any]:
    """Arguments of a route that takes no key; with one it may say more."""
    extra: dict[str, Any] = {"security": [{}, {_KEY: []}]}
    return {"responses": responses(*_ALWAYS, *_KNOWN_CALLER, *errors), "openapi_extra": extra}


def responses(*errors: type[ConductorError]) -> dict[int | str, dict[str, Any]]:
    by_status: dict[int, dict[str, type[ConductorError]]] = defaultdict(dict)
    for error in errors:
        by_status[status_of(error)][error.code] = error
    return {status: _response(status, by_status[status]) for status in sorted(by_status)}


def _response(status: int, by_code: dict[str, type[ConductorError]]) -> dict[str, Any]:
    examples = {code: {"value": _example(status, error)} for code, error in by_code.items()}
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
    return {"description": ", ".join(by_code), "content": {PROBLEM_TYPE: content}}


def _example(status: int, error: type[ConductorError]) -> dict[str, Any]:
    return {
        "type": f"urn:conductor-ai:error:{error.code}",
        "title": title_of(error.code),
        "status": status,
        "detail": "what happened, in one line",
        "code": error.code,
        "hint": None,
        "retryable": error.retryable,
        "request_id": "0199c3a1-6f2e-7d35-8a1c-0b5e6f7a8b9c",
    }


_PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "An error (RFC 9457). `code` never changes; `retryable` promises that the same request, unchanged, "
    "may succeed later.",
    "required": ["type", "title", "status", "detail", "code", "hint", "retryable", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "hint": {"type": ["string", "null"], "description": "what to do about it"},
        "retryable": {"type": "boolean"},
        "request_id": {"type": "string", "description": "by it the server's log knows the request"},
        "retry_after_s": {"type": "number", "description": "as Retry-After"},
        "session_status": {"type": "string", "description": "what the session is, where that is why"},
        "pause_reason": {"type": ["string", "null"]},
        "errors": {
            "type": "array",
            "description": "each field that is missing, unknown or of the wrong kind",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


class ScopedRoute(APIRoute):
    """A route that looks at the caller's scope first, and then reads the body as JSON of ours."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()
        named = (self.openapi_extra or {}).get(_SCOPE)
        scope = None if named is None else Scope(named)
        reads_body = self.body_field is not None

        async def handle(request: Request) -> Response:
            call = call_of(request.scope)
            if scope is not None and scope not in call.caller.scopes:
                raise Forbidden(f"the key has not the scope {scope}", hint="make one that has: POST /keys")
            if reads_body and call.body:
                request._body = call.body
                request._json = _parsed(request, call.body)
            return await inner(request)

        return handle


def _parsed(request: Request, body: bytes) -> Any:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise refusals.NotJSON("the body must be JSON, and say so", hint="Content-Type: application/json")
    try:
        return json_text.loads(body)
    except (ValueError, RecursionError) as exc:
        raise refusals.InvalidJSON("the body is not JSON") from exc


class DocumentedAPI(FastAPI):
    """Its document also says what FastAPI does not know of: the form of our errors, and how keys are shown."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            components = super().openapi().setdefault("components", {})
            components.setdefault("schemas", {})["Problem"] = _PROBLEM
            components["securitySchemes"] = {
                _KEY: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "a key of an org, `cond_...`: `conductor keys create`, or POST /keys",
                }
            }
        assert self.openapi_schema is not None
        return self.openapi_schema
