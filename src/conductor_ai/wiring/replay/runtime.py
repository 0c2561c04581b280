"""A runtime whose models answer from a recording: no key, no network, no wait."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from conductor_ai.agents.state import StateManager
from conductor_ai.errors import InvalidInput
from conductor_ai.model_catalog import Catalog, ModelInfo
from conductor_ai.observability.redaction import Redactor
from conductor_ai.providers.base import Provider
from conductor_ai.providers.replay import ReplayProvider, Tape
from conductor_ai.providers.retries import RetryBudget
from conductor_ai.providers.scripted import Script
from conductor_ai.schemas.costs import CallCost
from conductor_ai.schemas.events import Event, EventType, ToolOutcome
from conductor_ai.schemas.exchanges import Recording, read_recording
from conductor_ai.schemas.messages import ModelResponse
from conductor_ai.sdk.base import BaseTool, ToolCategory, ToolDefinition, ToolEffect, ToolResult
from conductor_ai.settings import Settings
from conductor_ai.wiring.demo import demo_script
from conductor_ai.wiring.providers import Providers
from conductor_ai.wiring.replay.script import RecordedCall, ReplayScript, script_of
from conductor_ai.wiring.runtime import Runtime, open_states

_NO_ADDRESS = "http://replay.invalid/v1"
"""Of a local server that is never asked: adapters are made for what they encode. RFC 2606 keeps it from existing."""
_WITHOUT_END = 10_000
"""Attempts: how many there were is the recording's word."""


class ReplayProviders(Providers):
    """The adapters as encoders, each behind a provider that answers from `tape`."""

    def __init__(self, settings: Settings, script: Script, tape: Tape) -> None:
        super().__init__(settings.model_copy(update={"local_llm_base_url": _NO_ADDRESS}), script)
        self._tape = tape
        self._replaying: dict[int, ReplayProvider] = {}

    def of(self, model: ModelInfo) -> Provider:
        encoder = super().of(model)
        return self._replaying.setdefault(id(encoder), ReplayProvider(encoder, self._tape))


class ReplayingRuntime(Runtime):
    """`models` are the recorded ones, which come before those of the catalog."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        providers: ReplayProviders,
        states: StateManager,
        tape: Tape,
        models: dict[str, ModelInfo],
    ) -> None:
        super().__init__(settings, catalog, providers, states)
        self.tape = tape
        self._models = models

    @property
    def retry_budget(self) -> RetryBudget:
        return RetryBudget(attempts=_WITHOUT_END, wait_initial_s=0.0, wait_max_s=0.0)

    def model(self, model_id: str) -> ModelInfo:
        """Needs no key. Raises: UnknownModel, ModelForbidden."""
        return self._models.get(model_id) or self.catalog.get_model(model_id)

    def cost_usd(self, model: ModelInfo, response: ModelResponse) -> CallCost:
        """What the recording says that the call cost: prices of today are no part of what is replayed."""
        return self.tape.cost_of(response) or super().cost_usd(model, response)


class RecordedTool(BaseTool):
    """A tool that gives what the recording has. `served` gets the recorded outcome of each call that it is given, None
    for one that had no result."""

    def __init__(
        self, definition: ToolDefinition, calls: dict[str, RecordedCall], tape: Tape, served: dict[str, str | None]
    ) -> None:
        self._definition = definition
        self._calls = calls
        self._tape = tape
        self._served = served

    @property
    def definition(self) -> ToolDefinition:
        return self._definition

    def effect_of(self, arguments: dict[str, object]) -> ToolEffect:
        for call in self._calls.values():
            if call.name == self._definition.name and call.arguments == arguments and call.effect is not None:
                return call.effect
        return self._definition.effect

    async def run(self, arguments: dict[str, object]) -> ToolResult:
        name, call_id = self._definition.name, self.context.call_id
        call = self._calls.get(call_id)
        if call is None or call.name != name:
            return ToolResult(tool_name=name, success=False, error=f"the recording has no call {call_id} of {name}")
        outcome = None if call.completed is None else call.completed["outcome"]
        if call.ended:
            self._served[call_id] = outcome
            await self._tape.end(call.ended.pop(0))
        if call.completed is None:
            return ToolResult(tool_name=name, success=False, error=f"the recording has no result of {call_id}")
        self._served[call_id] = outcome
        label = call.completed.get("provenance")
        return ToolResult(
            tool_name=name,
            success=outcome == ToolOutcome.SUCCEEDED,
            result=call.completed["result"],
            error=call.completed["error"],
            source=None if label is None else label["source"],
        )


async def open_replaying(
    settings: Settings, script: ReplayScript, stack: AsyncExitStack, catalog: Catalog
) -> ReplayingRuntime:
    """A runtime that replays `script`, for one session, over a store that is gone once `stack` is closed: what is
    played is nobody's session, and no audit's business. `settings` say which secrets are hidden."""
    home = stack.enter_context(tempfile.TemporaryDirectory(prefix="conductor-replay-"))
    settings = settings.model_copy(
        update={"conductor_home": Path(home), "database_url": None, "supabase_db_url": None, "redis_url": None}
    )
    redactor = Redactor(settings.secrets())
    tape = Tape(script.answers, redactor.clean_log_json)
    providers = ReplayProviders(settings, demo_script, tape)
    stack.push_async_callback(providers.close)
    states = await open_states(settings, redactor, stack)
    return ReplayingRuntime(settings, catalog, providers, states, tape, script.models)


def script_in(path: str | Path) -> ReplayScript:
    """How to replay the session in a file. Raises: InvalidInput where it is missing or no recording."""
    return script_of(read_recording(path))


def recorded_definitions(recording: Recording, names: Sequence[str]) -> list[ToolDefinition]:
    """The tools of a session as they were; where it had no model call, as its log shows them. Raises: InvalidInput."""
    given, events = recording.tools, recording.events
    try:
        return [
            ToolDefinition.model_validate(given[name]) if name in given else definition_in(events, name)
            for name in names
        ]
    except ValueError as exc:
        raise InvalidInput(f"a tool of the recording cannot be read: {exc}") from exc


def definition_in(events: Sequence[Event], name: str) -> ToolDefinition:
    """A tool as its calls in a log show it."""
    effect: ToolEffect = "once"
    asks = outside = False
    for event in events:
        payload = event.payload
        if event.type is EventType.TOOL_STARTED and payload["name"] == name:
            effect = payload["effect"]
        elif event.type is EventType.TOOL_COMPLETED and payload["name"] == name:
            outside = outside or "provenance" in payload
        elif event.type is EventType.APPROVAL_REQUESTED and payload["tool_name"] == name:
            asks = asks or "action" not in payload
    return ToolDefinition(
        name=name,
        description="A tool of a recorded session.",
        category=ToolCategory.OTHER,
        parameters={"type": "object", "properties": {}},
        requires_approval=asks,
        effect=effect,
        untrusted_output=outside,
    )
