"""What a Postgres database says of its sessions, for those who check it against what must hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.string import TextLoader

from conductor_ai.schemas.audit import AuditRow, ChainHead, first_break
from tests.crash import invariants
from tests.crash.invariants import Effect
from tests.crash.log_reader import LogReader


class Row(tuple[Any, ...]):
    """As SQLite's: values by place and by name."""

    names: Sequence[str] = ()

    def __getitem__(self, place: Any) -> Any:
        return super().__getitem__(self.names.index(place) if isinstance(place, str) else place)


class Ledger(LogReader):
    """One connection, past every fault: `url` is that of the server itself."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        for kind in ("json", "uuid"):  # as they were written
            self._connection.adapters.register_loader(kind, TextLoader)

    def close(self) -> None:
        self._connection.close()

    def rows(self, sql: str, *values: Any) -> list[Any]:
        cursor = self._connection.execute(sql.replace("?", "%s").encode(), values)
        kind = type("Named", (Row,), {"names": [column.name for column in cursor.description or ()]})
        return [kind(map(_as_text, row)) for row in cursor]

    def session_ids(self) -> set[str]:
        return {row["session_id"] for row in self.rows("SELECT session_id FROM sessions")}

    def unfinished(self) -> list[str]:
        return [
            f"{row['session_id']} is {row['status']} ({row['error']})"
            for row in self.rows("SELECT session_id, status, error FROM sessions WHERE status <> 'completed'")
        ]

    def violations(self, effects: Sequence[Effect]) -> list[str]:
        """What is wrong with sessions, logs, audit chains and effects; empty where nothing is."""
        return invariants.violations(self, effects) + self._of_orgs()

    def _of_orgs(self) -> list[str]:
        found = []
        for head in self.rows("SELECT org_id, chain_seq, hash FROM audit_heads WHERE session_id = ''"):
            rows = self.rows(
                "SELECT id, org_id, session_id, category, action, metadata, created_at, chain_seq, prev_hash, hash"
                " FROM audit_logs WHERE org_id = ? AND session_id IS NULL ORDER BY chain_seq",
                head["org_id"],
            )
            broken = first_break([AuditRow(*row) for row in rows], ChainHead(head["chain_seq"], head["hash"]))
            if broken is not None:
                found.append(f"the audit chain of {head['org_id']} breaks at {broken}")
        return found


def _as_text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return str(value) if isinstance(value, UUID) else value
