"""Sessions that could not be driven: when each is tried again, and what is said about it, once."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from conductor_ai.errors import (
    AuditUnavailable,
    ConductorError,
    InvalidTransition,
    OwnershipLost,
    SessionBusy,
    SessionNotFound,
    StorageError,
    StoreCorrupt,
)

_SHORT_S, _LONG_S = 10.0, 600.0
_FIRST_S = 1.0
_KEPT = 1000

_logger = logging.getLogger(__name__)

_Key = tuple[str, str]


@dataclass(slots=True)
class _Failed:
    times: int = 0
    until: float = 0.0
    said: str = ""


class Failures:
    """What stood in the way of each session's newest drive. `clock` counts seconds, monotonic.

    The pause before the next try doubles. It stays short where only time is needed, as after an outage, and it is
    spread, so that what failed together is not tried together. It grows long where the next try will very likely end
    as this one did: a tool that is not loaded here, a key that is not set, a log that cannot be read.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: dict[_Key, _Failed] = {}

    def __len__(self) -> int:
        return len(self._failed)

    def holds_back(self, key: _Key) -> bool:
        failed = self._failed.get(key)
        return failed is not None and failed.until > self._clock()

    def forget(self, key: _Key) -> None:
        self._failed.pop(key, None)

    def tell(self, key: _Key, error: BaseException) -> None:
        while isinstance(error, BaseExceptionGroup):  # of several tools at once
            error = error.exceptions[0]
        if isinstance(error, SessionNotFound):
            self.forget(key)
            return
        if len(self._failed) >= _KEPT:  # sessions that were driven elsewhere since then
            now = self._clock()
            self._failed = {key: failed for key, failed in self._failed.items() if failed.until > now}
        failed = self._failed.setdefault(key, _Failed())
        failed.times += 1
        longest_s = _SHORT_S if _needs_only_time(error) else _LONG_S
        failed.until = self._clock() + min(longest_s, _FIRST_S * 2 ** min(failed.times - 1, 16)) * spread()
        said = f"{type(error).__name__}: {error}"
        if failed.said != said:
            failed.said = said
            _say(key[1], error)


def spread() -> float:
    """What to multiply a pause with, so that those that would end together do not."""
    return random.uniform(0.5, 1.0)  # noqa: S311  no secret is made of it


def _needs_only_time(error: BaseException) -> bool:
    if isinstance(error, StoreCorrupt):
        return False
    return isinstance(error, StorageError | AuditUnavailable | OwnershipLost | SessionBusy | InvalidTransition)


def _say(session_id: str, error: BaseException) -> None:
    if isinstance(error, OwnershipLost | SessionBusy | InvalidTransition):  # somebody else was faster
        _logger.debug("session %s is left to others: %s", session_id, error)
    elif isinstance(error, ConductorError):
        hint = f" ({error.hint})" if error.hint else ""
        _logger.warning("session %s is not driven now, and tried again later: %s%s", session_id, error, hint)
    else:
        _logger.error("session %s is not driven now, and tried again later: a bug", session_id, exc_info=error)
