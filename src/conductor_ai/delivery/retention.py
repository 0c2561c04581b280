"""Old sessions are deleted: those that do not run and were last changed before their org's retention."""

from __future__ import annotations

import logging

from conductor_ai.conductor import Conductor
from conductor_ai.delivery.views import Views
from conductor_ai.errors import SessionBusy, SessionNotFound, StoreCorrupt
from conductor_ai.storage.base import Store

_AT_ONCE = 100

_logger = logging.getLogger(__name__)


class Retention:
    """Args:
    default_days: The retention of orgs that name none; None: they keep everything.
    """

    def __init__(self, conductor: Conductor, store: Store, views: Views, default_days: int | None) -> None:
        self._conductor = conductor
        self._store = store
        self._views = views
        self._default_days = default_days

    async def delete_expired(self) -> None:
        """One that cannot be deleted keeps no other from it. Raises: StorageError."""
        kept: set[str] = set()
        while True:
            limit = _AT_ONCE + len(kept)
            found = await self._store.expired(self._default_days, limit=limit)
            deleted = 0
            for org_id, session_id, _ in found:
                if session_id in kept:
                    continue
                try:
                    await self._conductor.delete(session_id, org_id=org_id, by="retention")
                except (SessionBusy, SessionNotFound) as exc:  # it goes on just now, or another process was faster
                    _logger.debug("session %s is not deleted: %s", session_id, exc)
                    kept.add(session_id)
                    continue
                except StoreCorrupt as exc:
                    _logger.warning("session %s is kept beyond its org's retention: %s", session_id, exc)
                    kept.add(session_id)
                    continue
                await self._views.forget(session_id)
                deleted += 1
            if deleted:
                _logger.info("%d sessions were deleted, as their org's retention wants it", deleted)
            if not deleted or len(found) < limit:
                return
