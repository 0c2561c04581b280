"""The verdict on SQL that a model wrote: refused unless every part of it is on a list. Pure: nothing is run or asked.

PostgreSQL's own parser reads the statement (pglast), so what is judged is what the server will see.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from conductor_ai.tools.sql import allowed
from conductor_ai.tools.sql.effect import effect_of
from conductor_ai.tools.sql.judge import Judge
from conductor_ai.tools.sql.policy import Refused, Rule, SQLPolicy, Statement, StatementKind, Verdict, shown
from conductor_ai.tools.sql.reading import Reading, read

_CHANGES = {
    "InsertStmt": StatementKind.INSERT,
    "UpdateStmt": StatementKind.UPDATE,
    "DeleteStmt": StatementKind.DELETE,
}
_NOT_FULL = "Name each function with its schema: pg_catalog.lower(x)."


def validate_sql(sql: str, policy: SQLPolicy) -> Verdict:
    """Whether `sql` is exactly one query (SELECT, VALUES, TABLE, or EXPLAIN without ANALYZE) over the policy's tables.

    Values come by name, as `:name`. Raises: MissingExtra where pglast is not installed.
    """
    try:
        reading = read(sql)
        kind, query = _query(reading)
        explained = kind is StatementKind.EXPLAIN
        judge = Judge(policy, allowed.NODES, explained=explained)
        judge.hear(query)
        sql = _with_full_names(reading.sql, judge, Judge(policy, allowed.NODES, explained=explained))
    except Refused as exc:
        return Verdict.refused(exc.rule, exc.reason)
    return Verdict(allowed=True, statement=_statement(kind, sql, judge, reading))


def validate_change(sql: str, policy: SQLPolicy) -> Verdict:
    """Whether `sql` is exactly one INSERT, UPDATE or DELETE of a table of the policy; `statement.effect` says what it
    would do. Values come by name, as `:name`. Raises: MissingExtra where pglast is not installed.
    """
    try:
        reading = read(sql)
        kind = _CHANGES.get(type(reading.tree).__name__)
        if kind is None:
            raise Refused(Rule.STATEMENT, f"{_verb(reading)} is not INSERT, UPDATE or DELETE.")
        judge = Judge(policy, allowed.NODES_OF_A_CHANGE)
        judge.hear(reading.tree)
        returns = _returned(reading.tree)
        sql = _with_full_names(reading.sql, judge, Judge(policy, allowed.NODES_OF_A_CHANGE))
    except Refused as exc:
        return Verdict.refused(exc.rule, exc.reason)
    statement = _statement(kind, sql, judge, reading)
    effect = effect_of(reading.tree, reading.words, statement.tables)
    return Verdict(allowed=True, statement=replace(statement, effect=effect, returns=returns))


def _statement(kind: StatementKind, sql: str, judge: Judge, reading: Reading) -> Statement:
    attributes, operators = tuple(sorted(judge.attributes)), tuple(sorted(judge.operators))
    tables = tuple(sorted(judge.tables))
    return Statement(kind, sql, tables, reading.parameters, attributes=attributes, operators=operators)


def _with_full_names(sql: str, judge: Judge, again: Judge) -> str:
    """`lower(x)` as `pg_catalog.lower(x)`: schema `public` may have a function of that name, for other arguments.

    What came of it is judged `again`: no function may be left that is named without its schema.
    Raises: Refused.
    """
    if not judge.calls:
        return sql
    from pglast.parser import ParseError, parse_sql

    parts, end = list[str](), 0
    for at in sorted(judge.calls):
        parts += [sql[end:at], "pg_catalog."]
        end = at
    full = "".join([*parts, sql[end:]])
    try:
        tree: Any = parse_sql(full)[0].stmt
    except ParseError as exc:
        raise Refused(Rule.FUNCTION, _NOT_FULL) from exc
    again.hear(tree.query if type(tree).__name__ == "ExplainStmt" else tree)
    if again.calls:
        raise Refused(Rule.FUNCTION, _NOT_FULL)
    return full


def _returned(tree: Any) -> bool:
    """Whether a change brings back rows. Raises: Refused for more than columns, which could be of any length."""
    clause = getattr(tree, "returningClause", None)  # the parser of version 18 has it, that of 17 the list itself
    exprs = clause.exprs if clause is not None else getattr(tree, "returningList", None) or ()
    if any(type(each.val).__name__ != "ColumnRef" for each in exprs):
        raise Refused(Rule.CLAUSE, "RETURNING takes columns only. Ask for what is made of them with a query.")
    return bool(exprs)


def _query(reading: Reading) -> tuple[StatementKind, Any]:
    """The kind of a query, and the SELECT in it. Raises: Refused for any other statement."""
    kind, tree = StatementKind.SELECT, reading.tree
    if type(tree).__name__ == "ExplainStmt":
        for option in tree.options or ():
            _check_option(option)
        kind, tree = StatementKind.EXPLAIN, tree.query
    if type(tree).__name__ != "SelectStmt":
        raise Refused(Rule.STATEMENT, f"{_verb(reading)} is not a query. Write one SELECT, or EXPLAIN of one.")
    return kind, tree


def _check_option(option: Any) -> None:
    values = allowed.EXPLAIN_OPTIONS.get(option.defname, frozenset())
    value = option.arg.sval.lower() if type(option.arg).__name__ == "String" else None
    if value not in values or (value is None and option.arg is not None):
        known = ", ".join(sorted(allowed.EXPLAIN_OPTIONS))
        raise Refused(Rule.CLAUSE, f"EXPLAIN takes {known} here, and runs nothing; not {shown(option.defname)}.")


def _verb(reading: Reading) -> str:
    """What the statement calls itself, or behind a WITH what the parser calls it."""
    first = reading.words[0].upper()
    return shown(type(reading.tree).__name__.removesuffix("Stmt").upper() if first == "WITH" else first)
