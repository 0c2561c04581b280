"""The call that a statement runs for: its org, and its row in the audit."""

from __future__ import annotations

from conductor_ai.errors import UsageError
from conductor_ai.sdk.context import current_context
from conductor_ai.tools.sql.answer import Answer


def org_of_call() -> str | None:
    """None outside a call of anybody."""
    try:
        return current_context().org_id
    except UsageError:
        return None


def record_answer(database: str, answer: Answer) -> None:
    """Put into the audit row what was read or changed, and as whom; never the rows."""
    try:
        context = current_context()
    except UsageError:
        return  # outside a session there is no audit row
    context.record(
        database=database,
        identity=answer.identity,
        tables=answer.tables,
        rows=len(answer.rows),
        bytes=answer.size_bytes,
        truncated_by=answer.truncated_by,
        **({} if answer.changed is None else {"changed": answer.changed}),
    )
