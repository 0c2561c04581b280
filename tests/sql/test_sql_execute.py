"""`sql_execute`: a change only after a person has read its effect, and never more than was read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conductor_ai.errors import ApprovalRefused, ApprovalRequired, InvalidInput
from conductor_ai.sdk import testing
from conductor_ai.sdk.base import ToolResult
from conductor_ai.sdk.security.approval import ApprovalRequest, bind_approver
from conductor_ai.settings import Settings
from conductor_ai.tools.sql_execute import SQLExecuteTool
from conductor_ai.wiring.tools import load_tools
from tests.services.fault_proxy import FaultProxy
from tests.sql.corpus_hostile import HOSTILE_CHANGES
from tests.sql.corpus_useful import POLICY
from tests.sql.shop import OTHER, Shop


class Person:
    """Who is asked, and what they read."""

    def __init__(self, *, says: bool = True) -> None:
        self.asked: list[ApprovalRequest] = []
        self._says = says

    async def __call__(self, request: ApprovalRequest) -> bool:
        self.asked.append(request)
        return self._says


@pytest.fixture
def writable(shop: Shop) -> Iterator[Shop]:
    """Its role may change orders, of which an org reads its own rows."""
    shop.run(f"GRANT INSERT, UPDATE, DELETE ON orders TO {shop.role.name}")
    yield shop
    shop.run(f"REVOKE INSERT, UPDATE, DELETE ON orders FROM {shop.role.name}")
    shop.refill()


async def change(
    shop: Shop, sql: str, person: Person, *, org: str = "acme", max_changed: int = 100, **params: Any
) -> ToolResult:
    tool = SQLExecuteTool(shop.url, POLICY, max_changed=max_changed)
    with testing.context(org_id=org), bind_approver(person):
        return await testing.run_tool(tool, {"sql": sql, "params": params})


async def test_a_person_reads_the_effect_before_anything_happens(writable: Shop) -> None:
    person = Person()
    sql = "UPDATE orders SET status = :status WHERE id = :id RETURNING id, status"
    result = await change(writable, sql, person, status="void", id=101)
    assert result.result["changed"] == 1
    assert result.result["rows"] == [[101, "void"]]
    (request,) = person.asked
    assert request.action == "sql_execute: change_rows"
    assert request.arguments == {
        "effect": "In public.orders, for the rows where id = :id: sets status = :status. Returns id, status.",
        "sql": sql,
        "params": {"status": "void", "id": 101},
    }
    assert writable.run("SELECT status FROM orders WHERE id = 101") == [("void",)]


async def test_without_a_yes_nothing_happens(writable: Shop) -> None:
    before = writable.state()
    with pytest.raises(ApprovalRefused):
        await change(writable, "DELETE FROM orders", Person(says=False))
    tool = SQLExecuteTool(writable.url, POLICY)
    with testing.context(org_id="acme"), pytest.raises(ApprovalRequired):
        await testing.run_tool(tool, {"sql": "DELETE FROM orders"})
    assert writable.state() == before


async def test_what_is_no_single_change_is_refused_and_nobody_is_asked(writable: Shop) -> None:
    before, person = writable.state(), Person()
    ran = [sql for _, sql in HOSTILE_CHANGES if (await change(writable, sql, person)).success]
    assert (ran, person.asked) == ([], [])
    assert writable.state() == before


async def test_a_change_of_more_rows_than_allowed_changes_none(writable: Shop) -> None:
    before = writable.state()
    result = await change(writable, "DELETE FROM orders", Person(), max_changed=19)
    assert result.error is not None
    assert result.error.startswith(
        "refused: it would change 20 rows, and a call changes 19 at most: nothing was changed"
    )
    assert writable.state() == before
    assert (await change(writable, "DELETE FROM orders", Person(), max_changed=20)).result["changed"] == 20


async def test_a_change_of_too_many_rows_that_would_return_them_changes_none(writable: Shop) -> None:
    before = writable.state()
    result = await change(writable, "DELETE FROM orders RETURNING *", Person(), max_changed=19)
    assert result.error is not None
    assert result.error.startswith("refused: it would change 20 rows")
    assert writable.state() == before

    nothing = await change(writable, "DELETE FROM orders WHERE id = 0 RETURNING id, id", Person())
    assert nothing.result["columns"] == [{"name": "id", "type": "int4"}] * 2
    assert (nothing.result["changed"], nothing.result["rows"]) == (0, [])
    found = await change(writable, "DELETE FROM orders WHERE id < 103 RETURNING id, id, items", Person(), max_changed=3)
    assert found.result["changed"] == 3
    assert sorted(found.result["rows"]) == [[n, n, [{"qty": n, "sku": "acme"}]] for n in (100, 101, 102)]


async def test_what_is_returned_beyond_the_cap_does_not_cross_the_wire(
    writable: Shop, fault_proxy: Callable[[str], FaultProxy]
) -> None:
    writable.run("UPDATE orders SET note = repeat('x', 5000000) WHERE id = 101")
    before, proxy = writable.state(), fault_proxy(writable.url)
    proxy.reset_after(200_000)
    tool = SQLExecuteTool(proxy.url, POLICY)
    with testing.context(org_id="acme"), bind_approver(Person()):
        result = await testing.run_tool(
            tool, {"sql": "UPDATE orders SET status = 'x' WHERE id = 101 RETURNING id, note"}
        )
    assert result.error is not None
    assert result.error.startswith("refused: it would return 5,000,0")
    assert writable.state() == before


async def test_the_rows_of_another_org_cannot_be_changed_nor_made(writable: Shop) -> None:
    count = "SELECT count(*) FROM orders WHERE org = %s AND status <> 'void'"
    assert (await change(writable, "UPDATE orders SET status = 'void'", Person())).result["changed"] == 20
    assert writable.run(count, OTHER) == [(20,)]
    for sql in (
        f"INSERT INTO orders (id, org) VALUES (900, '{OTHER}')",
        f"UPDATE orders SET org = '{OTHER}' WHERE id = 101",
    ):
        result = await change(writable, sql, Person())
        assert result.error is not None
        assert "row-level security policy" in result.error
    assert (await change(writable, "INSERT INTO orders (id, org) VALUES (901, 'acme')", Person())).success


async def test_a_failed_change_leaves_nothing(writable: Shop) -> None:
    before = writable.state()
    result = await change(writable, "INSERT INTO orders (id, org) VALUES (902, 'acme'), (101, 'acme')", Person())
    assert result.error is not None
    assert "duplicate key" in result.error
    assert writable.state() == before


async def test_a_role_that_only_reads_cannot_change(shop: Shop) -> None:
    result = await change(shop, "DELETE FROM orders", Person())
    assert result.error == "refused: the database does not allow it (permission denied for table orders)"


async def test_the_owner_of_a_table_is_refused_here_too(shop: Shop) -> None:
    tool = SQLExecuteTool(shop.admin_url, POLICY)
    with testing.context(org_id="acme"), bind_approver(Person()):
        result = await testing.run_tool(tool, {"sql": "DELETE FROM orders"})
    assert result.error is not None
    assert result.error.startswith("refused: the database role conductor may make roles")


def test_it_is_off_by_default(shop: Shop, monkeypatch: pytest.MonkeyPatch, conductor_home: object) -> None:
    monkeypatch.setenv("CONDUCTOR_SQL_URL", shop.url)
    monkeypatch.setenv("CONDUCTOR_SQL_TABLES", "orders")
    registry, _ = load_tools(Settings.load())
    names = [definition.name for definition in registry.definitions]
    assert "sql_query" in names
    assert "sql_execute" not in names
    assert SQLExecuteTool(shop.url, POLICY).definition.effect == "once"


def test_a_file_is_not_changed() -> None:
    with pytest.raises(InvalidInput, match="sql_execute works on Postgres only"):
        SQLExecuteTool("sqlite:///file.db", POLICY)
