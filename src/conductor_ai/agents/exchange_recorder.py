"""Writes recordings: what sessions and their models say to each other, one file per session, off the loop.

The loop hands over what it has anyway; a thread makes text of it, takes the secrets out and writes. No address and no
header of a request is in it: it is recorded above the wire.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from conductor_ai.errors import InvalidInput, ProviderError
from conductor_ai.observability.redaction import Redactor
from conductor_ai.providers.base import HeadSpec, ModelRequest, Provider
from conductor_ai.schemas import exchanges, json_text
from conductor_ai.schemas.deltas import Delta
from conductor_ai.schemas.events import EventType
from conductor_ai.schemas.ids import utc_now
from conductor_ai.schemas.messages import Message, ModelResponse
from conductor_ai.sdk.base import ToolDefinition
from conductor_ai.storage.base import EventRow

_logger = logging.getLogger(__name__)

_STOPS = (
    EventType.SESSION_COMPLETED,
    EventType.SESSION_FAILED,
    EventType.SESSION_CANCELLED,
    EventType.SESSION_PAUSED,
)

_OWN_FILE = os.O_NOFOLLOW | os.O_CLOEXEC
"""A link that somebody else put there is not followed."""

DescribeModels = Callable[[Sequence[str]], list[Any]]
"""What is known of models, by their ids, as JSON data."""


class Attempt(NamedTuple):
    """One attempt of a model call, as the loop hands it over."""

    session_id: str
    step_no: int
    attempt: int
    model: str
    provider: str
    head: bytes
    tools: tuple[ToolDefinition, ...]
    turns: tuple[bytes, ...]
    answer: ModelResponse | ProviderError


@dataclass(slots=True)
class _Tape:
    """The file of one session while it is written. `last_seq` is the newest event in it."""

    path: Path
    begun: bool
    last_seq: int = 0
    models: set[str] = field(default_factory=set)
    head: bytes | None = None
    turns: tuple[bytes, ...] = ()


class ExchangeRecorder:
    """Records into `folder`, one file per session. `describe` is asked for each model that a session names.

    Where a file cannot be written, that is logged once and nothing is recorded any more: sessions go on.
    """

    def __init__(self, folder: Path, redactor: Redactor, describe: DescribeModels) -> None:
        self._folder = folder
        self._redactor = redactor
        self._describe = describe
        self._tapes: dict[str, _Tape] = {}
        self._broken = False
        self._closed = False
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="conductor-recorder")

    @classmethod
    def into(cls, folder: Path, redactor: Redactor, describe: DescribeModels) -> ExchangeRecorder:
        """As made, with its folder there. It touches the disk. Raises: InvalidInput where nothing can be recorded."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise InvalidInput(f"nothing can be recorded in {folder}: {exc.strerror}") from exc
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InvalidInput(f"nothing can be recorded in {folder}: it cannot be written to")
        return cls(folder, redactor, describe)

    def attempt(self, made: Attempt) -> None:
        """Record one attempt of a model call; returns at once."""
        self._hand_over(self._write_attempt, made)

    def events(self, rows: Sequence[EventRow]) -> None:
        """Record events of one session, in order; those that are recorded already are left out. Returns at once."""
        self._hand_over(self._write_events, rows)

    def flush(self) -> None:
        """Return once all that was handed over is in its files. Waits: not for the loop."""
        if not self._closed:
            self._writer.submit(lambda: None).result()

    def close(self) -> None:
        """Write what was handed over, and end; what comes later is not recorded. Waits: not for the loop."""
        self._closed = True
        self._writer.shutdown()

    def _hand_over(self, write: Callable[[Any], None], item: Any) -> None:
        if not self._broken and not self._closed:
            self._writer.submit(self._guarded, write, item)

    def _guarded(self, write: Callable[[Any], None], item: Any) -> None:
        if self._broken:
            return
        try:
            write(item)
        except OSError as exc:
            self._broken = True
            _logger.warning("recording has stopped, the sessions go on: %s: %s", exc.filename, exc.strerror)
        except Exception:  # the edge of the thread: nobody waits for what it does
            self._broken = True
            _logger.exception("recording has stopped, the sessions go on")

    def _write_attempt(self, made: Attempt) -> None:
        tape = self._tape(made.session_id)
        lines: list[str] = []
        head = None
        if made.head != tape.head:
            tape.head = head = made.head
            lines.append(exchanges.tools_line(tool.model_dump(mode="json") for tool in made.tools))
        kept = 0
        for before, now in zip(tape.turns, made.turns, strict=False):
            if before is not now and before != now:
                break
            kept += 1
        tape.turns = made.turns
        lines.append(
            exchanges.exchange_line(
                made.step_no,
                made.attempt,
                made.model,
                made.provider,
                head,
                kept,
                made.turns[kept:],
                made.answer,
            )
        )
        self._write(tape, lines)

    def _write_events(self, rows: Sequence[EventRow]) -> None:
        tape = self._tape(rows[0].session_id)
        if rows[0].seq > tape.last_seq + 1:
            # A decision over a session that this process does not drive: who drives it hands over the whole log.
            return
        lines: list[str] = []
        for row in rows:
            if row.seq <= tape.last_seq:
                continue
            tape.last_seq = row.seq
            models = [name for name in _models_of(row) if name not in tape.models]
            if models:
                tape.models.update(models)
                lines.append(exchanges.models_line(self._describe(models)))
            lines.append(exchanges.event_line(row.seq, row.type, row.payload, row.created_at))
        self._write(tape, lines)
        if rows[-1].type in _STOPS:
            del self._tapes[tape.path.stem]  # its turns need not be kept; whoever goes on finds the file

    def _tape(self, session_id: str) -> _Tape:
        tape = self._tapes.get(session_id)
        if tape is None:
            path = self._folder / f"{session_id}{exchanges.SUFFIX}"
            tape = self._tapes[session_id] = _Tape(path, begun=path.exists())
            if tape.begun:
                _take_up(tape)
        return tape

    def _write(self, tape: _Tape, lines: list[str]) -> None:
        if not lines:
            return
        if not tape.begun:
            from importlib.metadata import version  # dear, and only recordings need it

            lines = [exchanges.first_line(tape.path.stem, utc_now(), version("conductor-ai")), *lines]
            tape.begun = True
        text = "".join(f"{self._redactor.clean_log_json(line)}\n" for line in lines)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _OWN_FILE
        with os.fdopen(os.open(tape.path, flags, 0o600), "ab") as file:
            file.write(text.encode(errors="surrogatepass"))


def _take_up(tape: _Tape) -> None:
    """Find out where a recording ends. A line that a dying process did not finish is cut off."""
    with os.fdopen(os.open(tape.path, os.O_RDWR | _OWN_FILE), "r+b") as file:
        data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            file.truncate(len(whole))
    for line in whole.splitlines():
        if line.startswith(b'{"kind":"event"'):
            tape.last_seq = max(tape.last_seq, json_text.loads(line)["seq"])


def _models_of(row: EventRow) -> list[str]:
    if row.type == EventType.SESSION_CREATED:
        payload = json_text.loads(row.payload)
        return [payload["model"], *payload.get("fallbacks", ())]
    if row.type == EventType.MODEL_SWITCHED:
        return [json_text.loads(row.payload)["to_model"]]
    return []


class Asked(Protocol):
    """What answers calls: the asking half of `Provider`."""

    async def complete(self, request: ModelRequest) -> ModelResponse: ...

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | ModelResponse]: ...


class _Head(bytes):
    """An encoded head with what it was encoded from: the tools, for the recording, and the provider's own head."""

    own: bytes
    tools: tuple[ToolDefinition, ...] = ()


class RecordedProvider:
    """The provider `inner`, whose answers to the calls of a session are recorded."""

    def __init__(self, inner: Provider, recorder: ExchangeRecorder) -> None:
        self._inner = inner
        self._recorder = recorder

    @property
    def name(self) -> str:
        return self._inner.name

    def encode_head(self, spec: HeadSpec) -> bytes:
        own = self._inner.encode_head(spec)
        head = _Head(own)
        head.own, head.tools = own, spec.tools
        return head

    def encode_turn(self, message: Message) -> bytes:
        return self._inner.encode_turn(message)

    async def complete(self, request: ModelRequest) -> ModelResponse:
        return await self._inner.complete(_sent(request))

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | ModelResponse]:
        return self._inner.stream(_sent(request))

    def during(self, session_id: str, step_no: int) -> Asked:
        """The same for the attempts of one call, which are recorded."""
        return _RecordedCall(self._inner, self._recorder, session_id, step_no)


class _RecordedCall:
    def __init__(self, inner: Provider, recorder: ExchangeRecorder, session_id: str, step_no: int) -> None:
        self._inner = inner
        self._recorder = recorder
        self._session_id = session_id
        self._step_no = step_no
        self._attempt = 0

    async def complete(self, request: ModelRequest) -> ModelResponse:
        self._attempt += 1
        try:
            response = await self._inner.complete(_sent(request))
        except ProviderError as error:
            self._record(request, error)
            raise
        self._record(request, response)
        return response

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | ModelResponse]:
        self._attempt += 1
        async with aclosing(self._inner.stream(_sent(request))) as stream:
            try:
                async for item in stream:
                    if isinstance(item, ModelResponse):
                        self._record(request, item)
                    yield item
            except ProviderError as error:
                self._record(request, error)
                raise

    def _record(self, request: ModelRequest, answer: ModelResponse | ProviderError) -> None:
        head = request.head
        self._recorder.attempt(
            Attempt(
                self._session_id,
                self._step_no,
                self._attempt,
                request.model,
                self._inner.name,
                head,
                head.tools if isinstance(head, _Head) else (),
                tuple(request.turns),
                answer,
            )
        )


def _sent(request: ModelRequest) -> ModelRequest:
    """The request with the head that its provider knows."""
    head = request.head
    return request._replace(head=head.own) if isinstance(head, _Head) else request
