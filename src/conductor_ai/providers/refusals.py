"""What a provider's refusal says: its words, its marks, and how long to wait. Every wire puts them elsewhere."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

_REQUEST_ID_HEADERS = ("request-id", "x-generation-id", "x-request-id")

# What only the words tell apart. Sources: Anthropic API reference, "Errors" and "Rate limits" (a limit that the
# customer set is a 400, a tier's own a 429 with the `error_code` enforced_spend_limit_reached); for the others the
# error bodies that their users have published.
_SPENT = re.compile(
    r"spend(ing)?[ _](limit|cap)|(usage|credits) (is|are) required|credits are depleted"
    r"|insufficient[ _](quota|balance|credits|funds)",
    re.IGNORECASE,
)
_SPENT_IN_400 = re.compile("reached your specified (workspace )?api usage limits", re.IGNORECASE)
"""Narrow: a 400 may quote the request, and an agent may well have a tool that is about spending."""
_PER_DAY = re.compile(r"per[ _-]?day|daily", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"prompt is too long|context (length|window|size|limit)|(input|prompt) (is )?too long"
    r"|maximum number of tokens allowed|maximum prompt length",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(r"invalid `?signature`? in `?(redacted_)?thinking|block is bound to a different", re.IGNORECASE)
"""Source: Anthropic, "Preserved thinking", on prefix checks."""
_LOADING = re.compile(r"\bloading\b", re.IGNORECASE)


def is_spent(status: int, words: str) -> bool:
    """Whether a 400 or a 429 means that the account's money, or a limit set on it, is used up."""
    if status == 400:
        return _SPENT_IN_400.search(words) is not None
    return status == 429 and (_SPENT.search(words) or _SPENT_IN_400.search(words)) is not None


def is_of_the_day(words: str) -> bool:
    """Whether a 429 is about a quota that only the next day renews."""
    return _PER_DAY.search(words) is not None


def is_loading(words: str) -> bool:
    """Whether a 503 comes from a server that reads its model into memory."""
    return _LOADING.search(words) is not None


def is_too_long(words: str) -> bool:
    """Whether a refused request is larger than the model's context window."""
    return _TOO_LONG.search(words) is not None


def is_about_a_signature(words: str) -> bool:
    """Whether a 400 is about what the model signed in an earlier turn."""
    return _SIGNATURE.search(words) is not None


def error_object(body: Any) -> Mapping[str, Any]:
    """The `error` object that all wires share. Some local servers send a bare text, or no wrapping; Gemini, where a
    stream was asked for, may send a list of one."""
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return {}
    error = body.get("error", body)
    return error if isinstance(error, dict) else {"message": error}


def said(error: Mapping[str, Any]) -> str:
    """The provider's words. OpenRouter's own are often "Provider returned error", and the host's in `raw`."""
    words = str(error.get("message") or error.get("detail") or "")
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return f"{words} ({raw})" if isinstance(raw, str) and raw else words


def marks(error: Mapping[str, Any]) -> str:
    """The names beside the words that say what a refusal is about: Anthropic's `details.error_code`, the `quotaId` of
    each of Gemini's violated quotas, OpenRouter's `metadata.limit_source`, others' `type` and `code`."""
    found = [error.get("type"), error.get("code")]
    details, metadata = error.get("details"), error.get("metadata")
    if isinstance(details, dict):
        found.append(details.get("error_code"))
    for detail in _objects(details):
        found += [violation.get("quotaId") for violation in _objects(detail.get("violations"))]
    if isinstance(metadata, dict):
        found.append(metadata.get("limit_source"))
    return " ".join(name for name in found if isinstance(name, str))


def _objects(given: Any) -> list[dict[str, Any]]:
    return [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []


def request_id(body: Any, headers: Mapping[str, str]) -> str | None:
    for name in _REQUEST_ID_HEADERS:
        if headers.get(name):
            return headers[name]
    found = body.get("request_id") if isinstance(body, dict) else None
    return found if isinstance(found, str) else None


def header_delay_s(headers: Mapping[str, str]) -> float | None:
    """The delay that the reply's head asks for: seconds or an HTTP date (RFC 9110, 10.2.3), Anthropic's also in
    milliseconds."""
    if "retry-after-ms" in headers:
        milliseconds = _seconds(headers["retry-after-ms"])
        return None if milliseconds is None else milliseconds / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def body_delay_s(error: Mapping[str, Any]) -> float | None:
    """The delay that the error itself asks for: Gemini's google.rpc.RetryInfo ("12s"), OpenRouter's
    `retry_after_seconds`, or the moment, in milliseconds, at which its free models may be asked again."""
    for detail in _objects(error.get("details")):
        if isinstance(detail.get("retryDelay"), str):
            return _seconds(detail["retryDelay"].removesuffix("s"))
    metadata = error.get("metadata")
    if not isinstance(metadata, dict):
        return None
    seconds = metadata.get("retry_after_seconds")
    if isinstance(seconds, int | float):
        return _seconds(str(seconds))
    inner = metadata.get("headers")
    reset_ms = _seconds(str(inner.get("X-RateLimit-Reset"))) if isinstance(inner, dict) else None
    return None if reset_ms is None else max(0.0, reset_ms / 1000 - datetime.now(UTC).timestamp())


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None
