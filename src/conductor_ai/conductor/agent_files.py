"""Agents in files: one TOML file each. Reading one starts nothing and reads nothing else; a broken one says so."""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from conductor_ai.agents.answer_schema import AnswerSchema
from conductor_ai.errors import InvalidInput, UnknownAgent
from conductor_ai.schemas import json_text
from conductor_ai.schemas.limits import Limits
from conductor_ai.schemas.parameters import Parameters

MAX_BYTES = 256 * 1024

_SUFFIX = ".toml"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_KEYS = ("name", "description", "instructions", "model", "models", "tools", "limits", "parameters", "response_schema")
_LONGEST_ERROR = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpec:
    """An agent as its file describes it: `tools` None is every registered tool, no `models` the default model; of
    several each may take over from the one before it.

    `error` is one line that names the file and what is wrong in it; an agent with an error has nothing else to offer.
    """

    name: str
    path: str
    description: str = ""
    instructions: str | None = None
    models: tuple[str, ...] = ()
    tools: tuple[str, ...] | None = None
    limits: Limits = field(default_factory=Limits)
    parameters: Parameters = field(default_factory=Parameters)
    response_schema: dict[str, Any] | None = None
    error: str | None = None

    @property
    def model(self) -> str | None:
        """The first of its models; None where it leaves that to whoever runs it."""
        return self.models[0] if self.models else None

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "name": self.name,
            "path": self.path,
            "description": self.description,
            "instructions": self.instructions,
            "model": self.model,
            "models": list(self.models),
            "tools": None if self.tools is None else list(self.tools),
            "limits": self.limits.to_dict(),
            "parameters": self.parameters.to_dict(),
            "response_schema": self.response_schema,
            "error": self.error,
        }


def load_agents(folder: Path, *, only: Collection[str] | None = None) -> list[AgentSpec]:
    """The agents of `folder` by name, `only` those of these names; a broken file harms no other.

    Raises: InvalidInput where the folder cannot be read.
    """
    try:
        # Files are found by looking, never by putting a name into a path: no name leads out of the folder.
        paths = sorted(folder.iterdir())
    except OSError as exc:
        raise InvalidInput(f"the agents folder {folder} cannot be read: {exc.strerror or exc}") from exc
    named = [path for path in paths if path.suffix == _SUFFIX and not path.name.startswith(".")]
    return [_spec_of(path) for path in named if only is None or path.stem in only]


def find_agent(agents: Sequence[AgentSpec], name: str) -> AgentSpec:
    """Raises: UnknownAgent, whose hint names the nearest agents; InvalidInput where the agent's file is broken."""
    found = next((agent for agent in agents if agent.name == name), None)
    if found is None:
        names = [agent.name for agent in agents if agent.error is None]
        near = get_close_matches(name[:100], names)
        known = f"agents are: {', '.join(names)}" if names else "there is no agent"
        hint = f"did you mean {' or '.join(near)}?" if near else known
        raise UnknownAgent(f"unknown agent {shortened(name)}", hint=hint)
    if found.error is not None:
        raise InvalidInput(f"agent {name} cannot be used: {found.error}", hint="mend the file")
    return found


def _spec_of(path: Path) -> AgentSpec:
    try:
        return _checked(path, _table_of(_bytes_of(path)))
    except InvalidInput as exc:
        said = " ".join(f"{exc} ({exc.hint})".split() if exc.hint else str(exc).split())
        if len(said) > _LONGEST_ERROR:
            said = said[: _LONGEST_ERROR - 3] + "..."
        file = str(path) if str(path).isprintable() else ascii(str(path))
        return AgentSpec(name=path.stem, path=str(path), error=f"{file}: {said}")


def _bytes_of(path: Path) -> bytes:
    """The content of a plain file, opened without following a link and without waiting for a pipe's other end.

    Raises: InvalidInput.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise InvalidInput("it is no plain file")
            data = _read(handle)
        finally:
            os.close(handle)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            # Whoever may write a link into the folder must not thereby show a file from elsewhere to a model.
            raise InvalidInput("it is a symbolic link: an agent is a real file of its folder") from exc
        raise InvalidInput(f"it cannot be read: {exc.strerror or exc}") from exc
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"it is larger than {MAX_BYTES // 1024} KiB")
    return data


def _read(handle: int) -> bytes:
    """Up to one byte more than is allowed."""
    data = b""
    while len(data) <= MAX_BYTES and (more := os.read(handle, MAX_BYTES + 1 - len(data))):
        data += more
    return data


def _table_of(data: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as exc:
        raise InvalidInput("it is not UTF-8 text") from exc
    except (ValueError, RecursionError) as exc:  # numbers of thousands of digits, brackets of thousands of levels
        raise InvalidInput(f"it is not TOML: {exc}") from exc


def _checked(path: Path, table: dict[str, Any]) -> AgentSpec:
    """Raises: InvalidInput that names the key."""
    if not _NAME.fullmatch(path.stem):
        raise InvalidInput("its name must be 1 to 64 of a-z, 0-9, _ and -, and begin with a letter or a digit")
    unknown = [key for key in table if key not in _KEYS]
    if unknown:
        raise InvalidInput(f"unknown key {shortened(unknown[0])}", hint=f"keys are: {', '.join(_KEYS)}")
    missing = [key for key in ("name", "description", "instructions") if key not in table]
    if missing:
        raise InvalidInput(f"{missing[0]} is missing")
    if (name := _text(table, "name")) != path.stem:
        raise InvalidInput(f"name must be {path.stem!r}, as the file is called, got {shortened(name)}")
    return AgentSpec(
        name=name,
        path=str(path),
        description=_text(table, "description"),
        instructions=_text(table, "instructions"),
        models=_models(table),
        tools=_names(table, "tools") if "tools" in table else None,
        limits=_limits(table.get("limits", {})),
        parameters=_parameters(table.get("parameters", {})),
        response_schema=_response_schema(table["response_schema"]) if "response_schema" in table else None,
    )


def _text(table: dict[str, Any], key: str) -> str:
    value = table[key]
    if not isinstance(value, str):
        raise InvalidInput(f"{key} must be text, got {_kind(value)}")
    if not value.strip():
        raise InvalidInput(f"{key} is empty")
    return value.strip()


def _models(table: dict[str, Any]) -> tuple[str, ...]:
    if "models" not in table:
        return (_text(table, "model"),) if "model" in table else ()
    if "model" in table:
        raise InvalidInput("model and models: name one of the two")
    return _names(table, "models")


def _names(table: dict[str, Any], key: str) -> tuple[str, ...]:
    value = table[key]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InvalidInput(f"{key} must be a list of names", hint=f'{key} = ["...", "..."]')
    twice = [name for name in value if value.count(name) > 1]
    if twice:
        raise InvalidInput(f"{key}: {shortened(twice[0])} is named twice")
    return tuple(value)


def _limits(value: object) -> Limits:
    if not isinstance(value, dict):
        raise InvalidInput(f"limits must be a table, got {_kind(value)}", hint="[limits]")
    try:
        return Limits.of(value)
    except InvalidInput as exc:
        raise InvalidInput(f"limits: {exc}", hint=exc.hint) from exc
    except ValueError as exc:  # hexadecimal digits without end, which Python refuses to write out
        raise InvalidInput("limits: a number is too long") from exc


def _parameters(value: object) -> Parameters:
    if not isinstance(value, dict):
        raise InvalidInput(f"parameters must be a table, got {_kind(value)}", hint="[parameters]")
    try:
        return Parameters.of(value)
    except InvalidInput as exc:
        raise InvalidInput(f"parameters: {exc}", hint=exc.hint) from exc


def _response_schema(value: object) -> dict[str, Any]:
    """JSON text, as schemas are written everywhere, or a table of the same form."""
    if isinstance(value, str):
        try:
            value = json_text.loads(value)
        except (ValueError, RecursionError) as exc:
            raise InvalidInput(f"response_schema is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise InvalidInput("response_schema must be a JSON schema, as JSON text or as a table")
    return AnswerSchema.of_json(value).schema


_KINDS = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a table"}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a date or a time")
