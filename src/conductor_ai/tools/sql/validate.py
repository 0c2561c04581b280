"""The verdict on SQL that a model wrote: refused unless every part of it is on a list. Pure: nothing is run or asked.

PostgreSQL's own parser reads the statement (pglast), so what is judged is what the server will see.
"""

from __future__ import annotations

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


def validate_sql(sql: str, policy: SQLPolicy) -> Verdict:
    """Whether `sql` is exactly one query (SELECT, VALUES, TABLE, or EXPLAIN without ANALYZE) over the policy's tables.

    Values come by name, as `:name`. Raises: MissingExtra where pglast is not installed.
    """
    try:
        reading = read(sql)
        kind, query = _query(reading)
        judge = Judge(policy, allowed.NODES)
        judge.hear(query)
    except Refused as exc:
        return Verdict.refused(exc.rule, exc.reason)
    statement = Statement(kind, reading.sql, tuple(sorted(judge.tables)), reading.parameters)
    return Verdict(allowed=True, statement=statement)


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
    except Refused as exc:
        return Verdict.refused(exc.rule, exc.reason)
    tables = tuple(sorted(judge.tables))
    effect = effect_of(reading.tree, reading.words, tables)
    return Verdict(allowed=True, statement=Statement(kind, reading.sql, tables, reading.parameters, effect))


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
