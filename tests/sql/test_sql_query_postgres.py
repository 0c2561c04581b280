"""`sql_query` on a real Postgres that two orgs share: what comes back, and for whom."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from conductor_ai.errors import InvalidInput
from conductor_ai.sdk import context as tool_context
from conductor_ai.sdk import testing
from conductor_ai.sdk.base import ToolResult
from conductor_ai.sdk.context import ToolContext
from conductor_ai.tools.sql_query import SQLPolicy, SQLQueryTool
from tests.conftest import fail_after
from tests.sql.corpus_hostile import STATEMENTS
from tests.sql.corpus_useful import POLICY, USEFUL
from tests.sql.shop import OTHER, Shop, ask, values_of


def rows(result: ToolResult) -> Any:
    assert result.success, result.error
    return result.result["rows"]


async def test_each_org_reads_its_own_rows(shop: Shop) -> None:
    count = "SELECT count(*), min(org), max(org) FROM orders"
    assert rows(await shop.ask(count, org="acme")) == [[20, "acme", "acme"]]
    assert rows(await shop.ask(count, org="globex")) == [[20, "globex", "globex"]]
    assert rows(await shop.ask(count, org="nobody")) == [[0, None, None]]


async def test_outside_of_anybodys_call_there_are_no_rows(shop: Shop) -> None:
    result = await shop.tool().run({"sql": "SELECT * FROM orders"})
    assert result.error == "refused: this database shows each org its own rows, and this call belongs to no org"


async def test_every_useful_statement_runs_and_shows_no_row_of_the_other_org(shop: Shop) -> None:
    wrong = []
    for sql in USEFUL:
        result = await shop.ask(sql, **values_of(sql))
        if not result.success or OTHER in json.dumps(result.result):
            wrong.append((sql, result.error or result.result))
    assert wrong == []
    assert OTHER in json.dumps((await shop.ask("SELECT * FROM orders", org=OTHER)).result)


async def test_no_hostile_statement_runs(shop: Shop) -> None:
    before = shop.state()
    ran = [sql for _, sql in STATEMENTS if (await shop.ask(sql)).success]
    assert ran == []
    assert len(STATEMENTS) >= 120
    assert shop.state() == before


async def test_types_are_kept(shop: Shop) -> None:
    result = await shop.ask(
        "SELECT 1 AS small, 9223372036854775807 AS big, 1.50::numeric(10, 2) AS money, 0.1::float8 AS half,"
        " true AS yes, NULL AS nothing, 'NaN'::float8 AS nan, timestamptz '2026-01-01 10:00:00.5+05:30' AS at,"
        " timestamp '2026-01-01 10:00' AS local, date '2026-02-03' AS day, interval '1 day 02:00' AS span,"
        " '\\x00ff'::bytea AS raw, '{\"a\": [1, {\"b\": 12345678901234567890123}]}'::jsonb AS doc,"
        " ARRAY[1.5, NULL] AS numbers, ARRAY[[1, 2], [3, 4]] AS grid, ARRAY['ü'] AS words, int4range(1, 5) AS span_of,"
        " 'infinity'::timestamptz AS never, '1.5e400'::json AS huge"
    )
    names, types = zip(*((column["name"], column["type"]) for column in result.result["columns"]), strict=True)
    assert dict(zip(names, rows(result)[0], strict=True)) == {
        "small": 1,
        "big": 9223372036854775807,
        "money": "1.50",
        "half": 0.1,
        "yes": True,
        "nothing": None,
        "nan": "NaN",
        "at": "2026-01-01T04:30:00.5+00:00",
        "local": "2026-01-01T10:00:00",
        "day": "2026-02-03",
        "span": "P1DT2H",
        "raw": "AP8=",
        "doc": {"a": [1, {"b": 12345678901234567890123}]},
        "numbers": ["1.5", None],
        "grid": [[1, 2], [3, 4]],
        "words": ["ü"],
        "span_of": "[1,5)",
        "never": "infinity",
        "huge": "1.5e400",
    }
    assert types[:4] == ("int4", "int8", "numeric(10,2)", "float8")


async def test_columns_of_one_name_stay_two_columns_in_their_order(shop: Shop) -> None:
    result = await shop.ask("SELECT 1 AS a, 'x' AS a, 2 AS total, 3 AS c0, 4 AS w FROM orders LIMIT 2")
    assert [column["name"] for column in result.result["columns"]] == ["a", "a", "total", "c0", "w"]
    assert rows(result) == [[1, "x", 2, 3, 4]] * 2


async def test_the_order_of_a_statement_is_kept(shop: Shop) -> None:
    found = rows(await shop.ask("SELECT g % 7, g FROM generate_series(1, 900) AS g ORDER BY 1 DESC, 2"))
    assert found == sorted(found, key=lambda row: (-row[0], row[1]))
    assert len(found) == 900


async def test_a_query_without_columns_has_rows_without_values(shop: Shop) -> None:
    result = await shop.ask("SELECT FROM orders LIMIT 2")
    assert result.result["columns"] == []
    assert rows(result) == [[], []]


async def test_rows_stop_at_the_cap_and_say_so(shop: Shop) -> None:
    result = await shop.ask("SELECT g FROM generate_series(1, 100000) AS g, generate_series(1, 1000)")
    assert result.result["truncated"] is True
    assert result.result["truncated_by"] == "rows"
    assert len(rows(result)) == 1000

    exactly = await shop.ask("SELECT g FROM generate_series(1, 1000) AS g")
    assert exactly.result["truncated"] is False
    assert exactly.result["row_count"] == 1000


async def test_bytes_stop_at_the_cap_and_say_so(shop: Shop) -> None:
    result = await shop.ask("SELECT g, repeat('x', 300000) FROM generate_series(1, 50) AS g")
    assert result.result["truncated_by"] == "bytes"
    assert [row[0] for row in rows(result)] == [1, 2, 3]

    one = await shop.ask("SELECT repeat('x', 5000000) AS long")
    assert one.result == {
        "columns": [{"name": "long", "type": "text"}],
        "rows": [],
        "row_count": 0,
        "truncated": True,
        "truncated_by": "bytes",
    }


async def test_what_is_over_the_cap_does_not_cross_the_wire(shop: Shop, fault_proxy: Any) -> None:
    proxy = fault_proxy(shop.url)
    proxy.reset_after(200_000)
    result = await shop.ask("SELECT repeat('x', 5000000) AS long", url=proxy.url)
    assert result.result["truncated_by"] == "bytes"
    assert (await shop.ask("SELECT repeat('x', 300000) AS long", url=proxy.url)).success is False  # the proxy does cut


async def test_the_cap_is_of_what_crosses_the_wire_and_not_of_what_is_stored(own_shop: Shop, fault_proxy: Any) -> None:
    own_shop.run("UPDATE orders SET note = repeat('abcdefgh', 10000)")  # which is stored as 1 kB
    own_shop.run("UPDATE customers SET name = repeat('abcdefgh', 4000000)")
    proxy = fault_proxy(own_shop.url)
    proxy.reset_after(1_500_000)
    many = await own_shop.ask("SELECT a.id, a.note FROM orders a, orders b", url=proxy.url)
    assert many.error is None
    assert (many.result["row_count"], many.result["truncated_by"]) == (13, "bytes")
    proxy.reset_after(200_000)
    one = await own_shop.ask("SELECT name FROM customers WHERE id = 101", url=proxy.url)
    assert one.error is None
    assert (one.result["row_count"], one.result["truncated_by"]) == (0, "bytes")


async def test_parameters_are_values_and_never_sql(shop: Shop) -> None:
    assert rows(await shop.ask("SELECT :a || 'b' AS x, :n + 1", a="'; DROP TABLE orders; --", n=41)) == [
        ["'; DROP TABLE orders; --b", 42]
    ]
    assert rows(await shop.ask("SELECT id FROM orders WHERE id = ANY(:ids) ORDER BY 1", ids=[101, 103, 201])) == [
        [101],
        [103],
    ]
    assert rows(await shop.ask("SELECT :doc ->> 'a', :flag, :none::text", doc={"a": ""}, flag=True, none=None)) == [
        ["", True, None]
    ]
    assert rows(await shop.ask("SELECT ':not' AS x, id::text FROM orders WHERE id = :id", id=101)) == [[":not", "101"]]


@pytest.mark.parametrize(
    ("sql", "params", "error"),
    [
        ("SELECT :a", {}, "the statement names :a, and `params` does not"),
        ("SELECT 1", {"a": 1}, "the statement has no :a, and `params` does"),
        ("SELECT :a", {"a": "x\0y"}, "the parameter a holds a character that a database does not store"),
        ("SELECT :a", {"a": ["\ud800"]}, "the parameter a holds a character that a database does not store"),
        ("SELECT :a + 1", {"a": "x"}, "the database refused it: invalid input syntax for type integer"),
        ("SELECT 1 / 0", {}, "the database refused it: division by zero"),
        ("SELECT no_such FROM orders", {}, 'the database refused it: column "no_such" does not exist'),
        ("SELECT * FROM payroll", {}, "refused: "),
    ],
)
async def test_an_error_says_what_was_wrong(shop: Shop, sql: str, params: dict[str, Any], error: str) -> None:
    result = await ask(shop.tool(), {"sql": sql, "params": params})
    assert result.success is False
    assert result.error is not None
    assert result.error.startswith(error)


async def test_describe_lists_the_tables_that_may_be_read_and_no_other(own_shop: Shop) -> None:
    own_shop.run("CREATE TYPE mood AS ENUM ('fine', 'cross')")
    own_shop.run("ALTER TABLE customers ADD mood mood, ADD boss INT REFERENCES customers")
    own_shop.run("COMMENT ON TABLE customers IS 'who buys'")
    own_shop.run("COMMENT ON COLUMN customers.city IS 'as they write it'")

    everything = (await ask(own_shop.tool(), {})).result
    assert everything["dialect"] == "PostgreSQL"
    assert [table["name"] for table in everything["tables"]] == ["public.customers", "public.orders", "sales.targets"]

    (customers,) = (await ask(own_shop.tool(), {"describe": "customers"})).result["tables"]
    assert customers["comment"] == "who buys"
    assert customers["keys"] == ["PRIMARY KEY (id)", "FOREIGN KEY (boss) REFERENCES customers(id)"]
    columns = {column.pop("name"): column for column in customers["columns"]}
    assert columns["id"] == {"type": "integer", "nullable": False}
    assert columns["city"] == {"type": "text", "nullable": True, "comment": "as they write it"}
    assert columns["mood"] == {"type": "mood", "nullable": True, "values": ["fine", "cross"]}
    assert rows(await own_shop.ask("SELECT 'fine'::text AS x, mood FROM customers LIMIT 1")) == [["fine", None]]

    unknown = await ask(own_shop.tool(), {"describe": "payroll"})
    assert unknown.error == "there is no table 'payroll'; tables are: public.customers, public.orders, sales.targets"


async def test_a_type_of_their_own_is_named_as_they_name_it(own_shop: Shop) -> None:
    own_shop.run("CREATE TYPE mood AS ENUM ('fine', 'cross')")
    own_shop.run("ALTER TABLE customers ADD mood mood DEFAULT 'fine'")
    result = await own_shop.ask("SELECT mood FROM customers LIMIT 1")
    assert result.result["columns"] == [{"name": "mood", "type": "mood"}]
    assert rows(result) == [["fine"]]


async def test_a_plan_tells_nothing_of_how_many_rows_others_have(shop: Shop) -> None:
    for sql in ("EXPLAIN SELECT * FROM orders", "EXPLAIN (FORMAT json, VERBOSE) SELECT * FROM orders WHERE id = :id"):
        given: Any = {"id": 7} if ":id" in sql else {}
        result = await shop.ask(sql, **given)
        plan = "\n".join(line for (line,) in rows(result))
        assert "orders" in plan
        assert "rows=" not in plan
        assert "Plan Rows" not in plan


async def test_without_an_org_column_a_plan_has_estimates_and_everybody_reads_all_rows(own_shop: Shop) -> None:
    own_shop.run("DROP SCHEMA conductor_sql CASCADE")
    own_shop.run("ALTER TABLE orders DISABLE ROW LEVEL SECURITY")
    assert rows(await own_shop.ask("SELECT count(DISTINCT org) FROM orders")) == [[2]]
    assert "rows=" in str(rows(await own_shop.ask("EXPLAIN SELECT * FROM orders")))


@pytest.fixture
def recorded() -> Iterator[dict[str, Any]]:
    facts: dict[str, Any] = {}
    token = tool_context.bind(ToolContext("acme", "s", 1, "c", "k", on_record=facts.update))
    yield facts
    tool_context.reset(token)


async def test_the_audit_says_what_was_read_and_as_whom_and_no_row(shop: Shop, recorded: dict[str, Any]) -> None:
    result = await testing.run_tool(
        shop.tool(), {"sql": "SELECT note FROM orders o JOIN customers c ON c.id = 1 OR true"}
    )
    assert result.source is not None
    assert recorded == {
        "database": result.source,
        "identity": "signed",
        "tables": ["public.customers", "public.orders"],
        "rows": 60,
        "bytes": 60 * len('["of acme"]'),
        "truncated_by": None,
    }
    assert shop.role.password not in result.source


async def test_a_password_stands_in_no_error(shop: Shop) -> None:
    wrong = shop.url.replace(shop.role.password, "hunter2-hunter2")
    result = await shop.ask("SELECT 1", url=wrong)
    assert result.error is not None
    assert result.error.startswith("the database cannot be used now (")
    assert "hunter2" not in result.error
    assert "hunter2" not in repr(shop.database(url=wrong))


async def test_a_server_that_is_away_is_told_in_one_line(shop: Shop, fault_proxy: Any) -> None:
    proxy = fault_proxy(shop.url)
    proxy.refuse()
    result = await shop.ask("SELECT 1", url=proxy.url)
    assert result.error is not None
    assert "the database cannot be used now (" in result.error
    assert "\n" not in result.error


async def test_many_calls_at_once_each_get_their_own(shop: Shop) -> None:
    tool, orgs = shop.tool(), ["acme", "globex"] * 5

    async def counted(org: str) -> Any:
        return rows(await ask(tool, {"sql": "SELECT DISTINCT org FROM orders"}, org=org))

    async with fail_after(30):
        assert await asyncio.gather(*[counted(org) for org in orgs]) == [[[org]] for org in orgs]


def test_without_arguments_the_tool_reads_the_environment(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="CONDUCTOR_SQL_URL is not set"):
        SQLQueryTool()
    monkeypatch.setenv("CONDUCTOR_SQL_URL", shop.url)
    with pytest.raises(InvalidInput, match="CONDUCTOR_SQL_TABLES names no table"):
        SQLQueryTool()
    monkeypatch.setenv("CONDUCTOR_SQL_TABLES", "orders, sales.targets")
    definition = SQLQueryTool().definition
    assert (definition.effect, definition.untrusted_output) == ("read", True)
    assert "PostgreSQL" in definition.description


@pytest.mark.parametrize(
    "url", ["mysql://u:hunter2@h/x", "postgresql://u:hunter2@h:port/x", "postgresql://u:hunter2@[h"]
)
def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        SQLQueryTool(url, SQLPolicy(tables=POLICY.tables))
    assert "hunter2" not in str(caught.value)
