"""An org's money: what a model call may cost is set aside before the call, over all processes, and settled after it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from decimal import Decimal
from typing import Any

from conductor_ai.errors import BudgetSpent
from conductor_ai.schemas.ids import utc_now
from conductor_ai.schemas.orgs import OrgLimits
from conductor_ai.storage.base import OrgStore

_KNOWN_FOR_S = 1.0
_logger = logging.getLogger(__name__)


class Hold:
    """Money that is set aside for one model call, and for each attempt of it that may have been billed."""

    def __init__(self, money: OrgMoney, org_id: str, usd: Decimal, at: str) -> None:
        self._money = money
        self._org_id = org_id
        self._at = at
        self.usd = usd

    async def extend(self, usd: Decimal) -> bool:
        """Set more aside; False where the org's limits do not allow it."""
        if not await self._money.reserve(self._org_id, usd, self._at):
            return False
        self.usd += usd
        return True

    def settle(self, spent_usd: Decimal) -> None:
        """Give back what was not spent. Does not wait: until it is stored, the money counts as spent."""
        self._money.settle(self._org_id, self.usd, spent_usd, self._at)


class OrgMoney:
    """Belongs to one event loop; `close` waits for what is being settled."""

    def __init__(self, store: OrgStore) -> None:
        self._store = store
        self._limits: dict[str, tuple[float, OrgLimits]] = {}
        self._settling: set[asyncio.Task[None]] = set()

    async def is_limited(self, org_id: str) -> bool:
        """Whether the org's money is limited, as of at most a second ago."""
        now = time.monotonic()
        known_at, limits = self._limits.get(org_id, (0.0, None))
        if limits is None or now - known_at > _KNOWN_FOR_S:
            if limits is not None:
                self._limits[org_id] = (now, limits)  # one asks, the other sessions of the org go on meanwhile
            limits = (await self._store.org(org_id)).limits
            self._limits = {org: kept for org, kept in self._limits.items() if now - kept[0] <= _KNOWN_FOR_S}
            self._limits[org_id] = (now, limits)
        return limits.limits_money

    async def hold(self, org_id: str, usd: Decimal) -> Hold:
        """Set `usd` aside. Raises: BudgetSpent where the org's limits do not allow it."""
        at = utc_now()
        if await self.reserve(org_id, usd, at):
            return Hold(self, org_id, usd, at)
        raise BudgetSpent(f"the next call may cost ${usd:.4f}, more than the org's budget for the day or month leaves")

    async def reserve(self, org_id: str, usd: Decimal, at: str) -> bool:
        return await self._store.reserve_usd(org_id, usd, at)

    def spend(self, org_id: str, usd: Decimal) -> None:
        """Count a call that nothing was set aside for: its org's money was limited while it was made."""
        self.settle(org_id, Decimal(0), usd, utc_now())

    def settle(self, org_id: str, reserved_usd: Decimal, spent_usd: Decimal, at: str) -> None:
        self._later(self._store.settle_usd(org_id, reserved_usd, spent_usd, at))

    async def close(self) -> None:
        while self._settling:
            await asyncio.wait(self._settling)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._settling.add(task)
        task.add_done_callback(self._settled)

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._settling.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:  # what was set aside stays counted: the limit holds all the more
            _logger.warning("money could not be settled, and counts as spent: %s", error)
