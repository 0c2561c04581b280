"""Errors as HTTP: the one mapping of the tree to statuses, and its form on the wire (RFC 9457)."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import TYPE_CHECKING, Any

from conductor_ai import errors as tree
from conductor_ai.api.refusals import HTTPRefusal, InvalidRequest
from conductor_ai.schemas import json_text

if TYPE_CHECKING:
    from conductor_ai.observability.redaction import Redactor

PROBLEM_TYPE = "application/problem+json"

_STATUSES: dict[type[tree.ConductorError], int] = {
    tree.ConductorError: 500,
    tree.UsageError: 422,
    tree.ProviderError: 502,
    tree.SSRFError: 422,
    tree.SessionError: 409,
    tree.SessionNotFound: 404,
    tree.FileNotStored: 404,
    tree.Unauthorized: 401,
    tree.AccessError: 403,
    tree.KeyNotFound: 404,
    tree.LimitReached: 429,
    tree.BudgetSpent: 402,
    tree.ApprovalError: 409,
    tree.ApprovalNotFound: 404,
    tree.StorageError: 500,
    tree.StoreUnavailable: 503,
    tree.AuditUnavailable: 503,
}
_WAIT_FOR_STORE_S = 1.0


def status_of(error: type[tree.ConductorError]) -> int:
    if issubclass(error, HTTPRefusal):
        return error.status
    return next(_STATUSES[kind] for kind in error.__mro__ if kind in _STATUSES)


def problem_of(error: tree.ConductorError, request_id: str, redactor: Redactor) -> dict[str, Any]:
    """The body of the answer that tells of `error`; no secret that this process knows stands in it."""
    code = error.code
    problem: dict[str, Any] = {
        "type": f"urn:conductor-ai:error:{code}",
        "title": title_of(code),
        "status": status_of(type(error)),
        "detail": redactor.clean_log(str(error)),
        "code": code,
        "hint": None if error.hint is None else redactor.clean_log(error.hint),
        "retryable": error.retryable,
        "request_id": request_id,
    }
    if (wait := retry_after_s(error)) is not None:
        problem["retry_after_s"] = wait
    if isinstance(error, InvalidRequest):
        problem["errors"] = error.errors
    return problem


def title_of(code: str) -> str:
    return code.replace("_", " ").capitalize()


def retry_after_s(error: tree.ConductorError) -> float | None:
    """When the same request may succeed; None where nobody knows, or it never will."""
    wait: float | None = getattr(error, "retry_after_s", None)
    return _WAIT_FOR_STORE_S if wait is None and isinstance(error, tree.StoreUnavailable) else wait


def headers_of(error: tree.ConductorError) -> list[tuple[bytes, bytes]]:
    """What stands in the head of that answer beside its type."""
    headers = []
    if (wait := retry_after_s(error)) is not None:
        headers.append((b"retry-after", str(max(1, ceil(wait))).encode()))
    if isinstance(error, tree.Unauthorized):
        headers.append((b"www-authenticate", b'Bearer realm="conductor"'))
    return headers


def invalid_request(found: Iterable[Any]) -> InvalidRequest:
    """From what Pydantic found. What was sent is not repeated: it may be a secret in the wrong place."""
    errors = [{"field": _place(one["loc"]), "message": _sentence(one["msg"])} for one in found]
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return InvalidRequest(f"{first['field']}: {first['message']}{more}", errors)


def problem_bytes(problem: dict[str, Any]) -> bytes:
    return json_text.wire_dumps(problem)


_SOURCES = ("body", "query", "path", "header")
_LONGEST_PLACE = 200


def _place(where: tuple[Any, ...]) -> str:
    """`messages[0].content`, or `body` for the whole of it."""
    parts = where[1:] if where and where[0] in _SOURCES else where
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
    return (text or (str(where[0]) if where else "request"))[:_LONGEST_PLACE]


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should be", "must be")
