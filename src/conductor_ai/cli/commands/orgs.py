"""`conductor orgs`: what tenants may use, and what they have used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conductor_ai.cli.administration import OrgArgument
from conductor_ai.cli.options import AsJSON
from conductor_ai.errors import UsageError

if TYPE_CHECKING:
    from conductor_ai.schemas.orgs import OrgLimits, OrgRecord
    from conductor_ai.storage.base import UsageRow

_DEFAULT_ORG = "default"
_NO_LIMIT = "none"

_Limit = Annotated[str | None, typer.Option(metavar="N|none")]


def list_orgs(as_json: AsJSON = False) -> int:
    """List the orgs that have limits or keys of their own."""
    import asyncio

    return asyncio.run(_list(as_json=as_json))


async def _list(*, as_json: bool) -> int:
    from conductor_ai.cli.administration import administration
    from conductor_ai.cli.door import has_database
    from conductor_ai.cli.output import note, say_json, say_table

    found: list[OrgRecord] = []
    if has_database():
        async with administration() as opened:
            found = await opened.orgs.list()
    if as_json:
        say_json([org.to_dict() for org in found])
        return 0
    if not found:
        note("no org has limits or keys of its own")
        return 0
    rows = [(org.org_id, org.problem or "; ".join(_limit_lines(org.limits)) or "no limits") for org in found]
    say_table(("org", "limits"), rows, shorten=("limits",))
    return 0


def show(org: OrgArgument = _DEFAULT_ORG, as_json: AsJSON = False) -> int:
    """Show one org: its limits, what runs, and its money of this day and month."""
    import asyncio

    return asyncio.run(_show(org, as_json=as_json))


async def _show(org_id: str, *, as_json: bool) -> int:
    from conductor_ai.cli.administration import administration
    from conductor_ai.cli.output import say, say_json
    from conductor_ai.cli.text import money
    from conductor_ai.schemas.ids import utc_now
    from conductor_ai.schemas.usage import money_text

    async with administration() as opened:
        org = await opened.orgs.get(org_id)
        running = await opened.store.running_sessions(org_id)
        day, month = await opened.store.committed_usd(org_id, utc_now())
    if as_json:
        committed = {"day": money_text(day), "month": money_text(month)}
        say_json({**org.to_dict(), "running_sessions": running, "committed_usd": committed})
        return 0
    say(f"org      {org.org_id}")
    for line in _limit_lines(org.limits) or ["no limits"]:
        say(f"limit    {line}")
    say(f"running  {running} sessions")
    say(f"money    {money(day)} today, {money(month)} this month, spent or reserved (UTC)")
    return 0


def set_limits(
    org: Annotated[str, typer.Argument(metavar="ORG", help="The org.")],
    requests_per_minute: _Limit = None,
    max_running_sessions: _Limit = None,
    max_usd_per_day: _Limit = None,
    max_usd_per_month: _Limit = None,
    retention_days: _Limit = None,
    as_json: AsJSON = False,
) -> int:
    """Set limits of an org; `none` takes one away, and what is not named stays. Days and months are UTC."""
    import asyncio

    given = {
        "requests_per_minute": requests_per_minute,
        "max_running_sessions": max_running_sessions,
        "max_usd_per_day": max_usd_per_day,
        "max_usd_per_month": max_usd_per_month,
        "retention_days": retention_days,
    }
    changes = {name: None if value == _NO_LIMIT else value for name, value in given.items() if value is not None}
    if not changes:
        raise UsageError("no limit is named", hint="conductor orgs set --help")
    return asyncio.run(_set(org, changes, as_json=as_json))


async def _set(org_id: str, changes: dict[str, Any], *, as_json: bool) -> int:
    from conductor_ai.cli.administration import administration
    from conductor_ai.cli.door import person
    from conductor_ai.cli.output import say, say_json

    async with administration() as opened:
        org = await opened.orgs.set_limits(org_id, changes, by=person())
    if as_json:
        say_json(org.to_dict())
    else:
        say(f"{org.org_id}: {'; '.join(_limit_lines(org.limits)) or 'no limits'}")
    return 0


def usage(
    org: OrgArgument = _DEFAULT_ORG,
    day_from: Annotated[str | None, typer.Option("--from", metavar="DAY", help="First day [default: 30 ago].")] = None,
    day_to: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Last day [default: today].")] = None,
    as_json: AsJSON = False,
) -> int:
    """Show calls, tokens and cost by day and model, deleted sessions included. Days are UTC, as 2026-11-23."""
    import asyncio

    first, before = _days(day_from, day_to)
    return asyncio.run(_usage(org, first, before, as_json=as_json))


async def _usage(org_id: str, first: str, before: str, *, as_json: bool) -> int:
    from conductor_ai.cli.administration import administration
    from conductor_ai.cli.door import has_database
    from conductor_ai.cli.output import note, say_json, say_table
    from conductor_ai.cli.text import money

    rows: Sequence[UsageRow] = []
    if has_database():
        async with administration() as opened:
            rows = await opened.orgs.usage(org_id, first, before)
    if as_json:
        say_json([row.to_dict() for row in rows])
        return 0
    if not rows:
        note(f"the org {org_id} made no model call in that time")
        return 0
    cells = [
        (row.day, row.model, str(row.calls), f"{row.usage.total_tokens:,}", _cost(row, money(row.cost_usd)))
        for row in rows
    ]
    say_table(("day (UTC)", "model", "calls", "tokens", "cost"), cells, shorten=("model",))
    return 0


def _cost(row: UsageRow, known: str) -> str:
    return f"{known} and {row.unpriced_calls} of unknown price" if row.unpriced_calls else known


def _limit_lines(limits: OrgLimits) -> list[str]:
    return [f"{name.replace('_', ' ')}: {value}" for name, value in limits.to_dict().items() if value is not None]


def _days(first: str | None, last: str | None) -> tuple[str, str]:
    from datetime import UTC, date, datetime, timedelta

    today = datetime.now(UTC).date()
    try:
        end = date.fromisoformat(last) if last is not None else today
        begin = date.fromisoformat(first) if first is not None else end - timedelta(days=30)
        return begin.isoformat(), (end + timedelta(days=1)).isoformat()
    except (ValueError, OverflowError):
        raise UsageError("--from and --to are days", hint="such as --from 2026-11-01") from None


COMMANDS: dict[str, Callable[..., Any]] = {"list": list_orgs, "show": show, "set": set_limits, "usage": usage}
