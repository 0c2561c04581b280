"""Every way a provider's call can fail, translated once into our own errors.

A message is one line: provider, model, status and the provider's own short words, with the key cut out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from conductor_ai.errors import (
    KeyRefused,
    MalformedReply,
    OutOfCredit,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
    TruncatedReply,
)
from conductor_ai.schemas.secrets import can_be_hidden

MAX_SAID_CHARS = 300
_REQUEST_ID_HEADERS = ("request-id", "x-generation-id", "x-request-id")
_LATER = "try again later, or choose another model"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, each above zero. `first_byte_s` runs from the sent request to the reply's head: a whole answer that is
    not streamed is written by then. `idle_s` bounds the silence after that, `total_s` all of it together."""

    connect_s: float = 10.0
    first_byte_s: float = 600.0
    idle_s: float = 120.0
    total_s: float = 900.0


def status_as_is(status: int, error: Mapping[str, Any]) -> int:
    return status


@dataclass(frozen=True, slots=True)
class Failures:
    """Makes the errors of one provider.

    `meaning` turns a refusal's status and `error` object into the status it really means, for a provider that says
    one thing and means another. `secret` is the key, so that it can be cut out of whatever the provider says.
    """

    provider: str
    key_variable: str
    url_variable: str
    secret: str = ""
    meaning: Callable[[int, Mapping[str, Any]], int] = status_as_is

    def transport(self, exc: Exception, model: str, timeouts: Timeouts, *, answering: bool) -> ProviderError:
        """A call that the network ended. `answering`: the reply's head had arrived."""
        if isinstance(exc, TimeoutError):
            return self._timeout(exc, model, timeouts, answering=answering)
        if isinstance(exc, aiohttp.ClientResponseError):
            return self.malformed("no valid HTTP came back", model)
        if answering:
            return TruncatedReply(
                self._line(f"the reply of {self.provider} for {model} was cut off"),
                provider=self.provider,
                model=model,
                hint=_LATER,
            )
        if isinstance(exc, aiohttp.ClientConnectorError):
            reason = f"could not connect to {exc.host}:{exc.port} for {model}"
        else:
            reason = f"the connection broke before a reply for {model} ({type(exc).__name__})"
        return ProviderUnavailable(
            self._line(f"{self.provider}: {reason}"),
            provider=self.provider,
            model=model,
            hint=f"check the network, and {self.url_variable} if it is set",
        )

    def refusal(self, status: int, body: Any, headers: Mapping[str, str], model: str) -> ProviderError:
        """A reply that says no. `body` is what its JSON held, None where it held none."""
        error = _error_object(body)
        line = self._line(f"{self.provider} answered {status} for {model}", _said(error))
        request_id = _request_id(body, headers)
        meant = self.meaning(status, error)
        if meant == 429:
            delay = _retry_after_s(headers, error)
            return RateLimited(
                line,
                provider=self.provider,
                model=model,
                retry_after_s=delay,
                status=status,
                request_id=request_id,
                hint=_LATER if delay is None else f"wait {delay:g} s, or choose another model",
            )
        kind, hint = self._kind(meant)
        return kind(line, provider=self.provider, model=model, status=status, request_id=request_id, hint=hint)

    def malformed(self, what: str, model: str, status: int | None = None) -> MalformedReply:
        return MalformedReply(
            self._line(f"{self.provider} sent an unusable reply for {model}", what),
            provider=self.provider,
            model=model,
            status=status,
            hint=f"if {self.url_variable} is set, check that a {self.provider} API answers there",
        )

    def _timeout(self, exc: Exception, model: str, timeouts: Timeouts, *, answering: bool) -> ProviderTimeout:
        if isinstance(exc, aiohttp.ConnectionTimeoutError):
            what = f"no connection for {model} within {timeouts.connect_s:g} s"
        elif not isinstance(exc, aiohttp.ServerTimeoutError):
            what = f"no complete reply for {model} within {timeouts.total_s:g} s"
        elif answering:
            what = f"the reply for {model} stalled for {timeouts.idle_s:g} s"
        else:
            what = f"no reply for {model} within {timeouts.first_byte_s:g} s"
        return ProviderTimeout(self._line(f"{self.provider}: {what}"), provider=self.provider, model=model, hint=_LATER)

    def _kind(self, status: int) -> tuple[type[ProviderError], str]:
        if status in (401, 403):
            return KeyRefused, f"set {self.key_variable} to a key that {self.provider} accepts for this model"
        if status == 402:
            return OutOfCredit, f"add credit to your {self.provider} account, or choose another model"
        if status in (408, 409) or status >= 500:
            return ProviderUnavailable, _LATER
        if status < 400:
            return RequestRefused, f"the address redirects or answers nothing: check {self.url_variable}"
        if status == 404:
            return RequestRefused, "check the model's id: it may be unknown, retired, or not open to your key"
        return RequestRefused, "the same request would be refused again: change the request or the model"

    def _line(self, text: str, said: str = "") -> str:
        """One line. The key goes out before the provider's words are cut, so that no part of it stays."""
        if can_be_hidden(self.secret):
            said = said.replace(self.secret, "[key]")
            text = text.replace(self.secret, "[key]")
        said = " ".join(said.split())
        if len(said) > MAX_SAID_CHARS:
            said = f"{said[:MAX_SAID_CHARS]}…"
        return " ".join(text.split()) + (f": {said}" if said else "")


def _error_object(body: Any) -> Mapping[str, Any]:
    """The `error` object that all wires share; some local servers send a bare text, or no wrapping."""
    if not isinstance(body, dict):
        return {}
    error = body.get("error", body)
    return error if isinstance(error, dict) else {"message": error}


def _said(error: Mapping[str, Any]) -> str:
    """The provider's words. OpenRouter's own are often "Provider returned error", and the host's in `raw`."""
    said = str(error.get("message") or error.get("detail") or "")
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return f"{said} ({raw})" if isinstance(raw, str) and raw else said


def _request_id(body: Any, headers: Mapping[str, str]) -> str | None:
    for name in _REQUEST_ID_HEADERS:
        if headers.get(name):
            return headers[name]
    found = body.get("request_id") if isinstance(body, dict) else None
    return found if isinstance(found, str) else None


def _retry_after_s(headers: Mapping[str, str], error: Mapping[str, Any]) -> float | None:
    """The delay that was asked for. Gemini puts a google.rpc.RetryInfo into `details` ("12s"), the others a header:
    seconds or an HTTP date (RFC 9110, 10.2.3), Anthropic also milliseconds."""
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            return _seconds(detail["retryDelay"].removesuffix("s"))
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


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None
