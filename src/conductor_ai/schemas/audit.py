"""Audit rows and the chain that holds them together.

Each row's hash covers the row as stored and the hash before it, so an edited, removed or inserted row breaks every
hash behind it. A session has a chain of its own; rows without a session are chained per org.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from conductor_ai.schemas import json_text
from conductor_ai.schemas.ids import new_id

GENESIS = "0" * 64


class AuditEntry(NamedTuple):
    """A fact to be recorded. `metadata` is JSON text without secrets."""

    category: str
    action: str
    metadata: str


class AuditRow(NamedTuple):
    """One row of `audit_logs`, in the order of its columns. `created_at` is ISO 8601 UTC with microseconds."""

    id: str
    org_id: str
    session_id: str | None
    category: str
    action: str
    metadata: str
    created_at: str
    chain_seq: int
    prev_hash: str
    hash: str


class ToolExecutionRow(NamedTuple):
    """One row of `tool_executions`. `input` and `output` are JSON text."""

    id: str
    org_id: str
    session_id: str | None
    call_id: str | None
    tool_name: str
    input: str
    output: str | None
    execution_time_ms: float
    success: bool
    error: str | None
    created_at: str


@dataclass(slots=True)
class ChainHead:
    """Length and newest hash of a chain."""

    seq: int = 0
    hash: str = GENESIS

    def extend(self, entry: AuditEntry, *, org_id: str, session_id: str | None, created_at: str) -> AuditRow:
        """Chain one more row; the head moves on."""
        row_id = new_id()
        seq = self.seq + 1
        digest = _digest(row_id, org_id, session_id, entry, created_at, seq, self.hash)
        row = AuditRow(row_id, org_id, session_id, *entry, created_at, seq, self.hash, digest)
        self.seq, self.hash = seq, digest
        return row


def first_break(rows: Iterable[AuditRow], head: ChainHead | None = None) -> int | None:
    """The `chain_seq` of the first row that is not as it was written; None where the chain holds.

    Rows in the order of the chain. With `head`, a cut tail counts as a break at the first missing row.
    """
    expected = ChainHead()
    for row in rows:
        entry = AuditEntry(row.category, row.action, row.metadata)
        digest = _digest(row.id, row.org_id, row.session_id, entry, row.created_at, row.chain_seq, row.prev_hash)
        if (row.chain_seq, row.prev_hash, row.hash) != (expected.seq + 1, expected.hash, digest):
            return expected.seq + 1
        expected = ChainHead(row.chain_seq, row.hash)
    return expected.seq + 1 if head is not None and head != expected else None


def _digest(
    row_id: str, org_id: str, session_id: str | None, entry: AuditEntry, created_at: str, seq: int, prev_hash: str
) -> str:
    covered = json_text.dumps([row_id, org_id, session_id, *entry, created_at, seq, prev_hash])
    return hashlib.sha256(covered.encode()).hexdigest()
