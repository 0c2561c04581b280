"""What a process keeps beside its store: live signals, cached views, counters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol


class HotState(Protocol):
    """Live signals and cached views, rebuildable from the store; JSON data only."""

    def publish(self, session_id: str, item: dict[str, Any]) -> None:
        """Hand `item` to whoever is subscribed to the session now; never waits: what must travel is queued.

        Raises: TypeError where somebody may be subscribed and `item` is not JSON data.
        """
        ...

    def watched(self, session_id: str) -> bool:
        """Whether anybody may be subscribed: nobody need build items for nobody. Never waits; True where unknown."""
        ...

    def subscribe(self, session_id: str) -> AsyncIterator[dict[str, Any]]:
        """Items published from now on; a subscriber that falls 1,000 behind loses the oldest."""
        ...

    async def request_cancel(self, session_id: str) -> None: ...

    async def cancel_requested(self, session_id: str) -> bool: ...

    async def clear_cancel(self, session_id: str) -> None:
        """Forget the request, once it was honoured."""
        ...

    def on_cancel(self, told: Callable[[str], None]) -> None:
        """From now on call `told`, which neither waits nor raises, with each session whose cancellation is requested in
        any process. A signal may be lost together with the hot state: who must know asks the store too."""
        ...

    async def put_snapshot(self, session_id: str, view: dict[str, Any], *, ttl_s: float = 3600.0) -> None: ...

    async def snapshot(self, session_id: str) -> dict[str, Any] | None: ...

    async def take(self, key: str, *, limit: int, window_s: int) -> float | None:
        """Count one more use of `key`: None where there were fewer than `limit` in the last `window_s` seconds, else
        the seconds to wait before the next one; what was refused does not count. The window is an estimate: uses of
        the one before count by the share of it that is still within. Where the counters cannot be reached this process
        counts alone."""
        ...

    async def problem(self) -> str | None:
        """What is wrong with it now, in one line; None where it works."""
        ...

    async def close(self) -> None: ...
