"""A file of models, ours or a user's: TOML in, checked `ModelInfo` out. Every complaint names file, entry and field."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from conductor_ai.errors import InvalidInput, ModelForbidden
from conductor_ai.model_catalog import policy
from conductor_ai.model_catalog.ids import DEMO_ID, check_form, model_from_id, provider_of
from conductor_ai.model_catalog.model import (
    Budget,
    ModelInfo,
    ModelProvider,
    ReasoningStyle,
    SchemaSupport,
    Task,
    budget_of,
)
from conductor_ai.model_catalog.pricing import LongPromptRates, Price, Rates

T = TypeVar("T")
D = TypeVar("D")
W = TypeVar("W", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class ModelFile:
    models: Mapping[str, ModelInfo]
    defaults: tuple[str, ...]


def read_model_file(path: Path, known: Mapping[str, ModelInfo]) -> ModelFile:
    """The models of one file.

    Args:
        known: Models an entry of the same id overrides, field by field; so does one that names the wire id of such a
            model, under an id of its own.
    Raises: InvalidInput for a file that cannot be read or an entry that is wrong; ModelForbidden for a refused id.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as exc:
        raise InvalidInput(f"{path}: cannot be read: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise InvalidInput(f"{path}: is not valid TOML: {exc}") from exc
    with _complaints(f"{path}"):
        _refuse_unknown(data, ("as_of", "source", "defaults", "models"))
        as_of = _take(data, "as_of", _day, None)
        source = _take(data, "source", _text, path.name)
        defaults = _take(data, "defaults", _texts, ())
        entries = _take(data, "models", _table, {})
    reader = _EntryReader(source=source, as_of=as_of, listed=known)
    models = {}
    for model_id, entry in entries.items():
        with _complaints(f"{path}: model {model_id!r}"):
            models[model_id] = reader.model(model_id, _table(entry), known.get(model_id))
    return ModelFile(models, defaults)


@dataclass(frozen=True, slots=True)
class _EntryReader:
    source: str
    as_of: date | None
    listed: Mapping[str, ModelInfo]

    def model(self, model_id: str, entry: dict[str, Any], base: ModelInfo | None) -> ModelInfo:
        _refuse_unknown(entry, _FIELDS)
        provider = _take(entry, "provider", _word(ModelProvider), base.provider if base else provider_of(model_id))
        if provider is None:
            raise InvalidInput(f"provider is missing; it is one of: {', '.join(ModelProvider)}")
        if (provider is ModelProvider.DEMO) != (model_id == DEMO_ID):
            raise InvalidInput(f"provider demo belongs to {DEMO_ID} and to no other model")
        base = base or _new_model(model_id, provider, _take(entry, "wire_id", _text, None), self.listed)
        changes = {name: _take(entry, name, read, getattr(base, name)) for name, read in _READERS.items()}
        if not changes["native_tools"]:
            changes |= {name: closed for name, closed in _NATIVE_ONLY.items() if name not in entry}
        prices = _take(entry, "price", self._prices, base.prices)
        budget = _take(entry, "budget", _word(Budget), budget_of(prices) if "price" in entry else base.budget)
        model = replace(base, provider=provider, prices=prices, budget=budget, **changes)
        for name in filter(None, (model.id, model.wire_id, model.successor)):
            check_form(name)
            policy.refuse_forbidden(name)
        _check_together(model)
        return model

    def _prices(self, value: Any) -> tuple[Price, ...]:
        prices = tuple(self._price(_table(one)) for one in (value if isinstance(value, list) else [value]))
        if not prices:
            raise InvalidInput("must not be empty; leave it out where no price is known")
        starts = [price.starts_on or date.min for price in prices]
        if starts != sorted(set(starts)):
            raise InvalidInput("each entry must have its own starts_on, oldest first")
        return prices

    def _price(self, table: dict[str, Any]) -> Price:
        _refuse_unknown(table, (*_RATES, "as_of", "source", "starts_on", "long_prompts"))
        return Price(
            rates=_rates(table),
            source=_take(table, "source", _text, self.source),
            as_of=_take(table, "as_of", _day, self.as_of),
            starts_on=_take(table, "starts_on", _day, None),
            long_prompts=_take(table, "long_prompts", _long_prompts, ()),
        )


def _new_model(
    model_id: str, provider: ModelProvider, wire_id: str | None, listed: Mapping[str, ModelInfo]
) -> ModelInfo:
    """A model of an id of its own. Where its wire id is that of a listed one it is the same model, price included; only
    its name, and whether to prefer it, are left to its entry."""
    model = model_from_id(model_id, provider, wire_id)
    for other in listed.values():
        if (other.provider, other.wire_id) == (model.provider, model.wire_id):
            return replace(other, id=model.id, name=model.name, tasks={})
    return model


def _check_together(model: ModelInfo) -> None:
    """Raises: InvalidInput where two fields contradict each other."""
    if model.max_output_tokens > model.context_window:
        raise InvalidInput("max_output_tokens must not be above context_window")
    for name, closed in _NATIVE_ONLY.items():
        if not model.native_tools and getattr(model, name) != closed:
            only = "false" if closed is False else f"{closed}"
            raise InvalidInput(f"{name} must be {only} where native_tools is false: the model is driven by text")
    if model.hosts and model.provider is not ModelProvider.OPENROUTER:
        raise InvalidInput(f"hosts can be named for openrouter alone, not for {model.provider}")


def _rates(table: dict[str, Any]) -> Rates:
    per_input, per_output, per_read, per_written = (_take(table, name, _figure, None) for name in _RATES)
    if per_input is None or per_output is None:
        raise InvalidInput("input and output must both be given")
    return Rates(input=per_input, output=per_output, cache_read=per_read, cache_write=per_written)


def _long_prompts(value: Any) -> tuple[LongPromptRates, ...]:
    if not isinstance(value, list):
        raise InvalidInput("must be a list of tables")
    tiers = []
    for table in map(_table, value):
        _refuse_unknown(table, (*_RATES, "above_tokens"))
        tiers.append(LongPromptRates(above_tokens=_take(table, "above_tokens", _count, 0), rates=_rates(table)))
    return tuple(tiers)


@contextmanager
def _complaints(where: str) -> Iterator[None]:
    """Put the place in front of what is wrong there."""
    try:
        yield
    except (InvalidInput, ModelForbidden) as exc:
        raise type(exc)(f"{where}: {exc}", hint=exc.hint) from exc


def _take(table: dict[str, Any], name: str, read: Callable[[Any], T], missing: D) -> T | D:
    if name not in table:
        return missing
    with _complaints(name):
        return read(table[name])


def _refuse_unknown(table: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in table:
        if name not in names:
            raise InvalidInput(f"unknown field {name!r}; fields are: {', '.join(names)}")


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"must be a table, got {value!r}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise InvalidInput(f"must be a text of one line, got {value!r}")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InvalidInput(f"must be a list of texts, got {value!r}")
    return tuple(map(_text, value))


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidInput(f"must be a whole number above zero, got {value!r}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(f"must be true or false, got {value!r}")
    return value


def _day(value: Any) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise InvalidInput(f"must be a day without quotes, such as 2026-11-30, got {value!r}")
    return value


def _figure(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise InvalidInput(f"must be US dollars per million tokens, got {value!r}")
    return Decimal(value)


def _word(words: type[W]) -> Callable[[Any], W]:
    def read(value: Any) -> W:
        if value not in list(words):
            raise InvalidInput(f"must be one of: {', '.join(words)}; got {value!r}")
        return words(value)

    return read


def _tasks(value: Any) -> dict[Task, int]:
    scores = {}
    for name, score in _table(value).items():
        task = _word(Task)(name)
        if not isinstance(score, int) or isinstance(score, bool) or not 0 <= score <= 1000:
            raise InvalidInput(f"{name} must be a whole number from 0 to 1000, got {score!r}")
        scores[task] = score
    return scores


_RATES = tuple(one.name for one in fields(Rates))
_READERS: dict[str, Callable[[Any], Any]] = {
    "wire_id": _text,
    "name": _text,
    "vendor": _text,
    "origin": _text,
    "context_window": _count,
    "max_output_tokens": _count,
    "vision": _flag,
    "native_tools": _flag,
    "forced_tools": _flag,
    "answer_schema": _word(SchemaSupport),
    "temperature": _flag,
    "reasoning": _word(ReasoningStyle),
    "always_reasons": _flag,
    "hosts": _texts,
    "tasks": _tasks,
    "retires_on": _day,
    "successor": _text,
}
# What a model driven by text is never asked for, and the value that says so.
_NATIVE_ONLY = {"forced_tools": False, "answer_schema": SchemaSupport.NEVER}
_FIELDS = ("provider", *_READERS, "budget", "price")
