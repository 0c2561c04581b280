"""What a query came to, and how much of it is handed on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from conductor_ai.schemas import json_text


@dataclass(frozen=True, slots=True)
class Caps:
    """What one call may cost. `max_bytes` are of the rows as JSON; on the server they bound the rows as stored, too."""

    max_rows: int = 1_000
    max_bytes: int = 2**20
    timeout_s: float = 10.0


@dataclass(slots=True)
class Answer:
    """`columns` are name and type, in order; `rows` JSON data in that order.

    `truncated_by` says why there are no more rows: None where there are none.
    """

    columns: list[dict[str, str]]
    rows: list[list[Any]] = field(default_factory=list)
    size_bytes: int = 0
    truncated_by: Literal["rows", "bytes"] | None = None
    changed: int | None = None
    """How many rows a change touched; None for a query."""
    tables: list[str] = field(default_factory=list)
    """Those that the statement names, where that is known."""
    identity: Literal["signed", "none"] = "none"
    """Whether the database was told, provably, for which org it answers."""

    def add(self, rows: Iterable[list[Any]], caps: Caps) -> bool:
        """Take over rows until a cap is reached; True where it is."""
        for row in rows:
            size = len(json_text.dumps(row).encode(errors="surrogatepass"))
            if len(self.rows) >= caps.max_rows:
                self.truncated_by = "rows"
            elif self.size_bytes + size > caps.max_bytes:
                self.truncated_by = "bytes"
            if self.truncated_by is not None:
                return True
            self.rows.append(row)
            self.size_bytes += size
        return False

    def to_dict(self) -> dict[str, Any]:
        return {
            "columns": self.columns,
            "rows": self.rows,
            "row_count": len(self.rows),
            "truncated": self.truncated_by is not None,
            "truncated_by": self.truncated_by,
        }
