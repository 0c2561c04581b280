"""AgentRunner: the ReAct loop. Model call, tool calls, model call ... until an answer, a limit, or a person's word."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from conductor_ai.agents import limits as limit_checks
from conductor_ai.agents.answer_schema import AnswerSchema
from conductor_ai.agents.claims import FINAL, Claiming, Claims, not_here, require_idle
from conductor_ai.agents.drive import Drive
from conductor_ai.agents.heads import Heads
from conductor_ai.agents.images import fetched
from conductor_ai.agents.models import check_order
from conductor_ai.agents.profile import check_parameters, require_vision
from conductor_ai.agents.runtime import Runtime
from conductor_ai.agents.session_log import OnEvent
from conductor_ai.agents.session_state import SessionConfig
from conductor_ai.agents.step_result import StepResult
from conductor_ai.agents.streaming import follow
from conductor_ai.agents.tool_calls import Toolset
from conductor_ai.errors import InvalidInput
from conductor_ai.observability.logging import bind_session
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.limits import Limits
from conductor_ai.schemas.messages import Message, parse_messages
from conductor_ai.schemas.parameters import Parameters
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.schemas.steps import AgentStep
from conductor_ai.storage.base import IdempotencyMark
from conductor_ai.tools.registry import ToolRegistry
from conductor_ai.tools.registry import registry as global_registry

if TYPE_CHECKING:
    from pydantic import BaseModel

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
        self._claims = Claims(self._toolset, self._heads, runtime)
        self._leaving = False

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
        drive = self._claims.held(session.session_id)
        async with aclosing(follow(drive.log, partial(self.drive, session.session_id))) as items:
            async for item in items:
                yield item

    async def start_session(
        self,
        messages: Messages,
        org_id: str = "default",
        *,
        on_event: OnEvent | None = None,
        metadata: Mapping[str, str] | None = None,
        by: str | None = None,
        idempotency: IdempotencyMark | None = None,
    ) -> AgentSession:
        """A new session, durable, claimed by this runner and `running`.

        Args:
            metadata: The caller's own words about the session.
            by: Who starts it, as the audit names them.
            idempotency: A key of the caller's, which the session uses up.
        Raises: UsageError for a request that cannot be: model, key, limits, messages; IdempotencyKeyUsed.
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
            metadata=dict(metadata or {}),
            by=by,
        )
        runtime = await self._claims.runtime()
        # Each may be refused, before anything is stored.
        models = [self._heads.ready(runtime, model_id, config, self._toolset) for model_id in self._models]
        first = models[0].info
        check_parameters(first, config.parameters, limit_checks.max_output_tokens(first, config.limits))
        for model in models:
            require_vision(model.info, conversation)
        conversation = await fetched(conversation, runtime.fetch_grants)
        await limit_checks.prices_at_hand([model.info for model in models], config.limits)
        config = replace(config, context_window=min(model.info.context_window for model in models))
        log = await runtime.states.create(config, conversation, models[0].provider.encode_turn, idempotency)
        return self._claims.take(runtime, log, models[0], config, on_event).view

    async def drive(
        self, session_id: str, *, on_event: OnEvent | None = None, watchers_due: bool = False
    ) -> AgentSession:
        """Drive a session that this runner has claimed until it stops.

        Args:
            watchers_due: Somebody may come to watch it by and by: the first answer is streamed in any case.
        Raises: SessionNotFound, SessionBusy.
        """
        drive = self._claims.held(session_id)
        require_idle(drive)
        drive.log.on_event = on_event or drive.log.on_event
        drive.log.watchers_due = watchers_due
        with bind_session(session_id, drive.view.org_id):
            while drive.running and not self._leaving:
                await self._step(drive)
        if drive.running:
            await self._left(drive)
        return drive.view

    async def execute_step(self, session_id: str, *, org_id: str | None = None) -> AgentStep:
        """One whole step with all its tool calls; on a session that is not running, its last step again.

        `org_id` may be left out for a session that this runner started, and is `default` for any other. A session
        that a dead process left running is taken over. Raises: SessionNotFound, SessionBusy, StorageError.
        """
        drive = self._claims.get(session_id)
        if drive is None:
            org_id = self._claims.org_of(session_id, org_id)
            session = await (await self._claims.runtime()).states.view(session_id, org_id)
            if session.status is not SessionStatus.RUNNING:
                return session.last_step()
            drive = await self._claims.reopen(session_id, org_id, Claiming())
            if not drive.running:
                return drive.view.last_step()
        elif org_id is not None and drive.view.org_id != org_id:
            raise not_here(session_id)
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
        session = await self.reopen(session_id, org_id=org_id, limits=limits, on_event=on_event)
        return await self.drive(session_id) if self.drives(session_id) else session

    async def reopen(
        self,
        session_id: str,
        *,
        org_id: str | None = None,
        limits: dict[str, Any] | None = None,
        on_event: OnEvent | None = None,
        by: str | None = None,
    ) -> AgentSession:
        """The first half of `resume`: where the session can go on it runs, claimed by this runner, and `drive` drives
        it. `by` names who asks for it, as the audit shows it."""
        org_id = self._claims.org_of(session_id, org_id)
        held = self._claims.get(session_id)
        if held is not None:  # started here, or left between two steps: it is claimed anew like any other
            require_idle(held)
            self._claims.let_go(held)
        states = (await self._claims.runtime()).states
        session = await states.view(session_id, org_id)
        if session.status in FINAL:
            config, _ = await states.config(session_id, org_id)
            session.output_type = self._heads.output_type(config)
            return session
        claiming = Claiming(limits=limits or {}, by=by, on_event=on_event)
        return (await self._claims.reopen(session_id, org_id, claiming)).view

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
        await self.add_message(session_id, message, org_id=org_id, limits=limits, on_event=on_event)
        return await self.drive(session_id)

    async def add_message(
        self,
        session_id: str,
        message: str | Message | Mapping[str, Any],
        *,
        org_id: str | None = None,
        limits: dict[str, Any] | None = None,
        on_event: OnEvent | None = None,
        by: str | None = None,
        idempotency: IdempotencyMark | None = None,
        delivered: tuple[str, ...] = (),
    ) -> AgentSession:
        """The first half of `continue_session`: the message is durable and the session runs, claimed by this runner.

        Args:
            by, idempotency: As in `start_session`.
            delivered: Queued messages that this one is.
        Raises: as `continue_session`, IdempotencyKeyUsed.
        """
        given = {"role": "user", "content": message} if isinstance(message, str) else message
        _, added = parse_messages([given])
        claiming = Claiming(limits=limits or {}, by=by, on_event=on_event)
        org_id = self._claims.org_of(session_id, org_id)
        return (await self._claims.add_message(session_id, org_id, added, claiming, idempotency, delivered)).view

    async def cancel(self, session_id: str, *, by: str = "caller") -> AgentSession:
        """Stop a session that this runner drives: its model call and tools end now; returns once it has stopped.

        Raises: SessionNotFound.
        """
        drive = self._claims.held(session_id)
        drive.request_cancel(by)
        if drive.stepping:
            await drive.stopped.wait()
        else:
            await self._ended(drive, drive.finish_cancel())
        return drive.view

    def drives(self, session_id: str) -> bool:
        return self._claims.get(session_id) is not None

    def leave(self) -> None:
        """Give up what is driven, for another process to go on with: each drive ends after the step that is under way,
        its session still `running`. A drive that is cancelled meanwhile ends at once, and does not pause either."""
        self._leaving = True
        for drive in self._claims.all():
            drive.leaving = True

    async def close(self) -> None:
        """Let go of sessions that are still claimed; any process may then resume them."""
        for drive in self._claims.all():
            self._claims.let_go(drive)

    async def _left(self, drive: Drive) -> None:
        """Let go of a session that runs on elsewhere, once all that was done here is stored."""
        try:
            await drive.log.durable()
        finally:
            self._claims.let_go(drive)

    async def _step(self, drive: Drive) -> StepResult:
        require_idle(drive)  # refused before anything of the step that is under way is touched
        return await self._ended(drive, drive.step())

    async def _ended(self, drive: Drive, work: Awaitable[StepResult]) -> StepResult:
        """Await what moves the session on, and let go of one that does not run any more, or cannot be written."""
        try:
            result = await work
        except BaseException:
            drive.refresh()
            self._claims.let_go(drive)
            raise
        drive.refresh()
        if not drive.running:
            await self._claims.stopped(drive)
        return result
