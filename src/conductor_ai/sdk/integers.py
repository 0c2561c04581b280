"""The places where a JSON schema says integer, and integral floats there made ints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import unquote

_Schema: TypeAlias = dict[str, Any]
_ALL_OF = ("allOf", "anyOf", "oneOf")
_ONE_OF = ("if", "then", "else")


@dataclass(slots=True)
class IntegerPlaces:
    """Integers at a value, in its properties and in its items; a place without any is left out.

    All branches of a schema (anyOf, then, ...) count together. That is harmless: 3 and 3.0 are one number to JSON.
    """

    here: bool = False
    properties: dict[str, IntegerPlaces] = field(default_factory=dict)
    declared: frozenset[str] = frozenset()
    other_properties: IntegerPlaces | None = None
    positions: dict[int, IntegerPlaces] = field(default_factory=dict)
    first_item: int = 0
    items: IntegerPlaces | None = None

    @classmethod
    def of(cls, schema: _Schema) -> IntegerPlaces | None:
        """None where the schema nowhere says integer. The schema is a valid one."""
        return _SchemaReader(schema).read()

    def mend(self, value: Any) -> Any:
        """The value, its integral floats made ints; objects and arrays are changed in place."""
        if isinstance(value, float):
            return int(value) if self.here and value.is_integer() else value
        if isinstance(value, dict):
            self._mend_object(value)
        elif isinstance(value, list):
            self._mend_array(value)
        return value

    def _mend_object(self, value: dict[str, Any]) -> None:
        for name, places in self.properties.items():
            if name in value:
                value[name] = places.mend(value[name])
        if self.other_properties is not None:
            for name in value.keys() - self.declared:
                value[name] = self.other_properties.mend(value[name])

    def _mend_array(self, value: list[Any]) -> None:
        for position, places in self.positions.items():
            if position < len(value):
                value[position] = places.mend(value[position])
        if self.items is not None:
            for position in range(self.first_item, len(value)):
                value[position] = self.items.mend(value[position])


class _SchemaReader:
    """Reads each group of schemas that hold for one value once, so that a schema may refer to itself."""

    def __init__(self, root: _Schema) -> None:
        self._root = root
        self._groups: dict[frozenset[int], IntegerPlaces] = {}

    def read(self) -> IntegerPlaces | None:
        places = self._places([self._root])
        useful = {id(group) for group in self._groups.values() if group.here}
        while newly := {id(g) for g in self._groups.values() if any(id(c) in useful for c in _children(g))} - useful:
            useful |= newly
        for group in self._groups.values():
            group.properties = {name: inner for name, inner in group.properties.items() if id(inner) in useful}
            group.positions = {at: inner for at, inner in group.positions.items() if id(inner) in useful}
            group.other_properties = group.other_properties if id(group.other_properties) in useful else None
            group.items = group.items if id(group.items) in useful else None
        return places if id(places) in useful else None

    def _places(self, schemas: list[Any]) -> IntegerPlaces:
        group = self._in_force(schemas)
        key = frozenset(map(id, group))
        if key not in self._groups:
            self._groups[key] = places = IntegerPlaces()
            self._fill(places, group)
        return self._groups[key]

    def _in_force(self, schemas: list[Any]) -> list[_Schema]:
        """These schemas and all that speak about the same value: branches and references."""
        found: dict[int, _Schema] = {}
        waiting = list(schemas)
        while waiting:
            schema = waiting.pop()
            if not isinstance(schema, dict) or id(schema) in found:
                continue
            found[id(schema)] = schema
            for keyword in _ALL_OF:
                waiting.extend(schema.get(keyword, ()))
            waiting.extend(schema[keyword] for keyword in _ONE_OF if keyword in schema)
            if "$ref" in schema:
                waiting.append(self._target(schema["$ref"]))
        return list(found.values())

    def _fill(self, places: IntegerPlaces, group: list[_Schema]) -> None:
        properties: dict[str, list[Any]] = {}
        positions: dict[int, list[Any]] = {}
        for schema in group:
            kinds = schema.get("type", ())
            places.here = places.here or "integer" in ([kinds] if isinstance(kinds, str) else kinds)
            for name, inner in schema.get("properties", {}).items():
                properties.setdefault(name, []).append(inner)
            for position, inner in enumerate(_positions(schema)):
                positions.setdefault(position, []).append(inner)
        places.declared = frozenset(properties)
        places.properties = {name: self._places(inner) for name, inner in properties.items()}
        places.positions = {position: self._places(inner) for position, inner in positions.items()}
        places.first_item = len(positions)
        places.other_properties = self._places([schema.get("additionalProperties") for schema in group])
        places.items = self._places([schema.get("items") for schema in group])

    def _target(self, reference: str) -> Any:
        """What a reference inside the schema points at; None for any other: it holds no place we look at."""
        if reference != "#" and not reference.startswith("#/"):
            return None
        target: Any = self._root
        for part in unquote(reference.removeprefix("#")).split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            target = target[int(key)] if isinstance(target, list) else target.get(key)
        return target


def _positions(schema: _Schema) -> list[Any]:
    """Schemas of the first items: `prefixItems`, which older drafts wrote as a list under `items`."""
    older = schema.get("items")
    positions: list[Any] = schema.get("prefixItems", older if isinstance(older, list) else [])
    return positions


def _children(places: IntegerPlaces) -> Iterable[IntegerPlaces | None]:
    return (*places.properties.values(), *places.positions.values(), places.other_properties, places.items)
