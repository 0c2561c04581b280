"""One open call, run with all that a session gives it: context, audit, a person to ask, results to read back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from conductor_ai.agents.asking import CallApprover
from conductor_ai.agents.read_result import ResultReader, bind_reader
from conductor_ai.agents.replies import READ_RESULT_NAME
from conductor_ai.agents.session_files import StoredFiles
from conductor_ai.agents.session_log import SessionLog
from conductor_ai.agents.session_state import OpenCall
from conductor_ai.agents.tool_calls import Toolset, idempotency_key, provenance, run_tool, unknown_outcome
from conductor_ai.observability.audit import SessionSink, bind_sink
from conductor_ai.observability.values import record_json
from conductor_ai.schemas import json_text
from conductor_ai.schemas.events import EventType
from conductor_ai.schemas.messages import ToolCall
from conductor_ai.sdk.context import ToolContext
from conductor_ai.sdk.security.approval import bind_approver


async def run_call(log: SessionLog, toolset: Toolset, sink: SessionSink, open_call: OpenCall) -> None:
    """Run a call whose intent is stored, and hand its result to the store.

    A tool that stops to ask has no result, and starts again later; `OpenCall.to_ask` says what it asks.
    """
    call, step_no = open_call.call, log.state.step_no
    bound = toolset.get(call.name)
    assert bound is not None, "triage starts known tools only"
    assert open_call.effect is not None, "triage stored the intent"
    timeout_s = bound.definition.timeout_s or log.state.config.limits.tool_timeout_s
    facts: dict[str, Any] = {}
    approver = CallApprover(log, open_call)
    # What is on record is what the tool was given, whatever it makes of its copy.
    open_call.given = json_text.dumps(call.arguments)
    open_call.began = time.perf_counter()
    arguments = json_text.loads(open_call.given)
    context = _context(log, call, timeout_s, facts)
    try:
        with bind_sink(sink), bind_approver(approver), _reading(log, call) as reader:
            done = await run_tool(bound, call, arguments, context, timeout_s, open_call.effect)
    except asyncio.CancelledError:
        if open_call.effect == "once" and open_call.to_ask is None:
            done = unknown_outcome(step_no, call, "it was interrupted")
            if facts:
                done["facts"] = facts
            log.stage(EventType.TOOL_COMPLETED, done)
            log.commit()
        raise
    if approver.too_late is not None:
        done = unknown_outcome(step_no, call, approver.too_late)
    if open_call.to_ask is not None:
        if facts:
            open_call.to_ask["facts"] = facts
        return
    if facts:
        done["facts"] = facts
    if done["error"] is not None:
        done["error"] = log.redactor.clean_log(done["error"])  # it may name a URL with a password in it
    if reader is not None and reader.label is not None:
        done["provenance"] = provenance(reader.label["tool"], reader.label["source"])
    log.stage(EventType.TOOL_COMPLETED, done)
    log.commit()


def _context(log: SessionLog, call: ToolCall, timeout_s: float, facts: dict[str, Any]) -> ToolContext:
    return ToolContext(
        log.state.config.org_id,
        log.session_id,
        log.state.step_no,
        call.call_id,
        idempotency_key(log.session_id, call),
        datetime.now(UTC) + timedelta(seconds=timeout_s),
        lambda text: log.tell_live("tool.progress", {"call_id": call.call_id, "text": text}),
        lambda given: facts.update(json_text.loads(record_json(given))),
        StoredFiles(log, call.call_id, facts),
    )


@contextmanager
def _reading(log: SessionLog, call: ToolCall) -> Iterator[ResultReader | None]:
    """Its session's log, for the one tool that reads it."""
    if call.name != READ_RESULT_NAME:
        yield None
        return
    reader = ResultReader(log)
    with bind_reader(reader):
        yield reader
