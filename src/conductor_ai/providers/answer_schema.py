"""A user's JSON schema in the words of a provider that holds its model to it.

No provider knows all of JSON schema. What one does not know is left out and told in the description, where the model
reads it; the answer is checked against the whole schema afterwards. So a translated schema takes every value that the
original takes, but for one thing: the strict form closes every object, so that keys which are not declared cannot come.

Sources: Anthropic, "Structured outputs", and its SDK's `transform_schema`; Gemini API reference, `responseJsonSchema`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote

from conductor_ai.errors import InvalidInput
from conductor_ai.schemas import json_text

Schema: TypeAlias = dict[str, Any]
Form: TypeAlias = Callable[[Schema], Schema]
"""`for_strict` or `for_gemini`."""

_HINT = "ask for another schema, or let a tool take the answer"
_UNTOLD = ("$schema", "$id", "$anchor", "$comment", "$defs", "definitions", "discriminator")
"""What tells a model nothing about an answer."""
_NOTES = ("title", "description", "default", "examples")
_OBJECT = ("properties", "required", "additionalProperties", "patternProperties")
_OBJECT_ONLY = (*_OBJECT, "propertyNames", "minProperties", "maxProperties", "propertyOrdering")
_ARRAY_ONLY = ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains")
_STRING_ONLY = ("minLength", "maxLength", "pattern")
_NUMBER_ONLY = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_OF_TYPE = {
    "object": _OBJECT_ONLY,
    "array": _ARRAY_ONLY,
    "string": _STRING_ONLY,
    "number": _NUMBER_ONLY,
    "integer": _NUMBER_ONLY,
}
_TYPED = frozenset(word for words in _OF_TYPE.values() for word in words)
_NESTED = ("$ref", "anyOf", "oneOf", "allOf", "properties", "items", "prefixItems")
_SAYS_WHAT = ("type", "enum", "const", *_NESTED)
"""One of these makes a schema mean something on its own; the others only narrow down what another part says."""

_NAMES = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
    dict: "object",
    list: "array",
}
_LISTED = ("string", "integer", "number")


class _Dialect(NamedTuple):
    """What a provider's structured answers know. `typed`: keywords, by type, that are passed on as they are."""

    strict: bool
    formats: frozenset[str]
    typed: dict[str, tuple[str, ...]]


_STRICT = _Dialect(
    True,
    frozenset(("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")),
    {},
)
_GEMINI = _Dialect(
    False,
    frozenset(("date-time", "date", "time")),
    {
        "object": ("propertyOrdering",),
        "array": ("minItems", "maxItems"),
        "number": ("minimum", "maximum"),
        "integer": ("minimum", "maximum"),
    },
)


def for_strict(schema: Schema) -> Schema:
    """As a service takes it that compiles a schema into a grammar: every object closed, and no rules but shape, enums
    and a few formats.

    Raises: InvalidInput for what has no such form: free keys, a part that refers to itself or may be anything, an
    object put together out of parts.
    """
    return _Translation(schema, _STRICT).whole()


def for_gemini(schema: Schema) -> Schema:
    """As Gemini's `responseJsonSchema` takes it. Raises: InvalidInput for an object put together out of parts."""
    return _Translation(schema, _GEMINI).whole()


def unsayable(schema: Schema, form: Form) -> str | None:
    """What in `schema` has no such form, None where all of it has."""
    try:
        form(schema)
    except InvalidInput as exc:
        return str(exc)
    return None


class _Translation:
    """One schema. `_defs` holds what is referred to, translated, under names that need no escaping."""

    def __init__(self, root: Schema, dialect: _Dialect) -> None:
        self._root = root
        self._dialect = dialect
        self._names: dict[str, str] = {}
        self._defs: dict[str, Schema] = {}
        self._open: list[str] = []
        self._cyclic: set[str] = set()

    def whole(self) -> Schema:
        made = self._translated(self._root, "#")
        if made.keys() == {"$ref"}:
            name = made["$ref"].rpartition("/")[2]
            made = {**self._defs[name]}
            if name not in self._cyclic:
                del self._defs[name]
        return {**made, "$defs": self._defs} if self._defs else made

    def _translated(self, schema: Any, where: str) -> Schema:
        if not isinstance(schema, dict):
            return self._anything(where)
        given = self._given(schema, where)
        if "$ref" in given:
            return self._reference(given, where)
        parts = given.get("allOf")
        if isinstance(parts, list):
            return self._all_of(given, parts, where)
        for word in ("anyOf", "oneOf"):
            if isinstance(given.get(word), list):
                return self._any_of(given, word, where)
        for word in ("const", "enum"):
            if word in given:
                return self._literal(given, word, where)
        kind = _type_of(given)
        if isinstance(kind, list):
            notes, rules = _split(given, _NOTES)
            return self._union([{**rules, "type": one} for one in kind], notes, where)
        if kind is None:
            return self._anything(where, given)
        return self._of_type(kind, given, where)

    def _given(self, schema: Schema, where: str) -> Schema:
        """What a schema tells of an answer."""
        if "$id" in schema and schema is not self._root:
            raise _gap(where, "has an $id, which its references may be meant by")
        return {word: value for word, value in schema.items() if word not in _UNTOLD}

    def _anything(self, where: str, given: Schema | None = None) -> Schema:
        if self._dialect.strict:
            raise _gap(where, "may be anything: say its type")
        return _told(given or {}, {})

    def _of_type(self, kind: str, given: Schema, where: str) -> Schema:
        _, rest = _split(given, ("type",))
        rest = {word: value for word, value in rest.items() if word not in _TYPED or word in _OF_TYPE.get(kind, ())}
        made: Schema = {"type": kind}
        if kind == "object":
            self._object(rest, made, where)
        elif kind == "array":
            self._array(rest, made, where)
        if rest.get("format") in self._dialect.formats and kind == "string":
            made["format"] = rest.pop("format")
        for word in self._dialect.typed.get(kind, ()):
            if word in rest:
                made[word] = rest.pop(word)
        return _told(rest, made)

    def _object(self, rest: Schema, made: Schema, where: str) -> None:
        """Take the words that tell of keys out of `rest`."""
        others = rest.get("additionalProperties")
        if self._dialect.strict:
            _check_closable(rest, where)
        if "properties" in rest:
            made["properties"] = {
                name: self._translated(schema, f"{where}/properties/{name}")
                for name, schema in rest.pop("properties").items()
            }
        if "required" in rest:
            made["required"] = rest.pop("required")
        if self._dialect.strict:
            made["additionalProperties"] = False
            rest.pop("additionalProperties", None)
        elif others is not None and "patternProperties" not in rest:
            closed = isinstance(rest.pop("additionalProperties"), bool)
            made["additionalProperties"] = (
                others if closed else self._translated(others, f"{where}/additionalProperties")
            )

    def _array(self, rest: Schema, made: Schema, where: str) -> None:
        """Take the words that tell of items out of `rest`."""
        first, others = rest.get("prefixItems"), rest.pop("items", None)
        if self._dialect.strict:
            if isinstance(first, list):
                made["items"] = self._union(self._all_items(first, others, rest, where), {}, where, "prefixItems")
            elif others is not None:
                made["items"] = self._translated(others, f"{where}/items")
            if rest.get("minItems", 0) > 1:
                made["minItems"] = 1  # the most that may be asked for
            elif "minItems" in rest:
                made["minItems"] = rest.pop("minItems")
            return
        if isinstance(first, list):
            made["prefixItems"] = self._each(rest.pop("prefixItems"), f"{where}/prefixItems")
        if isinstance(others, dict):
            made["items"] = self._translated(others, f"{where}/items")

    def _all_items(self, first: list[Any], others: Any, rest: Schema, where: str) -> list[Any]:
        """Every schema that an item may be of, where the first ones have a schema each."""
        if isinstance(others, dict):
            return [*first, others]
        if others is not False and rest.get("maxItems", len(first) + 1) > len(first):
            raise _gap(where, "may have items of any kind after the first ones")
        return first

    def _reference(self, given: Schema, where: str) -> Schema:
        ref, rest = _split(given, ("$ref",))
        target = self._target(ref["$ref"], where)
        if isinstance(target, dict) and not any(word in target for word in _NESTED):
            # Written out, so that what is said beside the reference is not lost.
            notes, rules = _split(rest, _NOTES)
            return self._translated({**rules, **target, **notes}, where)
        if self._dialect.strict and any(word in rest for word in _NESTED):
            raise _composed(where)
        name = self._names.get(ref["$ref"]) or self._named(ref["$ref"])
        if name in self._open:
            self._cyclic.add(name)
            if self._dialect.strict:
                raise _gap(where, "refers to itself")
        elif name not in self._defs:
            self._defs[name] = {}
            self._open.append(name)
            self._defs[name] = self._translated(target, ref["$ref"])
            self._open.pop()
        return {"$ref": f"#/$defs/{name}"}

    def _named(self, ref: str) -> str:
        plain = re.sub(r"[^A-Za-z0-9_]+", "_", ref.rpartition("/")[2]).strip("_") or "root"
        name, more = plain, 1
        while name in self._names.values():
            more += 1
            name = f"{plain}_{more}"
        self._names[ref] = name
        return name

    def _target(self, ref: Any, where: str) -> Any:
        if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            raise _gap(where, f"refers to {ref!r}, which is outside, or an anchor")
        target: Any = self._root
        for step in unquote(ref[1:]).split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(key)] if isinstance(target, list) else target[key]
            except (KeyError, IndexError, TypeError, ValueError):
                raise _gap(where, f"refers to {ref!r}, which does not exist") from None
        return target

    def _all_of(self, given: Schema, parts: list[Any], where: str) -> Schema:
        split, rest = _split(given, ("allOf",))
        whole = [part for part in parts if _says_what(part)]
        if not _says_what(rest) and len(parts) == len(whole) == 1:
            notes, rules = _split(rest, _NOTES)
            return self._translated({**rules, **parts[0], **notes}, where)
        if whole or not _says_what(rest):
            raise _composed(where)
        return _told(split, self._translated(rest, where))

    def _any_of(self, given: Schema, word: str, where: str) -> Schema:
        """The choices, or what stands beside them: to ask for both at once is in no provider's words."""
        split, rest = _split(given, (word,))
        choices = split[word]
        self_sufficient = all(map(_says_what, choices))
        structured = any(name in rest for name in (*_NESTED, *_OBJECT))
        if structured or not self_sufficient:
            if not _says_what(rest):
                return self._anything(where, given)
            if self._dialect.strict and any(map(_says_what, choices)) and structured:
                raise _composed(where)
            return _told(split, self._translated(rest, where))
        _, rest = _split(rest, ("type", "enum", "const"))
        return self._union(choices, rest, where, word)

    def _union(self, choices: Iterable[Any], rest: Schema, where: str, word: str = "anyOf") -> Schema:
        return _told(rest, _one_of(self._each(choices, f"{where}/{word}")))

    def _each(self, schemas: Iterable[Any], where: str) -> list[Schema]:
        return [self._translated(schema, f"{where}/{index}") for index, schema in enumerate(schemas)]

    def _literal(self, given: Schema, word: str, where: str) -> Schema:
        split, rest = _split(given, (word,))
        notes, _ = _split(rest, _NOTES)
        values = [split[word]] if word == "const" else split[word]
        if not self._dialect.strict:
            return _told(notes, _enums(values))
        if values and all(value is None or isinstance(value, str | int | float) for value in values):
            return _told(notes, split)
        return _told(split, self._translated(rest, where))


def _check_closable(given: Schema, where: str) -> None:
    """Raises: InvalidInput for an object that closing would rob of what it is for: keys that are not declared."""
    properties, others = given.get("properties"), given.get("additionalProperties")
    if "patternProperties" in given or others not in (None, True, False, {}):
        raise _gap(where, "is an object of free keys")
    if not properties and others is not False and (properties is None or others is not None):
        raise _gap(where, "is an object of free keys")
    if not set(given.get("required", ())) <= (properties or {}).keys():
        raise _gap(where, "requires a key that is not among its properties")


def _enums(values: list[Any]) -> Schema:
    """The values in Gemini's words, which has enums of strings and of numbers only."""
    by_type: dict[str, list[Any]] = {}
    for value in values:
        by_type.setdefault(_NAMES[type(value)], []).append(value)
    choices: list[Schema] = []
    for kind, told in by_type.items():
        if kind in _LISTED:
            choices.append({"type": kind, "enum": told})
        else:
            choices.append(_told({} if kind == "null" else {"enum": told}, {"type": kind}))
    return _one_of(choices)


def _one_of(schemas: Iterable[Schema]) -> Schema:
    """A choice among them, each once. Told apart by their text: to Python, 1 and true are equal."""
    made = list({json_text.dumps(schema): schema for schema in schemas}.values())
    return made[0] if len(made) == 1 and "$ref" not in made[0] else {"anyOf": made}


def _type_of(given: Schema) -> str | list[str] | None:
    kind = given.get("type")
    if isinstance(kind, list):
        return kind[0] if len(kind) == 1 else kind
    if kind is None and "properties" in given:
        return "object"
    if kind is None and ("items" in given or "prefixItems" in given):
        return "array"
    return kind


def _says_what(schema: Any) -> bool:
    return isinstance(schema, dict) and any(word in schema for word in _SAYS_WHAT)


def _split(schema: Schema, words: Iterable[str]) -> tuple[Schema, Schema]:
    """The part of `schema` under `words`, and the rest of it."""
    chosen = {word: schema[word] for word in words if word in schema}
    return chosen, {word: value for word, value in schema.items() if word not in chosen}


def _told(rest: Schema, made: Schema) -> Schema:
    """`made`, with what is left of the schema told in its title and description."""
    names, rules = _split(rest, ("title", "description"))
    text = [made.get("description"), names.pop("description", None), json_text.dumps(rules) if rules else None]
    told = "\n\n".join(part for part in text if isinstance(part, str) and part)
    return {**made, **names, "description": told} if told else {**made, **names}


def _gap(where: str, what: str) -> InvalidInput:
    return InvalidInput(f"response_schema: {where} {what}, and its provider cannot hold a model to that", hint=_HINT)


def _composed(where: str) -> InvalidInput:
    return _gap(where, "is put together out of parts")
