"""What a server says went wrong (RFC 9457) as the error that a caller on the spot would have seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conductor_ai import errors
from conductor_ai.errors import (
    ConductorError,
    IdempotencyConflict,
    InvalidInput,
    LimitReached,
    ServiceError,
    ServiceUnavailable,
    SessionBusy,
    TooManyRequests,
)
from conductor_ai.schemas import json_text

BUSY_STATUSES = frozenset({502, 503, 504})
"""What a server, or a proxy before it, answers while it is away: the same request may succeed later."""

_UNFIT_STATUSES = frozenset({400, 413, 422})
"""What no request of this form can succeed with: too large, too deep, not what the API takes."""

_LONGEST = 2000

_KNOWN: dict[str, type[ConductorError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ConductorError) and kind is not ConductorError
}


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> ConductorError:
    """The error that a reply with `status` stands for. A code that is not in our tree, and a reply that is no problem
    document, as of a proxy in between, become a ServiceError or, where they pass, a ServiceUnavailable."""
    problem = _problem(body)
    code, request_id = problem.get("code"), _text(problem.get("request_id"))
    said = _text(problem.get("detail")) or _text(problem.get("title")) or f"the server answered {status}"
    error = _known(str(code), said, problem, retry_after_s(headers))
    if error is None:
        error = _unknown(status, headers, said, code, request_id)
    error.hint = _text(problem.get("hint"))
    if isinstance(problem.get("retryable"), bool):
        error.retryable = problem["retryable"]
    if request_id is not None:
        error.add_note(f"request {request_id} of the server")
    return error


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The seconds of `Retry-After`; None where there is none, or a date, which our server never gives."""
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _known(code: str, said: str, problem: dict[str, Any], wait_s: float | None) -> ConductorError | None:
    kind = _KNOWN.get(code)
    if kind is None:
        return None
    if issubclass(kind, LimitReached):
        return kind(said, retry_after_s=wait_s)
    if kind is SessionBusy:  # which process it is says nothing on another machine
        return SessionBusy(said, pid=None)
    if kind is IdempotencyConflict:
        return IdempotencyConflict(said, session_id=_text(problem.get("session_id")) or "", request_hash="")
    # The others with facts of their own tell of something inside a session, or of this client: no request ends in one.
    return kind(said) if kind.__init__ is ConductorError.__init__ else None


def _unknown(
    status: int, headers: Mapping[str, str], said: str, code: object, request_id: str | None
) -> ConductorError:
    if status == 429:
        return TooManyRequests(said, retry_after_s=retry_after_s(headers))
    if status in BUSY_STATUSES:
        return ServiceUnavailable(said, status=status, request_id=request_id)
    if status in _UNFIT_STATUSES:
        return InvalidInput(said)
    if 300 <= status < 400:
        said = f"the server sends its callers elsewhere (status {status}), where the key does not go"
    named = f" ({code})" if isinstance(code, str) else ""
    return ServiceError(f"{said}{named}", status=status, request_id=request_id)


def _problem(body: bytes) -> dict[str, Any]:
    try:
        problem = json_text.loads(body)
    except (ValueError, RecursionError):
        return {}
    return problem if isinstance(problem, dict) else {}


def _text(value: object) -> str | None:
    return value[:_LONGEST] if isinstance(value, str) and value else None
