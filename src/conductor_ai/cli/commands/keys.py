"""`conductor keys`: who may use the API, and for what."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conductor_ai.cli.administration import OrgOption
from conductor_ai.cli.options import AsJSON
from conductor_ai.errors import KeyNotFound, UsageError

if TYPE_CHECKING:
    from conductor_ai.schemas.orgs import KeyRecord
    from conductor_ai.wiring.service import Administration

_DEFAULT_ORG = "default"
_MOST_DAYS = 36_500

KeyId = Annotated[str, typer.Argument(metavar="ID", help="Id of a key, as `conductor keys list` shows it.")]
OfAnyOrg = Annotated[str | None, typer.Option("--org", metavar="ORG", help="Only if it is a key of this org.")]


def create(
    scopes: Annotated[
        str, typer.Option("--scopes", metavar="A,B", help="What it may do: run, read, approve, admin, or several.")
    ],
    org: OrgOption = _DEFAULT_ORG,
    name: Annotated[str, typer.Option("--name", help="What it is for.")] = "",
    expires_days: Annotated[
        int | None, typer.Option("--expires-days", min=1, max=_MOST_DAYS, help="It ends after so many days.")
    ] = None,
    as_json: AsJSON = False,
) -> int:
    """Make a key, and show it: this once, for only its hash is stored."""
    import asyncio

    return asyncio.run(_create(org, scopes, name, expires_days, as_json=as_json))


async def _create(org: str, scopes: str, name: str, expires_days: int | None, *, as_json: bool) -> int:
    from datetime import UTC, datetime, timedelta

    from conductor_ai.cli.administration import administration
    from conductor_ai.cli.door import person

    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    expires_at = None
    if expires_days is not None:
        expires_at = (datetime.now(UTC) + timedelta(days=expires_days)).isoformat()
    async with administration() as opened:
        made = await opened.keys.create(org, scopes=wanted, name=name, expires_at=expires_at, by=person())
    return _show_new(*made, as_json=as_json)


def list_keys(org: OrgOption = _DEFAULT_ORG, as_json: AsJSON = False) -> int:
    """List the keys of an org, oldest first. A key itself cannot be shown again."""
    import asyncio

    return asyncio.run(_list(org, as_json=as_json))


async def _list(org: str, *, as_json: bool) -> int:
    from conductor_ai.cli.administration import administration
    from conductor_ai.cli.door import has_database
    from conductor_ai.cli.output import note, say_json, say_table
    from conductor_ai.schemas.ids import utc_now

    keys: list[KeyRecord] = []
    if has_database():
        async with administration() as opened:
            keys = await opened.keys.list(org)
    if as_json:
        say_json([key.to_dict() for key in keys])
        return 0
    if not keys:
        note(f"the org {org} has no key")
        return 0
    now = utc_now()
    rows = [
        (
            key.key_id,
            key.name,
            ",".join(sorted(key.scopes)),
            _state(key, now),
            key.created_at[:19],
            (key.expires_at or "never")[:19],
            (key.last_used_at or "never")[:19],
        )
        for key in keys
    ]
    headings = ("key", "name", "scopes", "state", "created (UTC)", "expires", "last used")
    say_table(headings, rows, shorten=("name", "scopes"))
    return 0


def revoke(key_id: KeyId, org: OfAnyOrg = None, as_json: AsJSON = False) -> int:
    """End a key for good; servers that run refuse it within a second."""
    import asyncio

    return asyncio.run(_revoke(key_id, org, as_json=as_json))


async def _revoke(key_id: str, org: str | None, *, as_json: bool) -> int:
    from conductor_ai.cli.administration import administration
    from conductor_ai.cli.door import person
    from conductor_ai.cli.output import say, say_json

    async with administration() as opened:
        record = await opened.keys.revoke(key_id, org or await _org_of(opened, key_id), by=person())
    if as_json:
        say_json(record.to_dict())
    else:
        say(f"{record.key_id} revoked")
    return 0


def rotate(
    key_id: KeyId,
    org: OfAnyOrg = None,
    grace_hours: Annotated[
        float, typer.Option("--grace-hours", min=0, max=24 * _MOST_DAYS, help="How long the old one works on.")
    ] = 24.0,
    as_json: AsJSON = False,
) -> int:
    """Make a key in place of another, with the same scopes; both work until the grace is over."""
    import asyncio

    return asyncio.run(_rotate(key_id, org, grace_hours, as_json=as_json))


async def _rotate(key_id: str, org: str | None, grace_hours: float, *, as_json: bool) -> int:
    from conductor_ai.cli.administration import administration
    from conductor_ai.cli.door import person
    from conductor_ai.cli.output import note, say_json

    async with administration() as opened:
        org_id = org or await _org_of(opened, key_id)
        record, key, old = await opened.keys.rotate(key_id, org_id, by=person(), grace_s=grace_hours * 3600)
    if as_json:
        say_json({**record.to_dict(), "key": key, "old_key_expires_at": old.expires_at})
        return 0
    _show_new(record, key, as_json=False)
    note(f"key {old.key_id} works until {(old.expires_at or 'it is revoked')[:19]} UTC")
    return 0


async def _org_of(opened: Administration, key_id: str) -> str:
    """Whoever may run commands on the database need not say whose a key is. Raises: KeyNotFound, UsageError."""
    if key_id.startswith("cond_"):
        raise UsageError("that is a key, not the id of one", hint="its id are the eight letters after the second _")
    found = await opened.store.key(key_id)
    if found is None:
        raise KeyNotFound(f"no key {key_id}", hint="conductor keys list --org ORG")
    return found[0].org_id


def _show_new(record: KeyRecord, key: str, *, as_json: bool) -> int:
    from conductor_ai.cli.output import note, say, say_json

    if as_json:
        say_json({**record.to_dict(), "key": key})
        return 0
    say(key)
    note(f"key {record.key_id} of org {record.org_id}, for {', '.join(sorted(record.scopes))}; shown this once")
    return 0


def _state(key: KeyRecord, now: str) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "valid" if key.works_at(now) else "expired"


COMMANDS: dict[str, Callable[..., Any]] = {"create": create, "list": list_keys, "revoke": revoke, "rotate": rotate}
