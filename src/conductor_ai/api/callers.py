"""Who makes a request: the holder of a key, of a ticket, or somebody at this machine while there is no key yet."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from conductor_ai.api.hosts import came_directly
from conductor_ai.api.incoming import Head, query_value
from conductor_ai.errors import Forbidden, StorageError, Unauthorized
from conductor_ai.schemas.orgs import DEFAULT_ORG, Caller, checked_org_id

if TYPE_CHECKING:
    from starlette.types import Scope

    from conductor_ai.api.house import House

OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready"})
"""Anybody may ask these; what they say depends on who does."""

_EVENTS = re.compile(r"/agents/([^/]+)/events")


async def caller_of(scope: Scope, head: Head, house: House) -> Caller | None:
    """None only for a path that is open to anybody. Raises: Unauthorized, Forbidden, InvalidInput."""
    if head.authorization is not None:
        return _in_its_org(await house.service.keys.caller(_presented(head.authorization)), head)
    streamed = _EVENTS.fullmatch(scope["path"]) if scope["method"] == "GET" and scope["query_string"] else None
    if streamed is not None and (ticket := query_value(scope, "ticket")) is not None:
        service = house.service
        return _in_its_org(await house.tickets.caller(ticket, streamed[1], service.hot, service.keys), head)
    is_open = scope["path"] in OPEN_PATHS
    peer = scope.get("client")
    if house.allows_keyless and came_directly(head, peer[0] if peer else None):
        if not await _keys_exist(house, is_open):
            return Caller(_org_named(head))
        if not is_open:
            raise Unauthorized(
                "no valid key",
                hint="a key was made, so requests from this machine need one too: `Authorization: Bearer KEY`",
            )
    if is_open:
        return None
    return await house.service.keys.caller(None)


async def _keys_exist(house: House, is_open: bool) -> bool:
    """A proxy on this machine need not say that it is one, so that its requests look as if they were made here: from
    the first key on, nobody is let in without one."""
    try:
        return await house.service.keys.exist()
    except StorageError:
        if is_open:  # whether the server lives is told without its database
            return True
        raise


def _presented(authorization: str) -> str:
    scheme, _, presented = authorization.partition(" ")
    return presented.strip() if scheme.lower() == "bearer" else ""


def _in_its_org(caller: Caller, head: Head) -> Caller:
    if head.org_id is not None and head.org_id != caller.org_id:
        raise Forbidden("the key is not one of the org in X-Org-ID", hint="leave X-Org-ID out: the key says its org")
    return caller


def _org_named(head: Head) -> str:
    if head.org_id is None:
        return DEFAULT_ORG
    return checked_org_id(head.org_id)
