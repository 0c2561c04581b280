"""Tickets: what a browser's EventSource, which cannot send a key, shows in its place.

A ticket opens one stream of one session, once, within a minute. It names the key that it was made with, and ends with
it. It is signed, so that nothing need be kept until it is used.
"""

from __future__ import annotations

import hmac
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING

from conductor_ai.errors import Unauthorized
from conductor_ai.schemas import json_text
from conductor_ai.schemas.orgs import Caller, Scope

if TYPE_CHECKING:
    from conductor_ai.conductor.keys import Keys
    from conductor_ai.storage.hot_state import HotState

TICKET_S = 60


class Tickets:
    """`secret` signs; processes that share it take each other's tickets. `clock` counts seconds since 1970."""

    def __init__(self, secret: bytes | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._secret = secrets.token_bytes(32) if secret is None else hmac.digest(secret, b"event tickets", "sha256")
        self._clock = clock

    def make(self, session_id: str, caller: Caller) -> str:
        facts = [session_id, caller.org_id, caller.key_id, self._clock() + TICKET_S, secrets.token_urlsafe(12)]
        text = _encoded(json_text.dumps(facts).encode())
        return f"{text}.{self._signature(text)}"

    async def caller(self, ticket: str, session_id: str, hot: HotState, keys: Keys) -> Caller:
        """Whose ticket it is; it is used up by that. Raises: Unauthorized, the same for whatever is wrong with it."""
        text, _, signature = ticket.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(text).encode()):
            raise _refused()
        made_for, org_id, key_id, expires_at, nonce = json_text.loads(_decoded(text))
        if made_for != session_id or expires_at < self._clock():
            raise _refused()
        if await hot.take(f"ticket:{nonce}", limit=1, window_s=2 * TICKET_S) is not None:
            raise _refused()
        caller = Caller(org_id, frozenset({Scope.READ}), key_id)
        if not await keys.admits(caller):
            raise _refused()
        return caller

    def _signature(self, text: str) -> str:
        return _encoded(hmac.digest(self._secret, text.encode(), "sha256"))


def _refused() -> Unauthorized:
    return Unauthorized(
        "the ticket is not valid", hint="get a new one: POST /agents/{session_id}/events/ticket; each opens one stream"
    )


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
