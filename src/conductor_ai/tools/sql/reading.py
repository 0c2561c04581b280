"""From a text to PostgreSQL's own syntax tree, with named values put in as `$1`, `$2`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conductor_ai.errors import MissingExtra
from conductor_ai.tools.sql.policy import Refused, Rule, shown

if TYPE_CHECKING:
    from pglast.parser import Token

# The tree is built by recursion in C, on the stack of the calling thread: a chain of 20,000 UNIONs ends the process.
# At these sizes the worst statement tried needs less than 2 MiB of the 8 that a thread has on Linux.
MAX_CHARACTERS = 20_000
MAX_TOKENS = 5_000

_COMMENTS = frozenset({"SQL_COMMENT", "C_COMMENT"})
_COLON, _SEMICOLON = "ASCII_58", "ASCII_59"
# What no statement needs. A NUL would end the text for the parser, and half a surrogate pair has no encoding.
_UNREADABLE = re.compile("[^\\t\\n\\x0b\\x0c\\r\\x20-\\x7e\\x80-\\ud7ff\\ue000-\\U0010ffff]")
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
# A colon behind one of these belongs to a slice, `a[1:n]`.
_ENDS_A_VALUE = re.compile("""[\\w$"')\\]:]""")


@dataclass(frozen=True, slots=True)
class Reading:
    """One statement: its tree, the text that was parsed, the names of its values, and its words as they were written:
    no comments, and one space before a word for whatever stood there."""

    tree: Any
    sql: str
    parameters: tuple[str, ...]
    words: tuple[str, ...]


def read(sql: str) -> Reading:
    """The one statement that `sql` is. Raises: Refused, MissingExtra."""
    try:
        from pglast.parser import ParseError, parse_sql, scan
    except ModuleNotFoundError as exc:
        raise MissingExtra(f"SQL cannot be judged without {exc.name}", hint="pip install 'conductor-ai[sql]'") from exc
    if len(sql) > MAX_CHARACTERS:
        raise Refused(Rule.TEXT, f"The statement has more than {MAX_CHARACTERS} characters. Write a shorter one.")
    found = _UNREADABLE.search(sql)
    if found is not None:
        raise Refused(Rule.TEXT, f"The statement has a control character (U+{ord(found.group()):04X}). Leave it out.")
    try:
        tokens = [token for token in scan(sql) if token.name not in _COMMENTS]
        if len(tokens) > MAX_TOKENS:
            raise Refused(Rule.TEXT, f"The statement has more than {MAX_TOKENS} words. Write a shorter one.")
        bound, parameters = _with_values(sql, tokens)
        statements = parse_sql(bound)
    except ParseError as exc:
        raise Refused(Rule.SYNTAX, f"PostgreSQL does not read this: {shown(str(exc.args[0]))}.") from exc
    if len(statements) != 1:
        raise Refused(Rule.COUNT, f"Send exactly one statement; this is {len(statements) or 'none'}.")
    return Reading(statements[0].stmt, bound, parameters, _words(sql, tokens))


def _with_values(sql: str, tokens: list[Token]) -> tuple[str, tuple[str, ...]]:
    """`sql` from its first to its last word, without semicolons around it, with `$n` for each `:name`."""
    names: dict[str, int] = {}
    parts: list[str] = []
    within = [at for at, token in enumerate(tokens) if token.name != _SEMICOLON]
    if not within:
        return "", ()
    end, last = tokens[within[0]].start, tokens[within[-1]].end + 1
    for colon, word in zip(tokens, tokens[1:] + tokens[:1], strict=True):
        if colon.name == "PARAM":
            raise Refused(Rule.PARAMETER, "Name the values: write :name, not $1.")
        name = sql[word.start : word.end + 1]
        if colon.name != _COLON or word.start != colon.end + 1 or _NAME.fullmatch(name) is None:
            continue
        if colon.start and _ENDS_A_VALUE.match(sql[colon.start - 1]):
            continue
        parts += [sql[end : colon.start], f"${names.setdefault(name, len(names) + 1)}"]
        end = word.end + 1
    parts.append(sql[end:last])
    return "".join(parts), tuple(names)


def _words(sql: str, tokens: list[Token]) -> tuple[str, ...]:
    words, end = list[str](), 0
    for token in tokens:
        if token.name == _SEMICOLON:
            continue
        gap = " " if token.start > end else ""
        words.append(gap + sql[token.start : token.end + 1])
        end = token.end + 1
    return tuple(words)
