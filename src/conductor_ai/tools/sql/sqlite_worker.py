"""The process that reads a SQLite file for a model: one request on standard input, one answer on standard output.

A function of SQLite cannot be interrupted while it works, and a query may want more memory or disk than there is: so it
works here, where it has limits and can be killed. Run as a file, with the standard library alone.

The walls within: the file is opened read-only, `query_only` is on, no other file can be attached, and the authorizer
lets a statement do nothing but read the columns of named tables and call functions of a list.
"""

from __future__ import annotations

import base64
import json
import math
import sqlite3
import sys
import time
from typing import Any
from urllib.parse import quote

BUSY_S = 2.0
_MEMORY_BYTES = 512 << 20
_HEAP_BYTES = 384 << 20
_FILE_BYTES = 4 << 20
"""The index of a write-ahead log is a file that a reader may have to make. A query makes none: it sorts in memory."""
_OPCODES = 1000
"""How many steps of SQLite's machine pass between two looks at the clock."""

_LIMITS = {
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_COLUMN: 500,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 100,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 200,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 1000,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 50_000,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}

# Those of the core, of dates, of mathematics, of JSON and of windows that make a value of their arguments.
_FUNCTION_NAMES = """
abs char coalesce concat concat_ws format glob hex ifnull iif instr length like likelihood likely lower ltrim
max min nullif octet_length printf quote replace round rtrim sign soundex substr substring trim typeof unhex
unicode unlikely upper current_date current_time current_timestamp date datetime julianday strftime time
timediff unixepoch acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10
log2 mod pi pow power radians sin sinh sqrt tan tanh trunc avg count group_concat string_agg sum total median
percentile percentile_cont percentile_disc cume_dist dense_rank first_value lag last_value lead nth_value ntile
percent_rank rank row_number -> ->> json json_array json_array_length json_each json_error_position json_extract
json_group_array json_group_object json_insert json_object json_patch json_pretty json_quote json_remove
json_replace json_set json_tree json_type json_valid
"""
_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
_JSON_TABLES = frozenset({"json_each", "json_tree"})

_LONGEST_NAME = 200
_NO_QUERY = "not authorized: this is no query"
_NO_COLUMN_TYPE = "null"
_TYPES = {int: "integer", float: "real", str: "text", bytes: "blob"}


def main() -> None:
    request = json.load(sys.stdin.buffer)
    _bound(request["timeout_s"])
    try:
        reply = _answer(request)
    except MemoryError:
        reply = {"error": "it takes more memory than a query may use"}
    except (sqlite3.Error, sqlite3.Warning, ValueError) as exc:  # a text that cannot be stored is a ValueError
        reply = {"error": str(exc)}
    sys.stdout.buffer.write(json.dumps(reply).encode())


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    connection = sqlite3.connect(
        f"file:{quote(request['path'])}?mode=ro", uri=True, isolation_level=None, timeout=BUSY_S, cached_statements=0
    )
    connection.text_factory = lambda data: data.decode(errors="replace")
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    # A limit of files holds for each, and a query may sort in any number of them at once: memory is limited as a whole.
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA hard_heap_limit = {_HEAP_BYTES}")
    tables = {name.lower() for name in request["tables"]}
    if request["sql"] is None:
        return {
            "tables": [_described(connection, name, tables) for name in _present(connection, tables, request["only"])]
        }
    _restrict(connection, tables, request)
    return _rows(connection, request)


def _restrict(connection: sqlite3.Connection, tables: set[str], request: dict[str, Any]) -> None:
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    # Of one value: so long may a single function work on it.
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, request["max_bytes"])
    ends_at = time.monotonic() + request["timeout_s"]
    connection.set_progress_handler(lambda: time.monotonic() > ends_at, _OPCODES)

    readable = _Readable(connection, tables)

    def authorize(action: int, first: str | None, second: str | None, schema: str | None, _: str | None) -> int:
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and second is not None and second.lower() in _FUNCTIONS:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ and first is not None and readable(first.lower(), second, schema):
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

    connection.set_authorizer(authorize)


class _Readable:
    """Which reads are let through.

    SQLite asks with the real table of each column that is read, whatever a statement calls it. Only where a statement
    uses no column of a table it asks with an empty column and the name as written, which may be that of a CTE.
    """

    def __init__(self, connection: sqlite3.Connection, tables: set[str]) -> None:
        self._tables = tables
        # Made here: making a table of this kind is more than a query may do.
        connection.execute("SELECT 1 FROM json_each('[]'), json_tree('[]')").fetchall()
        known = connection.execute("SELECT name FROM sqlite_master").fetchall()
        modules = connection.execute("PRAGMA module_list").fetchall()
        self._real = {name.lower() for (name,) in known + modules}
        self._knows_all = bool(modules)  # a build without that pragma cannot tell

    def __call__(self, name: str, column: str | None, schema: str | None) -> bool:
        if name in _JSON_TABLES or (name in self._tables and schema in ("main", None)):
            return True
        # What is no table and no function that acts as one can only be a CTE: what is in it is asked about, too.
        return (
            self._knows_all and column == "" and name not in self._real and not name.startswith(("sqlite_", "pragma_"))
        )


def _rows(connection: sqlite3.Connection, request: dict[str, Any]) -> dict[str, Any]:
    cursor = connection.execute(request["sql"], request["params"])
    if cursor.description is None:
        return {"error": _NO_QUERY}
    names = [column[0][:_LONGEST_NAME] for column in cursor.description]
    types = [_NO_COLUMN_TYPE] * len(names)
    rows: list[list[Any]] = []
    size, truncated_by = len(json.dumps(names, ensure_ascii=False).encode()), None
    for row in cursor:
        for at, value in enumerate(row):
            if types[at] == _NO_COLUMN_TYPE and value is not None:
                types[at] = _TYPES[type(value)]
        shown = [_json_value(value) for value in row]
        size += len(json.dumps(shown, ensure_ascii=False).encode())
        if len(rows) >= request["max_rows"] or size > request["max_bytes"]:
            truncated_by = "rows" if len(rows) >= request["max_rows"] else "bytes"
            break
        rows.append(shown)
    columns = [{"name": name, "type": kind} for name, kind in zip(names, types, strict=True)]
    return {"columns": columns, "rows": rows, "truncated_by": truncated_by}


def _json_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _present(connection: sqlite3.Connection, tables: set[str], only: str | None) -> list[str]:
    found = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name")
    wanted = tables if only is None else tables & {only.lower()}
    return [name for (name,) in found.fetchall() if name.lower() in wanted]


def _described(connection: sqlite3.Connection, table: str, tables: set[str]) -> dict[str, Any]:
    columns = connection.execute('SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (table,)).fetchall()
    (kind,) = connection.execute("SELECT type FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    keys = [name for name, _, _, position in sorted(columns, key=lambda column: column[3]) if position]
    references = connection.execute(
        'SELECT "from", "table", "to" FROM pragma_foreign_key_list(?) ORDER BY id, seq', (table,)
    ).fetchall()
    return {
        "name": table,
        "kind": kind,
        "columns": [
            {"name": name, "type": declared.lower(), "nullable": not not_null and not key}
            for name, declared, not_null, key in columns
        ],
        "keys": [
            *([f"PRIMARY KEY ({', '.join(keys)})"] if keys else []),
            *(
                f"FOREIGN KEY ({column}) REFERENCES {other}({key or 'its key'})"
                for column, other, key in references
                if other.lower() in tables
            ),
        ],
    }


def _bound(timeout_s: float) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The deadline is kept from outside. This one ends the work of a process whose owner died.
    _lower(resource.RLIMIT_CPU, math.ceil(timeout_s) + 2)
    _lower(resource.RLIMIT_FSIZE, _FILE_BYTES)
    if sys.platform != "darwin":  # which refuses any value
        _lower(resource.RLIMIT_AS, _MEMORY_BYTES)


def _lower(limit: int, value: int) -> None:
    import resource

    _, hard = resource.getrlimit(limit)
    bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (bounded, bounded))


if __name__ == "__main__":
    main()
