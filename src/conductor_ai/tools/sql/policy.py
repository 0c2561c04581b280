"""What SQL from a model may read or change, and the verdict on one statement. Nothing here parses: see `validate`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

# Where a name without a schema is found once it is no name of the catalogue: the session's search_path is
# `pg_catalog, public`, and every relation of pg_catalog begins with `pg_`.
DEFAULT_SCHEMA = "public"

# Never readable, whatever the policy says: the catalogue, where `sql_query` itself keeps what signs the org, and where
# Supabase keeps accounts, secrets and its own matters.
CLOSED_SCHEMAS = frozenset(
    {"information_schema", "conductor_sql", "auth", "vault", "storage", "net", "cron", "extensions", "realtime"}
    | {
        "graphql",
        "graphql_public",
        "pgbouncer",
        "pgsodium",
        "pgsodium_masks",
        "supabase_functions",
        "supabase_migrations",
    }
)


class StatementKind(StrEnum):
    SELECT = "select"
    EXPLAIN = "explain"
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


class Rule(StrEnum):
    """Which wall refused a statement."""

    TEXT = "text"  # too long, or characters that no statement needs
    SYNTAX = "syntax"  # PostgreSQL's parser does not read it
    COUNT = "count"  # none, or more than one
    STATEMENT = "statement"  # another kind of statement, also where one stands inside another
    CLAUSE = "clause"  # SELECT INTO, FOR UPDATE, EXPLAIN ANALYZE and the like
    NODE = "node"  # a construct that is not on the list
    FUNCTION = "function"
    OPERATOR = "operator"
    TYPE = "type"
    TABLE = "table"
    COLUMN = "column"  # a name after a dot that the server could take for a function's
    PARAMETER = "parameter"


@dataclass(frozen=True, slots=True, order=True)
class Table:
    """A table or view by the names that the catalogue has for it."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class SQLPolicy:
    """The tables and views that a statement may name.

    `tables`: `name` for one of schema `public`, else `schema.name`, each as the catalogue has it (SQL folds a name
    without quotes to lower case). Empty: only statements that read no table.
    Raises: ValueError for a name that is no table's, or in a schema that stays closed.
    """

    tables: Collection[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.tables, str):
            raise ValueError("tables is a list of names, not one text")
        object.__setattr__(self, "tables", tuple(str(_table(name)) for name in self.tables))

    @property
    def allowed(self) -> frozenset[Table]:
        return frozenset(_table(name) for name in self.tables)


@dataclass(frozen=True, slots=True)
class Statement:
    """What an allowed statement is.

    `sql` is what to run, and nothing else: the statement that was judged, without a closing semicolon, with `$1`, `$2`
    for the names in `parameters` (in that order, each once), and with `pg_catalog.` before a function's name. It was
    read with standard_conforming_strings on and the search_path `pg_catalog, public`: a session that runs it sets both.
    `tables` are those that it reads or changes. `attributes` (names behind a dot) and `operators` are what only the
    database can tell from calls of functions of its own: it is to be asked.
    `effect` says in words what a change would do; empty for a query. `returns` tells whether it brings back rows.
    """

    kind: StatementKind
    sql: str
    tables: tuple[Table, ...] = ()
    parameters: tuple[str, ...] = ()
    effect: str = ""
    attributes: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    returns: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a statement may run; if not, `reason` tells the model what to try, and `rule` which wall said so."""

    allowed: bool
    reason: str = ""
    rule: Rule | None = None
    statement: Statement | None = None

    @staticmethod
    def refused(rule: Rule, reason: str) -> Verdict:
        return Verdict(allowed=False, reason=reason, rule=rule)

    def checked(self) -> Statement:
        """The statement of an allowed verdict. Raises: ValueError for a refused one."""
        if self.statement is None:
            raise ValueError(self.reason)
        return self.statement


class Refused(Exception):
    """A statement met a wall; within this package only: outside it is a `Verdict`."""

    def __init__(self, rule: Rule, reason: str) -> None:
        super().__init__(reason)
        self.rule, self.reason = rule, reason


def shown(name: str) -> str:
    """A name out of a statement as a reason may quote it: one line, printable, short."""
    name = "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in name)
    return name if len(name) <= 100 else name[:100] + "…"


def _table(name: str) -> Table:
    schema, dot, table = name.strip().rpartition(".")
    if not dot:
        schema = DEFAULT_SCHEMA
    if not table or not schema or "." in schema or '"' in name:
        raise ValueError(f"{name!r} is no table: write name or schema.name, without quotes")
    if schema in CLOSED_SCHEMAS or schema.startswith(("pg_", "supabase_")) or (not dot and table.startswith("pg_")):
        raise ValueError(f"{name!r} belongs to the database itself and stays closed")
    return Table(schema, table)
