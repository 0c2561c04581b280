"""`sql_query` in the registry: only where the settings name a database, and only what they name of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conductor_ai.errors import InvalidInput, MissingExtra
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring.sql_tools import register_sql

POSTGRES = "postgresql://reader:hunter2-hunter2@db.example.com/shop"


@pytest.fixture(autouse=True)
def home(conductor_home: Path) -> Path:
    return conductor_home


def registry_with(monkeypatch: pytest.MonkeyPatch, url: str, tables: str = "orders") -> ToolRegistry:
    monkeypatch.setenv("CONDUCTOR_SQL_URL", url)
    monkeypatch.setenv("CONDUCTOR_SQL_TABLES", tables)
    registry = ToolRegistry()
    register_sql(registry, Settings.load())
    return registry


def test_without_a_database_there_is_no_such_tool() -> None:
    registry = ToolRegistry()
    register_sql(registry, Settings.load())
    assert registry.tools == []
    assert registry.unavailable == {}


@pytest.mark.parametrize("url", [POSTGRES, "sqlite:///shop.db"])
def test_with_a_database_there_is_one(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    (definition,) = registry_with(monkeypatch, url).definitions
    assert (definition.name, definition.effect, definition.untrusted_output) == ("sql_query", "read", True)
    assert "hunter2" not in str(definition)


def test_tables_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="CONDUCTOR_SQL_TABLES names no table"):
        registry_with(monkeypatch, POSTGRES, tables=" , ")
    with pytest.raises(InvalidInput, match=r"CONDUCTOR_SQL_TABLES: .*auth\.users"):
        registry_with(monkeypatch, POSTGRES, tables="orders, auth.users")


def test_without_the_extra_it_is_unavailable_but_a_file_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pglast", None)
    registry = registry_with(monkeypatch, POSTGRES)
    with pytest.raises(MissingExtra, match="sql_query needs packages that are not installed: pglast") as caught:
        registry.get_tool("sql_query")
    assert caught.value.hint == 'pip install "conductor-ai[sql]"'
    assert registry_with(monkeypatch, "sqlite:///shop.db").unavailable == {}


def test_no_driver_and_no_parser_is_loaded_before_a_query_needs_them(home: Path) -> None:
    program = (
        "import sys, conductor_ai.tools.sql_query, conductor_ai.tools.sql.role, conductor_ai.wiring.sql_tools;"
        "print(sorted({'psycopg', 'pglast'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=home.parent)
    assert ended.stdout.strip() == "[]"
