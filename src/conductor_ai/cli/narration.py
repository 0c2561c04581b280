"""A session's events in words: what happened, one line each, and what is going on now."""

from __future__ import annotations

from typing import Any, NamedTuple

from conductor_ai.cli.text import asker, json_line, milliseconds, money, one_line

_ARGUMENTS_WIDTH = 80
_SAID_WIDTH = 60
_OUTCOMES = {
    "succeeded": "done",
    "failed": "failed",
    "refused": "refused",
    "unknown": "outcome unknown",
    "not_run": "not run",
}


class Line(NamedTuple):
    """`style` is a Rich style, without meaning where there is no terminal."""

    text: str
    style: str = ""


class Narrator:
    """Follows one session's events. `activity` is what the session does now, "" where it does nothing."""

    def __init__(self) -> None:
        self.activity = ""
        self.failure_hint: str | None = None
        self.failure_resumable = False
        self._arguments: dict[str, str] = {}
        self._running: dict[str, str] = {}
        self._said = ""

    def lines(self, event: dict[str, Any]) -> list[Line]:
        """What to print for `event`; none for an event that needs no line."""
        payload = event["payload"]
        match event["type"]:
            case "model.started":
                self.activity, self._said = f"step {payload['step_no']}: {payload['model']} is thinking", ""
            case "model.delta":
                self._hear(payload)
            case "model.completed":
                return self._model_completed(payload)
            case "tool.started":
                return self._tool_started(payload)
            case "tool.progress":
                return [Line(f"  {self._running.get(payload['call_id'], 'tool')}: {one_line(payload['text'])}", "dim")]
            case "tool.completed":
                return self._tool_completed(payload)
            case "session.failed":
                self.failure_hint = payload["hint"]
                self.failure_resumable = payload["resumable"]
        return _plain_lines(event["type"], payload)

    def _hear(self, payload: dict[str, Any]) -> None:
        """A piece of an answer: what is being said moves along, its end in view."""
        if payload["kind"] in ("text", "reasoning"):
            self._said = (self._said + payload["text"])[-2 * _SAID_WIDTH :]
            self.activity = f"step {payload['step_no']}: {' '.join(self._said.split())[-_SAID_WIDTH:]}"
        elif payload["kind"] == "tool_call_start":
            self.activity = f"step {payload['step_no']}: writes a call of {payload['name']}"

    def _model_completed(self, payload: dict[str, Any]) -> list[Line]:
        self.activity = ""
        usage = payload["usage"]
        read = usage["input_tokens"] + usage["cache_read_tokens"] + usage["cache_write_tokens"]
        figures = (
            milliseconds(payload["duration_ms"]),
            f"{read:,} in + {usage['output_tokens']:,} out tokens",
            money(payload["cost_usd"]),
        )
        lines = [Line(f"step {payload['step_no']}  {payload['model']}  {'  '.join(figures)}", "cyan")]
        if payload["tool_calls"] and payload["content"].strip():
            lines.append(Line(f"  {one_line(payload['content'])}", "dim"))
        for call in payload["tool_calls"]:
            given = call["arguments"] if call["arguments"] is not None else call.get("raw_arguments")
            self._arguments[call["call_id"]] = json_line(given, _ARGUMENTS_WIDTH)
        return lines

    def _tool_started(self, payload: dict[str, Any]) -> list[Line]:
        self._running[payload["call_id"]] = payload["name"]
        self._say_what_runs(payload["step_no"])
        arguments = self._arguments.get(payload["call_id"], "")
        return [Line(f"step {payload['step_no']}  {payload['name']} {arguments}".rstrip())]

    def _tool_completed(self, payload: dict[str, Any]) -> list[Line]:
        self._running.pop(payload["call_id"], None)
        self._say_what_runs(payload["step_no"])
        outcome = payload["outcome"]
        arguments = one_line(self._arguments.get(payload["call_id"], ""), _ARGUMENTS_WIDTH // 2)
        call = f"{payload['name']} {arguments}".rstrip()
        said = f"step {payload['step_no']}  {call} {_OUTCOMES.get(outcome, outcome)}"
        if outcome == "succeeded":
            return [Line(f"{said}  {milliseconds(payload['execution_time_ms'])}", "green")]
        why = f": {one_line(without_label(payload['error']))}" if payload["error"] else ""
        return [Line(f"{said}{why}", "red")]

    def _say_what_runs(self, step_no: int) -> None:
        self.activity = f"step {step_no}: {', '.join(self._running.values())}" if self._running else ""


def _plain_lines(event_type: str, payload: dict[str, Any]) -> list[Line]:
    """The lines of events that say all there is to say of them."""
    match event_type:
        case "model.retrying":
            why = one_line(payload["message"])
            return [Line(f"step {payload['step_no']}  asks again in {payload['wait_s']:.1f} s: {why}", "yellow")]
        case "model.switched":
            why = one_line(payload["message"])
            return [Line(f"step {payload['step_no']}  {payload['to_model']} takes over: {why}", "yellow")]
        case "answer.rejected":
            why = one_line(payload["problem"])
            return [Line(f"step {payload['step_no']}  the answer was not taken: {why}", "yellow")]
        case "context.trimmed":
            return [Line(_trimmed(payload), "dim")]
        case "approval.requested":
            return [Line(f"step {payload['step_no']}  approval needed: {_asked(payload)}", "yellow")]
        case "approval.decided":
            return [Line(f"  {payload['tool_name']} {_decision(payload['decision'], payload['by'])}")]
        case "session.resumed":
            return [Line("resumed")]
    return []


def _trimmed(payload: dict[str, Any]) -> str:
    tokens = f"some {payload['prompt_tokens_before']:,} of {payload['context_window']:,} tokens"
    gone = f"results up to step {payload['results_through']}" if payload["results_through"] else "nothing"
    if payload["steps_through"]:
        gone = f"steps 1 to {payload['steps_through']}"
    return f"step {payload['step_no']}  prompt at {tokens}: {gone} left it, read_result brings them back"


def without_label(error: str) -> str:
    """The error of a call without the words that its outcome says already."""
    return error.replace(f"{_OUTCOMES['unknown']}: ", "")


def _asked(payload: dict[str, Any]) -> str:
    arguments = json_line(payload["arguments"], _ARGUMENTS_WIDTH)
    who = asker(payload["tool_name"], payload.get("action"))
    return f"{who}({arguments})" if "action" in payload else f"{who} {arguments}"


def _decision(decision: str, by: str) -> str:
    """Who decided; an approval given with `--approve` has no person to name, but says when it was given."""
    return one_line(by) if by.startswith(decision) else f"{decision} by {one_line(by)}"
