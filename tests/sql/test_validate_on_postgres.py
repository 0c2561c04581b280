"""The validator's picture of PostgreSQL, held against a server."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conductor_ai.tools.sql import allowed
from conductor_ai.tools.sql.policy import Rule, SQLPolicy
from conductor_ai.tools.sql.validate import validate_change, validate_sql
from tests.sql.corpus_useful import POLICY, TABLES, USEFUL, USEFUL_CHANGES, VALUES

OLDEST_KNOWN_WHOLE = 180_000  # the lists name functions of version 18


@pytest.fixture
def server(empty_postgres_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(empty_postgres_url, autocommit=True) as connection:
        yield connection


def test_what_is_useful_and_allowed_is_sql_that_runs(server: psycopg.Connection) -> None:
    for made in TABLES:
        server.execute(made)
    server.execute("INSERT INTO customers VALUES (1, 'acme', 'Ada', 'Köln', '2026-01-01', '{vip}', '{\"vip\": true}')")
    server.execute(
        "INSERT INTO orders VALUES (11, 'acme', 1, 5, 'open', '', now(), '[{\"sku\": \"a\", \"qty\": 2}]', 1)"
    )
    server.execute("SET search_path = pg_catalog, public")
    statements = [validate_sql(sql, POLICY).checked() for sql in USEFUL]
    statements += [validate_change(sql, POLICY).checked() for sql, _ in USEFUL_CHANGES]

    failed = {}
    for statement in statements:
        with server.transaction(force_rollback=True), psycopg.RawCursor(server) as cursor:
            try:
                cursor.execute(statement.sql, [VALUES[name] for name in statement.parameters])
            except psycopg.Error as exc:
                failed[statement.sql] = str(exc)

    unknown = {sql for sql, said in failed.items() if "does not exist" in said or "syntax error" in said}
    assert failed == {} if server.info.server_version >= OLDEST_KNOWN_WHOLE else len(unknown) < 10


_NAMES = st.sampled_from(["a", "b", "c"])


@st.composite
def _queries(draw: st.DrawFn, depth: int = 3) -> str:
    """A query over names that no table has, so that it runs exactly where WITH gives each of them."""
    form = draw(st.integers(0, 6 if depth else 1))
    if form < 2:
        body = f"SELECT 1 AS x FROM {draw(_NAMES)} AS t" if form else "SELECT 1 AS x"
    else:
        inner = draw(_queries(depth=depth - 1))
        name = draw(_NAMES)
        body = [
            f"SELECT 1 AS x FROM ({inner}) AS s, {name} AS t",
            f"SELECT 1 AS x FROM {name} AS t WHERE EXISTS ({inner})",
            f"({inner}) UNION ALL (SELECT 1 FROM {name} AS t)",
            f"(SELECT 1 FROM {name} AS t) EXCEPT ({inner}) ORDER BY 1",
            f"SELECT 1 AS x ORDER BY ({inner} LIMIT 1)",
        ][form - 2]
    if depth == 0 or not draw(st.booleans()):
        return body
    names = draw(st.lists(_NAMES, min_size=1, max_size=3, unique=True))
    queries = ", ".join(f"{name} AS ({draw(_queries(depth=depth - 1))})" for name in names)
    return f"WITH {draw(st.sampled_from(['', 'RECURSIVE ']))}{queries} {body}"


@pytest.mark.parametrize("examples", [100, pytest.param(1_500, marks=pytest.mark.slow)])
def test_with_gives_a_name_exactly_where_the_server_says(server: psycopg.Connection, examples: int) -> None:
    seen: dict[str, int] = {"runs": 0, "unknown name": 0}

    @settings(max_examples=examples)
    @given(_queries())
    def agree(sql: str) -> None:
        verdict = validate_sql(sql, SQLPolicy())
        try:
            server.execute(f"EXPLAIN {sql}".encode())
        except psycopg.errors.UndefinedTable:
            seen["unknown name"] += 1
            assert verdict.rule is Rule.TABLE
        except psycopg.Error:
            pass  # recursion that the server does not do
        else:
            seen["runs"] += 1
            assert verdict.allowed, verdict.reason

    agree()
    assert min(seen.values()) > 0


_CALLS = {
    "generate_series": "generate_series(1, 2)",
    "generate_subscripts": "generate_subscripts(ARRAY[1], 1)",
    "json_to_record": "json_to_record('{}')",
    "json_to_recordset": "json_to_recordset('[]')",
    "jsonb_path_query": "jsonb_path_query('[1]', '$[*]')",
    "jsonb_path_query_tz": "jsonb_path_query_tz('[1]', '$[*]')",
    "jsonb_to_record": "jsonb_to_record('{}')",
    "jsonb_to_recordset": "jsonb_to_recordset('[]')",
    "regexp_matches": "regexp_matches('a', 'a')",
    "regexp_split_to_table": "regexp_split_to_table('a', 'b')",
    "string_to_table": "string_to_table('a', ',')",
    "unnest": "unnest(ARRAY[1])",
}
_OTHER_ALIASES = ["", "AS z", "AS z(one)", "WITH ORDINALITY", "WITH ORDINALITY AS z", "WITH ORDINALITY AS z(one, two)"]


def _rows() -> Iterator[tuple[str, str]]:
    """FROM items of every function that may stand there, each with the name that its rows have."""
    for function in allowed.ROWS_FROM:
        call = _CALLS.get(function, f"{function}('[]')" if "elements" in function else f"{function}('{{}}')")
        aliases = ["AS z(one int)", "AS z(one int, two text)"] if "_to_record" in function else _OTHER_ALIASES
        for alias in aliases:
            yield f"{call} {alias}", "z" if " z" in alias else function
    yield "unnest(ARRAY[1], ARRAY[2]) AS z", "z"
    yield "unnest(ARRAY[1], ARRAY[2]) WITH ORDINALITY AS z(one)", "z"
    yield "ROWS FROM (unnest(ARRAY[1]), generate_series(1, 2)) AS z", "z"
    yield "ROWS FROM (jsonb_each('{}'), generate_series(1, 2)) WITH ORDINALITY AS z(one, two)", "z"
    yield "ROWS FROM (generate_series(1, 2), jsonb_to_record('{}') AS (one int)) AS z", "z"


def test_a_name_behind_a_functions_rows_is_a_column_for_the_server_too(server: psycopg.Connection) -> None:
    names = ["z", "one", "two", "key", "value", "ordinality"]
    no_columns, some = [], 0
    for rows, alias in _rows():
        for name in {*names, alias, "unnest", "generate_series"}:
            sql = f"SELECT {alias}.{name} FROM {rows}"
            if not validate_sql(sql, SQLPolicy()).allowed:
                continue
            some += 1
            try:
                server.execute(f"EXPLAIN {sql}".encode())
            except psycopg.errors.AmbiguousColumn:
                pass  # two columns have the name
            except psycopg.errors.UndefinedColumn:
                no_columns.append(sql)

    assert no_columns == []
    assert some > len(allowed.ROWS_FROM)


@pytest.mark.parametrize("taken_for_a_column", ["upper", "to_json", "quote_literal", "num_nulls"])
def test_no_function_is_called_by_a_name_behind_rows(taken_for_a_column: str) -> None:
    for rows, alias in _rows():
        assert validate_sql(f"SELECT {alias}.{taken_for_a_column} FROM {rows}", SQLPolicy()).rule is Rule.COLUMN


_ROWS = st.sampled_from(["unnest(ARRAY['x']) AS a", "unnest(ARRAY['x']) AS b", "(SELECT 'x' AS x) AS a"])


@st.composite
def _calls_by_a_dot(draw: st.DrawFn, depth: int = 2) -> str:
    """A query with `a.upper` somewhere, which the server takes for upper(a) where `a` means the value of a function."""
    rows = ", ".join(draw(st.lists(_ROWS, min_size=1, max_size=2, unique_by=lambda item: item[-1])))
    if depth == 0:
        return f"SELECT a.upper AS x{draw(st.sampled_from(['', f' FROM {rows}']))}"
    inner = draw(_calls_by_a_dot(depth=depth - 1))
    forms = [f"SELECT a.upper AS x FROM {rows}", f"SELECT ({inner}) AS x FROM {rows}"]
    forms += [f"SELECT c.x FROM {rows}, {lateral} ({inner}) AS c" for lateral in ("", "LATERAL")]
    forms += [f"SELECT c.x FROM {rows} JOIN LATERAL ({inner}) AS c ON true"]
    forms += [f"WITH c AS ({inner}) SELECT c.x FROM c, {rows}", f"SELECT 'x' AS x UNION ALL ({inner})"]
    forms += [f"SELECT 'x' AS x FROM {rows} ORDER BY ({inner})", f"SELECT j.x FROM ({inner}) AS j CROSS JOIN {rows}"]
    return draw(st.sampled_from(forms))


@pytest.mark.parametrize("examples", [100, pytest.param(2_000, marks=pytest.mark.slow)])
def test_what_the_server_takes_for_a_call_is_refused(server: psycopg.Connection, examples: int) -> None:
    seen = {"calls": 0, "unknown": 0}

    @settings(max_examples=examples)
    @given(_calls_by_a_dot())
    def refused(sql: str) -> None:
        try:
            server.execute(f"EXPLAIN {sql}".encode())
        except psycopg.Error:
            seen["unknown"] += 1
        else:
            seen["calls"] += 1
            assert validate_sql(sql, SQLPolicy()).rule is Rule.COLUMN

    refused()
    assert min(seen.values()) > 0


_MAY_VARY = {"array_sample", "array_shuffle", "clock_timestamp", "gen_random_uuid", "random", "random_normal"} | {
    "timeofday", "uuidv4", "uuidv7"
}  # fmt: skip


def test_the_functions_on_the_list_are_the_servers_and_do_nothing_but_compute(server: psycopg.Connection) -> None:
    known = server.execute(
        "SELECT proname, provolatile, proparallel, prosecdef FROM pg_proc"
        " WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind IN ('f', 'a', 'w') AND proname = ANY (%s)",
        [list(allowed.FUNCTIONS)],
    ).fetchall()

    assert {name for name, volatile, *_ in known if volatile == b"v"} <= _MAY_VARY
    assert {name for name, _, parallel, definer in known if parallel == b"u" or definer} == set()
    if server.info.server_version >= OLDEST_KNOWN_WHOLE:
        assert {name for name, *_ in known} == allowed.FUNCTIONS


_NAMING_TYPES = ["regclass", "regproc", "regprocedure", "regoper", "regoperator", "regtype", "regrole"] + [
    "regnamespace", "refcursor"
]  # fmt: skip


def test_no_function_on_the_list_takes_or_gives_a_name_of_the_catalogue(server: psycopg.Connection) -> None:
    telling = server.execute(
        "SELECT DISTINCT proname FROM pg_proc, unnest(proargtypes::oid[] || prorettype) AS type"
        " WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY (%s) AND type = ANY (%s::regtype[])",
        [list(allowed.FUNCTIONS), _NAMING_TYPES],
    ).fetchall()

    assert telling == []
