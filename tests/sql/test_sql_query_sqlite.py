"""`sql_query` on a SQLite file: SQLite's own authorizer decides, in a process with limits."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from conductor_ai.errors import InvalidInput
from conductor_ai.sdk.base import ToolResult
from conductor_ai.tools.sql.answer import Caps
from conductor_ai.tools.sql_query import SQLPolicy, SQLQueryTool
from tests.conftest import fail_after
from tests.sql.corpus_hostile import STATEMENTS
from tests.sql.shop import ask

SECRET = "hunter2"
SCHEMA = f"""
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customers (id), total REAL, note, raw BLOB);
CREATE TABLE payroll (name TEXT, salary TEXT);
CREATE VIEW spent AS SELECT customer_id, sum(total) AS total FROM orders GROUP BY 1;
CREATE VIEW peek AS SELECT salary FROM payroll;
CREATE INDEX by_name ON customers (name);
INSERT INTO customers VALUES (1, 'Anna'), (2, 'Bert');
INSERT INTO orders VALUES (1, 1, 1.5, 'ü', x'00ff'), (2, 1, 2.5, 7, NULL), (3, 2, 9e999, NULL, NULL);
INSERT INTO payroll VALUES ('{SECRET}', '{SECRET}');
"""
POLICY = SQLPolicy(tables=["customers", "orders", "spent", "peek", "not_there"])
ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shop ü?.db"
    connection = sqlite3.connect(path)
    connection.executescript(f"PRAGMA journal_mode = WAL; {SCHEMA}")
    connection.close()
    return path


def tool_for(file: Path, **caps: Any) -> SQLQueryTool:
    return SQLQueryTool(f"sqlite:///{quote(str(file))}", POLICY, caps=Caps(**caps))


async def query(file: Path, sql: str, **params: Any) -> ToolResult:
    return await ask(tool_for(file), {"sql": sql, "params": params})


def contents(file: Path) -> list[str]:
    with sqlite3.connect(file) as connection:
        dump = list(connection.iterdump())
    connection.close()
    return dump


async def test_rows_come_back_with_their_types(file: Path) -> None:
    result = await query(file, "SELECT * FROM orders ORDER BY id")
    assert result.result == {
        "columns": [
            {"name": "id", "type": "integer"},
            {"name": "customer_id", "type": "integer"},
            {"name": "total", "type": "real"},
            {"name": "note", "type": "text"},
            {"name": "raw", "type": "blob"},
        ],
        "rows": [[1, 1, 1.5, "ü", "AP8="], [2, 1, 2.5, 7, None], [3, 2, "inf", None, None]],
        "row_count": 3,
        "truncated": False,
        "truncated_by": None,
    }
    assert result.source == "sqlite:///shop ü?.db"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM customers",
        "SELECT name, total FROM spent JOIN customers ON id = customer_id",
        "WITH big AS (SELECT * FROM orders WHERE total > 1) SELECT count(*) FROM big",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 9) SELECT sum(n) FROM t",
        "SELECT id, sum(total) OVER (ORDER BY id), rank() OVER (ORDER BY total) FROM orders",
        "SELECT value FROM json_each('[1, 2]')",
        "SELECT json_extract('{\"a\": 1}', '$.a'), strftime('%Y', '2026-01-01'), upper(name) FROM customers",
        "SELECT * FROM customers WHERE name LIKE '%n%' OR name GLOB 'B*'",
        "VALUES (1, 2)",
        "EXPLAIN QUERY PLAN SELECT * FROM customers",
    ],
)
async def test_useful_statements_run(file: Path, sql: str) -> None:
    result = await query(file, sql)
    assert result.error is None
    assert result.result["rows"]


ESCAPES = [
    "SELECT * FROM payroll",
    "SELECT count(*) FROM payroll",
    "SELECT 1 FROM payroll",
    "SELECT EXISTS (SELECT 1 FROM payroll)",
    f"SELECT '{SECRET}' IN payroll",
    "SELECT rowid FROM payroll",
    "SELECT * FROM orders NATURAL JOIN payroll",
    "SELECT * FROM peek",
    "SELECT count(*) FROM peek",
    "WITH orders AS (SELECT * FROM payroll) SELECT * FROM orders",
    "WITH spent AS (SELECT * FROM payroll) SELECT * FROM spent",
    "WITH x AS (SELECT 1 FROM payroll) SELECT count(*) FROM x",
    "SELECT * FROM sqlite_master",
    "SELECT count(*) FROM sqlite_schema",
    "SELECT * FROM pragma_table_info('payroll')",
    "SELECT count(*) FROM pragma_table_list",
    "PRAGMA table_info(payroll)",
    "PRAGMA query_only = OFF",
    "ATTACH ':memory:' AS x",
    "DETACH main",
    "VACUUM INTO 'stolen.db'",
    "BEGIN",
    "COMMIT",
    "SAVEPOINT a",
    "CREATE TABLE z (a)",
    "CREATE TEMP TABLE orders (a)",
    "CREATE TEMP VIEW customers AS SELECT * FROM payroll",
    "INSERT INTO orders (id) VALUES (9) RETURNING id",
    "UPDATE orders SET total = 0",
    "DELETE FROM orders",
    "DROP TABLE orders",
    "REINDEX",
    "ANALYZE",
    "SELECT load_extension('x')",
    "SELECT sqlite_version()",
    "SELECT zeroblob(1000000)",
    "SELECT 1; DROP TABLE orders",
    "",
    "-- nothing",
]


async def test_nothing_but_queries_of_the_named_tables_runs(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    before = contents(file)
    some = ESCAPES[::3]  # all of them, and the whole corpus: below
    results = await asyncio.gather(*[query(file, sql or " ") for sql in some])
    assert [sql for sql, result in zip(some, results, strict=True) if result.success] == []
    assert contents(file) == before
    assert [name for name in names_in(file.parent) if name.endswith(".db")] == [file.name]


@pytest.mark.slow
async def test_the_hostile_corpus_shows_and_changes_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    before = contents(file)
    statements = [*ESCAPES, *(sql for _, sql in STATEMENTS)]
    turns = asyncio.Semaphore(4)

    async def shown(sql: str) -> ToolResult:
        async with turns:
            return await query(file, sql or " ")

    results = await asyncio.gather(*[shown(sql) for sql in statements])
    assert [sql for sql, result in zip(ESCAPES, results, strict=False) if result.success] == []
    assert [sql for sql, found in zip(statements, results, strict=True) if SECRET in str(found.result)] == []
    assert contents(file) == before


async def test_a_refusal_names_the_tables(file: Path) -> None:
    result = await query(file, "SELECT salary FROM payroll")
    assert result.error == (
        "refused: access to payroll.salary is prohibited: one SELECT over these tables, with ordinary functions:"
        " customers, not_there, orders, peek, spent"
    )


async def test_parameters_are_values(file: Path) -> None:
    found = await query(
        file, "SELECT id FROM orders WHERE id = :id OR id IN (SELECT value FROM json_each(:more))", id=1, more=[3]
    )
    assert found.result["rows"] == [[1], [3]]
    assert (await query(file, "SELECT :a", a="'; DROP TABLE orders; --")).result["rows"] == [
        ["'; DROP TABLE orders; --"]
    ]
    assert (await query(file, "SELECT :a", a=2**70)).error == "the parameter a is too large a number for SQLite"
    assert (await query(file, "SELECT :a", a="\ud800")).error is not None
    assert (await query(file, "SELECT '\ud800'")).success is False


async def test_caps_cut_and_say_so(file: Path) -> None:
    many = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT n, printf('%.*c', :size, 'x') FROM t"
    by_rows = (await query(file, many, size=1)).result
    assert (by_rows["row_count"], by_rows["truncated_by"]) == (1000, "rows")
    by_bytes = (await query(file, many, size=300_000)).result
    assert (by_bytes["row_count"], by_bytes["truncated_by"]) == (3, "bytes")


def sorted_rows(name: str, rows: int) -> str:
    """A part of WITH that sorts so many rows of 100 kB."""
    return (
        f"{name} AS MATERIALIZED (WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < {rows})"
        " SELECT DISTINCT printf('%0100000d', n) AS x FROM r)"
    )


async def test_a_query_sorts_in_memory_and_memory_is_bounded_as_a_whole(file: Path) -> None:
    small = await query(file, f"WITH {sorted_rows('a', 600)} SELECT count(*) FROM a")
    assert small.error is None
    assert small.result["rows"] == [[600]]
    names = [f"s{number}" for number in range(8)]
    sorters = ", ".join(sorted_rows(name, 2000) for name in names)
    lengths = " + ".join(f"length({name}.x)" for name in names)
    large = await query(file, f"WITH {sorters} SELECT {lengths} FROM {', '.join(names)} LIMIT 1")
    assert large.error is not None
    assert large.error.startswith("it is too much (it takes more memory than a query may use)")


async def test_names_of_columns_are_short_and_count(file: Path) -> None:
    many = f'WITH q("{"n" * 90_000}") AS (VALUES (1)) SELECT {",".join("*" * 500)} FROM q'
    result = (await query(file, many)).result
    assert result["columns"] == [{"name": "n" * 200, "type": "integer"}] * 500
    assert result["rows"] == [[1] * 500]
    capped = (await ask(tool_for(file, max_bytes=99_000), {"sql": many})).result
    assert (capped["rows"], capped["truncated_by"]) == ([], "bytes")


@pytest.mark.parametrize(
    "sql",
    [
        ENDLESS,
        # One call of a function, in which SQLite looks at no clock: the process is killed.
        "SELECT instr(printf('%.*c', 1000000, 'a'), printf('%.*c', 500000, 'a') || 'b')",
    ],
    ids=["steps", "function"],
)
async def test_what_takes_too_long_ends_and_the_next_query_is_fine(file: Path, sql: str) -> None:
    async with fail_after(20):
        result = await ask(tool_for(file, timeout_s=0.5), {"sql": sql})
    assert result.error is not None
    assert result.error.startswith("no answer within 0.5 s")
    assert (await query(file, "SELECT 1")).success


async def test_a_call_that_is_cancelled_leaves_no_process(file: Path) -> None:
    async with fail_after(20):
        call = asyncio.create_task(query(file, ENDLESS))
        while not workers():  # noqa: ASYNC110  a process that starts tells nobody
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert workers() == []


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def environment_of(process: str) -> bytes:
    return Path(f"/proc/{process}/environ").read_bytes()


def workers() -> list[str]:
    """The processes that read SQLite for this one."""
    found = []
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        for child in (task / "children").read_text().split():
            command = Path(f"/proc/{child}/cmdline")
            if command.exists() and b"sqlite_worker" in command.read_bytes():
                found.append(child)
    return found


@pytest.mark.slow
async def test_memory_and_disk_are_bounded(file: Path) -> None:
    wide = (
        "WITH RECURSIVE t(n, s) AS"
        " (SELECT 1, printf('%.*c', 900000, 'x') UNION ALL SELECT n + 1, s || '' FROM t LIMIT 9999)"
    )
    sort = await query(file, f"{wide} SELECT s FROM t ORDER BY s DESC, n")
    assert sort.error is not None
    assert sort.error.startswith("it is too much (")
    columns = ", ".join(f"printf('%.*c', 1000000, 'x') || {number}" for number in range(490))
    assert (await query(file, f"SELECT {columns}")).success is False
    assert (await query(file, "SELECT 1")).success


async def test_describe_lists_the_tables_that_may_be_read_and_no_other(file: Path) -> None:
    everything = (await ask(tool_for(file), {})).result
    assert everything["dialect"] == "SQLite"
    assert [table["name"] for table in everything["tables"]] == ["customers", "orders", "peek", "spent"]
    (orders,) = (await ask(tool_for(file), {"describe": "orders"})).result["tables"]
    assert orders["columns"][0] == {"name": "id", "type": "integer", "nullable": False}
    assert orders["keys"] == ["PRIMARY KEY (id)", "FOREIGN KEY (customer_id) REFERENCES customers(id)"]
    assert (await ask(tool_for(file), {"describe": "payroll"})).success is False
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE raises (id INTEGER REFERENCES orders, who TEXT REFERENCES payroll (name))")
    connection.close()
    tool = SQLQueryTool(f"sqlite:///{quote(str(file))}", SQLPolicy(tables=["raises", "Orders"]))
    (raises,) = (await ask(tool, {"describe": "raises"})).result["tables"]
    assert raises["keys"] == ["FOREIGN KEY (id) REFERENCES orders(its key)"]


async def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    result = await query(tmp_path / "none.db", "SELECT 1")
    assert result.error == "sqlite:///none.db is not there: go on without the database"
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite://host/file", "sqlite:///file?mode=rwc"])
def test_an_address_that_is_no_file_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="CONDUCTOR_SQL_URL is no address of a database"):
        SQLQueryTool(url, POLICY)


async def test_the_process_sees_no_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", SECRET)
    async with fail_after(20):
        call = asyncio.create_task(query(file, ENDLESS))
        while not workers():  # noqa: ASYNC110  a process that starts tells nobody
            await asyncio.sleep(0.01)
        assert SECRET.encode() not in environment_of(workers()[0])
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
