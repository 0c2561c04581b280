"""The walk through a statement's tree. What `allowed` does not list is refused: node, field, function, operator, type,
table, and a name after a dot that the server could take for a function's.

A name of WITH stands for a table exactly where PostgreSQL lets it: in the statement that the WITH belongs to, below it,
and in the queries of the same WITH that come later (in all of them with RECURSIVE). Anywhere else it is the real table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from conductor_ai.tools.sql import allowed
from conductor_ai.tools.sql.policy import DEFAULT_SCHEMA, Refused, Rule, SQLPolicy, Table, shown
from conductor_ai.tools.sql.row_columns import RowColumns

# Deeper than people write, and far from what the server's stack holds.
MAX_DEPTH = 250

_CLAUSES = {
    "intoClause": "SELECT INTO makes a table; leave INTO out.",
    "lockingClause": "FOR UPDATE and its like lock rows; leave the clause out.",
}
_OPERATORS_OF = {"A_Expr": "name", "SubLink": "operName", "SortBy": "useOp"}
_BETWEEN = {"<", "<=", ">", ">="}
_NO_FIELD_OF_A_VALUE = (
    "A field of a composite value cannot be read with (value).field, which may also call a function. "
    "Write to_jsonb(value) ->> 'field', or for a column just table.column."
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What can be seen from a place: names of WITH, and the rows of the query it is in."""

    names: frozenset[str]
    rows: RowColumns


class Judge:
    """Judges one tree, once. What it found is known when `hear` has returned: the `tables` that are read or changed,
    the `operators`, the `attributes` (names behind a dot), and in `calls` where functions stand without a schema."""

    def __init__(self, policy: SQLPolicy, nodes: dict[str, frozenset[str]], *, explained: bool = False) -> None:
        self._policy = policy.allowed
        self._nodes = nodes
        self._explained = explained
        self._queries: list[RowColumns] = []
        self.tables: set[Table] = set()
        self.attributes: set[str] = set()
        self.operators: set[str] = set()
        self.calls: set[int] = set()
        self._short: set[int] = set()

    def hear(self, tree: Any) -> None:
        """Raises: Refused at the first part that is not on the lists."""
        waiting: list[tuple[Any, Scope, int]] = [(tree, self._below(None, frozenset()), 0)]
        while waiting:
            part, scope, depth = waiting.pop()
            if depth > MAX_DEPTH:
                raise Refused(Rule.TEXT, "The statement is nested too deeply. Write a flatter one.")
            if isinstance(part, tuple):
                waiting += [(each, scope, depth) for each in reversed(part)]
            elif hasattr(part, "__slots__") and not isinstance(part, Enum):
                children = [(child, seen, depth + 1) for child, seen in self._heard(part, scope, is_root=depth == 0)]
                waiting += reversed(children)
        for query in self._queries:
            query.check()
            self.attributes |= query.names

    def _heard(self, node: Any, scope: Scope, *, is_root: bool) -> Iterator[tuple[Any, Scope]]:
        """Judge the node by itself; answers what is in it, each with the names that can be seen there."""
        kind = type(node).__name__
        if kind.endswith("Stmt") and kind != "SelectStmt" and not is_root:
            raise Refused(Rule.STATEMENT, f"{kind.removesuffix('Stmt').upper()} cannot stand inside another statement.")
        fields = self._fields(node)
        if kind in _CHECKS:
            _CHECKS[kind](node)
            if self._explained:
                _small_in_a_plan(node)
        elif kind == "RangeVar":
            self._table(node, scope)
        elif kind == "RangeFunction":
            scope.rows.declare(node)
            self._short |= {call.location for call, _ in node.functions if _is_short_form(call)}
        elif kind == "ColumnRef":
            scope.rows.refer(node)
        if kind == "FuncCall" and len(node.funcname) == 1 and node.location not in self._short:
            self.calls.add(node.location)
        self.operators |= _operators(kind, node)
        return self._within(kind, fields, scope)

    def _fields(self, node: Any) -> dict[str, Any]:
        """What the node holds, by field. Raises: Refused for an unknown node, or something in an unknown field."""
        kind = type(node).__name__
        if kind not in self._nodes:
            raise Refused(Rule.NODE, f"{kind} is not among the constructs that are allowed here.")
        fields = {name: value for name in type(node).__slots__ if _is_set(value := getattr(node, name))}
        for name in sorted(fields.keys() - self._nodes[kind] - allowed.POSITIONS):
            raise _forbidden_field(kind, name)
        return fields

    def _within(self, kind: str, fields: dict[str, Any], scope: Scope) -> Iterator[tuple[Any, Scope]]:
        outside = scope
        if kind.endswith("Stmt"):
            scope = self._below(scope.rows, scope.names)
        clause = fields.pop("withClause", None)
        if clause is not None:
            yield from self._with_queries(clause, outside)
            scope = replace(scope, names=scope.names | {query.ctename for query in clause.ctes})
        if kind in ("InsertStmt", "UpdateStmt", "DeleteStmt"):
            # What is changed is a table, whatever WITH calls itself.
            yield fields.pop("relation"), replace(scope, names=frozenset())
        yield from ((value, scope) for name, value in fields.items() if name not in allowed.POSITIONS)

    def _with_queries(self, clause: Any, scope: Scope) -> Iterator[tuple[Any, Scope]]:
        self._fields(clause)
        names = scope.names | {query.ctename for query in clause.ctes if clause.recursive}
        for query in clause.ctes:
            yield query, replace(scope, names=names)
            names |= {query.ctename}

    def _below(self, rows: RowColumns | None, names: frozenset[str]) -> Scope:
        """The scope of a query within the one that has `rows`."""
        self._queries.append(RowColumns(rows))
        return Scope(names, self._queries[-1])

    def _table(self, node: Any, scope: Scope) -> None:
        if node.schemaname is None and node.relname in scope.names:
            return
        table = Table(node.schemaname or DEFAULT_SCHEMA, node.relname)
        # The server looks in pg_catalog first, where every name begins so.
        if table not in self._policy or (node.schemaname is None and node.relname.startswith("pg_")):
            readable = ", ".join(str(each) for each in sorted(self._policy)[:20]) or "none"
            raise Refused(Rule.TABLE, f"{shown(str(table))} is not among the tables for you: {readable}.")
        self.tables.add(table)


def _is_short_form(call: Any) -> bool:
    """Of a function in FROM: unnest(a, b), which the server itself takes for two of pg_catalog, by this name only."""
    unusual = (call.agg_order, call.agg_filter, call.over, call.agg_star, call.agg_distinct, call.func_variadic)
    return call.funcname[-1].sval == "unnest" and len(call.args or ()) > 1 and not any(map(_is_set, unusual))


def _operators(kind: str, node: Any) -> set[str]:
    """Those that the server looks up for this node by their bare name."""
    names = [part.sval for part in getattr(node, _OPERATORS_OF.get(kind, ""), None) or ()]
    if len(names) == 1:
        return _BETWEEN if names[0].endswith(("BETWEEN", "SYMMETRIC")) else set(names)
    compares = (
        (kind == "CaseExpr" and node.arg is not None)
        or (kind == "SubLink" and node.testexpr is not None and not names)
        or (kind == "JoinExpr" and bool(node.isNatural or node.usingClause))
    )
    return {"="} if compares else set()


def _function(node: Any) -> None:
    _listed(node.funcname, allowed.FUNCTIONS, Rule.FUNCTION, "function")


def _small_in_a_plan(node: Any) -> None:
    """A plan shows what was computed while it was made, and is sent whole."""
    name = (getattr(node, "funcname", None) or getattr(node, "names", None) or [None])[-1]
    if name is not None and name.sval in allowed.GROWING:
        raise Refused(Rule.CLAUSE, f"EXPLAIN cannot show {name.sval}: what it makes may be too long for a plan.")


def _value_of_the_session(node: Any) -> None:
    name = node.op.name.removeprefix("SVFOP_")
    if name not in allowed.CLOCKS:
        raise Refused(Rule.FUNCTION, f"{name} is not among the functions that are allowed.")


def _type(node: Any) -> None:
    _listed(node.names, allowed.TYPES, Rule.TYPE, "type")


def _operator(names: Iterable[Any] | None) -> None:
    if names is not None:
        _listed(names, allowed.OPERATORS, Rule.OPERATOR, "operator")


def _collation(node: Any) -> None:
    if len(node.collname) > 1 and node.collname[0].sval != "pg_catalog":
        raise Refused(Rule.NODE, "Name a collation without its schema.")


def _field(node: Any) -> None:
    """Of a composite value, as in (value).name: known for the functions that name their columns, else refused."""
    names = [each.sval for each in node.indirection if type(each).__name__ == "String"]
    if not names:
        return
    call = node.arg
    columns = allowed.ROWS_FROM.get(call.funcname[-1].sval) if type(call).__name__ == "FuncCall" else None
    if type(node.indirection[0]).__name__ != "String" or len(names) > 1 or names[0] not in (columns or ()):
        raise Refused(Rule.COLUMN, _NO_FIELD_OF_A_VALUE)


# What is looked at in a node beyond its fields, where its parts alone do not tell.
_CHECKS: dict[str, Callable[[Any], None]] = {
    "FuncCall": _function,
    "SQLValueFunction": _value_of_the_session,
    "TypeName": _type,
    "A_Expr": lambda node: _operator(node.name),
    "SubLink": lambda node: _operator(node.operName),
    "SortBy": lambda node: _operator(node.useOp),
    "CollateClause": _collation,
    "RangeTableSample": lambda node: _listed(node.method, allowed.SAMPLE_METHODS, Rule.FUNCTION, "sampling method"),
    "A_Indirection": _field,
}


def _is_set(value: Any) -> bool:
    return value is not None and value is not False and value != () and value != 0 and value != -1


def _listed(names: Iterable[Any], known: frozenset[str] | set[str], rule: Rule, what: str) -> None:
    """Raises: Refused for a name that is not on the list, or in another schema than pg_catalog."""
    *schema, name = [part.sval for part in names]
    if schema not in ([], ["pg_catalog"]) or name not in known:
        raise Refused(rule, f"The {what} {shown('.'.join([*schema, name]))} is not among those that are allowed.")


def _forbidden_field(kind: str, name: str) -> Refused:
    if name in _CLAUSES:
        return Refused(Rule.CLAUSE, _CLAUSES[name])
    if name == "catalogname":
        return Refused(Rule.TABLE, "Name a table by schema.table, without a database.")
    rule = Rule.TYPE if kind == "TypeName" else Rule.NODE
    return Refused(rule, f"{name} of {kind} is not among the constructs that are allowed here.")
