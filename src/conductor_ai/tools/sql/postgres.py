"""One query on Postgres: a connection, a read-only transaction, a cursor, and the end of all three.

Nothing is kept from call to call, so nothing that a statement leaves behind meets another. The validator has passed the
statement; here the database's own walls are put up, and they hold where the validator would be wrong:

- The role is checked: one that could write, or get round row-level security, is refused.
- The transaction is read-only and is rolled back. Every setting is for the transaction (a pooler hands the session on).
- The statement is run by the extended protocol as the query of a cursor: that is one query, and never a command.
- Time is bounded three times: by the server for the statement, by us for the call, and once more for the goodbye.
- Rows are cut by the server: what is over the cap never crosses the wire, be it a million rows or a single long one.
- The catalogue is asked whether a name could call a function of the database's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import psycopg

from conductor_ai.tools.sql import describe, identity, own_functions
from conductor_ai.tools.sql.address import PostgresAddress
from conductor_ai.tools.sql.answer import Answer, Caps
from conductor_ai.tools.sql.explain import without_estimates
from conductor_ai.tools.sql.failures import refused, too_slow
from conductor_ai.tools.sql.policy import SQLPolicy, Statement, StatementKind, Verdict
from conductor_ai.tools.sql.postgres_faults import told
from conductor_ai.tools.sql.validate import validate_sql
from conductor_ai.tools.sql.values import parameters, reading

_Row = tuple[Any, ...]
_Connection = psycopg.AsyncConnection[_Row]
Access = Literal["READ ONLY", "READ WRITE"]

_LATER_S = 0.1
"""The server ends a statement by itself, and says so."""
_GOODBYE_S = 0.7
_BATCH = 250
_TRANSACTION_TIMEOUT_SINCE = 170000

_SETTINGS = {
    # What the validator assumed when it read the statement.
    "search_path": "pg_catalog, public, pg_temp",
    "standard_conforming_strings": "on",
    "lock_timeout": "2s",
    "row_security": "on",
    # What `values` reads.
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}

_ROLE = b"""
SELECT CASE
        WHEN r.rolsuper THEN 'is a superuser'
        WHEN r.rolbypassrls THEN 'is not bound by row-level security'
        WHEN r.rolreplication THEN 'may replicate the database'
        WHEN r.rolcreaterole THEN 'may make roles'
        WHEN r.rolcreatedb THEN 'may make databases'
        WHEN EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid) THEN 'is a member of another role'
    END,
    (SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN unnest($1::text[], $2::text[]) AS t (schema, name) ON (n.nspname, c.relname) = (t.schema, t.name)
        WHERE c.relowner = r.oid LIMIT 1),
    (SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN unnest($1::text[], $2::text[]) AS t (schema, name) ON (n.nspname, c.relname) = (t.schema, t.name)
        WHERE has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER') LIMIT 1),
    to_regprocedure('conductor_sql.org_id()') IS NOT NULL AND to_regprocedure('conductor_sql.challenge()') IS NOT NULL,
    r.rolname::text
FROM pg_roles r WHERE r.rolname = session_user
"""

# Columns are renamed, as a query may have two of a name. `total` is what the rows up to this one take on the wire,
# where nothing is compressed; of a row beyond the cap only that is sent. What is too long as it is stored is not
# written out to be measured. The inner limit lets the server sort no more than it has to.
_CUT = """\
SELECT w.total{chosen} FROM (
SELECT r.*, pg_catalog.sum(CASE WHEN pg_catalog.pg_column_size(r) > {cap} THEN {cap} + 1 ELSE {size} END)
OVER (ROWS UNBOUNDED PRECEDING) AS total FROM (
SELECT q.* FROM (
{query}
) AS q{names} LIMIT {limit}) AS r) AS w"""
_SIZE_OF_VALUE = "pg_catalog.octet_length(pg_catalog.concat(r.{name})) + 4"

# In one statement with the change, so that there are no rows where it would be refused for what comes of it.
_RETURNED = """\
WITH conductor_changed AS (
{change}
) SELECT s.changed, s.size, conductor_changed.* FROM (
SELECT pg_catalog.count(*) AS changed, pg_catalog.sum(pg_catalog.octet_length((conductor_changed.*)::text)) AS size
FROM conductor_changed) AS s LEFT JOIN conductor_changed ON s.changed <= {most} AND s.size <= {cap}"""


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """A Postgres and the tables of it that may be named."""

    address: PostgresAddress
    policy: SQLPolicy
    caps: Caps = field(default_factory=Caps)

    async def query(self, sql: str, given: dict[str, Any], org_id: str | None) -> Answer:
        """Judge a statement, and run it if it may. Raises: QueryFailed."""
        # In a thread: a long statement takes the parser some milliseconds.
        return await self.run(passed(await asyncio.to_thread(validate_sql, sql, self.policy)), given, org_id)

    async def run(self, statement: Statement, given: dict[str, Any], org_id: str | None) -> Answer:
        """Run a statement that the validator passed. Raises: QueryFailed."""
        values = parameters(statement.parameters, given)
        async with self._session("READ ONLY", org_id) as (connection, signed):
            await own_functions.check(connection, statement)
            if statement.kind is StatementKind.EXPLAIN:
                answer = await self._explained(connection, statement.sql, values, signed=signed)
            else:
                answer = await self._selected(connection, statement.sql, values)
        return _labelled(answer, statement, signed=signed)

    async def change(self, statement: Statement, given: dict[str, Any], org_id: str | None, max_changed: int) -> Answer:
        """Run a change that the validator passed and a person approved, and commit it; nothing of one that would touch
        more than `max_changed` rows. `rows` are those that it returns. Raises: QueryFailed."""
        values = parameters(statement.parameters, given)
        async with self._session("READ WRITE", org_id) as (connection, signed):
            await own_functions.check(connection, statement)
            if statement.returns:
                answer = await self._changed_and_returned(connection, statement.sql, values, max_changed)
            else:
                cursor = await psycopg.AsyncRawCursor(connection).execute(statement.sql.encode(), values)
                answer = Answer([], changed=cursor.rowcount)
            if answer.changed is not None and answer.changed > max_changed:
                raise refused(
                    f"it would change {answer.changed:,} rows, and a call changes {max_changed:,} at most: nothing was"
                    " changed; narrow its WHERE"
                )
            await connection.execute(b"COMMIT")
        return _labelled(answer, statement, signed=signed)

    async def describe(self, only: str | None, org_id: str | None) -> list[dict[str, Any]]:
        """The tables that may be named, or one of them, as far as the database has them. Raises: QueryFailed."""
        async with self._session("READ ONLY", org_id) as (connection, _):
            return await describe.postgres(connection, describe.chosen(self.policy.allowed, only))

    @asynccontextmanager
    async def _session(self, access: Access, org_id: str | None) -> AsyncIterator[tuple[_Connection, bool]]:
        """A connection in a transaction with all walls up, and whether the database knows for which org it answers.

        It ends with the block, by a rollback unless the block committed. Whatever fails within becomes a QueryFailed.
        """
        try:
            async with (
                # It ends the goodbye of the next: a server that does not answer is asked to stop in vain.
                asyncio.timeout(self.caps.timeout_s + _GOODBYE_S),
                asyncio.timeout(self.caps.timeout_s + _LATER_S),
                self._connection() as connection,
            ):
                yield connection, await self._begin(connection, access, org_id)
        except TimeoutError as exc:
            raise too_slow(self.caps.timeout_s) from exc
        except (psycopg.Error, OSError) as exc:
            raise told(exc, self.address, self.caps) from exc

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Connection]:
        connection = await psycopg.AsyncConnection.connect(
            self.address.conninfo, autocommit=True, prepare_threshold=None, context=reading()
        )
        try:
            yield connection
            if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                await connection.execute(b"ROLLBACK")
        finally:
            # Nothing more is said to a connection on which something failed: the server sees the end of it.
            await connection.close()

    async def _begin(self, connection: _Connection, access: Access, org_id: str | None) -> bool:
        milliseconds = f"{round(self.caps.timeout_s * 1000)}ms"
        settings = _SETTINGS | {
            "statement_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
        }
        if connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
            settings["transaction_timeout"] = f"{round((self.caps.timeout_s + _GOODBYE_S) * 1000)}ms"
        await connection.execute(b"BEGIN " + access.encode())
        set_all = ", ".join(["set_config(%s, %s, true)"] * len(settings))
        await connection.execute(f"SELECT {set_all}".encode(), [part for pair in settings.items() for part in pair])
        has_identity = await self._check_role(connection, access)
        if has_identity:
            await self._identify(connection, org_id)
        return has_identity

    async def _check_role(self, connection: _Connection, access: Access) -> bool:
        """Whether the database asks for an identity. Raises: QueryFailed for a role that may do too much."""
        tables = sorted(self.policy.allowed)
        names = [[table.schema for table in tables], [table.name for table in tables]]
        cursor = await psycopg.AsyncRawCursor(connection).execute(_ROLE, names)
        found = await cursor.fetchone()
        if found is None:
            raise refused("the database does not say what its role may do")
        wrong, owned, written, has_identity, role = found
        if wrong is None and owned is not None:
            wrong = f"owns {owned}"
        if wrong is None and written is not None and access == "READ ONLY":
            wrong = f"may change {written}"
        if wrong is not None:
            raise refused(
                f"the database role {role} {wrong}; SQL of a model runs as a role that may only read: the operator"
                " makes one with `conductor db sandbox-role`"
            )
        return bool(has_identity)

    async def _identify(self, connection: _Connection, org_id: str | None) -> None:
        if org_id is None:
            raise refused("this database shows each org its own rows, and this call belongs to no org")
        cursor = await connection.execute(b"SELECT conductor_sql.challenge()")
        ((challenge,),) = await cursor.fetchall()
        proof = identity.sign(identity.key_of(self.address.password), challenge, org_id)
        await connection.execute(b"SELECT set_config(%s, %s, true)", [identity.SETTING, proof])
        cursor = await connection.execute(b"SELECT conductor_sql.org_id()")
        if await cursor.fetchone() != (org_id,):
            raise refused(
                "the database does not accept who asks: the operator runs `conductor db sandbox-role` again and uses"
                " the URL that it prints"
            )

    async def _changed_and_returned(
        self, connection: _Connection, sql: str, values: Sequence[Any], max_changed: int
    ) -> Answer:
        """No rows where too many changed. Raises: QueryFailed where they are too long."""
        cursor = psycopg.AsyncRawCursor(connection)
        cap = self.caps.max_bytes
        query = _RETURNED.format(change=sql, most=max_changed, cap=cap)
        await cursor.execute(query.encode(), values)
        rows = await cursor.fetchall()
        changed, size = rows[0][0], int(rows[0][1] or 0)
        answer = Answer((await self._columns(connection, cursor.description))[2:], changed=changed)
        if changed <= max_changed and size > cap:
            raise refused(
                f"it would return {size:,} bytes, and a call brings back {cap:,} at most: nothing was changed; return"
                " fewer columns"
            )
        if 0 < changed <= max_changed:
            answer.add([list(row[2:]) for row in rows], self.caps)
        return answer

    async def _selected(self, connection: _Connection, sql: str, values: Sequence[Any]) -> Answer:
        async with psycopg.AsyncRawServerCursor(connection, "conductor_shape") as shape:
            await shape.execute(sql.encode(), values)
            columns = await self._columns(connection, shape.description)
        names = [f"c{number}" for number in range(len(columns))]
        cap = self.caps.max_bytes
        query = _CUT.format(
            chosen="".join(f", CASE WHEN w.total <= {cap} THEN w.{name} END" for name in names),
            query=sql,
            cap=cap,
            size=" + ".join(_SIZE_OF_VALUE.format(name=name) for name in names) or "0",
            names=f" ({', '.join(names)})" if names else "",
            limit=self.caps.max_rows + 1,
        )
        answer = Answer(columns)
        async with psycopg.AsyncRawServerCursor(connection, "conductor_rows") as cursor:
            await cursor.execute(query.encode(), values)
            while batch := await cursor.fetchmany(_BATCH):
                whole = [list(row[1:]) for row in batch if row[0] <= cap]
                if answer.add(whole, self.caps):
                    break
                if len(whole) < len(batch):
                    answer.truncated_by = "bytes"
                    break
        return answer

    async def _explained(self, connection: _Connection, sql: str, values: Sequence[Any], *, signed: bool) -> Answer:
        # The estimates come from the rows of all orgs.
        text = without_estimates(sql) if signed else sql
        cursor = psycopg.AsyncRawCursor(connection)
        await cursor.execute(text.encode(), values)
        answer = Answer(await self._columns(connection, cursor.description))
        answer.add([list(row) for row in await cursor.fetchall()], self.caps)
        return answer

    async def _columns(
        self, connection: _Connection, description: Sequence[psycopg.Column] | None
    ) -> list[dict[str, str]]:
        columns = description or ()
        known = connection.adapters.types
        unknown = sorted({column.type_code for column in columns if known.get(column.type_code) is None})
        names: dict[int, str] = {}
        if unknown:
            cursor = await connection.execute(
                b"SELECT oid, format_type(oid, NULL) FROM pg_type WHERE oid = ANY(%s::oid[])", [unknown]
            )
            names = dict(await cursor.fetchall())
        return [{"name": column.name, "type": names.get(column.type_code, column.type_display)} for column in columns]


def passed(verdict: Verdict) -> Statement:
    """The statement of a verdict. Raises: QueryFailed where it may not run."""
    if verdict.statement is None:
        raise refused(verdict.reason)
    return verdict.statement


def _labelled(answer: Answer, statement: Statement, *, signed: bool) -> Answer:
    answer.identity = "signed" if signed else "none"
    answer.tables = [str(table) for table in statement.tables]
    return answer
