"""The plan of a query without the server's estimates, which tell of rows that the reader may not see."""

from __future__ import annotations

from typing import Any


def without_estimates(sql: str) -> str:
    """An EXPLAIN that the validator passed, with COSTS OFF in place of whatever options it has."""
    from pglast import parse_sql
    from pglast.parser import scan

    tokens = [token for token in scan(sql) if token.name not in ("SQL_COMMENT", "C_COMMENT")]
    names = [token.name for token in tokens]
    first = 1
    explain: Any = parse_sql(sql)[0].stmt
    if explain.options:
        # `EXPLAIN (a, b) SELECT`, or the old `EXPLAIN VERBOSE SELECT`. No value of an option has a bracket.
        first = names.index("ASCII_41") + 1 if names[1] == "ASCII_40" else 2
    return f"EXPLAIN (COSTS OFF) {sql[tokens[first].start :]}"
