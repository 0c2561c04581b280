"""`python -m tests.crash.mutants MUTANT ARGUMENT...`: `conductor ARGUMENT...` with one of its walls taken out.

They exist so that the crash tests can show that each wall is needed, and that its absence would be seen.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Sequence
from typing import Any

from conductor_ai.agents import state, triage
from conductor_ai.agents.asking import CallApprover
from conductor_ai.agents.session_log import SessionLog
from conductor_ai.agents.session_state import OpenCall
from conductor_ai.agents.tool_calls import Toolset
from conductor_ai.cli import main
from conductor_ai.errors import ConductorError, StorageError
from conductor_ai.schemas.audit import AuditEntry, AuditRow, ChainHead
from conductor_ai.sdk.security.approval import ApprovalRequest
from conductor_ai.storage.base import Append
from conductor_ai.storage.sqlite import writer
from conductor_ai.storage.sqlite.append import store_appends


def intent_not_awaited() -> None:
    """Tools run while their intent is still on its way to the disk."""

    class HastyLog(SessionLog):
        async def durable(self) -> None:
            self.commit()

    setattr(state, "SessionLog", HastyLog)  # noqa: B010  # the name by which logs are made


def append_without_fence() -> None:
    """Events are added at the end of the log, whoever brings them."""

    def store(
        connection: sqlite3.Connection, appends: Sequence[Append], broken: dict[str, StorageError]
    ) -> list[bool | ConductorError]:
        outcomes: list[bool | ConductorError] = []
        for append in appends:
            outcomes += store_appends(connection, [_moved_to_the_end(connection, append)], broken)
        return outcomes

    writer.store_appends = store  # type: ignore[attr-defined]


def _moved_to_the_end(connection: sqlite3.Connection, append: Append) -> Append:
    row = connection.execute(
        "SELECT owner_epoch, last_seq, audit_seq, audit_head FROM sessions WHERE session_id = ?", (append.session_id,)
    ).fetchone()
    if row is None:
        return append
    owner_epoch, last_seq, audit_seq, audit_head = row
    chain = ChainHead(audit_seq, audit_head)
    audit = tuple(_chained(chain, audited) for audited in append.audit)
    return append._replace(
        owner_epoch=owner_epoch,
        last_seq=last_seq,
        events=tuple(event._replace(seq=last_seq + number) for number, event in enumerate(append.events, 1)),
        projection=append.projection._replace(audit_seq=chain.seq, audit_head=chain.hash),
        audit=audit,
    )


def _chained(chain: ChainHead, row: AuditRow) -> AuditRow:
    entry = AuditEntry(row.category, row.action, row.metadata)
    return chain.extend(entry, org_id=row.org_id, session_id=row.session_id, created_at=row.created_at)


def once_repeated_on_resume() -> None:
    """A started `once` call is run again, as if it were `idempotent`."""
    sort: Callable[..., None] = triage._sort  # noqa: SLF001  the wall itself

    def repeat(log: SessionLog, toolset: Toolset, open_call: OpenCall, plan: Any) -> None:
        if open_call.effect == "once":
            plan.to_run.append(open_call)
        else:
            sort(log, toolset, open_call, plan)

    triage._sort = repeat  # noqa: SLF001


def everything_agreed_to() -> None:
    """What a tool asks in the middle of its work is answered with yes, by nobody."""

    async def yes(approver: CallApprover, request: ApprovalRequest) -> bool:
        return True

    CallApprover.__call__ = yes  # type: ignore[method-assign,assignment]


def results_kept_back() -> None:
    """A tool's result is not stored at once but with the next intent."""

    class LazyLog(SessionLog):
        def commit(self) -> None:
            """Later."""

    setattr(state, "SessionLog", LazyLog)  # noqa: B010


MUTANTS = {
    function.__name__: function
    for function in (
        intent_not_awaited,
        append_without_fence,
        once_repeated_on_resume,
        everything_agreed_to,
        results_kept_back,
    )
}

if __name__ == "__main__":
    MUTANTS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
