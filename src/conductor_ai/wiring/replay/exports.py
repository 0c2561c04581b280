"""Exporting a stored session: as the log that it is, or as a test that replays it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from conductor_ai.conductor import Conductor
from conductor_ai.errors import InvalidInput, UsageError
from conductor_ai.model_catalog import Catalog, ModelInfo, ModelProvider
from conductor_ai.observability.redaction import Redactor
from conductor_ai.schemas import exchanges, json_text
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.events import Event, EventType
from conductor_ai.schemas.ids import utc_now
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.sdk.base import ToolDefinition
from conductor_ai.settings import Settings
from conductor_ai.wiring.recording import models_data
from conductor_ai.wiring.replay.runtime import definition_in
from conductor_ai.wiring.replay.session import Replayed, replay_session
from conductor_ai.wiring.replay.source import test_text

_SHORT = 8
_BY_TEXT = "+text"


@dataclass(frozen=True, slots=True)
class ExportedTest:
    """The files of a test, by name, and the replay that they were checked by."""

    files: dict[str, str]
    replayed: Replayed

    def write(self, folder: Path, *, force: bool = False) -> list[Path]:
        """Write the files, which must be new but for `force`; the recording is its owner's alone, as it holds the whole
        conversation. Raises: InvalidInput where that cannot be, OSError."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise InvalidInput(f"nothing can be exported to {folder}: {exc.strerror}") from exc
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InvalidInput(f"nothing can be exported to {folder}: it cannot be written to")
        paths = [folder / name for name in self.files]
        for path in paths:
            if path.exists() and not force:
                raise InvalidInput(f"{path} is there already", hint="--force writes over it")
        for path, text in zip(paths, self.files.values(), strict=True):
            if path.suffix == exchanges.SUFFIX:
                path.touch(mode=0o600)
                path.chmod(0o600)  # where it was there
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
        return paths


async def export_log(settings: Settings, conductor: Conductor, session_id: str) -> str:
    """The session with its log, as JSON text without secrets. Raises: SessionNotFound."""
    session = await conductor.session(session_id)
    events = await conductor.events(session_id)
    data = {"session": session.to_dict(), "events": [event.to_dict() for event in events]}
    return Redactor(settings.secrets()).clean_log_json(json_text.dumps(data))


async def export_test(settings: Settings, conductor: Conductor, session_id: str) -> ExportedTest:
    """A test that replays the session, and has just done so; without secrets.

    Raises: SessionNotFound; InvalidInput where the session cannot be replayed, with the reason.
    """
    session = await conductor.session(session_id)
    if session.status in (SessionStatus.RUNNING, SessionStatus.QUEUED, SessionStatus.CANCELLING):
        raise InvalidInput(f"session {session_id} is {session.status}", hint="export it once it has stopped")
    events = await conductor.events(session_id)
    redactor = Redactor(settings.secrets())
    models = models_data(_models(Catalog.load(settings.models_file), events))
    # Tools as they are now or, where the session knew them otherwise, as far as its log tells.
    for known in (conductor.tools(), ()):
        tools = [tool.model_dump(mode="json") for tool in _definitions(events, known)]
        lines = [
            exchanges.first_line(session_id, utc_now(), version("conductor-ai")),
            exchanges.models_line(models),
            exchanges.tools_line(tools),
            *exchanges.lines_of_events(events),
        ]
        text = "".join(f"{redactor.clean_log_json(line)}\n" for line in lines)
        recording = exchanges.recording_of(text.encode(errors="surrogatepass"), f"the export of {session_id}")
        replayed = await replay_session(recording)
        if replayed.difference is None:
            return _test(session, text, replayed)
    raise InvalidInput(f"session {session_id} cannot be replayed from its log: {replayed.difference}")


def _test(session: AgentSession, recording: str, replayed: Replayed) -> ExportedTest:
    name = f"test_session_{session.session_id[-_SHORT:]}"
    source = test_text(session.session_id, replayed)
    return ExportedTest({f"{name}.py": source, f"{name}{exchanges.SUFFIX}": recording}, replayed)


def _models(catalog: Catalog, events: Sequence[Event]) -> list[ModelInfo]:
    """Every model that the session names; one that nobody knows any more as far as the log tells."""
    config = events[0].payload
    wires = {
        event.payload["model"]: event.payload["wire"]["provider"]
        for event in events
        if event.type is EventType.MODEL_COMPLETED
    }
    named = [config["model"], *config.get("fallbacks", ()), *wires]
    named += [event.payload["to_model"] for event in events if event.type is EventType.MODEL_SWITCHED]
    return [_model(catalog, model_id, wires.get(model_id, "")) for model_id in dict.fromkeys(named)]


def _model(catalog: Catalog, model_id: str, wire: str) -> ModelInfo:
    try:
        return catalog.get_model(model_id)
    except UsageError:
        served_by = wire.removesuffix(_BY_TEXT) or ModelProvider.OPENROUTER
        return ModelInfo(
            id=model_id,
            provider=ModelProvider(served_by),
            wire_id=model_id,
            name=model_id,
            native_tools=not wire.endswith(_BY_TEXT),
        )


def _definitions(events: Sequence[Event], known: Iterable[ToolDefinition]) -> list[ToolDefinition]:
    by_name = {tool.name: tool for tool in known}
    return [by_name.get(name) or definition_in(events, name) for name in events[0].payload["tools"]]
