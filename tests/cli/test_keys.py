"""`conductor keys`, `conductor orgs` and `conductor db`: what operators do, with no model and no plugin."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from conductor_ai.errors import Unauthorized
from conductor_ai.schemas.ids import utc_now
from conductor_ai.schemas.orgs import Caller, Scope
from conductor_ai.settings import Settings
from conductor_ai.storage.sqlite import SQLiteStore
from conductor_ai.wiring.service import open_administration
from tests.cli.console import Console
from tests.storage.session_log import SessionLog

KEY = re.compile(r"cond_dev_[a-z0-9]{8}_[A-Za-z0-9_-]{43}[0-9a-f]{8}")
MIGRATIONS = ["001_audit_and_leads", "002_sessions", "003_approvals", "004_approval_actions", "005_service"]


def caller_with(console: Console, key: str) -> Caller:
    """Whom a server over the same folder would take the holder of `key` for."""

    async def ask() -> Caller:
        async with open_administration(Settings(conductor_home=console.folder / ".conductor")) as opened:
            return await opened.keys.caller(key)

    return asyncio.run(ask())


def home_bytes(console: Console) -> bytes:
    return b"".join(path.read_bytes() for path in (console.folder / ".conductor").iterdir())


def test_a_key_is_shown_once_and_opens_the_server(console: Console) -> None:
    made = console("keys", "create", "--org", "acme", "--scopes", "run, read", "--name", "ci")
    assert made.code == 0
    assert KEY.fullmatch(made.out.strip())
    key = made.out.strip()
    key_id = key.split("_")[2]
    assert made.err == f"key {key_id} of org acme, for read, run; shown this once\n"
    assert caller_with(console, key) == Caller("acme", frozenset({Scope.RUN, Scope.READ}), key_id)
    assert key.encode()[18:] not in home_bytes(console)
    listed = console.here("keys", "list", "--org", "acme")
    assert listed.out.startswith(f"{key_id}\tci\tread,run\tvalid\t")
    assert key not in listed.out


def test_json_has_the_key_and_its_record(console: Console) -> None:
    made = console.here("keys", "create", "--scopes", "approve", "--expires-days", "30", "--json").json
    key = made.pop("key")
    assert KEY.fullmatch(key)
    assert made["key_id"] == key.split("_")[2]
    assert (made["org_id"], made["scopes"], made["revoked_at"]) == ("default", ["approve"], None)
    assert made["expires_at"] > made["created_at"]
    assert console.here("keys", "list", "--json").json == [made]


def test_a_revoked_key_opens_nothing(console: Console) -> None:
    made = console.here("keys", "create", "--org", "acme", "--scopes", "run", "--json").json
    assert console.here("keys", "revoke", made["key_id"]).out == f"{made['key_id']} revoked\n"
    with pytest.raises(Unauthorized):
        caller_with(console, made["key"])
    (listed,) = console.here("keys", "list", "--org", "acme", "--json").json
    assert listed["revoked_at"] is not None
    assert "\trevoked\t" in console.here("keys", "list", "--org", "acme").out


def test_a_rotated_key_works_beside_the_new_one(console: Console) -> None:
    old = console.here("keys", "create", "--org", "acme", "--scopes", "run,admin", "--json").json
    new = console.here("keys", "rotate", old["key_id"], "--json").json
    assert (new["org_id"], new["scopes"]) == ("acme", ["admin", "run"])
    listed = {key["key_id"]: key for key in console.here("keys", "list", "--org", "acme", "--json").json}
    assert listed[old["key_id"]]["expires_at"] == new["old_key_expires_at"]
    assert listed[new["key_id"]]["in_place_of"] == old["key_id"]
    assert caller_with(console, old["key"]).key_id == old["key_id"]
    assert caller_with(console, new["key"]).key_id == new["key_id"]
    last = console.here("keys", "rotate", new["key_id"], "--grace-hours", "0", "--json").json
    with pytest.raises(Unauthorized):
        caller_with(console, new["key"])
    assert caller_with(console, last["key"]).key_id == last["key_id"]


def test_a_rotation_says_until_when_the_old_key_works(console: Console) -> None:
    old = console.here("keys", "create", "--scopes", "run", "--json").json
    rotated = console.here("keys", "rotate", old["key_id"])
    (ends_at,) = [key["expires_at"] for key in console.here("keys", "list", "--json").json if key["expires_at"]]
    assert rotated.err.endswith(f"key {old['key_id']} works until {ends_at[:19]} UTC\n")


def test_an_org_that_is_damaged_is_listed_with_the_way_to_mend_it(console: Console) -> None:
    console.here("orgs", "set", "acme", "--max-usd-per-day", "5")
    console.here("orgs", "set", "fine", "--max-usd-per-day", "5")
    database = sqlite3.connect(console.folder / ".conductor" / "conductor.db", isolation_level=None)
    database.execute("UPDATE orgs SET max_usd_per_day = '0' WHERE org_id = 'acme'")
    database.close()

    listed = console.here("orgs", "list", "--json").json
    shown = console.here("orgs", "show", "acme")
    console.here("orgs", "set", "acme", "--max-usd-per-day", "7")
    mended = console.here("orgs", "list")

    assert [(org["org_id"], org["limits"] is None, "problem" in org) for org in listed] == [
        ("acme", True, True),
        ("fine", False, False),
    ]
    assert (shown.code, "conductor orgs set acme --max-usd-per-day N" in shown.err) == (1, True)
    assert mended.out.splitlines() == ["acme\tmax usd per day: 7", "fine\tmax usd per day: 5"]


def test_the_audit_names_the_person_and_never_the_key(console: Console) -> None:
    made = console.here("keys", "create", "--scopes", "run", "--json").json
    console.here("keys", "revoke", made["key_id"])

    async def rows() -> list[Any]:
        store = await SQLiteStore.open(console.folder / ".conductor")
        found, _ = await store.audit_rows("default", None)
        await store.close()
        return found

    found = asyncio.run(rows())
    assert [row.action for row in found] == ["key.created", "key.revoked"]
    assert all(f'"by":"{made["created_by"]}"' in row.metadata for row in found)
    assert all(made["key_id"] in row.metadata and made["key"][18:] not in row.metadata for row in found)


REFUSED: dict[str, tuple[str, ...]] = {
    "unknown scope": ("keys", "create", "--scopes", "run,root"),
    "no scope": ("keys", "create", "--scopes", ","),
    "odd org": ("keys", "create", "--scopes", "run", "--org", "a b"),
    "unknown key": ("keys", "revoke", "nothing1"),
    "another org's key": ("keys", "rotate", "nothing1", "--org", "acme"),
    "a key for its id": ("keys", "revoke", "cond_dev_aaaaaaaa_secret"),
    "no limit": ("orgs", "set", "acme"),
    "unknown limit": ("orgs", "set", "acme", "--max-usd-per-day", "lots"),
    "no day": ("orgs", "usage", "acme", "--from", "monday"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_makes_no_sense_is_refused_in_one_line(console: Console, what: str) -> None:
    refused = console.here(*REFUSED[what])
    assert (refused.code, refused.out) == (2, "")
    assert re.fullmatch(r"error: .*\n(hint: .*\n)?", refused.err)
    assert "_secret" not in refused.err


def test_lists_make_no_database(console: Console) -> None:
    for command in (("keys", "list"), ("orgs", "list"), ("orgs", "usage"), ("db", "status")):
        assert console.here(*command, "--json").code in (0, 1)
    assert list(console.folder.iterdir()) == []


def test_limits_are_set_shown_and_taken_away(console: Console) -> None:
    assert console.here("orgs", "show", "acme").out.splitlines()[1] == "limit    no limits"
    done = console("orgs", "set", "acme", "--max-usd-per-day", "2.50", "--max-running-sessions", "3")
    assert (done.code, done.out) == (0, "acme: max running sessions: 3; max usd per day: 2.5\n")
    left = console.here("orgs", "set", "acme", "--max-running-sessions", "none", "--json").json
    shown = console.here("orgs", "show", "acme", "--json").json
    assert shown["limits"] == left["limits"]
    assert left["limits"] == {
        "requests_per_minute": None,
        "max_running_sessions": None,
        "max_usd_per_day": "2.5",
        "max_usd_per_month": None,
        "retention_days": None,
    }
    assert shown["committed_usd"] == {"day": "0", "month": "0"}
    assert [org["org_id"] for org in console.here("orgs", "list", "--json").json] == ["acme"]
    assert console.here("orgs", "list").out == "acme\tmax usd per day: 2.5\n"


def test_usage_shows_what_was_spent_by_day_and_model(console: Console) -> None:
    async def spend() -> None:
        store = await SQLiteStore.open(console.folder / ".conductor")
        log = SessionLog(org_id="acme")
        await store.append(log.next(calls=[Decimal("0.25"), None], at=utc_now()))
        await store.close()

    asyncio.run(spend())
    (row,) = console.here("orgs", "usage", "acme", "--json").json
    assert (row["model"], row["calls"], row["cost_usd"], row["unpriced_calls"]) == ("model-1", 2, "0.25", 1)
    assert console.here("orgs", "usage", "acme").out.endswith("\tmodel-1\t2\t74\t$0.25 and 1 of unknown price\n")
    assert console.here("orgs", "usage", "acme", "--from", "2020-01-01", "--to", "2020-01-31", "--json").json == []
    assert "money    $0.25 today, $0.25 this month" in console.here("orgs", "show", "acme").out


def test_the_database_is_made_and_brought_up_to_date_on_request(console: Console) -> None:
    before = console.here("db", "status", "--json")
    assert (before.code, before.json["applied"]) == (1, [])
    assert before.json["pending"][:5] == MIGRATIONS
    done = console("db", "migrate")
    assert done.code == 0
    assert done.out.splitlines()[:5] == [f"{name} applied" for name in MIGRATIONS]
    assert console.here("db", "migrate").out == "up to date\n"
    after = console.here("db", "status", "--json")
    assert (after.code, after.json["applied"], after.json["pending"]) == (0, before.json["pending"], [])
    assert Path(after.json["database"]).name == "conductor.db"


def test_production_makes_keys_that_say_so(console: Console) -> None:
    console.env["APP_ENV"] = "production"
    assert console.here("keys", "create", "--scopes", "run").out.startswith("cond_live_")


def test_the_same_commands_look_after_postgres(console: Console, empty_postgres_url: str) -> None:
    console.env |= {"DATABASE_URL": empty_postgres_url, "CONDUCTOR_KEY_PEPPER": "a pepper of the tests"}
    before = console.here("db", "status", "--json")
    assert (before.code, before.json["applied"]) == (1, [])
    assert console.here("db", "migrate", "--json").json == {"applied": before.json["pending"]}
    after = console.here("db", "status", "--json")
    assert (after.code, after.json["applied"]) == (0, before.json["pending"])

    made = console.here("keys", "create", "--org", "acme", "--scopes", "run", "--json").json
    console.here("orgs", "set", "acme", "--max-usd-per-day", "2.50")

    assert [key["key_id"] for key in console.here("keys", "list", "--org", "acme", "--json").json] == [made["key_id"]]
    assert console.here("orgs", "show", "acme", "--json").json["limits"]["max_usd_per_day"] == "2.5"
    assert list(console.folder.iterdir()) == []
    password = urlsplit(empty_postgres_url).password
    assert password is None or password not in before.out + after.out
