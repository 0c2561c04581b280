"""The sessions that one runner holds: how each is claimed, made to run, and let go of."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakValueDictionary

from conductor_ai.agents import limits as limit_checks
from conductor_ai.agents.closing import close_open_calls
from conductor_ai.agents.drive import Drive
from conductor_ai.agents.heads import Heads
from conductor_ai.agents.images import fetched
from conductor_ai.agents.models import Lineup, ReadyModel, others_than
from conductor_ai.agents.profile import require_vision
from conductor_ai.agents.runtime import Runtime
from conductor_ai.agents.session_log import OnEvent, SessionLog
from conductor_ai.agents.session_state import SessionConfig, message_added
from conductor_ai.agents.tool_calls import Toolset
from conductor_ai.errors import InvalidTransition, SessionBusy, SessionNotFound, UnknownTool, UsageError
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.events import EventType, SessionResumed
from conductor_ai.schemas.messages import Message
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.storage.base import IdempotencyMark

FINAL = (SessionStatus.COMPLETED, SessionStatus.CANCELLED)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claiming:
    """How a session is taken up: `limits` replaces some of its limits, `by` names who asks for it."""

    limits: Mapping[str, Any] = field(default_factory=dict)
    by: str | None = None
    on_event: OnEvent | None = None


class Claims:
    """Everything is claimed on one event loop. Without `runtime` the default one is opened on first use."""

    def __init__(self, toolset: Toolset, heads: Heads, runtime: Runtime | None) -> None:
        self._toolset = toolset
        self._heads = heads
        self._runtime = runtime
        self._default: tuple[asyncio.AbstractEventLoop, Runtime] | None = None
        self._drives: dict[str, Drive] = {}
        # Whoever holds the view of a session may ask about it without saying again whose it is.
        self._views: WeakValueDictionary[str, AgentSession] = WeakValueDictionary()

    async def runtime(self) -> Runtime:
        if self._runtime is not None:
            return self._runtime
        loop = asyncio.get_running_loop()
        if self._default is None or self._default[0] is not loop:
            # The one upward import of this floor: a caller of AgentRunner needs no wiring of its own.
            from conductor_ai.wiring import default_runtime

            self._default = (loop, await default_runtime())
        return self._default[1]

    def get(self, session_id: str) -> Drive | None:
        return self._drives.get(session_id)

    def held(self, session_id: str) -> Drive:
        """Raises: SessionNotFound."""
        drive = self._drives.get(session_id)
        if drive is None:
            raise not_here(session_id)
        return drive

    def all(self) -> list[Drive]:
        return list(self._drives.values())

    def org_of(self, session_id: str, org_id: str | None) -> str:
        view = self._views.get(session_id)
        return org_id or (view.org_id if view is not None else "default")

    def take(
        self, runtime: Runtime, log: SessionLog, model: ReadyModel, config: SessionConfig, on_event: OnEvent | None
    ) -> Drive:
        """Make a drive of a claimed log; `config` is its own, with limits that are about to change."""
        toolset, state = self._toolset.only(config.tools), log.state

        def ready(model_id: str) -> ReadyModel | None:
            try:
                found = self._heads.ready(runtime, model_id, config, toolset)
            except UsageError:
                return None
            return found if found.info.vision or not state.images else None

        lineup = Lineup(model, others_than(model.info.id, (config.model, *config.fallbacks), runtime.model), ready)
        schema = self._heads.schema_of(config)
        drive = Drive(log, toolset, lineup, schema, cost_usd=runtime.cost_usd, retry_budget=runtime.retry_budget)
        log.on_event = on_event
        self._drives[log.session_id] = drive
        self._views[log.session_id] = drive.view
        drive.view.output_type = self._heads.output_type(config)
        runtime.states.cancels.add(log.session_id, drive.request_cancel)
        drive.refresh()
        return drive

    async def reopen(self, session_id: str, org_id: str, claiming: Claiming) -> Drive:
        """Claim a session and make it run; one that cannot is let go of, its view complete.

        Raises: SessionBusy, SessionNotFound, UnknownTool, InvalidTransition for a failure that only a new message can
            follow.
        """
        drive = await self._claim(session_id, org_id, claiming)
        state = drive.log.state
        try:
            if state.status not in FINAL and (drive.log.cancel_requested or state.status is SessionStatus.CANCELLING):
                await drive.finish_cancel()
            elif state.status is SessionStatus.FAILED and not state.failure_resumable:
                raise InvalidTransition(
                    f"session {session_id} failed and cannot go on as it is: {state.error}",
                    hint=f'add a message instead: conductor run --continue {session_id} "..."',
                )
            elif state.status not in FINAL and not state.waiting_for():
                _stage_resumed(drive.log, claiming)
                await drive.log.durable()
        except BaseException:
            self.let_go(drive)
            raise
        drive.refresh()
        if not drive.running:
            await self.stopped(drive)
        return drive

    async def add_message(
        self,
        session_id: str,
        org_id: str,
        added: Sequence[Message],
        claiming: Claiming,
        idempotency: IdempotencyMark | None,
        delivered: tuple[str, ...],
    ) -> Drive:
        """Claim a session that does not run, and make it run on with a message. Raises: as `reopen`, InvalidInput,
        IdempotencyKeyUsed; InvalidTransition while approvals are undecided."""
        drive = await self._claim(session_id, org_id, claiming)
        log = drive.log
        try:
            require_vision(drive.model, added)
            if log.state.status is SessionStatus.WAITING_APPROVAL:
                raise InvalidTransition(
                    f"session {session_id} waits for an approval",
                    hint="approve or deny it first: conductor approvals list",
                )
            added = await fetched(list(added), (await self.runtime()).fetch_grants)
            _stage_resumed(log, claiming)
            close_open_calls(log, "a new message came first")
            log.stage(EventType.MESSAGE_ADDED, message_added(added[0]))
            log.answers_for(idempotency, delivered)
            await log.durable()
        except BaseException:
            self.let_go(drive)
            raise
        drive.refresh()
        return drive

    async def stopped(self, drive: Drive) -> None:
        """The session does not run any more: complete the caller's view, and let others at it."""
        try:
            drive.view.log = await drive.log.events()
        finally:
            self.let_go(drive)
        _logger.info("session %s: %s after %d steps", drive.view.session_id, drive.view.status, drive.log.state.step_no)

    def let_go(self, drive: Drive) -> None:
        if self._drives.pop(drive.log.session_id, None) is not None:
            drive.log.release()
        drive.stopped.set()

    async def _claim(self, session_id: str, org_id: str, claiming: Claiming) -> Drive:
        runtime = await self.runtime()
        config, in_use = await runtime.states.config(session_id, org_id)
        missing = [name for name in config.tools if self._toolset.get(name) is None]
        if missing:
            raise UnknownTool(f"session {session_id} uses tools that this runner does not have: {', '.join(missing)}")
        changes = dict(claiming.limits)
        config = replace(config, limits=config.limits.with_changes(changes))
        model = self._heads.ready(runtime, in_use, config, self._toolset.only(config.tools))
        await limit_checks.prices_at_hand([model.info], config.limits)
        log = await runtime.states.claim(session_id, org_id, model.provider.encode_turn, in_use)
        try:
            config = replace(log.state.config, limits=log.state.config.limits.with_changes(changes))
            return self.take(runtime, log, model, config, claiming.on_event)
        except BaseException:
            log.release()
            raise


def require_idle(drive: Drive) -> None:
    """Raises: SessionBusy."""
    if drive.stepping:
        raise SessionBusy(f"session {drive.log.session_id} is driven by this process already", pid=os.getpid())


def not_here(session_id: str) -> SessionNotFound:
    return SessionNotFound(f"this runner does not drive a session {session_id}", hint="start or resume it first")


def _stage_resumed(log: SessionLog, claiming: Claiming) -> None:
    after = log.state.config.limits.with_changes(dict(claiming.limits)).to_dict()
    payload: SessionResumed = {
        "segment_no": log.state.segment_no + 1,
        "limits": {name: after[name] for name in claiming.limits},
    }
    if claiming.by is not None:
        payload["by"] = claiming.by
    log.stage(EventType.SESSION_RESUMED, payload)
