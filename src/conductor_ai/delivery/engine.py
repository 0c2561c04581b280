"""The engine port: who drives which session.

The session's log is the history; an engine only sees to it that each session that should run has exactly one driver.
It is told ids and nothing else, and all that it is told may be told twice. What it is never told of it finds: `sweep`.
"""

from __future__ import annotations

from typing import Any, Protocol


class Engine(Protocol):
    """Drives sessions. `open` before anything else, `close` at the end."""

    async def open(self) -> None:
        """Begin to look for sessions without a driver: those that a dead process left are found at once."""
        ...

    def start(self, org_id: str, session_id: str) -> None:
        """Drive a session that this process has just made to run; returns at once."""
        ...

    def wake(self, org_id: str, session_id: str) -> None:
        """Something has come that a session waited for (a decision, a message): see to it, if its turn has come, or as
        soon as it does not run any more. Returns at once."""
        ...

    async def stop(self, org_id: str, session_id: str, *, by: str) -> None:
        """End a session for good, whoever drives it; returns once it has ended, or once whoever drives it will learn
        of it even if this process dies.

        Raises: SessionNotFound, InvalidTransition where it has ended already, StorageError.
        """
        ...

    def holds_back(self, org_id: str, session_id: str) -> bool:
        """Whether the session could not be driven, and waits for its next try."""
        ...

    async def settled(self, org_id: str, session_id: str) -> None:
        """Return once this process has let go of a session that has stopped, so that it can be taken up again."""
        ...

    async def sweep(self) -> None:
        """Look once for sessions without a driver, and have them driven. Raises: StorageError."""
        ...

    def state(self) -> dict[str, Any]:
        """How it is, as JSON data."""
        ...

    async def close(self, grace_s: float) -> None:
        """Drive nothing more: steps under way have `grace_s` to end, then they are cut off. Sessions that run stay so,
        for the next process to go on with."""
        ...
