"""Type hints and docstring in, definition and typed call out."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from conductor_ai.errors import InvalidTool
from conductor_ai.sdk import PluginRegistry, ToolResult, testing
from conductor_ai.sdk.arguments import ArgumentValidator
from conductor_ai.sdk.context import current_context
from conductor_ai.sdk.function_tool import FunctionTool

registry = PluginRegistry()


class Brand(enum.Enum):
    VOLTARA = "voltara"
    KESTREL = "kestrel"


class Dealer(BaseModel):
    title: str
    since: date
    branches: list[Dealer] = []


@registry.tool
async def everything(
    day: date,
    json: int,
    _hidden: str = "a",
    brand: Brand | None = None,
    dealers: list[Dealer] = [],  # noqa: B006  # defaults as authors write them
    size: Literal["short", "long"] = "short",
    tag: Annotated[str, Field(max_length=3)] = "x",
    price: Decimal = Decimal("1.5"),
    odd: Any = object,
) -> dict[str, Any]:
    """Take everything.

    Args:
        day: The day
            to look at.
        json: A number, under a name that a model's field may not have.
    """
    return {"day": day, "json": json, "brand": brand, "dealers": dealers, "price": price, "hidden": _hidden}


def test_the_definition_is_read_from_hints_and_docstring() -> None:
    definition = everything.definition
    parameters = definition.parameters

    assert (definition.name, definition.description, definition.category) == ("everything", "Take everything.", "other")
    assert parameters["required"] == ["day", "json"]
    assert parameters["additionalProperties"] is False
    assert parameters["properties"]["day"] == {"type": "string", "format": "date", "description": "The day to look at."}
    assert parameters["properties"]["size"] == {"type": "string", "enum": ["short", "long"], "default": "short"}
    assert parameters["properties"]["tag"]["maxLength"] == 3
    assert "title" not in parameters["properties"]["brand"]


async def test_arguments_arrive_as_hinted() -> None:
    seen: list[Any] = []

    async def look(day: date, at: datetime, brand: Brand, dealer: Dealer, count: int) -> None:
        """Look."""
        seen.extend([day, at, brand, dealer, count])

    dealer = {"title": "A", "since": "2020-02-29", "branches": [{"title": "B", "since": "2021-01-01"}]}
    given_arguments = {
        "day": "2026-01-31",
        "at": "2026-01-31T10:00:00Z",
        "brand": "voltara",
        "dealer": dealer,
        "count": 3.0,
    }
    result = await testing.run_tool(FunctionTool(look), given_arguments)

    assert result == ToolResult(tool_name="look", success=True, result=None)
    assert seen[:3] == [date(2026, 1, 31), datetime(2026, 1, 31, 10, tzinfo=UTC), Brand.VOLTARA]
    assert seen[3].branches[0].since == date(2021, 1, 1)
    assert (seen[4], type(seen[4])) == (3, int)


async def test_the_functions_own_defaults_stand_and_its_answer_becomes_json_data() -> None:
    result = await testing.run_tool(everything, {"day": "2026-01-31", "json": 1})

    assert result.result == {
        "day": "2026-01-31",
        "json": 1,
        "brand": None,
        "dealers": [],
        "price": "1.5",
        "hidden": "a",
    }


@dataclass
class Slot:
    at: datetime
    free: frozenset[int]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Slot(datetime(2026, 1, 1, tzinfo=UTC), frozenset({1})), {"at": "2026-01-01T00:00:00Z", "free": [1]}),
        (Dealer(title="A", since=date(2020, 1, 1)), {"title": "A", "since": "2020-01-01", "branches": []}),
        ((1, Brand.KESTREL, UUID(int=0)), [1, "kestrel", "00000000-0000-0000-0000-000000000000"]),
        ({1: b"x", None: 2}, {"1": "x", "None": 2}),
        ("\ud800\x00", "\ud800\x00"),
    ],
)
async def test_what_a_function_returns_is_made_json_data(value: object, expected: object) -> None:
    async def answer() -> object:
        """Answer."""
        return value

    result = await testing.run_tool(FunctionTool(answer), {})

    assert result.result == expected
    assert json.loads(json.dumps(result.result)) == expected


@pytest.mark.parametrize("value", [object(), b"\xff", {"inner": print}, [[]]])
async def test_an_answer_that_is_no_json_data_is_a_failed_result(value: Any) -> None:
    if value == [[]]:
        value[0].append(value)

    async def answer() -> object:
        """Answer."""
        return value

    result = await testing.run_tool(FunctionTool(answer), {})

    assert not result.success
    assert (result.error or "").startswith(f"the tool ran, but its {type(value).__name__} cannot be written as JSON")


@dataclass
class Quote:
    price: float


class Offer(BaseModel):
    prices: list[float]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (float("nan"), "result is nan"),
        (float("inf"), "result is inf"),
        ({"rates": [1.0, {"low": float("-inf")}]}, "result.rates[1].low is -inf"),
        (Quote(float("nan")), "result.price is nan"),
        (Offer(prices=[2.0, float("inf")]), "result.prices[1] is inf"),
    ],
)
async def test_a_number_that_json_does_not_have_is_a_failed_result(value: object, where: str) -> None:
    async def answer() -> object:
        """Answer."""
        return value

    result = await testing.run_tool(FunctionTool(answer), {})

    assert not result.success
    assert f"cannot be written as JSON: {where}; return a finite number, None or text" in (result.error or "")


async def test_a_tool_result_passes_through() -> None:
    given_result = ToolResult(tool_name="answer", success=False, error="Try another day.")

    async def answer() -> ToolResult:
        """Answer."""
        return given_result

    assert await FunctionTool(answer).run({}) is given_result


@pytest.mark.parametrize(
    ("exc", "error"), [(ValueError("closed on Sundays"), "ValueError: closed on Sundays"), (KeyError(), "KeyError")]
)
async def test_an_exception_becomes_an_error_without_traceback(exc: Exception, error: str) -> None:
    async def fail() -> None:
        """Fail."""
        raise exc

    assert await FunctionTool(fail).run({}) == ToolResult(tool_name="fail", success=False, error=error)


async def test_wrong_arguments_outside_a_session_are_a_failed_result_too() -> None:
    result = await everything.run({"day": "someday", "json": 1.5, "more": True})

    assert not result.success
    assert all(f"{name}: " in (result.error or "") for name in ("day", "json", "more"))


async def test_a_function_reads_its_context() -> None:
    async def key() -> str:
        """Tell the key."""
        return current_context().idempotency_key

    with testing.context(idempotency_key="key-9"):
        assert (await FunctionTool(key).run({})).result == "key-9"


async def test_a_method_can_be_a_tool() -> None:
    class Shop:
        def __init__(self) -> None:
            self.name = "Harborview"

        async def where(self, loud: bool = False) -> str:
            """Tell where the shop is."""
            return self.name.upper() if loud else self.name

    result = await testing.run_tool(PluginRegistry().tool(Shop().where), {"loud": True})

    assert result.result == "HARBORVIEW"


async def later(thing: Later) -> int:
    """Use a class that stands further down."""
    return thing.number


decorated_early = registry.tool(later)


class Later(BaseModel):
    number: int


async def test_a_hint_may_name_what_the_module_defines_later() -> None:
    assert (await testing.run_tool(decorated_early, {"thing": {"number": 4}})).result == 4


def test_a_function_without_arguments_takes_an_empty_object() -> None:
    async def ping() -> None:
        """Ping."""

    assert FunctionTool(ping).definition.parameters == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


class NotJSON:
    pass


async def unspeakable(day: date, thing: NotJSON) -> None:
    """Take what no JSON can hold."""


async def undefined(day: Missing) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Take what is defined nowhere."""


async def no_type(day: 3) -> None:  # type: ignore[valid-type]
    """Take what is no type."""


async def unreadable(day: str) -> None:
    """Take what cannot be read."""


unreadable.__annotations__["day"] = "3 +"


async def misspelt(day: str) -> None:
    """Take what a module does not have."""


misspelt.__annotations__["day"] = "json.Nothing"


async def misdescribed(day: date) -> None:
    """Look.

    Args:
        dya: The day.
    """


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (unspeakable, "tool 'unspeakable': the hint of argument 'thing' cannot become JSON schema: NotJSON"),
        (undefined, "tool 'undefined': a type hint names 'Missing', which the module does not have at run time"),
        (no_type, "tool 'no_type': the hint of argument 'day' cannot become JSON schema: 3"),
        (unreadable, "tool 'unreadable': a type hint is not a type"),
        (misspelt, "tool 'misspelt': a type hint is not a type: module 'json' has no attribute 'Nothing'"),
        (misdescribed, "tool 'misdescribed' does not take dya, which its docstring describes"),
    ],
)
def test_hints_and_docstrings_that_make_no_definition_say_why(function: Any, words: str) -> None:
    with pytest.raises(InvalidTool) as caught:
        _ = FunctionTool(function).definition

    assert words in str(caught.value)


def test_a_name_that_no_provider_takes_is_an_invalid_tool() -> None:
    async def fine() -> None:
        """Do it."""

    with pytest.raises(InvalidTool, match=r"tool 'not fine': name: String should match pattern"):
        _ = FunctionTool(fine, {"name": "not fine"}).definition


def _list_of(hint: Any) -> Any:
    return list[hint]


def _maybe_dict_of(hint: Any) -> Any:
    return dict[str, hint] | None


_SIMPLE: list[Any] = [str, int, bool, float, date, datetime, Decimal, UUID, Brand, Literal["a", "b"], Dealer]
_HINTS = st.recursive(
    st.sampled_from(_SIMPLE),
    lambda inner: st.one_of(inner.map(_list_of), inner.map(_maybe_dict_of)),
    max_leaves=3,
)


def _values(hint: Any) -> st.SearchStrategy[Any]:
    dealers = st.builds(Dealer, title=st.text(max_size=5), since=st.dates(), branches=st.just([]))
    st.register_type_strategy(Dealer, dealers)
    st.register_type_strategy(datetime, st.datetimes(timezones=st.just(UTC)))
    st.register_type_strategy(Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=2))
    st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
    return st.from_type(hint)


@given(st.data())
async def test_any_hinted_value_passes_its_schema_and_arrives_as_it_was(data: st.DataObject) -> None:
    hint: Any = data.draw(_HINTS)
    value = data.draw(_values(hint))
    seen: list[Any] = []

    async def take(value: Any) -> None:
        """Take it."""
        seen.append(value)

    take.__annotations__["value"] = hint
    tool = FunctionTool(take)
    wire = json.loads(TypeAdapter(hint).dump_json(value))

    assert ArgumentValidator(tool.definition).check({"value": wire}) is None
    assert (await tool.run({"value": wire})).success
    assert seen == [value]
