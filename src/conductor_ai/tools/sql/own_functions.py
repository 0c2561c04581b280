"""Functions and operators of a database's own that a statement could call without saying so.

PostgreSQL takes `c.everybody` for `everybody(c)` where the rows `c` have no such column, and picks the operator of a
name by the types beside it. The validator sees names and no catalogue; here the catalogue is asked, in the transaction
of the statement. Functions by name are no matter here: the validator writes them as those of pg_catalog.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conductor_ai.tools.sql.failures import refused
from conductor_ai.tools.sql.policy import DEFAULT_SCHEMA, Statement, shown

if TYPE_CHECKING:
    import psycopg

# What a row can be given to: composite types, domains over them, and types that stand for any.
_TAKES_A_ROW = """p.pronargs - p.pronargdefaults <= 1 AND EXISTS (
    SELECT FROM pg_type t LEFT JOIN pg_type base ON base.oid = t.typbasetype
    WHERE t.oid IN (p.proargtypes[0], p.provariadic) AND (t.typtype = 'c' OR base.typtype IN ('c', 'd')
        OR (t.typtype = 'p' AND t.typname NOT IN ('cstring', 'internal'))))"""
# An operator that an extension brings computes a value of its own types, unless it acts as somebody else.
_OF_THEIR_OWN = """(p.prosecdef OR NOT EXISTS (SELECT FROM pg_depend d
    WHERE d.classid = 'pg_operator'::regclass AND d.objid = o.oid AND d.deptype = 'e'))"""

_CALLABLE = f"""
SELECT 'function', p.proname::text, n.nspname::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.proname = ANY($1::text[]) AND n.nspname <> 'pg_catalog' AND n.nspname = ANY(current_schemas(false))
    AND has_function_privilege(p.oid, 'EXECUTE') AND {_TAKES_A_ROW}
UNION
SELECT 'operator', o.oprname::text, n.nspname::text FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
    JOIN pg_proc p ON p.oid = o.oprcode
WHERE o.oprname = ANY($2::text[]) AND n.nspname <> 'pg_catalog' AND n.nspname = ANY(current_schemas(false))
    AND has_function_privilege(p.oid, 'EXECUTE') AND {_OF_THEIR_OWN}
ORDER BY 1, 2
LIMIT 1
""".encode()  # noqa: S608  texts of our own

REVOKES = f"""
SELECT format('REVOKE EXECUTE ON ROUTINE %I.%I(%s) FROM PUBLIC, %I;',
    n.nspname, p.proname, pg_get_function_identity_arguments(p.oid), r.rolname)
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles r ON r.rolname = {{role}}
WHERE n.nspname = '{DEFAULT_SCHEMA}' AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
    AND (p.prosecdef OR ({_TAKES_A_ROW})
        OR EXISTS (SELECT FROM pg_operator o WHERE o.oprcode = p.oid AND {_OF_THEIR_OWN}))
ORDER BY 1"""  # noqa: S608
"""One line for each function of `public` that a role may call by such a name, or that acts as its owner; {role} is the
name of the role as a text of SQL."""


async def check(connection: psycopg.AsyncConnection[Any], statement: Statement) -> None:
    """Raises: QueryFailed where a name of the statement may mean a function of this database."""
    import psycopg

    if not (statement.attributes or statement.operators):
        return
    cursor = psycopg.AsyncRawCursor(connection)
    await cursor.execute(_CALLABLE, [list(statement.attributes), list(statement.operators)])
    found = await cursor.fetchone()
    if found is None:
        return
    kind, name, schema = found
    if kind == "operator":
        raise refused(
            f"{name} is an operator of this database's own, too, in {shown(schema)}: write OPERATOR(pg_catalog.{name})"
        )
    raise refused(
        f"{shown(name)} behind a dot could call the function {shown(schema)}.{shown(name)}, which takes a row: name the"
        " column without a table before it, or rename it in a subquery"
    )
