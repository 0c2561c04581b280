"""Recordings: what went between a session and its models, one JSON object a line, enough to run the session again.

The first line says what the file is, the others stand in the order in which things happened: `models` and `tools` as
they were, each `exchange` with a model, each `event` of the session's log. Nobody's name is in it: no org, no person.
Whoever writes one takes the secrets out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from conductor_ai.errors import InvalidInput, ProviderError
from conductor_ai.schemas import json_text
from conductor_ai.schemas.events import Event, EventType
from conductor_ai.schemas.messages import ModelResponse, StopReason, ToolCall, WireTurn
from conductor_ai.schemas.usage import Usage, money_text

FORMAT = 1
SUFFIX = ".jsonl"

_OTHER_ORG = "default"
_SOMEBODY = "somebody"
_A_TURN = b"null]}"
_BEGINS = (EventType.SESSION_CREATED, EventType.SESSION_RESUMED, EventType.SESSION_CANCEL_REQUESTED)
_STOPS = (
    EventType.SESSION_COMPLETED,
    EventType.SESSION_FAILED,
    EventType.SESSION_CANCELLED,
    EventType.SESSION_PAUSED,
    EventType.APPROVAL_REQUESTED,
)


class Exchange(NamedTuple):
    """One attempt of one model call: what was sent, and what came back, of `response` and `error` one.

    `head` and `turns` are the request's JSON; None where the recording has answers only. A turn that its wire says in
    several messages is the list of them.
    """

    step_no: int
    attempt: int
    model: str
    provider: str
    head: Any
    turns: tuple[Any, ...] | None
    response: ModelResponse | None
    error: ProviderError | None


Happened: TypeAlias = Exchange | Event


@dataclass(slots=True)
class Recording:
    """One recorded session. `models` and `tools` are JSON data by id and by name; `happened` is in order."""

    session_id: str
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    happened: list[Happened] = field(default_factory=list)
    ends_in_a_line: bool = False
    """Behind the last whole line there is something that is none."""

    @property
    def events(self) -> list[Event]:
        return [item for item in self.happened if isinstance(item, Event)]

    @property
    def cut(self) -> str | None:
        """That the recording ends too early, in words; None where it ends as its session stops."""
        turning = [event.type for event in self.events if event.type in (*_BEGINS, *_STOPS)]
        if not turning or turning[-1] not in _STOPS:
            why = "it still runs, its process died, or the file was cut"
            return f"the recording ends in the middle of its session: {why}"
        if self.ends_in_a_line:
            return "the last line of the recording is not whole: its process died, or the file was damaged"
        return None


def first_line(session_id: str, recorded_at: str, version: str) -> str:
    return json_text.dumps(
        {
            "kind": "recording",
            "format": FORMAT,
            "conductor_ai": version,
            "recorded_at": recorded_at,
            "session_id": session_id,
        }
    )


def models_line(models: Iterable[Any]) -> str:
    return json_text.dumps({"kind": "models", "models": list(models)})


def tools_line(tools: Iterable[Any]) -> str:
    return json_text.dumps({"kind": "tools", "tools": list(tools)})


def event_line(seq: int, event_type: str, payload: str, created_at: str) -> str:
    """`payload` is JSON text, as the store has it."""
    data: Any = json_text.Fragment(payload)
    if event_type in _WITH_NAMES:
        data = _without_names(json_text.loads(payload))
    return json_text.dumps({"kind": "event", "seq": seq, "type": event_type, "payload": data, "created_at": created_at})


def exchange_line(
    step_no: int,
    attempt: int,
    model: str,
    provider: str,
    head: bytes | None,
    kept_turns: int,
    new_turns: Iterable[bytes],
    answer: ModelResponse | ProviderError,
) -> str:
    """`head` is None where it is that of the exchange before; of whose turns the first `kept_turns` were sent again.

    A turn is written as the list of its messages: some wires say it in several, with commas between them.
    """
    data: dict[str, Any] = {
        "kind": "exchange",
        "step_no": step_no,
        "attempt": attempt,
        "model": model,
        "provider": provider,
    }
    if head is not None:
        data["head"] = head_data(head)
    data["kept_turns"] = kept_turns
    data["turns"] = [json_text.Fragment(b"[" + turn + b"]") for turn in new_turns]
    if isinstance(answer, ProviderError):
        data["error"] = _error_data(answer)
    else:
        data["response"] = _response_data(answer)
    return json_text.dumps(data)


def head_data(head: bytes) -> Any:
    """The unchanging part of a request as JSON data, the list that the turns go into as far as it goes.

    A head ends within that list, behind its opening or a comma; that of a provider without a wire is whole.
    Raises: ValueError.
    """
    try:
        data = json_text.loads(head + _A_TURN)
    except ValueError:
        return json_text.loads(head)
    for value in data.values():
        if isinstance(value, list) and value and value[-1] is None:
            value.pop()
    return data


def turn_data(messages: Any) -> Any:
    """A turn, of which `messages` is the list, as it is compared: nearly every turn is one message."""
    return messages[0] if isinstance(messages, list) and len(messages) == 1 else messages


def read_recording(path: str | Path) -> Recording:
    """Raises: InvalidInput for a file that cannot be read, or is no recording, naming the line."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as exc:
        # Whoever replays a test that was exported sees no hint.
        message = f"the recording {path} is missing: export its session again"
        raise InvalidInput(message, hint="conductor sessions export ID --as pytest --out DIR") from exc
    except OSError as exc:
        raise InvalidInput(f"the recording {path} cannot be read: {exc.strerror}") from exc
    return recording_of(data, str(path))


def recording_of(data: bytes, where: str) -> Recording:
    """The recording in `data`, which is called `where`. Raises: InvalidInput."""
    lines = data.split(b"\n")
    rest = lines.pop()  # empty, or the beginning of a line that a dying process did not finish
    recording = _begun(lines[0] if lines else b"", where)
    recording.ends_in_a_line = rest != b""
    reader = _Reader(recording)
    for number, line in enumerate(lines[1:], 2):
        try:
            reader.take(json_text.loads(line))
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, IndexError) as exc:
            raise InvalidInput(f"{where} line {number} cannot be read: {exc!r}") from exc
    kinds = [event.type for event in recording.events]
    if kinds[:1] != [EventType.SESSION_CREATED] or EventType.MESSAGE_ADDED not in kinds:
        raise InvalidInput(f"{where} does not hold the beginning of a session")
    return recording


def _begun(line: bytes, where: str) -> Recording:
    try:
        first = json_text.loads(line)
        kind, session_id, version = first["kind"], first["session_id"], first["format"]
    except (KeyError, TypeError, ValueError) as exc:
        raise InvalidInput(f"{where} is not a recording of a session") from exc
    if kind != "recording":
        raise InvalidInput(f"{where} is not a recording of a session")
    if version != FORMAT:
        raise InvalidInput(f"{where} has format {version}, and this version reads {FORMAT}")
    return Recording(session_id)


class _Reader:
    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._head: Any = None
        self._turns: tuple[Any, ...] = ()
        self._seq = 0

    def take(self, line: dict[str, Any]) -> None:
        recording = self._recording
        match line["kind"]:
            case "models":
                recording.models |= {model["id"]: model for model in line["models"]}
            case "tools":
                recording.tools |= {tool["name"]: tool for tool in line["tools"]}
            case "exchange":
                recording.happened.append(self._exchange(line))
            case "event" if line["seq"] > self._seq:
                self._seq = line["seq"]
                kind = EventType(line["type"])
                recording.happened.append(
                    Event(recording.session_id, self._seq, kind, line["payload"], line["created_at"])
                )

    def _exchange(self, line: dict[str, Any]) -> Exchange:
        self._head = line.get("head", self._head)
        self._turns = (*self._turns[: line["kept_turns"]], *map(turn_data, line["turns"]))
        response, error = line.get("response"), line.get("error")
        return Exchange(
            line["step_no"],
            line["attempt"],
            line["model"],
            line["provider"],
            self._head,
            self._turns,
            None if response is None else _response(response),
            None if error is None else _error(error),
        )


def lines_of_events(events: Iterable[Event]) -> Iterator[str]:
    for event in events:
        yield event_line(event.seq, event.type.value, json_text.dumps(event.payload), event.created_at)


def _without_names(payload: dict[str, Any]) -> dict[str, Any]:
    named = {"org_id": _OTHER_ORG, "by": _SOMEBODY}
    payload = {name: named.get(name, value) for name, value in payload.items()}
    payload.pop("facts", None)  # for the audit, which knows of more than the session does
    return payload


_WITH_NAMES = (
    EventType.SESSION_CREATED,
    EventType.TOOL_COMPLETED,
    EventType.APPROVAL_REQUESTED,
    EventType.APPROVAL_DECIDED,
    EventType.SESSION_CANCEL_REQUESTED,
)


def _response_data(response: ModelResponse) -> dict[str, Any]:
    data: dict[str, Any] = {
        "content": response.content,
        "tool_calls": [_call_data(call) for call in response.tool_calls],
        "stop_reason": response.stop_reason.value,
        "usage": None if response.usage is None else response.usage.to_dict(),
        "wire": {"provider": response.wire.provider, "turn": json_text.Fragment(response.wire.json)},
        "answered_by": response.answered_by,
    }
    if response.reasoning:
        data["reasoning"] = response.reasoning
    if response.billed_cost_usd is not None:
        data["billed_cost_usd"] = money_text(response.billed_cost_usd)
    for name in ("request_id", "host"):
        if (value := getattr(response, name)) is not None:
            data[name] = value
    return data


def _call_data(call: ToolCall) -> dict[str, Any]:
    return {name: value for name, value in call._asdict().items() if value is not None and name != "call_id"}


def _response(data: Mapping[str, Any]) -> ModelResponse:
    billed = data.get("billed_cost_usd")
    return ModelResponse(
        content=data["content"],
        tool_calls=tuple(tool_call(call) for call in data["tool_calls"]),
        stop_reason=StopReason(data["stop_reason"]),
        usage=None if data["usage"] is None else Usage(**data["usage"]),
        wire=wire_turn(data["wire"]),
        answered_by=data["answered_by"],
        reasoning=data.get("reasoning", ""),
        billed_cost_usd=None if billed is None else Decimal(billed),
        request_id=data.get("request_id"),
        host=data.get("host"),
    )


def tool_call(data: Mapping[str, Any], provider: str | None = None) -> ToolCall:
    """A call as a provider gives it, without a number of ours."""
    return ToolCall(
        "",
        data["name"],
        data.get("arguments"),
        data.get("raw_arguments"),
        data.get("provider_call_id"),
        data.get("provider", provider),
    )


def wire_turn(data: Mapping[str, Any]) -> WireTurn:
    return WireTurn(data["provider"], json_text.exact(json_text.wire_dumps(data["turn"])))


def _error_data(error: ProviderError) -> dict[str, Any]:
    return {
        "code": error.code,
        "message": str(error),
        "hint": error.hint,
        "provider": error.provider,
        "model": error.model,
        "status": error.status,
        "request_id": error.request_id,
        "retry_after_s": error.retry_after_s,
        "answering": error.answering,
        "sent": error.sent,
        "retryable": error.retryable,
        "billed_cost_usd": None if error.billed_cost_usd is None else money_text(error.billed_cost_usd),
    }


def _error(data: Mapping[str, Any]) -> ProviderError:
    known = ("provider", "model", "status", "request_id", "hint", "retry_after_s", "answering", "sent", "retryable")
    facts = {name: data[name] for name in known}
    billed = data["billed_cost_usd"]
    return provider_error(
        data["code"], data["message"], billed_cost_usd=None if billed is None else Decimal(billed), **facts
    )


def provider_error(code: str, message: str, **facts: Any) -> ProviderError:
    """An error of the class with this code, of a class that is not known any more one of ProviderError itself."""
    return _class_of(ProviderError, code)(message, **facts)


def _class_of(base: type[ProviderError], code: str) -> type[ProviderError]:
    for kind in base.__subclasses__():
        if kind.code == code:
            return kind
        found = _class_of(kind, code)
        if found is not ProviderError:
            return found
    return ProviderError
