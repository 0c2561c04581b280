"""Google-style docstrings: what a tool does, and what each argument means."""

from __future__ import annotations

import inspect
import re
from typing import NamedTuple

_SECTION = re.compile(r"(Args|Arguments|Parameters|Returns?|Raises|Yields|Examples?):(\s.*)?$")
_ARGUMENT_SECTIONS = ("Args", "Arguments", "Parameters")
_ARGUMENT = re.compile(r"(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")


class Docstring(NamedTuple):
    """`description` is everything outside the sections; `arguments` maps a name to its text, one line each."""

    description: str
    arguments: dict[str, str]


def parse_docstring(text: str) -> Docstring:
    """Read a docstring as `__doc__` holds it. Text that stands after a section, unindented, is description again."""
    description: list[str] = []
    arguments: list[str] = []
    section: str | None = None
    for line in inspect.cleandoc(text).splitlines():
        header = _SECTION.match(line)
        if header:
            section = header[1]
        elif line[:1].strip():
            section = None
        if section is None:
            description.append(line)
        elif section in _ARGUMENT_SECTIONS and not header and line.strip():
            arguments.append(line)
    return Docstring(re.sub(r"\n{3,}", "\n\n", "\n".join(description).strip()), _parse_arguments(arguments))


def _parse_arguments(lines: list[str]) -> dict[str, str]:
    texts: dict[str, list[str]] = {}
    margin = min((_indent(line) for line in lines), default=0)
    for line in lines:
        entry = _ARGUMENT.match(line.strip()) if _indent(line) == margin else None
        if entry:
            texts[entry[1]] = [entry[2]]
        elif texts:
            next(reversed(texts.values())).append(line.strip())
    return {name: " ".join(parts).strip() for name, parts in texts.items()}


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
