"""Use cases over sessions, approvals, tools and models. Whoever speaks to people or programs goes through here."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from conductor_ai.agents.closing import cancel
from conductor_ai.agents.runner import AgentRunner
from conductor_ai.agents.runtime import Runtime
from conductor_ai.agents.session_log import OnEvent
from conductor_ai.conductor.agent_files import AgentSpec, find_agent
from conductor_ai.conductor.decisions import decide
from conductor_ai.conductor.model_tests import ModelTests, OnCheck
from conductor_ai.conductor.requests import StartRequest, tool_names, with_agent
from conductor_ai.conductor.tool_calls import call_tool
from conductor_ai.errors import InvalidTransition, OwnershipLost, SessionBusy, UnknownTool
from conductor_ai.model_catalog import Catalog, ModelInfo
from conductor_ai.schemas.agent_session import AgentSession
from conductor_ai.schemas.approvals import ApprovalRecord, ApprovalStatus
from conductor_ai.schemas.events import Event
from conductor_ai.schemas.messages import Message
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.sdk.base import ToolDefinition, ToolResult
from conductor_ai.sdk.context import SessionFile
from conductor_ai.sdk.security.approval import Approver
from conductor_ai.storage.base import Cursor, IdempotencyMark, SessionFilter
from conductor_ai.tools.registry import PluginInfo, ToolRegistry

_KEPT_RUNNERS = 64


class Conductor:
    """Starts, drives, continues, cancels and shows sessions; decides approvals. `org_id` scopes every call.

    Args:
        default_model: The model of a request that names none; raises MissingKey where none can be used.
        plugins: What was found when tools were loaded, broken plugins included.
        agents: Reads the agents in files, broken ones included; called each time somebody asks for them.
    """

    def __init__(
        self,
        runtime: Runtime,
        registry: ToolRegistry,
        catalog: Catalog,
        *,
        default_model: Callable[[], str],
        plugins: Sequence[PluginInfo] = (),
        agents: Callable[[], Sequence[AgentSpec]] = tuple,
    ) -> None:
        self._runtime = runtime
        self._registry = registry
        self._catalog = catalog
        self._default_model = default_model
        self._agents = agents
        self._runners: dict[tuple[str, str], AgentRunner] = {}
        self._alike: OrderedDict[str, AgentRunner] = OrderedDict()
        self.plugins = list(plugins)

    def tools(self) -> list[ToolDefinition]:
        return list(self._registry.definitions)

    def tool(self, name: str) -> ToolDefinition:
        """Raises: UnknownTool; MissingExtra or ToolUnavailable, with the line that gives the tool what it needs."""
        return self._registry.registered(name).definition

    def models(self) -> list[ModelInfo]:
        return list(self._catalog.list_models())

    def model(self, model_id: str) -> ModelInfo:
        """One that no list shows may be known all the same. Raises: UnknownModel, ModelForbidden, InvalidInput."""
        return self._catalog.get_model(model_id)

    def model_tests(
        self,
        model_ids: Sequence[str],
        *,
        max_cost_usd: Decimal,
        org_id: str = "default",
        on_check: OnCheck | None = None,
    ) -> ModelTests:
        """A conformance run over these models; its `run` makes it. Raises: UsageError for one that cannot be tested.

        Args:
            max_cost_usd: For each model. One without a known price runs without a limit.
            on_check: Told of each check as soon as it is over.
        """
        return ModelTests(self._runtime, model_ids, max_cost_usd=max_cost_usd, org_id=org_id, on_check=on_check)

    async def agents(self) -> list[AgentSpec]:
        """The agents in files as they are now, broken ones with their error. Raises: InvalidInput for a folder."""
        return list(await asyncio.to_thread(self._agents))

    async def call_tool(
        self, name: str, arguments: dict[str, Any], *, org_id: str = "default", approver: Approver | None = None
    ) -> ToolResult:
        """Run one tool outside any session, audited; a tool that requires approval is the caller's to confirm.

        Args:
            approver: Asked where the tool itself needs approval to go on; it then starts again. None: such a call fails
                with ApprovalRequired.
        Raises: UnknownTool, InvalidInput for arguments that do not fit, AuditUnavailable, whatever `approver` raises.
        """
        return await call_tool(self._runtime.states, self._registry, name, arguments, org_id=org_id, approver=approver)

    async def start(
        self,
        request: StartRequest,
        *,
        org_id: str = "default",
        by: str | None = None,
        idempotency: IdempotencyMark | None = None,
    ) -> AgentSession:
        """A new session: durable, claimed by this process, `running`; `run` drives it.

        An agent's file is read now; the session keeps what it said, and needs the file no more.

        Args:
            by: Who starts it, as the audit names them.
            idempotency: A key of the caller's, which the session uses up.
        Raises: UsageError, IdempotencyKeyUsed.
        """
        if request.agent is not None:
            request = with_agent(request, find_agent(await self.agents(), request.agent))
        runner = self._runner_for(request)
        session = await runner.start_session(
            request.messages, org_id, metadata=request.metadata, by=by, idempotency=idempotency
        )
        self._runners[org_id, session.session_id] = runner
        return session

    async def run(
        self,
        session_id: str,
        *,
        org_id: str = "default",
        on_event: OnEvent | None = None,
        watchers_due: bool = False,
    ) -> AgentSession:
        """Drive a started session until it stops; cancelling the awaiting task leaves it paused.

        Args:
            watchers_due: Somebody may come to watch it by and by: the first answer is streamed in any case.
        Raises: SessionBusy where it is being driven already.
        """
        runner = self._runners.get((org_id, session_id))
        if runner is None:
            return await self.resume(session_id, org_id=org_id, on_event=on_event)
        return await self._driven(
            org_id, session_id, runner, runner.drive(session_id, on_event=on_event, watchers_due=watchers_due)
        )

    async def resume(
        self,
        session_id: str,
        *,
        limits: dict[str, Any] | None = None,
        org_id: str = "default",
        on_event: OnEvent | None = None,
    ) -> AgentSession:
        """Go on with a session that stopped, or whose process died.

        A completed or cancelled one, or one with undecided approvals, is returned as it is.
        Raises: SessionNotFound, SessionBusy, InvalidTransition, UnknownTool.
        """
        session = await self.session(session_id, org_id=org_id)
        if session.status in (SessionStatus.COMPLETED, SessionStatus.CANCELLED):
            return session
        runner = await self._runner_of(session_id, org_id)
        work = runner.resume(session_id, org_id=org_id, limits=limits, on_event=on_event)
        return await self._driven(org_id, session_id, runner, work)

    async def continue_session(
        self,
        session_id: str,
        message: str | Message | Mapping[str, Any],
        *,
        limits: dict[str, Any] | None = None,
        org_id: str = "default",
        on_event: OnEvent | None = None,
    ) -> AgentSession:
        """Add a message to a session that does not run, and drive on. Raises: as `resume`."""
        runner = await self._runner_of(session_id, org_id)
        work = runner.continue_session(session_id, message, org_id=org_id, limits=limits, on_event=on_event)
        return await self._driven(org_id, session_id, runner, work)

    async def reopen(
        self,
        session_id: str,
        *,
        limits: dict[str, Any] | None = None,
        org_id: str = "default",
        by: str | None = None,
    ) -> AgentSession:
        """The first half of `resume`: where the session can go on it is `running`, and `run` drives it. Raises: as
        `resume`."""
        session = await self.session(session_id, org_id=org_id)
        if session.status in (SessionStatus.COMPLETED, SessionStatus.CANCELLED):
            return session
        runner = await self._runner_of(session_id, org_id)
        work = runner.reopen(session_id, org_id=org_id, limits=limits, by=by)
        return await self._driven(org_id, session_id, runner, work)

    async def add_message(
        self,
        session_id: str,
        message: str | Message | Mapping[str, Any],
        *,
        limits: dict[str, Any] | None = None,
        org_id: str = "default",
        by: str | None = None,
        idempotency: IdempotencyMark | None = None,
        delivered: tuple[str, ...] = (),
    ) -> AgentSession:
        """The first half of `continue_session`: the message is durable, the session is `running`, and `run` drives it.

        Args:
            by, idempotency: As in `start`.
            delivered: Queued messages that this one is.
        Raises: as `continue_session`, IdempotencyKeyUsed.
        """
        runner = await self._runner_of(session_id, org_id)
        work = runner.add_message(
            session_id, message, org_id=org_id, limits=limits, by=by, idempotency=idempotency, delivered=delivered
        )
        return await self._driven(org_id, session_id, runner, work)

    def leave(self) -> None:
        """Give up what is driven, for another process to go on with: each drive ends after the step under way, its
        session still `running`. One that is cancelled meanwhile ends at once, and is not paused."""
        for runner in self._runners.values():
            runner.leave()

    async def cancel(self, session_id: str, *, org_id: str = "default", by: str = "caller") -> AgentSession:
        """Stop a session for good. One that another process drives is told, and stops at its next step.

        Raises: SessionNotFound, InvalidTransition where it has ended already.
        """
        states = self._runtime.states
        while True:
            session = await self.session(session_id, org_id=org_id)
            if session.ended:
                raise InvalidTransition(f"session {session_id} is {session.status} already")
            runner = self._runners.get((org_id, session_id))
            if runner is not None and runner.drives(session_id):
                return await runner.cancel(session_id, by=by)
            await states.store.request_cancel(session_id, org_id, by)
            try:
                log = await states.claim(session_id, org_id, None)
            except SessionBusy:
                return await self.session(session_id, org_id=org_id)
            try:
                await cancel(log, by)
            except OwnershipLost:
                continue  # a decision over one of its approvals was stored first: look again
            finally:
                log.release()
            return await self.session(session_id, org_id=org_id)

    async def discard_messages(
        self,
        session_id: str,
        *,
        reason: str,
        message_id: str | None = None,
        org_id: str = "default",
        by: str = "caller",
    ) -> None:
        """Forget what waits for a session, or one message of it; the audit says how many, by whom and why."""
        await self._runtime.states.discard_messages(session_id, org_id, by, reason, message_id)

    async def session(self, session_id: str, *, org_id: str = "default") -> AgentSession:
        """A session with its steps. Raises: SessionNotFound."""
        return await self._runtime.states.view(session_id, org_id)

    async def sessions(
        self,
        *,
        org_id: str = "default",
        status: SessionStatus | None = None,
        chosen: SessionFilter | None = None,
        after: Cursor | None = None,
        limit: int = 100,
    ) -> list[AgentSession]:
        """Newest first, without steps. `chosen` asks for more than a status; `after` goes on behind that row."""
        records = await self._runtime.states.store.sessions(
            org_id, chosen or SessionFilter(status), after=after, limit=limit
        )
        return [AgentSession.of(record) for record in records]

    async def files(self, session_id: str, *, org_id: str = "default") -> list[SessionFile]:
        """What the session's tools left with it, by name. Raises: SessionNotFound."""
        return await self._runtime.states.store.files(session_id, org_id)

    async def file(self, session_id: str, name: str, *, org_id: str = "default") -> bytes:
        """Raises: SessionNotFound, FileNotStored."""
        _, content = await self._runtime.states.store.file(session_id, org_id, name)
        return content

    async def delete(self, session_id: str, *, org_id: str = "default", by: str = "caller") -> None:
        """Remove a session with its log and files; its audit rows stay, with a tombstone.

        Raises: SessionNotFound, SessionBusy.
        """
        await self._runtime.states.delete(session_id, org_id, by)

    async def events(self, session_id: str, *, org_id: str = "default", after_seq: int = 0) -> list[Event]:
        return await self._runtime.states.store.events(session_id, org_id, after_seq=after_seq)

    async def approvals(
        self,
        *,
        org_id: str = "default",
        status: ApprovalStatus | None = ApprovalStatus.PENDING,
        session_id: str | None = None,
    ) -> list[ApprovalRecord]:
        return await self._runtime.states.store.approvals(org_id, status=status, session_id=session_id)

    async def decide(
        self,
        approval_id: str,
        decision: Literal["approved", "denied"],
        *,
        by: str,
        reason: str | None = None,
        org_id: str = "default",
    ) -> ApprovalRecord:
        """Record a person's decision; `resume` acts on it.

        Raises: ApprovalNotFound, ApprovalAlreadyDecided, ApprovalVoid where the stored arguments were changed.
        """
        return await decide(self._runtime.states, approval_id, decision, by=by, reason=reason, org_id=org_id)

    async def close(self) -> None:
        for runner in self._runners.values():
            await runner.close()

    def _runner_for(self, request: StartRequest) -> AgentRunner:
        """One runner for all requests that differ in their messages only: its tools are compiled once, as is what each
        call tells the model before the conversation."""
        model = request.model or (None if request.models else self._default_model())
        runner = self._alike.get(key := _likeness(request, model))
        if runner is None:
            runner = AgentRunner(
                model,
                tool_names(request, self._registry),
                self._registry,
                request.instructions,
                request.limits,
                models=request.models,
                parameters=request.parameters,
                response_schema=request.response_schema,
                pre_approved=request.pre_approved,
                agent=request.agent,
                runtime=self._runtime,
            )
            if isinstance(request.response_schema, dict | None):
                self._alike[key] = runner
                if len(self._alike) > _KEPT_RUNNERS:
                    self._alike.popitem(last=False)
        else:
            self._alike.move_to_end(key)
        return runner

    async def _driven(
        self, org_id: str, session_id: str, runner: AgentRunner, work: Coroutine[Any, Any, AgentSession]
    ) -> AgentSession:
        """Await `work`, findable for `cancel` meanwhile; of two drivers in one process the second is refused."""
        key = (org_id, session_id)
        if self._runners.setdefault(key, runner) is not runner:
            work.close()
            raise SessionBusy(f"session {session_id} is driven by this process already", pid=os.getpid())
        try:
            return await work
        finally:
            if not runner.drives(session_id) and self._runners.get(key) is runner:
                del self._runners[key]

    async def _runner_of(self, session_id: str, org_id: str) -> AgentRunner:
        """A runner for a session as its log describes it.

        Raises: UnknownTool where one of its tools is not loaded, MissingExtra or ToolUnavailable where one
            cannot work here.
        """
        config, _ = await self._runtime.states.config(session_id, org_id)
        known = {tool.name for tool in self._registry.definitions} | self._registry.unavailable.keys()
        missing = [name for name in config.tools if name not in known]
        if missing:
            broken = [f"plugin {plugin.name} was not loaded: {plugin.error}" for plugin in self.plugins if plugin.error]
            raise UnknownTool(
                "; ".join([f"session {session_id} uses tools that are not loaded: {', '.join(missing)}", *broken]),
                hint="mend the plugin, and start again"
                if broken
                else "name the folder that has them: --plugins-dir DIR",
            )
        return AgentRunner(
            None,
            config.tools,
            self._registry,
            config.instructions,
            config.limits,
            models=(config.model, *config.fallbacks),
            pre_approved=config.pre_approved,
            agent=config.agent,
            runtime=self._runtime,
        )


def _likeness(request: StartRequest, model: str | None) -> str:
    """The same text for requests that one runner can serve."""
    limits = request.limits if isinstance(request.limits, dict | None) else request.limits.to_dict()
    wishes = request.parameters if isinstance(request.parameters, dict | None) else request.parameters.to_dict()
    schema = request.response_schema if isinstance(request.response_schema, dict) else None
    named = [list(request.models), None if request.tools is None else list(request.tools), list(request.pre_approved)]
    return repr((model, named, request.instructions, limits, wishes, schema, request.agent))
