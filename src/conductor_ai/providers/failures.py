"""Every way a provider's call can fail, translated once into our own errors.

A message is one line: provider, model, status and the provider's own short words, with the key cut out in whatever form
it comes, and with it all that looks like a credential.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from conductor_ai.errors import (
    KeyRefused,
    MalformedReply,
    ModelLoading,
    OutOfCredit,
    PromptTooLong,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
    SignatureRefused,
    TruncatedReply,
)
from conductor_ai.providers import refusals
from conductor_ai.schemas.credentials import forms_of, without_credentials

MAX_SAID_CHARS = 300
_MAX_ID_CHARS = 200
_READ_CHARS = 65_536
"""Of what a provider says. A credential longer than `_CUT_MARGIN_CHARS` that lies across the cut would show in part."""
_CUT_MARGIN_CHARS = 8_192
_LONG_QUOTE = re.compile(r"['\"].{60,}", re.DOTALL)
"""What Python's own errors quote of a reply, they may also cut, and a key in it."""
_LATER = "try again later, or choose another model"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, each above zero. `first_byte_s` runs from the sent request to the reply's head: a whole answer that is
    not streamed is written by then. `idle_s` bounds the silence after that, `total_s` all of it together.

    A stream may go on as long as it gets on: `total_s` ends with its head, then `progress_s` bounds the wait for the
    next piece of the answer, whatever keep-alives come meanwhile."""

    connect_s: float = 10.0
    first_byte_s: float = 600.0
    idle_s: float = 120.0
    progress_s: float = 300.0
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
    secret: str = field(default="", repr=False)
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
            sent=not isinstance(exc, aiohttp.ClientConnectorError),
        )

    def refusal(
        self,
        status: int,
        body: Any,
        headers: Mapping[str, str],
        model: str,
        *,
        within_200: bool = False,
    ) -> ProviderError:
        """A reply that says no.

        Args:
            body: What its JSON held, None where it held none.
            within_200: It came inside a reply that began with status 200; those headers were written before anything
                went wrong, so that a delay in them is not about this error.
        """
        error = refusals.error_object(body)
        told = {} if within_200 else headers
        said = refusals.said(error)
        words = f"{said} {refusals.marks(error)}"
        delay_s = refusals.header_delay_s(told)
        # Who names a delay in the head does not mean a limit that no wait will lift.
        by_words = delay_s is None
        if by_words:
            delay_s = refusals.body_delay_s(error)
        kind, hint = self._kind(self.meaning(status, error), words, by_words=by_words)
        final = told.get("x-should-retry") == "false"
        if kind is RateLimited and by_words and refusals.is_of_the_day(words):
            final, delay_s = True, None  # Gemini names seconds even where the day's quota is gone
            hint = "the day's quota is used up: wait for the next, raise the quota, or choose another model"
        elif delay_s is not None and kind.retryable:
            hint = f"wait {delay_s:g} s, or choose another model"
        return kind(
            self._line(f"{self.provider} answered {status} for {model}", said),
            provider=self.provider,
            model=model,
            status=status,
            request_id=self._request_id(body, headers),
            hint=hint,
            retry_after_s=delay_s,
            retryable=False if final else None,
        )

    def malformed(self, what: str, model: str, status: int | None = None) -> MalformedReply:
        return MalformedReply(
            self._line(f"{self.provider} sent an unusable reply for {model}", _LONG_QUOTE.sub("'…'", what)),
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
        return ProviderTimeout(
            self._line(f"{self.provider}: {what}"),
            provider=self.provider,
            model=model,
            hint=_LATER,
            answering=answering,
            sent=not isinstance(exc, aiohttp.ConnectionTimeoutError),
        )

    def _kind(self, status: int, words: str, *, by_words: bool) -> tuple[type[ProviderError], str]:
        """The class of a status, and what to do. `by_words`: the words may tell a spent account from a busy one."""
        if status in (401, 403):
            return KeyRefused, f"set {self.key_variable} to a key that {self.provider} accepts for this model"
        if status == 402 or (by_words and refusals.is_spent(status, words)):
            return OutOfCredit, (
                f"add credit to your {self.provider} account, raise the limit on its spending, or choose another model"
            )
        if status == 429:
            return RateLimited, _LATER
        if status == 503 and refusals.is_loading(words):
            return ModelLoading, "wait until the server has loaded the model, or choose another"
        if status in (408, 409) or status >= 500:
            return ProviderUnavailable, _LATER
        return self._refused(status, words)

    def _refused(self, status: int, words: str) -> tuple[type[RequestRefused], str]:
        if status < 400:
            return RequestRefused, f"the address redirects or answers nothing: check {self.url_variable}"
        if status == 404:
            if self.provider == "local":  # its address was typed by a person, the others' are ours
                return RequestRefused, f"check the model's id, and that {self.url_variable} has its path (usually /v1)"
            return RequestRefused, "check the model's id: it may be unknown, retired, or not open to your key"
        if refusals.is_about_a_signature(words):
            return SignatureRefused, "something before a signed turn has changed; start a new session"
        if refusals.is_too_long(words):
            return PromptTooLong, "shorten the conversation, or choose a model with a larger context window"
        return RequestRefused, "the same request would be refused again: change the request or the model"

    def _request_id(self, body: Any, headers: Mapping[str, str]) -> str | None:
        """None for what is too long to be an id: a service that echoes a header may put anything there."""
        found = refusals.request_id(body, headers)
        return None if found is None or len(found) > _MAX_ID_CHARS else self._without_credentials(found)

    def _line(self, text: str, said: str = "") -> str:
        """One line. Credentials go out before the provider's words are cut, so that no part of one stays."""
        cut = len(said) > _READ_CHARS
        said = self._without_credentials(said[:_READ_CHARS])
        said = " ".join((said[:-_CUT_MARGIN_CHARS] if cut else said).split())
        if len(said) > MAX_SAID_CHARS:
            # Between two words: a secret that only the log's redactor knows must reach it whole.
            said = f"{said[: MAX_SAID_CHARS + 1].rpartition(' ')[0]}…"
        return " ".join(self._without_credentials(text).split()) + (f": {said}" if said else "")

    def _without_credentials(self, text: str) -> str:
        for form in forms_of(self.secret):
            text = text.replace(form, "[key]")
        return without_credentials(text)
