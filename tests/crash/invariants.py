"""What holds for every session at every moment, however many processes have died over it.

Read from the database file and from the effects that tools left elsewhere; nothing of the product's own reading is
used but the arithmetic of the audit chain.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from conductor_ai.schemas.audit import AuditRow, ChainHead, first_break
from tests.crash.log_reader import LogReader

_STATUS_AFTER = {
    "session.created": "running",
    "session.resumed": "running",
    "session.paused": "paused",
    "approval.requested": "waiting_approval",
    "session.cancel_requested": "cancelling",
    "session.completed": "completed",
    "session.failed": "failed",
    "session.cancelled": "cancelled",
}
_AUDITED = ("session.created", "model.completed", "tool.completed", "approval.requested", "approval.decided")
_USAGE = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


@dataclass(frozen=True)
class Effect:
    """One run of one tool, as the tool itself wrote it down. `key` is the idempotency key of the call."""

    tool: str
    key: str
    pid: int


@dataclass(frozen=True)
class Fact:
    """One event. `text` is the payload as stored."""

    seq: int
    type: str
    text: str
    payload: dict[str, Any]


def violations(
    log: LogReader, effects: Sequence[Effect], *, guarded: Collection[str] = (), asking: Collection[str] = ()
) -> list[str]:
    """What is wrong with the sessions of a database, in words; empty where nothing is.

    `guarded` are the tools that may start only after a person's approval, `asking` those that ask before they act.
    """
    found: list[str] = []
    known: set[Effect] = set()
    for session in log.rows("SELECT * FROM sessions"):
        session_id = session["session_id"]
        facts = _facts(log, session_id)
        mine = [effect for effect in effects if effect.key.startswith(f"{session_id}:")]
        known |= set(mine)
        found += _order(facts, session)
        found += _projection(facts, session)
        found += _calls(facts, session)
        found += _intents(facts, session_id, mine)
        found += _approvals(facts, log, session_id, guarded)
        found += _words(facts, [effect for effect in mine if effect.tool in asking])
        found += _audit(facts, log, session)
        found += _executions(facts, log, session_id)
    return found + [f"{effect.tool} acted for no session: {effect.key}" for effect in effects if effect not in known]


def _facts(log: LogReader, session_id: str) -> list[Fact]:
    rows = log.rows("SELECT seq, type, payload FROM session_events WHERE session_id = ? ORDER BY seq", session_id)
    return [Fact(row["seq"], row["type"], row["payload"], json.loads(row["payload"])) for row in rows]


def _of(facts: Sequence[Fact], event_type: str) -> list[Fact]:
    return [fact for fact in facts if fact.type == event_type]


def _order(facts: Sequence[Fact], session: Any) -> Iterator[str]:
    seqs = [fact.seq for fact in facts]
    if seqs != list(range(1, len(seqs) + 1)):
        yield f"the log has a gap: {seqs}"
    if session["last_seq"] != len(seqs):
        yield f"the session says last_seq {session['last_seq']}, its log has {len(seqs)} events"
    if [fact.type for fact in facts[:1]] != ["session.created"] or len(_of(facts, "session.created")) != 1:
        yield "the log does not begin with one session.created"
    ended = [fact.seq for fact in facts if fact.type == "session.completed"]
    going_on = [fact.seq for fact in facts if fact.type in ("session.resumed", "message.added")]
    for seq in ended:
        if seq != len(facts) and seq + 1 not in going_on:
            yield f"the session went on after session.completed ({seq}) without being resumed"


def _projection(facts: Sequence[Fact], session: Any) -> Iterator[str]:
    statuses = [_STATUS_AFTER[fact.type] for fact in facts if fact.type in _STATUS_AFTER]
    if statuses and session["status"] != statuses[-1]:
        yield f"the session says {session['status']}, its log says {statuses[-1]}"
    steps = _of(facts, "model.completed")
    if [step.payload["step_no"] for step in steps] != list(range(1, len(steps) + 1)):
        yield f"a step is missing or stored twice: {[step.payload['step_no'] for step in steps]}"
    for name in _USAGE:
        total = sum(step.payload["usage"].get(name, 0) for step in steps)
        if session[name] != total:
            yield f"the session says {session[name]} {name}, its steps sum up to {total}"
    costs = [step.payload["cost_usd"] for step in steps]
    cost = None if None in costs else sum(map(Decimal, costs), Decimal(0))
    stored = session["cost_usd"]
    if (None if stored is None else Decimal(stored)) != cost:
        yield f"the session says it cost {stored}, its steps sum up to {cost}"


def _calls(facts: Sequence[Fact], session: Any) -> Iterator[str]:
    asked = Counter(call["call_id"] for step in _of(facts, "model.completed") for call in step.payload["tool_calls"])
    results = Counter(fact.payload["call_id"] for fact in _of(facts, "tool.completed"))
    for call_id, count in (asked | results).items():
        if asked[call_id] != 1:
            yield f"call {call_id} was asked for {asked[call_id]} times"
        if results[call_id] > 1 or (results[call_id] == 0 and session["status"] == "completed"):
            yield f"call {call_id} has {results[call_id]} results"
        elif count and results[call_id] == 0 and session["status"] in ("failed", "cancelled"):
            yield f"call {call_id} was left open"


def _intents(facts: Sequence[Fact], session_id: str, effects: Sequence[Effect]) -> Iterator[str]:
    intents = {fact.payload["idempotency_key"]: fact for fact in _of(facts, "tool.started")}
    yield from _repeated_intents(facts)
    runs = Counter(effect.key for effect in effects)
    for effect in effects:
        if effect.key not in intents:
            yield f"{effect.tool} acted without an intent in the log: {effect.key}"
    for key, intent in intents.items():
        if key != f"{session_id}:{intent.payload['call_id']}":
            yield f"the idempotency key of {intent.payload['call_id']} changed: {key}"
        if intent.payload["effect"] == "once" and runs[key] > 1:
            yield f"{intent.payload['name']} (once) ran {runs[key]} times: {key}"
    for done in _of(facts, "tool.completed"):
        key = f"{session_id}:{done.payload['call_id']}"
        started = intents.get(key)
        if done.payload["outcome"] in ("succeeded", "unknown") and (started is None or started.seq > done.seq):
            yield f"call {done.payload['call_id']} ended as {done.payload['outcome']} without an intent before it"
        if done.payload["outcome"] == "succeeded" and runs[key] == 0:
            yield f"call {done.payload['call_id']} is said to have succeeded and never ran"


def _repeated_intents(facts: Sequence[Fact]) -> Iterator[str]:
    """A call has a second intent only where its tool stopped to ask, and had to start again."""
    started: set[str] = set()
    for fact in facts:
        if fact.type == "approval.requested" and "action" in fact.payload:
            started.discard(fact.payload["call_id"])
        if fact.type == "tool.started":
            if fact.payload["call_id"] in started:
                yield "a call has two intents"
            started.add(fact.payload["call_id"])


def _words(facts: Sequence[Fact], effects: Sequence[Effect]) -> Iterator[str]:
    asked = {fact.payload["approval_id"] for fact in _of(facts, "approval.requested") if "action" in fact.payload}
    agreed = {
        fact.payload["call_id"]
        for fact in _of(facts, "approval.decided")
        if fact.payload["approval_id"] in asked and fact.payload["decision"] == "approved"
    }
    for effect in effects:
        if effect.key.rpartition(":")[2] not in agreed:
            yield f"{effect.tool} acted without a person's word: {effect.key}"


def _approvals(facts: Sequence[Fact], log: LogReader, session_id: str, guarded: Collection[str]) -> Iterator[str]:
    rows = log.rows("SELECT approval_id, status FROM approvals WHERE session_id = ?", session_id)
    stored = {row["approval_id"]: row["status"] for row in rows}
    told = dict.fromkeys((fact.payload["approval_id"] for fact in _of(facts, "approval.requested")), "pending")
    for fact in _of(facts, "approval.decided"):
        approval_id = fact.payload["approval_id"]
        if approval_id is None:
            continue
        if told.get(approval_id) != "pending" and fact.payload["decision"] != "void":
            yield f"approval {approval_id} was decided twice, or never asked for"
        told[approval_id] = fact.payload["decision"]
    if stored != told:
        yield f"the approvals are {stored}, the log says {told}"
    open_requests = Counter(
        (fact.payload["call_id"], fact.payload["arguments_hash"])
        for fact in _of(facts, "approval.requested")
        if told[fact.payload["approval_id"]] != "void"
    )
    for (call_id, _), count in open_requests.items():
        if count > 1:
            yield f"call {call_id} was put before a person {count} times"
    for intent in _of(facts, "tool.started"):
        if intent.payload["name"] in guarded and not _approved_before(facts, intent):
            yield f"call {intent.payload['call_id']} was started without an approval"


def _approved_before(facts: Sequence[Fact], intent: Fact) -> bool:
    decisions = [
        fact.payload["decision"]
        for fact in _of(facts, "approval.decided")
        if fact.payload["call_id"] == intent.payload["call_id"] and fact.seq < intent.seq
    ]
    return decisions[-1:] == ["approved"]


def _audit(facts: Sequence[Fact], log: LogReader, session: Any) -> Iterator[str]:
    rows = [
        AuditRow(*row)
        for row in log.rows(
            "SELECT id, org_id, session_id, category, action, metadata, created_at, chain_seq, prev_hash, hash"
            " FROM audit_logs WHERE session_id = ? ORDER BY chain_seq",
            session["session_id"],
        )
    ]
    broken = first_break(rows, ChainHead(session["audit_seq"], session["audit_head"]))
    if broken is not None:
        yield f"the audit chain breaks at {broken}"
    texts = {fact.seq: fact.text for fact in facts}
    named: Counter[int] = Counter()
    for row in rows:
        metadata = json.loads(row.metadata)
        seq = metadata.get("event_seq")
        if seq is None:
            continue
        named[seq] += 1
        if hashlib.sha256(texts.get(seq, "").encode()).hexdigest() != metadata["event_sha256"]:
            yield f"event {seq} is not the one that was audited"
    for fact in facts:
        if fact.type in _AUDITED and named[fact.seq] != 1:
            yield f"event {fact.seq} ({fact.type}) has {named[fact.seq]} audit rows"


def _executions(facts: Sequence[Fact], log: LogReader, session_id: str) -> Iterator[str]:
    rows = log.rows("SELECT call_id FROM tool_executions WHERE session_id = ?", session_id)
    stored = Counter(row["call_id"] for row in rows)
    # A call that stopped to ask has run, however far.
    begun = {fact.payload["call_id"] for fact in _of(facts, "approval.requested") if "action" in fact.payload}
    ran = Counter(
        fact.payload["call_id"]
        for fact in _of(facts, "tool.completed")
        if fact.payload["outcome"] not in ("not_run", "refused") or fact.payload["call_id"] in begun
    )
    if stored != ran:
        yield f"tool_executions has {dict(stored)}, the log says {dict(ran)}"
