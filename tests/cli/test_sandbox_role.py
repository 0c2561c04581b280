"""`conductor db sandbox-role`: the statements on standard output, what is secret said once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.cli.console import Console

URL = re.compile(r"CONDUCTOR_SQL_URL=(postgresql://(\w+):([\w-]{43})@(\S+))")


def test_the_statements_are_printed_and_nothing_runs(console: Console) -> None:
    done = console.here("db", "sandbox-role", "--tables", "orders, sales.items", "--org-column", "org_id")
    assert done.code == 0, done.err
    found = URL.search(done.err)
    assert found is not None
    assert (found[2], found[4]) == ("conductor_sql", "HOST:5432/DATABASE")
    assert found[3] not in done.out
    assert done.out.startswith("BEGIN;\n")
    assert 'GRANT SELECT ON "sales"."items" TO "conductor_sql";' in done.out
    assert done.out.count("CREATE POLICY") == 4
    assert "not run: give it to psql" in done.err


def test_the_tables_are_those_of_the_settings_where_none_is_named(console: Console) -> None:
    console.env["CONDUCTOR_SQL_TABLES"] = "leads"
    done = console.here("db", "sandbox-role", "--json", "--name", "reader").json
    assert done["ran"] is False
    assert done["role"] == "reader"
    assert 'GRANT SELECT ON "public"."leads" TO "reader"' in done["statements"]
    assert not any("POLICY" in statement for statement in done["statements"])


@pytest.fixture
def role(empty_postgres_url: str) -> Iterator[str]:
    name = f"cli_{urlsplit(empty_postgres_url).path[-16:]}"
    yield name
    with psycopg.connect(empty_postgres_url, autocommit=True) as connection:
        connection.execute(f"GRANT {name} TO CURRENT_USER".encode())
        connection.execute(f"DROP OWNED BY {name}".encode())
        connection.execute(f"DROP ROLE {name}".encode())


def test_the_role_that_was_made_answers_a_query(console: Console, empty_postgres_url: str, role: str) -> None:
    with psycopg.connect(empty_postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE leads (org_id TEXT, company TEXT)")
        connection.execute("INSERT INTO leads VALUES ('default', 'ours'), ('other', 'theirs')")
    console.env |= {"DATABASE_URL": empty_postgres_url, "CONDUCTOR_SQL_TABLES": "leads"}
    done = console.here("db", "sandbox-role", "--run", "--org-column", "org_id", "--name", role)
    assert done.code == 0, done.err
    found = URL.fullmatch(done.out.strip())
    assert found is not None

    console.env |= {"DATABASE_URL": "", "CONDUCTOR_SQL_URL": found[1]}
    called = console.here("tools", "call", "sql_query", '{"sql": "SELECT company FROM leads"}', "--json")
    assert called.code == 0, called.err
    assert called.json["result"]["rows"] == [["ours"]]


@pytest.mark.parametrize(
    ("arguments", "env", "message"),
    [
        ((), {}, "the role would read no table"),
        (("--tables", "auth.users"), {}, "belongs to the database itself"),
        (("--tables", "a", "--name", "x;y"), {}, "is no name of a role or a column"),
        (("--tables", "a", "--run"), {}, "DATABASE_URL is not set"),
        (
            ("--tables", "a", "--run"),
            {"DATABASE_URL": "postgresql://u:hunter2-hunter2@127.0.0.1:1/x"},
            "the role was not made (",
        ),
    ],
    ids=["no-table", "closed", "name", "no-database", "away"],
)
def test_what_cannot_be_is_told(
    console: Console, arguments: tuple[str, ...], env: dict[str, str], message: str
) -> None:
    console.env |= env
    done = console.here("db", "sandbox-role", *arguments)
    assert done.code != 0
    assert message in done.err
    assert "hunter2" not in done.err + done.out
    assert done.out == ""
