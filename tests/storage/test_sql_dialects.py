"""The Postgres and SQLite migrations declare one schema."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import sqlglot
from sqlglot import exp

from conductor_ai.bundled import bundled
from conductor_ai.storage.migrations import load
from conductor_ai.storage.tables import metadata

SQL = bundled("sql")
# How SQLite keeps what Postgres has a type for: JSON and timestamps exactly as written, money never as a float.
TWINS = {
    "UUID": "TEXT",
    "TEXT": "TEXT",
    "JSON": "TEXT",
    "TIMESTAMPTZ": "TEXT",
    "DECIMAL": "TEXT",
    "INT": "INT",
    "BIGINT": "INT",
    "BOOLEAN": "INT",
    "VARBINARY": "VARBINARY",
    "DOUBLE": "DOUBLE",
}


class Column(NamedTuple):
    type: str
    required: bool


Schema = dict[str, dict[str, Column]]


def schema(folder: Path, dialect: str) -> Schema:
    statements = [
        statement for migration in load(folder) for statement in sqlglot.parse(migration.sql, dialect=dialect)
    ]
    tables: Schema = {}
    for statement in statements:
        if isinstance(statement, (exp.Create, exp.Alter)) and statement.args["kind"] == "TABLE":
            columns = {column.name: column_of(column) for column in statement.find_all(exp.ColumnDef)}
            tables.setdefault(next(statement.find_all(exp.Table)).name, {}).update(columns)
    return tables


def indexes(folder: Path) -> list[str]:
    """Their text: what they need of SQL is the same in both dialects."""
    return [
        text for migration in load(folder) for text in re.findall(r"^CREATE[A-Z ]* INDEX[^;]*;", migration.sql, re.M)
    ]


def column_of(column: exp.ColumnDef) -> Column:
    kinds = {type(constraint.kind) for constraint in column.find_all(exp.ColumnConstraint)}
    required = bool(kinds & {exp.NotNullColumnConstraint, exp.PrimaryKeyColumnConstraint})
    kind = column.args["kind"].this.value
    return Column(kind, required)


def test_both_dialects_have_the_same_files() -> None:
    assert [migration.name for migration in load(SQL)] == [migration.name for migration in load(SQL / "sqlite")]


def test_both_dialects_declare_the_same_tables_and_columns() -> None:
    postgres = schema(SQL, "postgres")
    sqlite = schema(SQL / "sqlite", "sqlite")
    expected = {
        table: {name: Column(TWINS[column.type], column.required) for name, column in columns.items()}
        for table, columns in postgres.items()
    }
    assert sqlite == expected
    assert set(postgres) == {
        "api_keys",
        "approvals",
        "audit_heads",
        "audit_logs",
        "idempotency_keys",
        "leads",
        "model_calls",
        "org_spending",
        "orgs",
        "queued_messages",
        "session_events",
        "session_files",
        "sessions",
        "tool_executions",
        "workers",
    }


def test_a_column_that_was_added_later_is_a_column_of_its_table() -> None:
    assert schema(SQL, "postgres")["approvals"]["action"] == Column("TEXT", required=False)


def test_both_dialects_declare_the_same_indexes() -> None:
    assert indexes(SQL / "sqlite") == indexes(SQL)
    assert any("ON leads (org_id, lower(email))" in index for index in indexes(SQL))


def test_the_plans_columns_are_there() -> None:
    tables = schema(SQL, "postgres")
    audit_logs = {"id", "org_id", "session_id", "category", "action", "metadata", "created_at"}
    assert audit_logs <= set(tables["audit_logs"])
    tool_executions = {
        "id",
        "tool_name",
        "input",
        "output",
        "execution_time_ms",
        "success",
        "error",
        "created_at",
    }
    assert tool_executions <= set(tables["tool_executions"])


def test_what_is_hashed_is_json_and_never_jsonb() -> None:
    tables = schema(SQL, "postgres")
    assert tables["audit_logs"]["metadata"].type == "JSON"
    assert tables["session_events"]["payload"].type == "JSON"
    assert tables["tool_executions"]["input"].type == "JSON"
    assert tables["tool_executions"]["output"].type == "JSON"


def test_sqlalchemy_sees_the_columns_that_are_there() -> None:
    tables = schema(SQL / "sqlite", "sqlite")
    for name, table in metadata.tables.items():
        assert set(table.columns.keys()) == set(tables[name])
