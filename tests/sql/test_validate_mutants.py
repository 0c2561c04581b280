"""Validators with a wall less: the corpus tells each from ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from conductor_ai.tools.sql import allowed, judge, reading, row_columns, validate
from conductor_ai.tools.sql.validate import validate_change, validate_sql
from tests.sql.corpus_hostile import HOSTILE, HOSTILE_CHANGES
from tests.sql.corpus_useful import POLICY

_QUERIES = [sql for _, statements in HOSTILE.items() for _, sql in statements if len(sql) < 1_000]
_CHANGES = [sql for _, sql in HOSTILE_CHANGES]


def lets_through(sql: str) -> bool:
    """Whether the validator, as it is now, allows a statement of the corpus."""
    judge_of_it = {**dict.fromkeys(_QUERIES, validate_sql), **dict.fromkeys(_CHANGES, validate_change)}[sql]
    return judge_of_it(sql, POLICY).allowed


def without(module: ModuleType, *replaced: tuple[str, str]) -> ModuleType:
    """The module as it would be with other lines in it."""
    source = Path(str(module.__file__)).read_text()
    for old, new in replaced:
        assert source.count(old) == 1, f"{old!r} is no longer one place in {module.__name__}"
        source = source.replace(old, new)
    mutant = ModuleType(module.__name__)
    exec(compile(source, str(module.__file__), "exec"), mutant.__dict__)
    return mutant


def test_ours_lets_nothing_through() -> None:
    assert [sql for sql in (*_QUERIES, *_CHANGES) if lets_through(sql)] == []


@pytest.mark.parametrize("beginnings", [("select",), ("select", "with", "values", "table", "explain", "(")])
def test_a_look_at_the_beginning_is_no_wall(beginnings: tuple[str, ...]) -> None:
    def by_prefix(sql: str) -> bool:
        return re.sub(r"(?s)/\*.*?\*/|--[^\n]*", "", sql).strip().lower().startswith(beginnings)

    passed = {sql for sql in _QUERIES if by_prefix(sql)}

    assert len(passed) > 100
    assert "SELECT 1; COMMIT; DROP TABLE orders" in passed


_REACH = "if node.schemaname is None and node.relname in scope.names:"
_LATER = "{query.ctename for query in clause.ctes if clause.recursive}"


@pytest.mark.parametrize(
    ("replaced", "passes"),
    [
        (
            [(_REACH, "if node.schemaname is None and node.relname in _KNOWN:")]
            + [
                ("names |= {query.ctename}", "_KNOWN.add(query.ctename)"),
                ("_CLAUSES = {", "_KNOWN = set()\n_CLAUSES = {"),
            ],
            "SELECT * FROM (WITH payroll AS (SELECT 1) SELECT * FROM payroll) AS x, payroll",
        ),
        (
            [(_LATER, "{query.ctename for query in clause.ctes}")],
            "WITH payroll AS (SELECT * FROM payroll) SELECT * FROM payroll",
        ),
        (
            [(_LATER, "{query.ctename for query in clause.ctes}")],
            "WITH a AS (SELECT * FROM payroll), payroll AS (SELECT 1) SELECT * FROM a",
        ),
        ([(_REACH, "if node.relname in scope.names:")], "WITH payroll AS (SELECT 1) SELECT * FROM public.payroll"),
        ([('yield fields.pop("relation"), replace(scope, names=frozenset())', "yield fields.pop('relation'), scope")],)
        + ("WITH payroll AS (SELECT 1) DELETE FROM payroll",),
    ],
    ids=["scopes", "itself", "later ones", "schemas", "targets"],
)
def test_names_of_with_that_reach_too_far_are_caught(
    replaced: list[tuple[str, str]], passes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validate, "Judge", without(judge, *replaced).Judge)

    assert lets_through(passes)


def test_set_config_on_the_list_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowed, "FUNCTIONS", allowed.FUNCTIONS | {"set_config"})

    assert lets_through("SELECT set_config('app.current_org', 'globex', false)")


@pytest.mark.parametrize(
    ("wall", "passes"),
    [
        ("FuncCall", "SELECT pg_notify('alarm', string_agg(note, ',')) FROM orders"),
        ("SQLValueFunction", "SELECT CURRENT_USER"),
        ("TypeName", "SELECT tableoid::regclass FROM orders"),
        ("A_Expr", "SELECT total OPERATOR(public.+) 1 FROM orders"),
        ("SubLink", "SELECT id FROM orders WHERE total OPERATOR(public.=) ANY (SELECT 1)"),
        ("SortBy", "SELECT id FROM orders ORDER BY total USING OPERATOR(public.<)"),
        ("CollateClause", "SELECT name COLLATE evil.upside_down FROM customers"),
        ("RangeTableSample", "SELECT id FROM orders TABLESAMPLE pg_sleep (1)"),
        ("A_Indirection", "SELECT ('app.current_org'::text).current_setting"),
    ],
)
def test_a_part_that_is_not_looked_at_is_caught(wall: str, passes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = without(judge, ("if kind in _CHECKS:", f"if kind in _CHECKS and kind != {wall!r}:"))
    monkeypatch.setattr(validate, "Judge", mutant.Judge)

    assert lets_through(passes)


@pytest.mark.parametrize(
    ("module", "line", "instead", "passes"),
    [
        (judge, "fields.keys() - self._nodes[kind] - allowed.POSITIONS", "()", "SELECT * FROM shop.public.orders"),
        (judge, "query.check()", "pass",)
        + ("SELECT s.current_setting FROM unnest(ARRAY['app.current_org'::text]) AS s",),
        (row_columns, "query = query._outer", "query = None")
        + ("SELECT x.* FROM unnest(ARRAY['a']) AS s, LATERAL (SELECT s.current_setting) AS x",),
        (reading, "if len(statements) != 1:", "if not statements:", "SELECT 1; COMMIT; DROP TABLE orders"),
        (reading, 'if colon.name == "PARAM":', "if False:", "SELECT * FROM orders WHERE id = $1"),
    ],
    ids=["fields", "columns", "columns from outside", "count", "numbered values"],
)  # fmt: skip
def test_a_check_that_is_left_out_is_caught(
    module: ModuleType, line: str, instead: str, passes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = without(module, (line, instead))
    put: dict[ModuleType, Callable[[], None]] = {
        judge: lambda: monkeypatch.setattr(validate, "Judge", mutant.Judge),
        row_columns: lambda: monkeypatch.setattr(judge, "RowColumns", mutant.RowColumns),
        reading: lambda: monkeypatch.setattr(validate, "read", mutant.read),
    }
    put[module]()

    assert lets_through(passes)


def test_explain_options_that_are_not_looked_at_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    anything = {**allowed.EXPLAIN_OPTIONS, "analyze": frozenset({None, "on", "off"})}
    monkeypatch.setattr(allowed, "EXPLAIN_OPTIONS", anything)

    assert lets_through("EXPLAIN ANALYZE SELECT * FROM orders")
