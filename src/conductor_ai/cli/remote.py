"""The door to a server: the commands of this machine over sessions of another."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

from conductor_ai.cli.remote_session import ShownSession
from conductor_ai.client import ConductorClient, RemoteApproval
from conductor_ai.client.requests import wire_limits
from conductor_ai.errors import InvalidInput, Unauthorized, UsageError
from conductor_ai.schemas.session import SessionStatus

if TYPE_CHECKING:
    from conductor_ai.agents.session_log import OnEvent
    from conductor_ai.conductor import StartRequest
    from conductor_ai.model_catalog import ModelInfo
    from conductor_ai.sdk.base import ToolDefinition
    from conductor_ai.sdk.context import SessionFile

_ATTEMPTS = 5
"""Some three seconds: a person waits and sees nothing meanwhile."""
_GOES_ON = (SessionStatus.QUEUED, SessionStatus.RUNNING, SessionStatus.CANCELLING)


@asynccontextmanager
async def open_client(server: str) -> AsyncIterator[ConductorClient]:
    """With the key of the settings. Raises: InvalidInput."""
    from conductor_ai.observability.logging import clean_last_resort
    from conductor_ai.observability.redaction import Redactor
    from conductor_ai.settings import Settings

    settings = Settings.load()
    clean_last_resort(Redactor(settings.secrets()))
    try:
        client = ConductorClient(server, api_key=settings.conductor_api_key, max_attempts=_ATTEMPTS)
    except InvalidInput as exc:
        raise InvalidInput(
            str(exc).replace("base_url", "--server").replace("the API key", "CONDUCTOR_API_KEY")
        ) from exc
    try:
        async with client:
            yield client
    except Unauthorized as exc:
        exc.hint = "set CONDUCTOR_API_KEY to a key of this server (in .env or the environment)"
        raise


@asynccontextmanager
async def open_remote(server: str) -> AsyncIterator[RemoteDoor]:
    async with open_client(server) as client:
        yield RemoteDoor(client)


async def agents_of(server: str) -> list[dict[str, Any]]:
    """As `AgentSpec.to_dict`, without paths."""
    async with open_client(server) as client:
        return [agent.data for agent in await client.definitions()]


async def tools_of(server: str) -> list[ToolDefinition]:
    async with open_client(server) as client:
        return await client.tools()


async def models_of(server: str) -> list[dict[str, Any]]:
    async with open_client(server) as client:
        return [model.data for model in await client.models()]


class RemoteDoor:
    """Sessions run on the server whether or not somebody is here: `run` and `resume` follow them, and to cancel these
    only ends the following. What was shown of a session is not shown again."""

    def __init__(self, client: ConductorClient) -> None:
        self._client = client
        self._shown: dict[str, int] = {}  # session id to the newest event that was shown

    def models(self) -> Sequence[ModelInfo]:
        """None: this machine's catalog says nothing of the server's models."""
        return ()

    async def start(self, request: StartRequest) -> ShownSession:
        return ShownSession(
            await self._client.run_agent(
                request.messages,
                models=request.models or None,
                tools=request.tools,
                agent=request.agent,
                instructions=request.instructions,
                limits=request.limits,
                parameters=request.parameters,
                response_schema=_schema(request.response_schema),
            )
        )

    async def run(self, session_id: str, *, on_event: OnEvent | None = None) -> ShownSession:
        """Follow a session until it stops, from behind what was shown of it."""
        while True:
            await self._follow(session_id, on_event)
            session = await self.session(session_id)
            if session.status not in _GOES_ON:  # else somebody has let it go on already
                return session

    async def _follow(self, session_id: str, on_event: OnEvent | None) -> None:
        """Until the stream ends, or all that waits for approval was shown."""
        pending: set[str] = set()
        async with contextlib.aclosing(self._client.stream(session_id, self._shown.get(session_id, 0))) as items:
            async for item in items:
                if on_event is not None:
                    on_event({"type": item.type, "seq": item.seq, "payload": item.payload})
                if item.seq is not None:
                    self._shown[session_id] = item.seq
                if item.type == "approval.requested":
                    pending = pending or await self._pending(session_id)
                    if pending and not (pending := pending - {item.payload["approval_id"]}):
                        return

    async def _pending(self, session_id: str) -> set[str]:
        """What a session waits for; nothing where it does not wait any more."""
        if (await self._client.session(session_id)).status is not SessionStatus.WAITING_APPROVAL:
            return set()
        return {approval.approval_id for approval in await self.approvals(session_id=session_id)}

    async def resume(
        self, session_id: str, *, limits: dict[str, Any] | None = None, on_event: OnEvent | None = None
    ) -> ShownSession:
        """Let a stopped session go on, and follow it; follow one that goes on by itself."""
        session = await self.session(session_id)
        if session.status in (SessionStatus.COMPLETED, SessionStatus.CANCELLED):
            return session
        goes_on = session.status in _GOES_ON
        if session.status is SessionStatus.WAITING_APPROVAL:
            if await self.approvals(session_id=session_id):
                return session
            goes_on = True
        if not goes_on:
            await self._skip(session_id)
            await self._client.resume(session_id, wire_limits(limits))
        elif limits is not None:
            raise UsageError(f"session {session_id} is {session.status}: its limits can be changed once it is paused")
        return await self.run(session_id, on_event=on_event)

    async def continue_session(
        self,
        session_id: str,
        message: dict[str, Any],
        *,
        limits: dict[str, Any] | None = None,
        on_event: OnEvent | None = None,
    ) -> ShownSession:
        session = await self.session(session_id)
        if session.status not in (*_GOES_ON, SessionStatus.WAITING_APPROVAL):  # those the server refuses, with reasons
            await self._skip(session_id)
        await self._client.continue_session(session_id, message, limits=limits)
        return await self.run(session_id, on_event=on_event)

    async def cancel(self, session_id: str, *, by: str) -> ShownSession:
        """`by` is for the server to say: it knows the key."""
        return ShownSession(await self._client.cancel(session_id))

    async def session(self, session_id: str) -> ShownSession:
        return ShownSession(await self._client.session(session_id))

    async def sessions(self, *, status: SessionStatus | None = None, limit: int = 100) -> list[ShownSession]:
        found: list[ShownSession] = []
        items = self._client.sessions(status=status, page_size=min(limit, 100))
        async with contextlib.aclosing(items):
            async for session in items:
                found.append(ShownSession(session))
                if len(found) == limit:
                    break
        return found

    async def files(self, session_id: str) -> list[SessionFile]:
        return await self._client.files(session_id)

    async def file(self, session_id: str, name: str) -> bytes:
        return await self._client.file(session_id, name)

    async def delete(self, session_id: str, *, by: str) -> None:
        await self._client.delete(session_id)

    async def approvals(self, *, session_id: str | None = None) -> list[RemoteApproval]:
        return [approval async for approval in self._client.approvals(session_id=session_id)]

    async def decide(
        self, approval_id: str, decision: Literal["approved", "denied"], *, by: str, reason: str | None = None
    ) -> RemoteApproval:
        if decision == "approved":
            return await self._client.approve(approval_id)
        return await self._client.deny(approval_id, reason)

    async def _skip(self, session_id: str) -> None:
        """Pass over what a stopped session did before: its stream ends where its log does."""
        items = self._client.stream(session_id, self._shown.get(session_id, 0))
        async with contextlib.aclosing(items):
            async for item in items:
                if item.seq is not None:
                    self._shown[session_id] = item.seq


def _schema(given: object) -> dict[str, Any] | None:
    assert given is None or isinstance(given, dict), "the command line reads JSON schemas only"
    return given
