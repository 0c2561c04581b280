"""What a model may know of a database before it writes SQL: the tables it may name, their columns and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conductor_ai.tools.sql.failures import QueryFailed
from conductor_ai.tools.sql.policy import Table

if TYPE_CHECKING:
    import psycopg

_KINDS = {"r": "table", "p": "table", "v": "view", "m": "materialized view", "f": "foreign table"}
_TABLES = b"""
SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text, obj_description(c.oid, 'pg_class')
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN unnest($1::text[], $2::text[]) AS t (schema, name) ON (n.nspname, c.relname) = (t.schema, t.name)
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND has_table_privilege(c.oid, 'SELECT')
ORDER BY 2, 3
"""
_COLUMNS = b"""
SELECT a.attrelid::bigint, a.attname::text, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
    col_description(a.attrelid, a.attnum),
    (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = a.atttypid)
FROM pg_attribute a
WHERE a.attrelid = ANY($1::bigint[]::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""
_KEYS = b"""
SELECT k.conrelid::bigint, pg_get_constraintdef(k.oid, true)
FROM pg_constraint k
WHERE k.conrelid = ANY($1::bigint[]::oid[]) AND k.contype IN ('p', 'u', 'f')
    AND (k.confrelid = 0 OR k.confrelid = ANY($1::bigint[]::oid[]))
ORDER BY k.conrelid, k.contype DESC, k.conname
"""


def chosen(tables: frozenset[Table], only: str | None) -> list[Table]:
    """All, or the one that is asked for by `name` or `schema.name`. Raises: QueryFailed where there is no such one."""
    found = [table for table in sorted(tables) if only is None or only in (table.name, str(table))]
    if only is not None and not found:
        raise QueryFailed(f"there is no table {only!r}; tables are: {', '.join(map(str, sorted(tables))) or 'none'}")
    return found


async def postgres(connection: psycopg.AsyncConnection[Any], tables: list[Table]) -> list[dict[str, Any]]:
    """Those of `tables` that are there and that the role may read. Raises: psycopg.Error."""
    import psycopg

    cursor = psycopg.AsyncRawCursor(connection)
    await cursor.execute(_TABLES, [[table.schema for table in tables], [table.name for table in tables]])
    described: dict[int, dict[str, Any]] = {
        oid: {"name": f"{schema}.{name}", "kind": _KINDS[kind], **_comment(comment), "columns": [], "keys": []}
        for oid, schema, name, kind, comment in await cursor.fetchall()
    }
    await cursor.execute(_COLUMNS, [list(described)])
    for oid, name, kind, nullable, comment, labels in await cursor.fetchall():
        column = {"name": name, "type": kind, "nullable": nullable, **_comment(comment)}
        described[oid]["columns"].append(column | ({"values": labels} if labels else {}))
    await cursor.execute(_KEYS, [list(described)])
    for oid, key in await cursor.fetchall():
        described[oid]["keys"].append(key)
    return list(described.values())


def _comment(text: str | None) -> dict[str, str]:
    return {"comment": text} if text else {}
