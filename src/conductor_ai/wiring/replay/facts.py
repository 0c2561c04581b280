"""What of a session's log must be the same in its replay: all but times, random words, and who did it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from conductor_ai.providers.replay import first_difference
from conductor_ai.schemas import json_text
from conductor_ai.schemas.events import Event, EventType, ToolOutcome
from conductor_ai.schemas.session import PauseReason
from conductor_ai.wiring.replay.script import FROM_OUTSIDE

_NOT_COMPARED = {
    EventType.MODEL_COMPLETED: ("duration_ms", "attempts", "unsettled_usd", "request_id"),
    EventType.MODEL_SWITCHED: ("unsettled_usd",),
    EventType.ANSWER_REJECTED: (),
    EventType.SESSION_COMPLETED: (),
}
_COMPARED = {
    EventType.SESSION_FAILED: ("code", "message"),
    EventType.APPROVAL_REQUESTED: ("call_id", "tool_name", "arguments"),
    EventType.APPROVAL_DECIDED: ("call_id", "tool_name", "decision", "reason"),
    EventType.SESSION_PAUSED: ("reason",),
    EventType.SESSION_CANCELLED: (),
}
_APPROVALS = (EventType.APPROVAL_REQUESTED, EventType.APPROVAL_DECIDED)
_BY_CIRCUMSTANCE = (ToolOutcome.UNKNOWN, ToolOutcome.NOT_RUN)


class Fact(NamedTuple):
    what: str
    data: dict[str, Any]


def facts_of(
    events: Sequence[Event], live: frozenset[str], served: Mapping[str, str | None] | None = None
) -> list[Fact]:
    """The facts of a log, in order; the results of one step are in the order of its calls.

    Args:
        live: The tools that really ran in the replay: what they asked inside their calls counts.
        served: In a replay, the recorded outcomes of the calls that the recording answered.
    """
    facts: list[Fact] = []
    results: dict[str, Fact] = {}
    left_out: set[str | None] = {None}
    """Approvals: of tools that were approved beforehand, and what was asked inside calls that do not run here."""
    served = served or {}
    for event in events:
        payload = event.payload
        if event.type is EventType.TOOL_COMPLETED:
            outcome = served.get(payload["call_id"], payload["outcome"])
            if outcome is not None:
                results[payload["call_id"]] = _result(payload, outcome)
            continue
        if event.type in _APPROVALS:
            if "action" in payload and payload["tool_name"] not in live:
                left_out.add(payload["approval_id"])
            if payload["approval_id"] in left_out or payload.get("decision") == "void":
                continue
        fact = _fact(event)
        if fact is not None:
            if event.type not in _APPROVALS:
                facts += [results.pop(call_id) for call_id in sorted(results)]
            facts.append(fact)
    return facts + [results[call_id] for call_id in sorted(results)]


def difference(recorded: Sequence[Fact], now: Sequence[Fact]) -> str | None:
    """The first difference in words, None where there is none."""
    for old, new in zip(recorded, now, strict=False):
        if old.what != new.what:
            return f"{new.what}: recorded is {old.what}"
        found = first_difference(old.data, new.data)
        if found is not None:
            return f"{old.what}: {found.removeprefix('.')}"
    if len(recorded) > len(now):
        return f"the replay ends before {recorded[len(now)].what}"
    return f"the replay goes on with {now[len(recorded)].what}" if len(now) > len(recorded) else None


def _fact(event: Event) -> Fact | None:
    payload, kind = event.payload, event.type
    if kind is EventType.MESSAGE_ADDED:
        images = [image["data"] for image in payload.get("images", ())]
        return Fact(f"a message of the {payload['role']}", {"content": payload["content"], "images": images})
    if kind is EventType.SESSION_PAUSED and payload["reason"] in FROM_OUTSIDE:
        return None
    if kind in _COMPARED:
        return Fact(_named(kind, payload), {name: payload[name] for name in _COMPARED[kind]})
    if kind in _NOT_COMPARED:
        left_out = _NOT_COMPARED[kind]
        return Fact(_named(kind, payload), {name: value for name, value in payload.items() if name not in left_out})
    return None


def _named(kind: EventType, payload: Mapping[str, Any]) -> str:
    step_no = payload.get("step_no")
    match kind:
        case EventType.MODEL_COMPLETED:
            return f"the model's answer of step {step_no}"
        case EventType.MODEL_SWITCHED:
            return f"the change of model in step {step_no}"
        case EventType.ANSWER_REJECTED:
            return f"the rejection of the answer of step {step_no}"
        case EventType.APPROVAL_REQUESTED:
            return f"the question about {payload['tool_name']} ({payload['call_id']})"
        case EventType.APPROVAL_DECIDED:
            return f"the decision over {payload['tool_name']} ({payload['call_id']})"
        case EventType.SESSION_PAUSED:
            return f"the pause by {PauseReason(payload['reason'])}"
    return f"the session's end: {kind.value.removeprefix('session.')}"


def _result(payload: Mapping[str, Any], outcome: str) -> Fact:
    label = payload.get("provenance")
    data = {
        "outcome": outcome,
        "result": json_text.plain(payload["result"]),
        # Why a call did not come to its end is told by what ended it, which may be another thing in a replay.
        "error": None if outcome in _BY_CIRCUMSTANCE else payload["error"],
        "source": None if label is None else label["source"],
    }
    return Fact(f"the result of {payload['name']} ({payload['call_id']})", data)
