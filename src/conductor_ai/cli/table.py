"""Rows as aligned columns that fit a terminal."""

from __future__ import annotations

from collections.abc import Sequence

_GAP = 2
_INDENT = 4
_SHORTEST = 12
_LEADING = 2
"""So many columns stand on the first line of a row that takes two."""


def table_lines(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, columns: int, shorten: Sequence[str]
) -> list[str]:
    """The lines, headings first. A line is wider than `columns` only where what must stay whole is."""
    table = [list(headings), *map(list, rows)]
    flexible = [heading in shorten for heading in headings]
    if (widths := _fitted(table, flexible, columns)) is not None:
        return [_line(row, widths) for row in table]
    above, below = [row[:_LEADING] for row in table], [row[_LEADING:] for row in table]
    widths_above = _fitted(above, flexible[:_LEADING], columns) or _widest(above)
    widths_below = _fitted(below, flexible[_LEADING:], columns - _INDENT) or _widest(below)
    lines = []
    for first, second in zip(above, below, strict=True):
        lines += [_line(first, widths_above), " " * _INDENT + _line(second, widths_below)]
    return lines


def _widest(table: list[list[str]]) -> list[int]:
    from rich.cells import cell_len

    return [max(map(cell_len, column)) for column in zip(*table, strict=True)]


def _fitted(table: list[list[str]], flexible: list[bool], columns: int) -> list[int] | None:
    """The width of each column, the widest of the flexible ones cut first; None where they cannot fit."""
    widths = _widest(table)
    room = columns - _GAP * (len(widths) - 1)
    while (excess := sum(widths) - room) > 0:
        able = [at for at, may in enumerate(flexible) if may and widths[at] > _SHORTEST]
        if not able:
            return None
        widest = max(able, key=lambda at: widths[at])
        next_widest = max((widths[at] for at in able if widths[at] < widths[widest]), default=_SHORTEST)
        widths[widest] -= max(1, min(excess, widths[widest] - max(next_widest, _SHORTEST)))
    return widths


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return (" " * _GAP).join(_cell(text, width) for text, width in zip(row, widths, strict=True)).rstrip()


def _cell(text: str, width: int) -> str:
    from rich.cells import cell_len, set_cell_size

    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 3) + "..."
