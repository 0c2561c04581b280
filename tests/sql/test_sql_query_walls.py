"""The walls behind the validator: the role, the transaction, the org that the database can check, time.

Statements go past the validator here, and everything must hold all the same. A test of a wall has a twin in which the
wall is gone, so that it is known what the test would see.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable

import psycopg
import pytest

from conductor_ai.tools.sql import identity
from conductor_ai.tools.sql.answer import Answer
from conductor_ai.tools.sql.failures import QueryFailed
from tests.conftest import fail_after
from tests.services.fault_proxy import FaultProxy
from tests.sql.corpus_hostile import STATEMENTS
from tests.sql.corpus_useful import USEFUL
from tests.sql.shop import OTHER, Shop, ask, values_of

ENDLESS = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b"
EVERYBODYS = "SELECT string_agg(DISTINCT org, ',') FROM orders"
_CALLS = 4
# What one of many that ran past the validator may take; the slow ones are cut off.
_EACH_S = 1.0


async def leaks_of(shop: Shop, statements: list[str], url: str | None = None) -> list[str]:
    """Those of `statements` that showed `acme` something of the other org, or took too long."""
    leaks: list[str] = []
    todo = iter(statements)

    async def work() -> None:
        for sql in todo:
            try:
                answer = await shop.past_the_validator(sql, timeout_s=_EACH_S, url=url)
            except QueryFailed:
                continue
            if OTHER in json.dumps(answer.rows):
                leaks.append(sql)

    async with asyncio.TaskGroup() as group:
        for _ in range(_CALLS):
            group.create_task(work())
    return leaks


# Without those that name the other org themselves, or cannot be sent at all.
HOSTILE = [sql for _, sql in STATEMENTS if OTHER not in sql and "\ud800" not in sql]
WORST = [
    "SELECT set_config('conductor_sql.identity', '', true), org FROM orders",
    "SELECT set_config('role', 'none', false), org FROM orders",
    "SELECT set_config('row_security', 'off', true), org FROM orders",
    "SELECT set_config('transaction_read_only', 'off', true), org FROM orders",
    "SELECT pg_notify('alarm', org) FROM orders",
    "SELECT lo_from_bytea(0, 'left behind')",
    "SELECT query_to_xml('SELECT * FROM orders', true, true, '')",
    "SELECT inner_pad FROM conductor_sql.keys",
    "DELETE FROM orders",
    "WITH gone AS (DELETE FROM orders RETURNING org) SELECT * FROM gone",
    "SELECT * INTO copied FROM orders",
    "SELECT 1; COMMIT; DROP TABLE orders",
    "COMMIT; DROP TABLE orders",
    "SELECT 1) AS q; COMMIT; DROP TABLE orders; SELECT * FROM (SELECT 1",
    "DO $$ BEGIN DELETE FROM orders; END $$",
    "COPY orders TO STDOUT",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "CREATE TABLE copied ()",
    "RESET ROLE",
    "SELECT * FROM payroll",
]


async def test_past_the_validator_nothing_is_left_behind_and_no_row_of_others_is_seen(shop: Shop) -> None:
    before = shop.state()
    with psycopg.connect(shop.admin_url, autocommit=True) as listening:
        listening.execute("LISTEN alarm")
        assert await leaks_of(shop, WORST) == []
        assert list(listening.notifies(timeout=0)) == []
    assert shop.state() == before


@pytest.mark.slow
@pytest.mark.parametrize("way", ["direct", "pgbouncer"])
async def test_past_the_validator_the_whole_corpus_leaves_nothing_behind(
    shop: Shop, way: str, request: pytest.FixtureRequest
) -> None:
    url = None if way == "direct" else request.getfixturevalue("pooled_url")
    before = shop.state()
    assert await leaks_of(shop, HOSTILE, url) == []
    assert shop.state() == before


# For which org


async def test_a_setting_that_sql_makes_up_is_nobodys_signature(shop: Shop) -> None:
    key = identity.key_of("another password")
    forged = [
        identity.sign(key, "challenge", OTHER),
        f"{OTHER.encode().hex()}.{'0' * 64}",
        f"{OTHER.encode().hex()}.",
        OTHER,
        "",
        ".",
        "zz." + "0" * 64,
        "ff." + "0" * 64,
    ]
    given = iter(forged)
    for value in forged:
        sql = f"SELECT (SELECT set_config('{identity.SETTING}', '{value}', true)), ({EVERYBODYS})"
        answer = await shop.past_the_validator(sql)
        assert answer.rows[0][1] in (None, "acme")
        assert await org_for(shop, lambda _: next(given)) is None


async def org_for(shop: Shop, make: Callable[[str], str]) -> str | None:
    """For which org the database answers, given what `make` makes of its challenge."""
    async with await psycopg.AsyncConnection.connect(shop.url) as connection:
        cursor = await connection.execute("SELECT conductor_sql.challenge()")
        ((challenge,),) = await cursor.fetchall()
        await connection.execute("SELECT set_config(%s, %s, true)", [identity.SETTING, make(challenge)])
        cursor = await connection.execute("SELECT conductor_sql.org_id()")
        ((org,),) = await cursor.fetchall()
        return None if org is None else str(org)


async def test_a_signature_counts_for_its_org_and_its_transaction_only(shop: Shop) -> None:
    key, seen = identity.key_of(shop.role.password), list[str]()

    def answer(challenge: str) -> str:
        seen.append(identity.sign(key, challenge, "acme"))
        return seen[0]

    assert await org_for(shop, answer) == "acme"
    assert await org_for(shop, answer) is None  # the same again, in the next transaction
    assert len(set(seen)) == 2
    assert await org_for(shop, lambda challenge: identity.sign(key, challenge, "ö'; --\n")) == "ö'; --\n"
    other = OTHER.encode().hex()
    assert await org_for(shop, lambda challenge: f"{other}.{identity.sign(key, challenge, 'acme')[-64:]}") is None
    assert await org_for(shop, lambda challenge: identity.sign(identity.key_of("x"), challenge, OTHER)) is None


async def test_the_signature_is_hmac_sha_256_as_others_make_it(shop: Shop) -> None:
    key = identity.key_of(shop.role.password)

    def by_hand(challenge: str) -> str:
        org = b"acme".hex()
        return f"{org}.{hmac.new(key, f'{challenge}.{org}'.encode(), hashlib.sha256).hexdigest()}"

    assert await org_for(shop, by_hand) == "acme"


async def test_with_a_plain_setting_in_its_place_the_other_orgs_rows_would_be_seen(own_shop: Shop) -> None:
    sql = f"SELECT (SELECT set_config('{identity.SETTING}', '{OTHER.encode().hex()}.', true)), ({EVERYBODYS})"
    assert OTHER not in json.dumps((await own_shop.past_the_validator(sql)).rows)

    own_shop.run(
        "CREATE OR REPLACE FUNCTION conductor_sql.org_id() RETURNS text LANGUAGE sql STABLE AS $$"
        f" SELECT convert_from(decode(split_part(current_setting('{identity.SETTING}', true), '.', 1), 'hex'), 'UTF8')"
        " $$"
    )
    assert (await own_shop.past_the_validator(sql)).rows[0][1] == OTHER


async def test_a_database_that_holds_another_key_is_refused(own_shop: Shop) -> None:
    own_shop.run("UPDATE conductor_sql.keys SET inner_pad = sha256(inner_pad) || sha256(inner_pad)")
    result = await own_shop.ask("SELECT 1")
    assert result.error is not None
    assert result.error.startswith("refused: the database does not accept who asks")


async def test_a_policy_for_everybody_adds_no_rows(own_shop: Shop) -> None:
    own_shop.run("CREATE POLICY everybody ON orders FOR SELECT TO PUBLIC USING (true)")
    assert (await own_shop.past_the_validator(EVERYBODYS)).rows == [["acme"]]

    own_shop.run(f"DROP POLICY {own_shop.role.name}_org ON orders")  # and it is the wall that does it
    assert (await own_shop.past_the_validator(EVERYBODYS)).rows == [[f"acme,{OTHER}"]]


# Who asks


TOO_MUCH = {
    "may make databases": ("ALTER ROLE {role} CREATEDB", "ALTER ROLE {role} NOCREATEDB"),
    "may make roles": ("ALTER ROLE {role} CREATEROLE", "ALTER ROLE {role} NOCREATEROLE"),
    "may change orders": ("GRANT INSERT ON orders TO {role}", "REVOKE INSERT ON orders FROM {role}"),
    "may change targets": ("GRANT UPDATE ON sales.targets TO {role}", "REVOKE UPDATE ON sales.targets FROM {role}"),
    "may change customers": ("GRANT DELETE ON customers TO PUBLIC", "REVOKE DELETE ON customers FROM PUBLIC"),
    "is a member of another role": ("CREATE ROLE {role}_x; GRANT {role}_x TO {role}", "DROP ROLE {role}_x"),
    "owns orders": (
        "GRANT {role} TO CURRENT_USER; GRANT CREATE ON SCHEMA public TO {role}; ALTER TABLE orders OWNER TO {role}",
        "SELECT 1",
    ),
}


async def test_a_role_that_could_do_more_than_read_is_refused(own_shop: Shop) -> None:
    name = own_shop.role.name
    for wrong, (grant, undo) in TOO_MUCH.items():
        assert (await own_shop.ask("SELECT 1")).success
        own_shop.run(grant.format(role=name))
        result = await own_shop.ask("SELECT 1")
        own_shop.run(undo.format(role=name))
        assert result.error is not None, wrong
        assert result.error.startswith(f"refused: the database role {name} {wrong};")
        assert "conductor db sandbox-role" in result.error


async def test_the_owner_of_the_database_is_refused(shop: Shop) -> None:
    result = await shop.ask("SELECT 1", url=shop.admin_url)
    assert result.error is not None
    assert result.error.startswith("refused: the database role conductor may make roles")


# How a statement is read


async def test_the_session_reads_a_statement_as_the_validator_did(own_shop: Shop) -> None:
    own_shop.run(f"ALTER ROLE {own_shop.role.name} SET search_path = sales, public")
    own_shop.run(f"ALTER ROLE {own_shop.role.name} SET standard_conforming_strings = off")
    own_shop.run("CREATE TABLE sales.orders AS SELECT 'not this one' AS org")
    own_shop.run(f"GRANT SELECT ON sales.orders TO {own_shop.role.name}")
    assert (await own_shop.ask("SELECT DISTINCT org, 'a\\' AS b FROM orders")).result["rows"] == [["acme", "a\\"]]


# Time


async def test_what_takes_too_long_ends_and_the_next_query_is_fine(shop: Shop) -> None:
    with pytest.raises(QueryFailed, match=r"no answer within 0\.3 s"):
        await shop.past_the_validator(ENDLESS, timeout_s=0.3)
    async with fail_after(10):
        await shop.all_quiet()
    assert (await shop.ask("SELECT 1")).success


@pytest.mark.parametrize("how", ["SET statement_timeout = 0", "SELECT set_config('statement_timeout', '0', true)"])
async def test_a_statement_that_lifted_its_own_limit_ends_all_the_same(shop: Shop, how: str) -> None:
    sql = f"{how}, ({ENDLESS})" if how.startswith("SELECT") else how
    async with fail_after(10):
        with pytest.raises(QueryFailed):
            await shop.past_the_validator(sql, timeout_s=0.3)
        await shop.all_quiet()


async def test_a_call_that_is_cancelled_ends_on_the_server(shop: Shop) -> None:
    async with fail_after(20):
        call = asyncio.create_task(shop.past_the_validator(ENDLESS, timeout_s=15))
        while not await asyncio.to_thread(running, shop):  # noqa: ASYNC110  the server tells nobody
            await asyncio.sleep(0.02)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await shop.all_quiet()


def running(shop: Shop) -> bool:
    """Whether the server works at a statement of the role: it says to others only that there is one."""
    found = shop.run("SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.usename = %s"
                     " AND l.locktype = 'virtualxid'", shop.role.name)  # fmt: skip
    return bool(found)


async def test_a_network_that_went_dead_does_not_keep_a_call(
    shop: Shop, fault_proxy: Callable[[str], FaultProxy]
) -> None:
    proxy = fault_proxy(shop.url)

    async def stalled() -> Answer:
        return await shop.past_the_validator(ENDLESS, timeout_s=0.5, url=proxy.url)

    async with fail_after(10):
        call = asyncio.create_task(stalled())
        while not await asyncio.to_thread(running, shop):  # noqa: ASYNC110  the server tells nobody
            await asyncio.sleep(0.02)
        proxy.stall()
        with pytest.raises(QueryFailed, match=r"no answer within 0\.5 s"):
            await call
        # Nobody could tell it to stop: it has its own clock.
        while await asyncio.to_thread(running, shop):  # noqa: ASYNC110  the server tells nobody
            await asyncio.sleep(0.02)
        proxy.heal()
        await shop.all_quiet()


@pytest.mark.slow
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a.*, b.* FROM generate_series(1, 3000000) a, generate_series(1, 3000000) b ORDER BY random()",
        "SELECT string_agg(repeat('x', 1000000), '') FROM generate_series(1, 3000)",
        "SELECT repeat('x', 900000000)",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
        "WITH RECURSIVE t(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM t) SELECT max(length(s)) FROM t",
        "SELECT count(*) FROM orders a, orders b, orders c, orders d, orders e, orders f, orders g, orders h",
        "SELECT array_agg(a) FROM generate_series(1, 100000000) a",
    ],
    ids=["sort", "aggregate", "value", "recursion", "growth", "join", "array"],
)
async def test_bombs_end_and_the_next_query_is_fine(shop: Shop, sql: str) -> None:
    async with fail_after(20):
        with pytest.raises(QueryFailed):
            await shop.past_the_validator(sql, timeout_s=2)
        await shop.all_quiet()
    assert (await shop.ask("SELECT 1")).success


# Through PgBouncer, in transaction mode, with two connections for everybody


async def test_through_a_pooler_each_org_reads_its_own_and_nothing_stays_in_the_session(
    shop: Shop, pooled_url: str
) -> None:
    before = shop.state()
    tool_rows = [await shop.ask(EVERYBODYS, org=org, url=pooled_url) for org in ("acme", OTHER) * 3]
    assert [result.result["rows"] for result in tool_rows] == [[["acme"]], [[OTHER]]] * 3
    assert await leaks_of(shop, WORST, pooled_url) == []

    settings = "search_path", "transaction_read_only", identity.SETTING, "statement_timeout"
    async with await psycopg.AsyncConnection.connect(pooled_url.partition("?")[0], autocommit=True) as connection:
        cursor = await connection.execute(
            "SELECT coalesce(current_setting(name, true), '') FROM unnest(%s::text[]) AS name", [list(settings)]
        )
        found = [value for (value,) in await cursor.fetchall()]
    assert found == ["pg_catalog, public", "on", "", "15s"]  # those of the role
    assert shop.state() == before


async def test_through_a_pooler_what_takes_too_long_ends_and_the_next_query_is_fine(
    shop: Shop, pooled_url: str
) -> None:
    for _ in range(3):
        with pytest.raises(QueryFailed, match=r"no answer within 0\.3 s"):
            await shop.past_the_validator(ENDLESS, timeout_s=0.3, url=pooled_url)
    result = await shop.ask("SELECT count(*) FROM orders", url=pooled_url)
    assert result.result["rows"] == [[20]]


@pytest.mark.slow
async def test_through_a_pooler_every_useful_statement_runs_and_shows_no_row_of_the_other_org(
    shop: Shop, pooled_url: str
) -> None:
    tool, wrong = shop.tool(url=pooled_url), []
    for sql in USEFUL:
        result = await ask(tool, {"sql": sql, "params": values_of(sql)})
        if not result.success or OTHER in json.dumps(result.result):
            wrong.append((sql, result.error or result.result))
    assert wrong == []
