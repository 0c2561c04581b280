"""The role that `conductor db sandbox-role` makes: what it may do, and how it is made again."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest

from conductor_ai.errors import InvalidInput, StorageError
from conductor_ai.tools.sql.role import SandboxRole, make
from tests.sql.shop import Shop


def as_role(shop: Shop, statement: str) -> list[tuple[object, ...]]:
    """In a session of the role that has none of the tool's walls."""
    with psycopg.connect(shop.url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description is not None else []


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO orders (id, org) VALUES (1, 'acme')",
        "UPDATE orders SET total = 0",
        "DELETE FROM orders",
        "SELECT * FROM payroll",
        "SELECT * FROM conductor_sql.keys",
        "INSERT INTO conductor_sql.keys SELECT current_user, '', ''",
        "CREATE TABLE mine ()",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION conductor_sql.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION conductor_sql.org_id() RETURNS text LANGUAGE sql AS 'SELECT 1'",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "ALTER TABLE orders DISABLE ROW LEVEL SECURITY",
        "ALTER ROLE CURRENT_USER BYPASSRLS",
        "SET ROLE conductor",
        "COPY orders TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
    ],
)
def test_without_any_other_wall_the_role_may_still_only_read(shop: Shop, statement: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        as_role(shop, statement)
    assert caught.value.sqlstate in ("42501", "22023")


def test_its_sessions_begin_with_limits(shop: Shop) -> None:
    with psycopg.connect(shop.url, autocommit=True) as connection:
        found = {
            name: (connection.execute(f"SHOW {name}".encode()).fetchone() or ("",))[0]
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "search_path",
                         "default_transaction_read_only")
        }  # fmt: skip
    assert found == {
        "statement_timeout": "15s",
        "lock_timeout": "2s",
        "idle_in_transaction_session_timeout": "15s",
        "search_path": "pg_catalog, public",
        "default_transaction_read_only": "on",
    }
    assert shop.run("SELECT rolconnlimit, rolinherit FROM pg_roles WHERE rolname = %s", shop.role.name) == [(20, False)]


def test_without_an_identity_the_role_sees_no_row(shop: Shop) -> None:
    assert as_role(shop, "SELECT count(*) FROM orders") == [(0,)]
    assert as_role(shop, "SELECT conductor_sql.org_id()") == [(None,)]


async def test_made_again_it_has_a_new_password_and_the_old_one_is_worth_nothing(own_shop: Shop) -> None:
    again = SandboxRole(own_shop.role.tables, org_column="org", name=own_shop.role.name)
    make(again, own_shop.admin_url)
    assert (await own_shop.ask("SELECT 1")).success is False
    result = await own_shop.ask("SELECT count(*) FROM orders", url=again.url(own_shop.admin_url))
    assert result.result["rows"] == [[20]]


async def test_a_shared_table_is_everybodys(own_shop: Shop) -> None:
    role = SandboxRole(own_shop.role.tables, ["sales.targets"], org_column="org", name=own_shop.role.name)
    own_shop.run("ALTER TABLE sales.targets DISABLE ROW LEVEL SECURITY")
    make(role, own_shop.admin_url)
    url = role.url(own_shop.admin_url)
    assert (await own_shop.ask("SELECT count(*) FROM sales.targets", url=url)).result["rows"] == [[2]]
    assert not any("targets" in statement for statement in role.statements() if "POLICY" in statement)


def test_all_statements_run_or_none(own_shop: Shop) -> None:
    before = own_shop.state()
    with pytest.raises(StorageError, match='column "no_such" does not exist'):
        make(SandboxRole(["orders"], org_column="no_such", name=own_shop.role.name), own_shop.admin_url)
    assert own_shop.state() == before


@pytest.fixture
def second_role(own_shop: Shop) -> Iterator[SandboxRole]:
    role = SandboxRole(["orders"], org_column="org", name=f"{own_shop.role.name}_2")
    yield role
    own_shop.run(f"GRANT {role.name} TO CURRENT_USER")
    own_shop.run(f"DROP OWNED BY {role.name} CASCADE")
    own_shop.run(f"DROP ROLE {role.name}")


async def test_the_printed_script_does_the_same(own_shop: Shop, second_role: SandboxRole) -> None:
    own_shop.run(second_role.script())
    found = await own_shop.ask("SELECT count(*) FROM orders", url=second_role.url(own_shop.admin_url))
    assert found.result["rows"] == [[20]]
    assert second_role.password not in second_role.script()
    assert second_role.password not in repr(second_role)


async def test_functions_that_take_a_row_are_listed_and_can_be_taken_away(own_shop: Shop) -> None:
    for made in (
        "FUNCTION everybody(customers) RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT max(org) FROM payroll'",
        "FUNCTION raise_all() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        "FUNCTION plain(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ):
        own_shop.run(f"CREATE {made}")
    revokes = make(own_shop.role, own_shop.admin_url)
    assert revokes == [
        f"REVOKE EXECUTE ON ROUTINE public.everybody(customers) FROM PUBLIC, {own_shop.role.name};",
        f"REVOKE EXECUTE ON ROUTINE public.raise_all() FROM PUBLIC, {own_shop.role.name};",
    ]
    assert own_shop.run(own_shop.role.revokes()) == [(revoke,) for revoke in revokes]
    assert own_shop.role.script().endswith(f"{own_shop.role.revokes()};\n")
    for revoke in revokes:
        own_shop.run(revoke)
    assert make(own_shop.role, own_shop.admin_url) == []


@pytest.mark.parametrize(
    ("admin", "url"),
    [
        (None, "postgresql://reader:p@HOST:5432/DATABASE"),
        ("postgresql://admin:x%40@db.example.com:5433/shop?sslmode=require",
         "postgresql://reader:p@db.example.com:5433/shop?sslmode=require"),
        ("postgres://postgres.abcd:x@aws-0.pooler.supabase.com:6543/postgres",
         "postgresql://reader.abcd:p@aws-0.pooler.supabase.com:6543/postgres"),
    ],
    ids=["unknown", "plain", "supabase"],
)  # fmt: skip
def test_its_url_is_the_administrators_with_another_user(admin: str | None, url: str) -> None:
    assert SandboxRole(["a"], name="reader", password="p").url(admin) == url


@pytest.mark.parametrize(
    ("tables", "name", "column"),
    [
        ([], "reader", None),
        (["a;b.c.d"], "reader", None),
        (["pg_catalog.pg_authid"], "reader", None),
        (["auth.users"], "reader", None),
        (["a"], 'x"; DROP ROLE y; --', None),
        (["a"], "", None),
        (["a"], "reader", "org; DROP TABLE a"),
    ],
    ids=["none", "no-table", "catalogue", "supabase", "role", "empty", "column"],
)
def test_names_that_are_none_are_refused(tables: list[str], name: str, column: str | None) -> None:
    with pytest.raises(InvalidInput):
        SandboxRole(tables, org_column=column, name=name)


def test_only_a_postgres_has_roles() -> None:
    with pytest.raises(InvalidInput, match="only a Postgres has roles"):
        make(SandboxRole(["a"]), "sqlite:///file.db")


def test_a_table_with_odd_letters_is_quoted(own_shop: Shop) -> None:
    own_shop.run('CREATE TABLE "It\'s; a\ttable" (org TEXT)')
    make(SandboxRole(["It's; a\ttable"], org_column="org", name=own_shop.role.name), own_shop.admin_url)
    parts = urlsplit(own_shop.url)
    assert own_shop.run("SELECT has_table_privilege(%s, %s, 'SELECT')", parts.username, '"It\'s; a\ttable"') == [
        (True,)
    ]
