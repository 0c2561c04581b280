"""What a change would do, in words for the person who is asked to allow it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conductor_ai.tools.sql.policy import DEFAULT_SCHEMA, Table, shown

_OPENING, _CLOSING = frozenset("(["), frozenset(")]")


def effect_of(tree: Any, words: Sequence[str], tables: Sequence[Table]) -> str:
    """One or two sentences. Args: `words` of the statement in order, `tables` all that it touches."""
    target = Table(tree.relation.schemaname or DEFAULT_SCHEMA, tree.relation.relname)
    kind = type(tree).__name__
    if kind == "InsertStmt":
        said = _insertion(tree, target)
    elif kind == "UpdateStmt":
        said = f"In {shown(str(target))}, for {_rows(tree, words)}: sets {_clause(words, 'set')}."
    else:
        said = f"From {shown(str(target))}, deletes {_rows(tree, words)}."
    others = [shown(str(table)) for table in tables if table != target]
    if others:
        said += f" Reads {', '.join(others)}."
    columns = _clause(words, "returning")
    return f"{said} Returns {'every column' if columns == '*' else columns}." if columns else said


def _insertion(tree: Any, target: Table) -> str:
    values = tree.selectStmt.valuesLists if tree.selectStmt is not None else ((),)
    count = "as many rows as its query finds" if not values else _counted(len(values))
    columns = f" ({_named(tree.cols)})" if tree.cols else ""
    said = f"Inserts {count} into {shown(str(target))}{columns}."
    clause = tree.onConflictClause
    if clause is None:
        return said
    if not clause.targetList:
        return f"{said} Leaves out a row that is there already."
    return f"{said} Where a row is there already, sets its {_named(clause.targetList)}."


def _rows(tree: Any, words: Sequence[str]) -> str:
    return "EVERY row" if tree.whereClause is None else f"the rows where {_clause(words, 'where')}"


def _clause(words: Sequence[str], opening: str) -> str:
    """The words from a clause of the statement itself, so outside all brackets, to its WHERE or RETURNING."""
    depth, found = 0, list[str]()
    inside = False
    for word in words:
        bare = word.strip().lower()
        depth += (bare in _OPENING) - (bare in _CLOSING)
        if depth == 0 and bare == opening:
            inside = True
        elif depth == 0 and bare in ("where", "returning"):
            inside = False
        if inside:
            found.append(_printable(word))
    return "".join(found[1:]).strip()


def _printable(word: str) -> str:
    """Whole, unlike a name: what is asked for must be seen. What breaks the line or turns it around is spelt out."""
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in word)


def _named(targets: Sequence[Any]) -> str:
    return ", ".join(shown(target.name) for target in targets)


def _counted(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows} rows"
