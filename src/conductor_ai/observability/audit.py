"""The one place that turns what happened into audit rows: no secrets, no NUL, chained, durable before it returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from conductor_ai.errors import AuditUnavailable, InvalidInput, OwnershipLost, StorageError
from conductor_ai.observability.redaction import Redactor
from conductor_ai.observability.values import escaped_text, record_json
from conductor_ai.schemas import json_text
from conductor_ai.schemas.audit import AuditEntry, ToolExecutionRow
from conductor_ai.schemas.ids import new_id, utc_now

DEFAULT_ORG = "default"
MAX_STORED_CHARS = 65_536
# A secret that lies across the cut must be seen whole before the cut is made.
_CUT_MARGIN_CHARS = 8_192


class AuditStore(Protocol):
    """What the logger needs of a session store."""

    async def append_org_audit(
        self, org_id: str, entries: Sequence[AuditEntry], executions: Sequence[ToolExecutionRow] = ()
    ) -> None: ...


class AuditRecord(BaseModel):
    """One thing that happened, as a person writes it down.

    Without `org_id` it belongs to the org whose session is being driven or whose tool is called, or to `default`.
    `session_id` None means the session that is being driven, if there is one. A record with `tool_name` and `success`
    is a finished call: it also leaves a row in `tool_executions`. The rows carry the time of writing; a `created_at` of
    your own is kept beside it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    category: str
    action: str
    org_id: str | None = None
    session_id: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    call_id: str | None = None
    tool_name: str | None = None
    input: Any = None
    output: Any = None
    execution_time_ms: float | None = None
    success: bool | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SessionSink:
    """Where records go while a session is being driven: `record` stores rows in that session's chain, durably.

    `session_id` None: while a tool is called outside any session, records go to the org's own chain.
    """

    org_id: str
    session_id: str | None
    redactor: Redactor
    record: Callable[[list[AuditEntry], list[ToolExecutionRow]], Awaitable[None]]

    def takes(self, record: AuditRecord) -> bool:
        of_session = self.session_id is None or record.session_id in (None, self.session_id)
        return of_session and record.org_id in (None, self.org_id)


_sink: ContextVar[SessionSink | None] = ContextVar("conductor_audit_sink", default=None)


@contextmanager
def bind_sink(sink: SessionSink) -> Iterator[None]:
    """Within, and in tasks started within, records go to the sink's chain."""
    token = _sink.set(sink)
    try:
        yield
    finally:
        _sink.reset(token)


class AuditLogger:
    """Turns facts into rows without secrets, and writes those that no session's loop writes.

    Without arguments it uses the default store, opened on first use. Otherwise `store` is where rows go that belong to
    no session being driven (the caller closes it), and `redactor` knows the secrets that no row may hold.
    """

    def __init__(self, store: AuditStore | None = None, redactor: Redactor | None = None) -> None:
        if (store is None) != (redactor is None):
            raise InvalidInput("AuditLogger takes a store and its redactor, or neither")
        self._store = store
        self._redactor = Redactor() if redactor is None else redactor

    def entry(self, category: str, action: str, metadata: dict[str, Any]) -> AuditEntry:
        """A row for `audit_logs` that the caller stores itself, with the event it tells of."""
        return AuditEntry(category, action, self._stored(metadata))

    def tool_execution(
        self,
        *,
        org_id: str,
        session_id: str | None,
        call_id: str | None,
        tool_name: str,
        arguments: Any,
        output: Any,
        execution_time_ms: float,
        success: bool,
        error: str | None,
        created_at: str,
    ) -> ToolExecutionRow:
        """A row for `tool_executions` that the caller stores itself.

        `arguments` and `output` are any values. Of more than `MAX_STORED_CHARS` of JSON text the beginning is kept; a
        session's log has the whole.
        """
        return ToolExecutionRow(
            new_id(),
            org_id,
            session_id,
            call_id,
            tool_name,
            self._stored(arguments),
            self._stored(output) if success or output is not None else None,
            execution_time_ms,
            success,
            None if error is None else self._stored_text(error),
            created_at,
        )

    async def log(self, record: AuditRecord) -> None:
        """Record, in the chain of the session being driven or else in the org's own; returns once it is durable.

        Raises: AuditUnavailable where it could not be stored: then do not do what you meant to record.
        """
        sink = _sink.get()
        try:
            if sink is not None and sink.takes(record):
                entry, executions = self._rows(record, sink.org_id, sink.session_id or record.session_id)
                await sink.record(*_without_secrets(sink.redactor, entry, executions))
            elif self._store is not None:
                org_id = record.org_id or (DEFAULT_ORG if sink is None else sink.org_id)
                entry, executions = self._rows(record, org_id, record.session_id)
                await self._store.append_org_audit(org_id, [entry], executions)
            else:
                from conductor_ai.wiring import default_runtime  # callers need no wiring of their own

                runtime = await default_runtime()
                await runtime.audit.log(record)
        except (StorageError, OwnershipLost) as exc:
            raise AuditUnavailable(f"{record.action} could not be recorded: {exc}", hint=exc.hint) from exc

    def _rows(
        self, record: AuditRecord, org_id: str, session_id: str | None
    ) -> tuple[AuditEntry, list[ToolExecutionRow]]:
        clean = self._redactor.clean_log
        facts = record.model_dump(
            mode="python", include={"call_id", "tool_name", "execution_time_ms", "success", "error"}, exclude_none=True
        )
        metadata = record.metadata | facts
        if session_id is not None:
            metadata["session_id"] = session_id
        if "created_at" in record.model_fields_set:
            metadata["occurred_at"] = record.created_at.isoformat()
        if record.tool_name is None or record.success is None:
            metadata |= {name: value for name in ("input", "output") if (value := getattr(record, name)) is not None}
            executions = []
        else:
            executions = [
                self.tool_execution(
                    org_id=org_id,
                    session_id=session_id,
                    call_id=record.call_id,
                    tool_name=clean(escaped_text(record.tool_name)),
                    arguments=record.input,
                    output=record.output,
                    execution_time_ms=record.execution_time_ms or 0.0,
                    success=record.success,
                    error=record.error,
                    created_at=utc_now(),
                )
            ]
        category, action = clean(escaped_text(record.category)), clean(escaped_text(record.action))
        return self.entry(category, action, metadata), executions

    def _stored(self, value: Any) -> str:
        text = record_json(value)
        if len(text) <= MAX_STORED_CHARS:
            return self._redactor.clean_log_json(text)
        return json_text.dumps({"cut": True, "total_chars": len(text), "beginning": self._beginning(text)})

    def _stored_text(self, text: str) -> str:
        text = escaped_text(text)
        return self._beginning(text) if len(text) > MAX_STORED_CHARS else self._redactor.clean_log(text)

    def _beginning(self, text: str) -> str:
        cleaned = self._redactor.clean_log(text[: MAX_STORED_CHARS + _CUT_MARGIN_CHARS])
        if len(text) > MAX_STORED_CHARS + _CUT_MARGIN_CHARS:
            cleaned = cleaned[:-_CUT_MARGIN_CHARS]  # its end may be the first part of a secret
        return cleaned[:MAX_STORED_CHARS]


def _without_secrets(
    redactor: Redactor, entry: AuditEntry, executions: list[ToolExecutionRow]
) -> tuple[list[AuditEntry], list[ToolExecutionRow]]:
    """Rows built by a logger that knows other secrets than the session's own redactor does."""
    clean = redactor.clean_log
    return [AuditEntry(clean(entry.category), clean(entry.action), redactor.clean_log_json(entry.metadata))], [
        row._replace(
            tool_name=clean(row.tool_name),
            input=redactor.clean_log_json(row.input),
            output=None if row.output is None else redactor.clean_log_json(row.output),
            error=None if row.error is None else redactor.clean_log(row.error),
        )
        for row in executions
    ]
