"""How each dialect keeps times, money, JSON and ids, so that whoever reads a table sees the same in both.

Times are ISO 8601 UTC text with microseconds, ids and JSON are text, money is what `rows` makes a Decimal of.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Numeric, Text, cast
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import TypeDecorator, TypeEngine

Money = Numeric().with_variant(Text(), "sqlite")


class Moment(TypeDecorator[str]):
    """A time: `timestamptz` in Postgres, in SQLite text that sorts as it runs."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return value if value is None or dialect.name == "sqlite" else datetime.fromisoformat(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        if value is None or dialect.name == "sqlite":
            return value
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.astimezone(UTC).isoformat(timespec="microseconds")


class AsText(TypeDecorator[str]):
    """JSON or UUID in Postgres, read as its exact text: a driver would parse it."""

    impl = Text
    cache_ok = True

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return cast(column, Text)


class utc_day(GenericFunction[str]):  # noqa: N801  it is written like the SQL functions beside it
    """The ISO date, in UTC, of a time."""

    type = Text()
    inherit_cache = True


class exact_sum(GenericFunction[Any]):  # noqa: N801
    """The sum of money, without an error of rounding; NULL over nothing. SQLite has it from `sqlite/database.py`."""

    type = Money
    inherit_cache = True


@compiles(utc_day, "sqlite")
def _day_as_text(element: utc_day, compiler: SQLCompiler, **options: Any) -> str:
    return f"substr({compiler.process(element.clauses, **options)}, 1, 10)"


@compiles(utc_day)
def _day_of_time(element: utc_day, compiler: SQLCompiler, **options: Any) -> str:
    return f"to_char({compiler.process(element.clauses, **options)} AT TIME ZONE 'UTC', 'YYYY-MM-DD')"


@compiles(exact_sum, "postgresql")
def _sum_of_numeric(element: exact_sum, compiler: SQLCompiler, **options: Any) -> str:
    return f"sum({compiler.process(element.clauses, **options)})"
