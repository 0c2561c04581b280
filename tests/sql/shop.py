"""The database of a shop that two orgs share, `acme` and `globex`, and the role that a model's SQL runs as."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psycopg

from conductor_ai.sdk import testing
from conductor_ai.sdk.base import ToolResult
from conductor_ai.tools.sql.address import PostgresAddress, parse
from conductor_ai.tools.sql.answer import Answer, Caps
from conductor_ai.tools.sql.policy import SQLPolicy, Statement, StatementKind
from conductor_ai.tools.sql.postgres import PostgresDatabase
from conductor_ai.tools.sql.role import SandboxRole, make
from conductor_ai.tools.sql_query import SQLQueryTool
from tests.sql.corpus_useful import POLICY, TABLES, VALUES

OTHER = "globex"
"""The org whose rows `acme` must never see: its name stands in each of them."""

_ORGS = "unnest(ARRAY['acme', 'globex']) WITH ORDINALITY AS o (org, at)"
ROWS = [
    "INSERT INTO customers"
    " SELECT n, org, org || ' ' || n, 'Köln', '2026-01-01', ARRAY[org], jsonb_build_object('org', org)"
    f" FROM {_ORGS}, generate_series(at * 100, at * 100 + 2) AS n",
    "INSERT INTO orders"
    " SELECT n, org, n - n % 100 + n % 3, n % 7 + 0.5, CASE n % 2 WHEN 0 THEN 'open' ELSE 'paid' END, 'of ' || org,"
    " timestamptz '2026-01-01 12:00+00' + n * interval '1 hour',"
    " jsonb_build_array(jsonb_build_object('sku', org, 'qty', n)), n"
    f" FROM {_ORGS}, generate_series(at * 100, at * 100 + 19) AS n",
    f"INSERT INTO sales.targets SELECT '2026-01-01', org, 1000 FROM {_ORGS}",
    f"INSERT INTO payroll SELECT 1, org, 4000 FROM {_ORGS}",
]


@dataclass(frozen=True, slots=True)
class Shop:
    """`admin_url` is its owner's; `role` logs in at `url`."""

    admin_url: str
    role: SandboxRole
    url: str

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """As its owner."""
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description is not None else []

    def refill(self) -> None:
        """The rows as they were."""
        for statement in ["TRUNCATE customers, orders, sales.targets, payroll", *ROWS]:
            self.run(statement)

    def tool(self, *, url: str | None = None, policy: SQLPolicy = POLICY, timeout_s: float = 10.0) -> SQLQueryTool:
        return SQLQueryTool(url or self.url, policy, caps=Caps(timeout_s=timeout_s))

    async def ask(self, sql: str, *, org: str = "acme", url: str | None = None, **params: Any) -> ToolResult:
        """As a model of `org` would."""
        return await ask(self.tool(url=url), {"sql": sql, "params": params}, org=org)

    def database(self, *, timeout_s: float = 10.0, url: str | None = None) -> PostgresDatabase:
        address = parse(url or self.url)
        assert isinstance(address, PostgresAddress)
        return PostgresDatabase(address, POLICY, Caps(timeout_s=timeout_s))

    async def past_the_validator(
        self, sql: str, *, org: str = "acme", timeout_s: float = 10.0, url: str | None = None
    ) -> Answer:
        """What the walls behind the validator make of a statement. Raises: QueryFailed."""
        return await self.database(timeout_s=timeout_s, url=url).run(Statement(StatementKind.SELECT, sql), {}, org)

    def state(self) -> dict[str, list[tuple[Any, ...]]]:
        """All that a statement could leave behind: rows, relations, roles, settings, large objects, locks."""
        tables = ("customers", "orders", "sales.targets", "payroll", "conductor_sql.keys")
        queries = {
            **{table: f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} AS t" for table in tables},
            "relations": "SELECT oid, relname, relowner, relacl::text FROM pg_class WHERE oid > 16384 ORDER BY 1",
            "functions": "SELECT oid, proname FROM pg_proc WHERE oid > 16384 ORDER BY 1",
            "policies": "SELECT polname, polrelid, polpermissive FROM pg_policy ORDER BY 1, 2",
            "roles": "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcanlogin FROM pg_roles"
            " WHERE rolname !~ '^sql_' OR rolname = current_user ORDER BY 1",
            "settings": "SELECT setdatabase, setrole, setconfig::text FROM pg_db_role_setting"
            f" WHERE setrole = '{self.role.name}'::regrole",
            "large objects": "SELECT oid FROM pg_largeobject_metadata",
            "comments": "SELECT objoid, description FROM pg_description WHERE objoid > 16384",
            "slots": "SELECT slot_name FROM pg_replication_slots",
        }
        return {what: self.run(query) for what, query in queries.items()}

    def busy(self) -> int:
        """How many connections of the role the server still has."""
        ((count,),) = self.run("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", self.role.name)
        return int(count)

    async def all_quiet(self) -> None:
        """Returns once the server has ended every connection of the role."""
        while await asyncio.to_thread(self.busy):  # noqa: ASYNC110  the server tells nobody
            await asyncio.sleep(0.02)


def values_of(sql: str) -> dict[str, Any]:
    """Those of `VALUES` that a statement names."""
    return {name: VALUES[name] for name in re.findall(r"(?<!:):([a-z]+)", sql) if name in VALUES}


async def ask(tool: SQLQueryTool, arguments: dict[str, Any], *, org: str = "acme") -> ToolResult:
    with testing.context(org_id=org):
        return await testing.run_tool(tool, arguments)


@contextmanager
def opened(admin_url: str) -> Iterator[Shop]:
    """The shop in an empty database; its role is gone afterwards."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        for statement in [*TABLES, *ROWS]:
            connection.execute(statement.encode())
    parts = urlsplit(admin_url)
    role = SandboxRole(POLICY.tables, org_column="org", name=f"sql_{parts.path[-16:]}")
    make(role, admin_url)
    shop = Shop(admin_url, role, role.url(admin_url))
    yield shop
    shop.run(f"GRANT {role.name} TO CURRENT_USER")
    shop.run(f"DROP OWNED BY {role.name} CASCADE")
    shop.run(f"DROP ROLE {role.name}")
