"""The role that `sql_query` logs in with: the statements that make it.

It may log in and read the tables that are named, and nothing else. With an org column it sees the rows of one org at a
time, the one that `identity` proves. Every statement may be run again: what is there is brought up to date.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from conductor_ai.errors import InvalidInput, StorageError
from conductor_ai.tools.sql import identity
from conductor_ai.tools.sql.address import PostgresAddress, parse
from conductor_ai.tools.sql.extra import require_extra
from conductor_ai.tools.sql.own_functions import REVOKES
from conductor_ai.tools.sql.policy import SQLPolicy, Table

DEFAULT_ROLE = "conductor_sql"
_ITERATIONS = 4096
_PLAIN_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]{0,49}")

_SETTINGS = {
    "default_transaction_read_only": "on",
    "search_path": "pg_catalog, public",
    "statement_timeout": "'15s'",
    "lock_timeout": "'2s'",
    "idle_in_transaction_session_timeout": "'15s'",
    "work_mem": "'16MB'",
    "max_parallel_workers_per_gather": "0",
}
_CONNECTIONS = 20
_TEMP_FILES = "50MB"
_SUPABASE_POOLER = ".pooler.supabase.com"
"""It knows a project by the name of the user."""


@dataclass(frozen=True, slots=True)
class SandboxRole:
    """What is to be made.

    `tables` are readable; where `org_column` names the column that holds an org's id, each org reads its own rows of
    them, and those that are also in `shared` in whole. `password` is a secret; leave it out for a new one.
    Raises: InvalidInput for names that cannot be.
    """

    tables: Collection[str]
    shared: Collection[str] = ()
    org_column: str | None = None
    name: str = DEFAULT_ROLE
    password: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def __post_init__(self) -> None:
        if not (self.tables or self.shared):
            raise InvalidInput(
                "the role would read no table", hint="name them: --tables orders, or set CONDUCTOR_SQL_TABLES"
            )
        for name in (self.name, *([] if self.org_column is None else [self.org_column])):
            if not _PLAIN_NAME.fullmatch(name):
                raise InvalidInput(
                    f"{name!r} is no name of a role or a column", hint="letters, digits and _, at most 50"
                )
        self._tables(self.tables), self._tables(self.shared)

    def statements(self) -> list[str]:
        """To be run by the owner of the tables, together: in one transaction, in this order."""
        shared = self._tables(self.shared)
        isolated = [table for table in self._tables(self.tables) if table not in shared]
        made = [*self._role(), *self._reads([*isolated, *shared])]
        if self.org_column is not None:
            made += self._identity()
            for table in isolated:
                made += self._policies(table, self.org_column)
        return [statement.strip() for statement in made]

    def url(self, admin_url: str | None) -> str:
        """Where the role logs in, given where an administrator does. Its password is in it: a secret."""
        user, host = self.name, "HOST:5432/DATABASE"
        if admin_url is not None:
            parts = urlsplit(admin_url)
            host = parts._replace(scheme="", netloc=parts.netloc.rpartition("@")[2]).geturl().removeprefix("//")
            _, dot, project = (parts.username or "").partition(".")
            if dot and (parts.hostname or "").endswith(_SUPABASE_POOLER):
                user = f"{self.name}.{project}"
        return f"postgresql://{user}:{quote(self.password, safe='')}@{host}"

    def script(self) -> str:
        """The same as text for `psql`, with what else an administrator may want to know."""
        body = "".join(f"{statement};\n" for statement in self.statements())
        return f"BEGIN;\n{body}COMMIT;\n{_ADVICE}{self.revokes()};\n"

    def revokes(self) -> str:
        """A query: what may be taken from the role, one statement a row."""
        return REVOKES.format(role=_text(self.name)).strip()

    def _role(self) -> list[str]:
        role = _name(self.name)
        known = f"SELECT FROM pg_roles WHERE rolname = {_text(self.name)}"
        options = f"LOGIN NOINHERIT NOCREATEDB NOCREATEROLE CONNECTION LIMIT {_CONNECTIONS}"
        return [
            _block(f"IF NOT EXISTS ({known}) THEN CREATE ROLE {role}; END IF;"),
            f"ALTER ROLE {role} {options} PASSWORD {_text(_verifier(self.password))}",
            *(f"ALTER ROLE {role} SET {setting} = {value}" for setting, value in _SETTINGS.items()),
            # Only a superuser may set this one. Without it the caps and timeouts of each call are what bounds a sort.
            _block(
                f"ALTER ROLE {role} SET temp_file_limit = '{_TEMP_FILES}';\n"
                "EXCEPTION WHEN insufficient_privilege THEN NULL;"
            ),
            _block(f"EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), {_text(self.name)});"),
        ]

    def _reads(self, tables: Sequence[Table]) -> list[str]:
        role = _name(self.name)
        schemas = sorted({table.schema for table in tables})
        return [
            *(f"GRANT USAGE ON SCHEMA {_name(schema)} TO {role}" for schema in schemas),
            *(f"GRANT SELECT ON {_table(table)} TO {role}" for table in tables),
        ]

    def _identity(self) -> list[str]:
        role, schema = _name(self.name), identity.SCHEMA
        inner, outer = (f"'\\x{pad.hex()}'" for pad in identity.pads_of(identity.key_of(self.password)))
        functions = f"{schema}.challenge(), {schema}.org_id()"
        return [
            f"CREATE SCHEMA IF NOT EXISTS {schema}",
            f"CREATE TABLE IF NOT EXISTS {schema}.keys"
            " (role_name NAME PRIMARY KEY, inner_pad BYTEA NOT NULL, outer_pad BYTEA NOT NULL)",
            f"REVOKE ALL ON {schema}.keys FROM PUBLIC, {role}",
            f"INSERT INTO {schema}.keys VALUES ({_text(self.name)}, {inner}, {outer})"  # noqa: S608  names of our own
            " ON CONFLICT (role_name) DO UPDATE SET inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad",
            identity.CHALLENGE,
            identity.ORG_ID,
            f"REVOKE ALL ON FUNCTION {functions} FROM PUBLIC",
            f"GRANT USAGE ON SCHEMA {schema} TO {role}",
            f"GRANT EXECUTE ON FUNCTION {functions} TO {role}",
        ]

    def _policies(self, table: Table, column: str) -> list[str]:
        """One policy lets the role at the rows; the other restricts it, so that no policy for everybody adds rows."""
        on, role = _table(table), _name(self.name)
        reads, walls = (_name(f"{self.name}_{kind}") for kind in ("reads", "org"))
        return [
            f"ALTER TABLE {on} ENABLE ROW LEVEL SECURITY",
            f"DROP POLICY IF EXISTS {reads} ON {on}",
            f"DROP POLICY IF EXISTS {walls} ON {on}",
            f"CREATE POLICY {reads} ON {on} TO {role} USING (true)",
            # Written as a query so that it is asked once for a statement, not once for a row.
            f"CREATE POLICY {walls} ON {on} AS RESTRICTIVE TO {role}"
            f" USING ({_name(column)}::text = (SELECT {identity.SCHEMA}.org_id()))",
        ]

    @staticmethod
    def _tables(names: Collection[str]) -> list[Table]:
        try:
            return sorted(SQLPolicy(tables=list(names)).allowed)
        except ValueError as exc:
            raise InvalidInput(str(exc)) from exc


def make(role: SandboxRole, admin_url: str) -> list[str]:
    """Run the statements, all or none. Blocks: call it in a worker thread.

    Returns: a REVOKE for each function of `public` that the role may call and that takes a row or acts as its owner.
    Raises: StorageError; InvalidInput for an address that is no Postgres; MissingExtra.
    """
    require_extra("making the role")
    import psycopg

    address = parse(admin_url)
    if not isinstance(address, PostgresAddress):
        raise InvalidInput("only a Postgres has roles", hint="a SQLite file is read-only for sql_query in any case")
    try:
        with (
            psycopg.connect(address.conninfo, autocommit=True, prepare_threshold=None) as connection,
            connection.transaction(),
        ):
            for statement in role.statements():
                connection.execute(statement.encode())
            return [revoke for (revoke,) in connection.execute(role.revokes().encode()).fetchall()]
    except psycopg.Error as exc:
        said = (exc.diag.message_primary or str(exc) or type(exc).__name__).splitlines()[0]
        raise StorageError(
            f"{address.shown}: the role was not made ({address.without_password(said)})",
            hint="run it as the owner of the tables, with the right to make roles",
        ) from exc


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _table(table: Table) -> str:
    return f"{_name(table.schema)}.{_name(table.name)}"


def _block(body: str) -> str:
    return f"DO $conductor$ BEGIN\n    {body}\nEND $conductor$"


def _verifier(password: str) -> str:
    """What the server stores (RFC 5803): the password itself would stand in its log."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    shown = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(_ITERATIONS, *shown)


_ADVICE = """
-- What everybody may do by default, this role may, too. Where no other role needs it:
--   REVOKE TEMPORARY ON DATABASE name FROM PUBLIC;
--   REVOKE CREATE ON SCHEMA public FROM PUBLIC;   (before Postgres 15)
-- A view shows what its owner may see, unless it was made WITH (security_invoker = true).
-- The functions of schema public that the role may call with a row, or that act as their owner: a name that could call
-- one is refused; each line that this prints takes one away. Roles that need it are granted it by name first.
"""
