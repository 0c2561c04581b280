"""Orgs and what they may use: limits, and whether one more request, session or dollar is within them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from weakref import WeakValueDictionary

from conductor_ai.errors import BudgetSpent, TooManyRequests, TooManySessions
from conductor_ai.observability.audit import AuditLogger
from conductor_ai.schemas.orgs import Caller, OrgLimits, OrgRecord, checked_org_id
from conductor_ai.schemas.usage import money_text
from conductor_ai.storage.base import OrgStore, UsageRow
from conductor_ai.storage.hot_state import HotState
from conductor_ai.storage.money import day_and_month

_CACHED_S = 1.0
_MOST_CACHED = 1024
_RATE_WINDOW_S = 60


class Orgs:
    """`clock` gives seconds since 1970."""

    def __init__(
        self, store: OrgStore, hot: HotState, audit: AuditLogger, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._hot = hot
        self._audit = audit
        self._clock = clock
        self._known: dict[str, tuple[float, OrgRecord]] = {}
        self._starting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def get(self, org_id: str) -> OrgRecord:
        """The org as it was at most a second ago. Any id is an org."""
        now = self._clock()
        known = self._known.get(org_id)
        if known is None or not 0 <= now - known[0] < _CACHED_S:
            known = (now, await self._store.org(org_id))
            self._keep(known)
        return known[1]

    async def list(self) -> list[OrgRecord]:
        """Those that have limits or keys of their own, by id. One whose limits cannot be read says so."""
        return await self._store.orgs()

    async def set_limits(self, org_id: str, changes: dict[str, Any], *, by: str) -> OrgRecord:
        """Replace some limits: at once in this process, elsewhere within a second. None takes a limit away.

        Raises: InvalidInput for an unknown limit, or a value that it cannot have; StoreCorrupt where a limit that is
            not replaced cannot be read.
        """
        limits = OrgLimits().with_changes(changes)
        told = {name: value for name, value in limits.to_dict().items() if name in changes}
        entry = self._audit.entry("org", "org.limits_set", {"limits": told, "by": by})
        record = await self._store.set_org_limits(checked_org_id(org_id), changes, entry)
        self._keep((self._clock(), record))
        return record

    async def admit(self, caller: Caller) -> None:
        """Count one request of the caller's org. Raises: TooManyRequests."""
        limit = (await self.get(caller.org_id)).limits.requests_per_minute
        if limit is None:
            return
        wait_s = await self._hot.take(f"requests:{caller.org_id}", limit=limit, window_s=_RATE_WINDOW_S)
        if wait_s is not None:
            raise TooManyRequests(f"the org may make {limit} requests a minute", retry_after_s=wait_s)

    async def admit_session(self, org_id: str) -> None:
        """Check that one more session may run. Raises: TooManySessions, BudgetSpent."""
        limits = (await self.get(org_id)).limits
        if limits.max_running_sessions is not None:
            running = await self._store.running_sessions(org_id)
            if running >= limits.max_running_sessions:
                raise TooManySessions(
                    f"{running} sessions of the org are running, {limits.max_running_sessions} may",
                    hint="wait until one has stopped",
                )
        if limits.limits_money:
            await self._require_money(org_id, limits)

    @asynccontextmanager
    async def starting(self, org_id: str) -> AsyncIterator[None]:
        """As `admit_session`, for a session that is stored within: where the org's sessions are limited, the starts of
        this process wait for each other, so that each is counted before the next is let in."""
        if (await self.get(org_id)).limits.max_running_sessions is None:
            await self.admit_session(org_id)
            yield
            return
        async with self._starting.setdefault(org_id, asyncio.Lock()):
            await self.admit_session(org_id)
            yield

    async def usage(self, org_id: str, day_from: str, day_before: str) -> Sequence[UsageRow]:
        """By day, then by model. Days are ISO dates, UTC. Raises: InvalidInput."""
        return await self._store.usage(org_id, day_from=day_from, day_before=day_before)

    async def _require_money(self, org_id: str, limits: OrgLimits) -> None:
        now = datetime.fromtimestamp(self._clock(), UTC)
        at = now.isoformat(timespec="microseconds")
        committed = await self._store.committed_usd(org_id, at)
        allowed = (limits.max_usd_per_day, limits.max_usd_per_month)
        for unit, period, used, limit in zip(("day", "month"), day_and_month(at), committed, allowed, strict=True):
            if limit is not None and used >= limit:
                ends_in_s = (datetime.fromisoformat(period.ends) - now).total_seconds()
                raise BudgetSpent(
                    f"the org's ${money_text(limit)} for this {unit} are spent or reserved",
                    retry_after_s=ends_in_s,
                    hint=f"wait until {period.ends[:10]} UTC, or ask for a higher limit",
                )

    def _keep(self, known: tuple[float, OrgRecord]) -> None:
        self._known.pop(known[1].org_id, None)
        while len(self._known) >= _MOST_CACHED:
            del self._known[next(iter(self._known))]  # the oldest
        self._known[known[1].org_id] = known
