"""Replaying a recorded session: the same loop over the recorded answers, offline, and whether it comes to the same.

replayed = replay_recording("0199.jsonl")
assert replayed.difference is None
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conductor_ai.agents.session_log import OnEvent
from conductor_ai.conductor import Conductor, StartRequest
from conductor_ai.errors import ConductorError, InvalidInput, ReplayDiffers
from conductor_ai.model_catalog import Catalog
from conductor_ai.providers.replay import Ended
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.exchanges import Recording, read_recording
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.sdk.base import BaseTool
from conductor_ai.settings import Settings
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.wiring.replay.facts import difference, facts_of
from conductor_ai.wiring.replay.runtime import RecordedTool, ReplayingRuntime, open_replaying, recorded_definitions
from conductor_ai.wiring.replay.script import Action, Cancel, Continue, Decide, ReplayScript, Resume, script_of


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay that ended. `difference` is the first one from the recording, in words; None where there is none.

    A recording that ends before its session stops is never without one: nobody knows how the session went on.
    """

    session: AgentSession
    difference: str | None
    served: Mapping[str, str | None] = field(default_factory=dict)
    """The recorded outcomes of the calls that were answered from the recording, by `call_id`."""

    @property
    def calls(self) -> list[tuple[str, dict[str, Any] | None, str | None]]:
        """Every tool call as name, arguments and outcome, in order."""
        calls = [call for step in self.session.steps for call in step.tool_calls]
        return [(call.name, call.arguments, self.served.get(call.call_id, call.outcome)) for call in calls]

    @property
    def models(self) -> list[str | None]:
        """The model of each step."""
        return [step.model for step in self.session.steps]


def replay_recording(path: str | Path, *, live: Sequence[BaseTool] = ()) -> Replayed:
    """Replay the session in a file; for programs without an event loop, such as tests.

    Args:
        live: Tools that really run, in place of what the recording has of them.
    Raises: InvalidInput for a file that is missing or no recording.
    """
    return asyncio.run(replay_session(read_recording(path), live=live))


async def replay_session(
    recording: Recording, *, live: Sequence[BaseTool] = (), on_event: OnEvent | None = None
) -> Replayed:
    """As `replay_recording`, in a store that is gone afterwards. Raises: InvalidInput."""
    for tool in live:
        if not isinstance(tool, BaseTool):
            raise InvalidInput(f"live takes tools, and {tool!r} is none")
    names = frozenset(tool.definition.name for tool in live)
    script = script_of(recording, names)
    async with AsyncExitStack() as stack:
        # Not from the environment: a replay comes to the same wherever it runs.
        runtime = await open_replaying(Settings.model_construct(), script, stack, Catalog.load())
        runtime.tape.is_watched = True
        replay = _Replay(recording, script, runtime, {tool.definition.name: tool for tool in live})
        return await replay.run(on_event)


@dataclass(slots=True)
class _Replay:
    recording: Recording
    script: ReplayScript
    runtime: ReplayingRuntime
    live: dict[str, BaseTool]
    served: dict[str, str | None] = field(default_factory=dict)

    async def run(self, on_event: OnEvent | None) -> Replayed:
        conductor = Conductor(
            self.runtime, self._registry(), self.runtime.catalog, default_model=lambda: str(self.script.config["model"])
        )
        try:
            session = await conductor.start(self._request())
            failed = await self._drive(conductor, session.session_id, on_event)
            if failed is not None:
                # Cut off at work: what it stored last may be on its way still, and a write comes after that.
                await self.runtime.store.append_org_audit(session.org_id, ())
            session = await conductor.session(session.session_id)
            now = await conductor.events(session.session_id)
        finally:
            await conductor.close()
        live, cut = frozenset(self.live), self.recording.cut
        recorded = facts_of(self.recording.events, live)
        found = failed or difference(recorded, facts_of(now, live, self.served))
        if cut is not None:
            found = cut if found is None else f"{found}; {cut}"
        return Replayed(session, found, self.served)

    def _registry(self) -> ToolRegistry:
        registry = ToolRegistry()
        wanted: list[str] = self.script.config["tools"]
        recorded = recorded_definitions(self.recording, [name for name in wanted if name not in self.live])
        for definition in recorded:
            registry.register(RecordedTool(definition, self.script.calls, self.runtime.tape, self.served))
        for tool in self.live.values():
            registry.register(tool)
        return registry

    def _request(self) -> StartRequest:
        config = self.script.config
        return StartRequest(
            messages=self.script.messages,
            models=[config["model"], *config.get("fallbacks", ())],
            tools=config["tools"],
            instructions=config["instructions"],
            # Nothing here waits, so no deadline is come to; where one was, the recording says.
            limits={**config["limits"], "deadline_s": None},
            parameters=config.get("parameters"),
            response_schema=config.get("response_schema"),
            pre_approved=config["pre_approved"],
        )

    async def _drive(self, conductor: Conductor, session_id: str, on_event: OnEvent | None) -> str | None:
        """Drive the session through all that people did with it. Returns: what kept it from going on."""
        try:
            await self._to_its_stop(conductor, session_id, conductor.run(session_id, on_event=on_event))
            for action in self.script.actions:
                await self._act(conductor, session_id, action, on_event)
        except ReplayDiffers as differs:
            return str(differs)
        except ConductorError as refused:
            return f"the replay cannot go on as the recording does: {refused}"
        return None

    async def _act(self, conductor: Conductor, session_id: str, action: Action, on_event: OnEvent | None) -> None:
        match action:
            case Resume(limits):
                work = conductor.resume(session_id, limits=_timeless(limits), on_event=on_event)
                await self._to_its_stop(conductor, session_id, work)
            case Continue(message, limits):
                work = conductor.continue_session(session_id, message, limits=_timeless(limits), on_event=on_event)
                await self._to_its_stop(conductor, session_id, work)
            case Decide():
                await _decide(conductor, session_id, action)
            case Cancel():
                await conductor.cancel(session_id)

    async def _to_its_stop(
        self, conductor: Conductor, session_id: str, work: Coroutine[Any, Any, AgentSession]
    ) -> None:
        """Await `work`; end the session where somebody ended the recorded one."""
        driving = asyncio.ensure_future(work)
        ending = asyncio.ensure_future(self.runtime.tape.came_to_end.wait())
        try:
            await asyncio.wait((driving, ending), return_when=asyncio.FIRST_COMPLETED)
            if not driving.done():
                self.runtime.tape.came_to_end.clear()
                if self.runtime.tape.ended is Ended.CANCELLED:
                    await conductor.cancel(session_id)
                else:
                    driving.cancel()
            await asyncio.wait((driving,))
        finally:
            ending.cancel()
            driving.cancel()
            await asyncio.wait((driving, ending))
        if not driving.cancelled():
            driving.result()


def _timeless(limits: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in limits.items() if name != "deadline_s"}


async def _decide(conductor: Conductor, session_id: str, action: Decide) -> None:
    session = await conductor.session(session_id)
    for approval in await conductor.approvals(session_id=session_id):
        if approval.call_id == action.call_id and session.status is SessionStatus.WAITING_APPROVAL:
            await conductor.decide(approval.approval_id, action.decision, by="replay", reason=action.reason)
            return
    raise ReplayDiffers(f"{action.call_id} waits for no approval; in the recording it was {action.decision}")
