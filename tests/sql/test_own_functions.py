"""Functions and operators that the database has of its own: no statement calls one by a name that looks harmless."""

from __future__ import annotations

import psycopg
import pytest

from conductor_ai.sdk import testing
from conductor_ai.sdk.security.approval import ApprovalRequest, bind_approver
from conductor_ai.tools.sql_execute import SQLExecuteTool
from tests.sql.corpus_useful import POLICY, USEFUL
from tests.sql.shop import OTHER, Shop, values_of

_STEALS = "RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT string_agg(org || salary, $$,$$) FROM payroll'"


async def refusal(shop: Shop, sql: str) -> str:
    result = await shop.ask(sql, **values_of(sql))
    assert result.error is not None, (sql, result.result)
    assert result.error.startswith("refused: "), sql
    return result.error


@pytest.mark.parametrize("argument", ["customers", "record", "anyelement", "VARIADIC customers[]", "my_row", "base"])
async def test_no_function_that_takes_a_row_is_called_by_a_name_behind_a_dot(own_shop: Shop, argument: str) -> None:
    own_shop.run("CREATE DOMAIN my_row AS customers")
    own_shop.run("CREATE TABLE base (); ALTER TABLE customers INHERIT base")
    if argument == "record":  # which only a language other than SQL takes
        body = _STEALS.replace("LANGUAGE sql", "LANGUAGE plpgsql").replace("'SELECT", "'BEGIN RETURN (SELECT")
        own_shop.run(f"CREATE FUNCTION everybody(record) {body[:-1]}); END'")
    else:
        own_shop.run(f"CREATE FUNCTION everybody({argument}) {_STEALS}")
    told = await refusal(own_shop, "SELECT c.id, c.everybody FROM customers c")
    assert told.startswith("refused: everybody behind a dot could call the function public.everybody")
    for sql in (
        "SELECT customers.everybody FROM customers",
        "SELECT public.customers.everybody FROM customers",
        "SELECT q.everybody FROM (SELECT * FROM customers) AS q",
        "WITH q AS (SELECT * FROM customers) SELECT 1 FROM q ORDER BY q.everybody",
        "EXPLAIN SELECT c.everybody FROM customers c",
    ):
        assert "could call the function" in await refusal(own_shop, sql)
    own_shop.run("REVOKE EXECUTE ON ROUTINE everybody FROM PUBLIC")
    result = await own_shop.ask("SELECT c.everybody FROM customers c")
    assert result.error is not None
    assert not result.error.startswith("refused: everybody")


async def test_a_name_that_is_a_listed_functions_is_always_the_catalogues(own_shop: Shop) -> None:
    for name in ("width", "lower", "unnest"):
        own_shop.run(f"CREATE FUNCTION {name}(customers) {_STEALS}")
    own_shop.run(f"CREATE FUNCTION unnest(text[], integer) {_STEALS}")
    for sql in ("SELECT width(c) FROM customers c", 'SELECT "width"(c) FROM customers c',
                "SELECT lower(c) FROM customers c", "SELECT f.* FROM customers c, unnest(c) AS f",
                "SELECT unnest(ARRAY['a'], 1)", "SELECT f FROM unnest(ARRAY['a'], 1) AS f"):  # fmt: skip
        result = await own_shop.ask(sql)
        assert result.error is not None, sql
        assert OTHER not in result.error
    assert (await own_shop.ask("SELECT lower('A'), u.a FROM unnest(ARRAY[1], ARRAY[2]) AS u(a, b)")).success
    with psycopg.connect(own_shop.url) as connection:  # and without the full name it would be called
        assert OTHER in str(connection.execute("SELECT unnest(ARRAY['a'], 1)").fetchall())


async def test_no_operator_of_their_own_is_called(own_shop: Shop) -> None:
    own_shop.run(
        "CREATE FUNCTION steal(text, text)"
        " RETURNS bool LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RAISE EXCEPTION $$globex$$; END'"
    )
    own_shop.run("CREATE OPERATOR public.~~ (FUNCTION = steal, LEFTARG = text, RIGHTARG = text)")
    own_shop.run(f"CREATE FUNCTION of_two(customers, customers) {_STEALS}")
    own_shop.run("CREATE OPERATOR public.+ (FUNCTION = of_two, LEFTARG = customers, RIGHTARG = customers)")
    told = await refusal(own_shop, "SELECT c + c FROM customers c")
    assert told == "refused: + is an operator of this database's own, too, in public: write OPERATOR(pg_catalog.+)"
    await refusal(own_shop, "SELECT * FROM customers c WHERE 'a' LIKE 'b'")
    assert (await own_shop.ask("SELECT 1 OPERATOR(pg_catalog.+) 1")).result["rows"] == [[2]]
    assert (await own_shop.ask("SELECT 1 - 1 FROM customers c WHERE c.id = 1")).success


async def test_a_change_calls_none_either(own_shop: Shop) -> None:
    own_shop.run(f"CREATE FUNCTION everybody(orders) {_STEALS}")
    own_shop.run(f"GRANT UPDATE ON orders TO {own_shop.role.name}")
    before = own_shop.state()

    async def yes(request: ApprovalRequest) -> bool:
        return True

    for sql in ("UPDATE orders SET note = orders.everybody", "UPDATE orders o SET total = 1 RETURNING o.everybody"):
        with testing.context(org_id="acme"), bind_approver(yes):
            result = await testing.run_tool(SQLExecuteTool(own_shop.url, POLICY), {"sql": sql})
        assert result.error is not None
        assert "could call the function public.everybody" in result.error
    assert own_shop.state() == before


async def test_other_functions_of_theirs_are_in_nobodys_way(own_shop: Shop) -> None:
    for name, arguments in (
        ("id", "int"),
        ("name", "text, customers"),
        ("total", ""),
        ("status", "text"),
        ("n", "numeric"),
    ):
        own_shop.run(f"CREATE FUNCTION {name}({arguments}) {_STEALS}")
    own_shop.run("CREATE SCHEMA api")
    own_shop.run(f"CREATE FUNCTION api.customer_id(orders) {_STEALS}")
    failed = [sql for sql in USEFUL[::4] if not (await own_shop.ask(sql, **values_of(sql))).success]
    assert failed == []


@pytest.mark.parametrize("extension", ["citext", "hstore", "pg_trgm"])
async def test_operators_of_an_extension_are_used_as_ever(own_shop: Shop, extension: str) -> None:
    if not own_shop.run("SELECT 1 FROM pg_available_extensions WHERE name = %s", extension):
        pytest.skip(f"this server does not have the extension {extension}")
    with psycopg.connect(own_shop.admin_url, autocommit=True) as connection:
        connection.execute(f"CREATE EXTENSION {extension}".encode())
    assert (
        await own_shop.ask("SELECT c.name FROM customers c WHERE c.name = 'x' OR c.name LIKE 'x' OR 5 % 2 = 1")
    ).success
