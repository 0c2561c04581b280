"""Builds the appends of one session as the runner would: a fence, a chain and a projection that go on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import Decimal

from conductor_ai.schemas import json_text
from conductor_ai.schemas.approvals import ApprovalRecord, ApprovalStatus, arguments_hash
from conductor_ai.schemas.audit import AuditEntry, ChainHead, ToolExecutionRow
from conductor_ai.schemas.ids import new_id, utc_now
from conductor_ai.schemas.session import SessionRecord, SessionStatus
from conductor_ai.schemas.usage import Usage
from conductor_ai.sdk.context import SessionFile
from conductor_ai.sdk.files import media_type_of
from conductor_ai.storage.base import (
    Append,
    ApprovalDecision,
    EventRow,
    IdempotencyMark,
    ModelCallRow,
    NewSession,
    Projection,
    QueuedMessage,
)

ORG = "acme"
Stored = tuple[SessionFile, bytes]


class SessionLog:
    def __init__(
        self,
        *,
        org_id: str = ORG,
        title: str = "Find dealers",
        session_id: str | None = None,
        agent: str | None = None,
    ) -> None:
        self.session_id = session_id or new_id()
        self.org_id = org_id
        self.title = title
        self.agent = agent
        self.owner_epoch = 1
        self.last_seq = 0
        self.head = ChainHead()
        self.created = False

    def resumed(self, record: SessionRecord) -> SessionLog:
        """Go on from a claimed row, as another process would."""
        log = SessionLog(org_id=self.org_id, session_id=record.session_id)
        log.owner_epoch, log.last_seq, log.created = record.owner_epoch, record.last_seq, True
        log.head = ChainHead(record.audit_seq, record.audit_head)
        return log

    def next(
        self,
        payloads: Sequence[object] = ({"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}),
        *,
        status: SessionStatus = SessionStatus.RUNNING,
        error: str | None = None,
        step_no: int = 1,
        cost_usd: Decimal | None = Decimal("0.0012"),
        executions: Sequence[ToolExecutionRow] = (),
        requested: Sequence[ApprovalRecord] = (),
        decided: Sequence[ApprovalDecision] = (),
        calls: Sequence[Decimal | None] = (),
        idempotency: IdempotencyMark | None = None,
        delivered: Sequence[str] = (),
        at: str | None = None,
    ) -> Append:
        """`calls` are what model calls cost; `at` is the time of it all."""
        now = at or utc_now()
        fence = self.last_seq
        new = None if self.created else NewSession(self.org_id, self.agent, "demo/scripted", self.title, "1@test")
        self.created = True
        events = [
            EventRow(self.session_id, fence + i + 1, "message.added", json_text.dumps(payload), now)
            for i, payload in enumerate(payloads)
        ]
        self.last_seq += len(events)
        entries = [AuditEntry("model", "completed", '{"ms":1.5}'), AuditEntry("tool", "completed", '{"ok":true}')]
        audit = [
            self.head.extend(entry, org_id=self.org_id, session_id=self.session_id, created_at=now) for entry in entries
        ]
        projection = Projection(
            status,
            "model-1",
            None,
            error,
            step_no,
            1,
            Usage(10, 20, 3, 4, 5),
            cost_usd,
            self.head.seq,
            self.head.hash,
            now,
        )
        return Append(
            session_id=self.session_id,
            owner_epoch=self.owner_epoch,
            last_seq=fence,
            events=tuple(events),
            projection=projection,
            audit=tuple(audit),
            tool_executions=tuple(executions),
            approvals_requested=tuple(requested),
            approvals_decided=tuple(decided),
            created=new,
            model_calls=tuple(self._call(fence + 1 + n, cost_usd, now) for n, cost_usd in enumerate(calls)),
            idempotency=idempotency,
            delivered=tuple(delivered),
        )

    def _call(self, seq: int, cost_usd: Decimal | None, at: str) -> ModelCallRow:
        return ModelCallRow(self.session_id, seq, self.org_id, "model-1", 10, 20, 3, 4, 5, cost_usd, at)

    def message(self, payload: str = '{"role":"user","content":"and then?"}') -> QueuedMessage:
        return QueuedMessage(new_id(), self.session_id, self.org_id, payload, utc_now())

    def file(self, name: str = "plot.png", content: bytes = b"\x89PNG\0\xff", call_id: str = "1.1") -> Stored:
        return stored_file(name, content, call_id)

    def execution(self, *, tool_name: str = "find", error: str | None = None) -> ToolExecutionRow:
        return ToolExecutionRow(
            id=new_id(),
            org_id=self.org_id,
            session_id=self.session_id,
            call_id="1.1",
            tool_name=tool_name,
            input='{"q":"dealers"}',
            output=None if error else '{"found":3}',
            execution_time_ms=1.25,
            success=error is None,
            error=error,
            created_at=utc_now(),
        )

    def approval(self, action: str | None = None) -> ApprovalRecord:
        arguments = '{"to":"a@example.com"}'
        digest = arguments_hash(self.session_id, 1, "1.1", "send_email", arguments, action)
        return ApprovalRecord(
            approval_id=new_id(),
            session_id=self.session_id,
            org_id=self.org_id,
            step_no=1,
            call_id="1.1",
            tool_name="send_email",
            arguments=arguments,
            arguments_hash=digest,
            status=ApprovalStatus.PENDING,
            requested_at=utc_now(),
            action=action,
        )


def decision(record: ApprovalRecord, status: ApprovalStatus = ApprovalStatus.APPROVED) -> ApprovalDecision:
    return ApprovalDecision(record.approval_id, status, utc_now(), "ann", "looks right")


def stored_file(name: str, content: bytes, call_id: str = "1.1") -> Stored:
    """A file as the first step of a session would store it."""
    digest = hashlib.sha256(content).hexdigest()
    return SessionFile(name, media_type_of(name), len(content), digest, utc_now(), 1, call_id), content
