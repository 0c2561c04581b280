"""Names after a dot, where the server may take one for a function's.

To PostgreSQL `x.f` and `f(x)` are the same where `x` has no column `f`: over `unnest(array['search_path']) as x` the
words `x.current_setting` read a setting. That needs an `x` that is a plain value, which only a function in FROM makes;
the rows of tables, subqueries and WITH are records, and no function of pg_catalog that takes a record does harm. So
the columns of each function in FROM are worked out, and another name behind its alias is refused. Whether the database
has functions of its own that take a record is for `own_functions` to ask, with all `names`.
Source: PostgreSQL documentation, 4.2.6 "Function Calls" (functional and attribute notation), and tried on version 18.
"""

from __future__ import annotations

from typing import Any

from conductor_ai.tools.sql.allowed import ROWS_FROM
from conductor_ai.tools.sql.policy import Refused, Rule, shown


class RowColumns:
    """What the FROM of one query declares, and what is used there; `outer` is the query around it.

    A name may be used before its FROM is seen, and may mean that of any query around: `check` once all is known, and
    against all of them. An alias that one FROM declares twice has the columns that both have.
    """

    def __init__(self, outer: RowColumns | None = None) -> None:
        self._outer = outer
        self._columns: dict[str, set[str]] = {}
        self._used: list[tuple[str, str]] = []

    def declare(self, node: Any) -> None:
        """Take note of a function in FROM. Raises: Refused where it is not one that makes rows."""
        calls = [call for call, _ in node.functions]
        for call in calls:
            if type(call).__name__ != "FuncCall" or call.funcname[-1].sval not in ROWS_FROM:
                raise Refused(Rule.FUNCTION, f"Rows in FROM come from one of: {', '.join(sorted(ROWS_FROM))}.")
        first = calls[0].funcname[-1].sval
        alias = node.alias.aliasname if node.alias is not None else first
        columns = _columns(node, alias)
        given = [name.sval for name in (node.alias.colnames if node.alias is not None else None) or ()]
        names = set(given + columns[len(given) :])
        self._columns[alias] = self._columns.get(alias, names) & names

    def refer(self, node: Any) -> None:
        """Take note of a column. Raises: Refused for one that is named as the server names its own functions."""
        names = [field.sval for field in node.fields if type(field).__name__ == "String"]
        if len(node.fields) < 2 or len(names) < len(node.fields):  # a column by itself, or table.*
            return
        if names[-1].startswith("pg_"):
            raise Refused(Rule.COLUMN, f"{shown('.'.join(names))} could call a function. Name a column.")
        self._used.append((names[-2], names[-1]))

    @property
    def names(self) -> set[str]:
        """All that stand behind a dot."""
        return {name for _, name in self._used}

    def check(self) -> None:
        """Raises: Refused for a name that is no column for sure."""
        for alias, name in self._used:
            query: RowColumns | None = self
            while query is not None:
                if name not in query._columns.get(alias, {name}):
                    told = f"has no column {shown(name)} for sure. Name the columns: AS {shown(alias)}(...)."
                    raise Refused(Rule.COLUMN, f"{shown(alias)} {told}")
                query = query._outer


def _columns(node: Any, alias: str) -> list[str]:
    """The columns of a function in FROM, in their order, before an alias renames them."""
    columns: list[str] = []
    for call, definitions in node.functions:
        name = call.funcname[-1].sval
        defined = definitions or node.coldeflist
        if defined is not None:
            columns += [definition.colname for definition in defined]
        elif (own := ROWS_FROM[name]) is not None:
            columns += own
        elif name == "unnest" and len(call.args or ()) > 1:
            columns += [name] * len(call.args)  # unnest(a, b) is two functions, and the alias names neither
        else:
            columns.append(alias if len(node.functions) == 1 else name)
    return columns + ["ordinality"] * bool(node.ordinality)
