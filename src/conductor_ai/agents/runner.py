"""AgentRunner: the ReAct loop. Model call, tool calls, model call ... until an answer, a limit, or a person's word."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from conductor_ai.agents import limits as limit_checks
from conductor_ai.agents.answer_schema import AnswerSchema
from conductor_ai.agents.closing import close_open_calls
from conductor_ai.agents.drive import Drive
from conductor_ai.agents.heads import Heads
from conductor_ai.agents.images import fetched
from conductor_ai.agents.models import Lineup, ReadyModel, check_order, others_than
from conductor_ai.agents.profile import check_parameters, require_vision
from conductor_ai.agents.runtime import Runtime
from conductor_ai.agents.session_log import OnEvent, SessionLog
from conductor_ai.agents.session_state import SessionConfig, message_added
from conductor_ai.agents.step_result import StepResult
from conductor_ai.agents.streaming import follow
from conductor_ai.agents.tool_calls import Toolset
from conductor_ai.errors import InvalidInput, InvalidTransition, SessionBusy, SessionNotFound, UnknownTool, UsageError
from conductor_ai.observability.logging import bind_session
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.events import EventType, SessionResumed
from conductor_ai.schemas.limits import Limits
from conductor_ai.schemas.messages import Message, parse_messages
from conductor_ai.schemas.parameters import Parameters
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.schemas.steps import AgentStep
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.tools.registry import registry as global_registry

if TYPE_CHECKING:
    from pydantic import BaseModel

_logger = logging.getLogger(__name__)

Messages = Sequence[Message | Mapping[str, Any]]


class AgentRunner:
    """Runs sessions of one agent: a model, tools by name, instructions and limits.

    `models`, in place of `model`, names several in order: where one fails the next goes on with the session, on
    whatever provider it is. `parameters` are asked of each call, see `Parameters`. With `response_schema`, a Pydantic
    model or the JSON schema of an object, the answer fits it: `AgentSession.output`.
    Without `runtime` the default one is opened on first use (store under `$CONDUCTOR_HOME`, keys from the environment)
    and closed when the event loop ends. Any number of sessions may run concurrently.
    """

    def __init__(
        self,
        model: str | None = None,
        tools: Sequence[str] = (),
        registry: ToolRegistry | None = None,
        instructions: str | None = None,
        limits: Limits | dict[str, Any] | None = None,
        *,
        models: Sequence[str] = (),
        parameters: Parameters | dict[str, Any] | None = None,
        response_schema: type[BaseModel] | dict[str, Any] | None = None,
        pre_approved: Sequence[str] = (),
        agent: str | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        if isinstance(tools, str) or isinstance(pre_approved, str) or isinstance(models, str):
            raise InvalidInput("tools and models are each a list of names, not one text", hint='tools=["find_dealers"]')
        self._models = (*([] if model is None else [model]), *models)
        if model is not None and models:
            raise InvalidInput("model and models: name one of the two")
        check_order(self._models)
        registry = global_registry if registry is None else registry
        self._toolset = Toolset(registry.get_tool(name) for name in tools)
        self._tools = tuple(tools)
        self._instructions = instructions
        self._limits = Limits.of(limits)
        self._parameters = Parameters.of(parameters)
        self._heads = Heads(AnswerSchema.of(response_schema))
        self._pre_approved = tuple(pre_approved)
        self._agent = agent
        self._runtime = runtime
        self._default: tuple[asyncio.AbstractEventLoop, Runtime] | None = None
        self._drives: dict[str, Drive] = {}
        # Whoever holds the view of a session may ask about it without saying again whose it is.
        self._views: WeakValueDictionary[str, AgentSession] = WeakValueDictionary()

    async def run(
        self, messages: Messages, org_id: str = "default", *, on_event: OnEvent | None = None
    ) -> AgentSession:
        """Start a session and drive it until it stops: ended, paused, or waiting for an approval."""
        session = await self.start_session(messages, org_id, on_event=on_event)
        return await self.drive(session.session_id)

    async def stream(self, messages: Messages, org_id: str = "default") -> AsyncGenerator[dict[str, Any]]:
        """As `run`, but gives what happens while it happens: each event as `Event.to_dict`, and live items.

        Of the live items `model.delta` is a piece of an answer; its `kind` is text, reasoning, tool_call_start,
        tool_arguments, tool_call_end, usage or stop. Reading slowly slows the model down; closing the generator early
        pauses the session. Raises: as `start_session`, and StorageError.
        """
        session = await self.start_session(messages, org_id)
        drive = self._claimed(session.session_id)
        async with aclosing(follow(drive.log, partial(self.drive, session.session_id))) as items:
            async for item in items:
                yield item

    async def start_session(
        self, messages: Messages, org_id: str = "default", *, on_event: OnEvent | None = None
    ) -> AgentSession:
        """A new session, durable, claimed by this runner and `running`.

        Raises: UsageError for a request that cannot be: model, key, limits, messages.
        """
        system, conversation = parse_messages(messages)
        config = SessionConfig(
            org_id=org_id,
            model=self._models[0],
            fallbacks=self._models[1:],
            tools=self._tools,
            instructions="\n\n".join(text for text in (self._instructions, system) if text) or None,
            limits=self._limits,
            pre_approved=self._pre_approved,
            agent=self._agent,
            parameters=self._parameters,
            response_schema=self._heads.response_schema,
        )
        runtime = await self._opened()
        # Each may be refused, before anything is stored.
        models = [self._heads.ready(runtime, model_id, config, self._toolset) for model_id in self._models]
        first = models[0].info
        check_parameters(first, config.parameters, limit_checks.max_output_tokens(first, config.limits))
        for model in models:
            require_vision(model.info, conversation)
        conversation = await fetched(conversation, runtime.fetch_grants)
        await limit_checks.prices_at_hand([model.info for model in models], config.limits)
        config = replace(config, context_window=min(model.info.context_window for model in models))
        log = await runtime.states.create(config, conversation, models[0].provider.encode_turn)
        return self._take(runtime, log, models[0], config, on_event).view

    async def drive(self, session_id: str, *, on_event: OnEvent | None = None) -> AgentSession:
        """Drive a session that this runner has claimed until it stops. Raises: SessionNotFound, SessionBusy."""
        drive = self._claimed(session_id)
        _require_idle(drive)
        drive.log.on_event = on_event or drive.log.on_event
        with bind_session(session_id, drive.view.org_id):
            while drive.running:
                await self._step(drive)
        return drive.view

    async def execute_step(self, session_id: str, *, org_id: str | None = None) -> AgentStep:
        """One whole step with all its tool calls; on a session that is not running, its last step again.

        `org_id` may be left out for a session that this runner started, and is `default` for any other. A session
        that a dead process left running is taken over. Raises: SessionNotFound, SessionBusy, StorageError.
        """
        drive = self._drives.get(session_id)
        if drive is None:
            org_id = self._org_of(session_id, org_id)
            session = await (await self._opened()).states.view(session_id, org_id)
            if session.status is not SessionStatus.RUNNING:
                return session.last_step()
            drive = await self._resume(session_id, org_id, {})
            if not drive.running:
                return drive.view.last_step()
        elif org_id is not None and drive.view.org_id != org_id:
            raise _not_here(session_id)
        return (await self._step(drive)).to_step()

    async def resume(
        self,
        session_id: str,
        *,
        org_id: str | None = None,
        limits: dict[str, Any] | None = None,
        on_event: OnEvent | None = None,
    ) -> AgentSession:
        """Go on with a session that stopped or whose process died; `limits` replaces some of its limits.

        A completed or cancelled session, or one whose approvals are undecided, is returned as it is.
        Raises: SessionBusy, SessionNotFound, InvalidTransition for a failure that only a new message can follow.
        """
        org_id = self._org_of(session_id, org_id)
        held = self._drives.get(session_id)
        if held is not None:  # started here, or left between two steps: it is claimed anew like any other
            _require_idle(held)
            self._let_go(held)
        states = (await self._opened()).states
        session = await states.view(session_id, org_id)
        if session.status in _FINAL:
            config, _ = await states.config(session_id, org_id)
            session.output_type = self._heads.output_type(config)
            return session
        drive = await self._resume(session_id, org_id, limits or {}, on_event)
        return await self.drive(session_id) if drive.running else drive.view

    async def continue_session(
        self,
        session_id: str,
        message: str | Message | Mapping[str, Any],
        *,
        org_id: str | None = None,
        limits: dict[str, Any] | None = None,
        on_event: OnEvent | None = None,
    ) -> AgentSession:
        """Add a user message, its text or as in `run`, to a session that does not run, and drive on.

        Raises: InvalidTransition while approvals are undecided, SessionBusy, SessionNotFound, InvalidInput.
        """
        given = {"role": "user", "content": message} if isinstance(message, str) else message
        _, added = parse_messages([given])
        drive = await self._claim(session_id, self._org_of(session_id, org_id), limits or {}, on_event)
        log = drive.log
        try:
            require_vision(drive.model, added)
            if log.state.status is SessionStatus.WAITING_APPROVAL:
                raise InvalidTransition(
                    f"session {session_id} waits for an approval",
                    hint="approve or deny it first: conductor approvals list",
                )
            added = await fetched(added, (await self._opened()).fetch_grants)
            self._stage_resumed(log, limits or {})
            close_open_calls(log, "a new message came first")
            log.stage(EventType.MESSAGE_ADDED, message_added(added[0]))
            await log.durable()
        except BaseException:
            self._let_go(drive)
            raise
        drive.refresh()
        return await self.drive(session_id)

    async def cancel(self, session_id: str, *, by: str = "caller") -> AgentSession:
        """Stop a session that this runner drives: its model call and tools end now; returns once it has stopped.

        Raises: SessionNotFound.
        """
        drive = self._claimed(session_id)
        drive.request_cancel(by)
        if drive.stepping:
            await drive.stopped.wait()
        else:
            await self._ended(drive, drive.finish_cancel())
        return drive.view

    def drives(self, session_id: str) -> bool:
        return session_id in self._drives

    async def close(self) -> None:
        """Let go of sessions that are still claimed; any process may then resume them."""
        for drive in list(self._drives.values()):
            self._let_go(drive)

    async def _opened(self) -> Runtime:
        if self._runtime is not None:
            return self._runtime
        loop = asyncio.get_running_loop()
        if self._default is None or self._default[0] is not loop:
            # The one upward import of this floor: a caller of AgentRunner needs no wiring of its own.
            from conductor_ai.wiring import default_runtime

            self._default = (loop, await default_runtime())
        return self._default[1]

    def _claimed(self, session_id: str) -> Drive:
        drive = self._drives.get(session_id)
        if drive is None:
            raise _not_here(session_id)
        return drive

    def _org_of(self, session_id: str, org_id: str | None) -> str:
        view = self._views.get(session_id)
        return org_id or (view.org_id if view is not None else "default")

    async def _step(self, drive: Drive) -> StepResult:
        _require_idle(drive)  # refused before anything of the step that is under way is touched
        return await self._ended(drive, drive.step())

    async def _ended(self, drive: Drive, work: Awaitable[StepResult]) -> StepResult:
        """Await what moves the session on, and let go of one that does not run any more, or cannot be written."""
        try:
            result = await work
        except BaseException:
            drive.refresh()
            self._let_go(drive)
            raise
        drive.refresh()
        if not drive.running:
            await self._stopped(drive)
        return result

    async def _claim(
        self, session_id: str, org_id: str, limits: dict[str, Any], on_event: OnEvent | None = None
    ) -> Drive:
        runtime = await self._opened()
        config, in_use = await runtime.states.config(session_id, org_id)
        missing = [name for name in config.tools if self._toolset.get(name) is None]
        if missing:
            raise UnknownTool(f"session {session_id} uses tools that this runner does not have: {', '.join(missing)}")
        config = replace(config, limits=config.limits.with_changes(limits))
        model = self._heads.ready(runtime, in_use, config, self._toolset.only(config.tools))
        await limit_checks.prices_at_hand([model.info], config.limits)
        log = await runtime.states.claim(session_id, org_id, model.provider.encode_turn, in_use)
        try:
            config = replace(log.state.config, limits=log.state.config.limits.with_changes(limits))
            return self._take(runtime, log, model, config, on_event)
        except BaseException:
            log.release()
            raise

    def _take(
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
        runtime.states.cancels.add(log.session_id, lambda: drive.request_cancel("another process"))
        drive.refresh()
        return drive

    async def _resume(
        self, session_id: str, org_id: str, limits: dict[str, Any], on_event: OnEvent | None = None
    ) -> Drive:
        """Claim a session and make it run; one that cannot is let go of, its view complete."""
        drive = await self._claim(session_id, org_id, limits, on_event)
        state = drive.log.state
        try:
            if state.status not in _FINAL and (drive.log.cancel_requested or state.status is SessionStatus.CANCELLING):
                await drive.finish_cancel()
            elif state.status is SessionStatus.FAILED and not state.failure_resumable:
                raise InvalidTransition(
                    f"session {session_id} failed and cannot go on as it is: {state.error}",
                    hint=f'add a message instead: conductor run --continue {session_id} "..."',
                )
            elif state.status not in _FINAL and not state.waiting_for():
                self._stage_resumed(drive.log, limits)
                await drive.log.durable()
        except BaseException:
            self._let_go(drive)
            raise
        drive.refresh()
        if not drive.running:
            await self._stopped(drive)
        return drive

    def _stage_resumed(self, log: SessionLog, limits: dict[str, Any]) -> None:
        after = log.state.config.limits.with_changes(limits).to_dict()
        payload: SessionResumed = {
            "segment_no": log.state.segment_no + 1,
            "limits": {name: after[name] for name in limits},
        }
        log.stage(EventType.SESSION_RESUMED, payload)

    async def _stopped(self, drive: Drive) -> None:
        """The session does not run any more: complete the caller's view, and let others at it."""
        try:
            drive.view.log = await drive.log.events()
        finally:
            self._let_go(drive)
        _logger.info("session %s: %s after %d steps", drive.view.session_id, drive.view.status, drive.log.state.step_no)

    def _let_go(self, drive: Drive) -> None:
        if self._drives.pop(drive.log.session_id, None) is not None:
            drive.log.release()
        drive.stopped.set()


def _require_idle(drive: Drive) -> None:
    if drive.stepping:
        raise SessionBusy(f"session {drive.log.session_id} is driven by this process already", pid=os.getpid())


def _not_here(session_id: str) -> SessionNotFound:
    return SessionNotFound(f"this runner does not drive a session {session_id}", hint="start or resume it first")


_FINAL = (SessionStatus.COMPLETED, SessionStatus.CANCELLED)
