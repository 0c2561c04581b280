"""`ConductorClient`: the HTTP API of a conductor server as methods."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

from pydantic import SecretStr

from conductor_ai.client.administration import Administration
from conductor_ai.client.requests import given, wire_limits, wire_message, wire_messages, wire_parameters
from conductor_ai.client.results import RemoteApproval, RemoteSession, StreamItem, reading, session_file_of
from conductor_ai.client.streaming import EventStream
from conductor_ai.client.transport import Call, Transport, segment
from conductor_ai.client.waiting import until_stopped
from conductor_ai.errors import (
    ApprovalNotFound,
    FileNotStored,
    InvalidInput,
    InvalidTransition,
    SessionBusy,
    SessionNotFound,
)
from conductor_ai.schemas.approvals import ApprovalStatus
from conductor_ai.schemas.ids import new_id
from conductor_ai.schemas.limits import Limits
from conductor_ai.schemas.messages import Message
from conductor_ai.schemas.parameters import Parameters
from conductor_ai.schemas.session import SessionStatus
from conductor_ai.sdk.context import SessionFile
from conductor_ai.sdk.files import check_name


class ConductorClient(Administration):
    """Speaks to one conductor server, from one event loop, inside `async with`.

    Every failure is an error of `conductor_ai.errors`, the same that a caller without a server between would see:
    SessionNotFound, Unauthorized, InvalidInput and so on; ServiceUnavailable where the server is away. What may be
    asked again without harm is, while the server is away or asks to wait: a start and a message carry a key which the
    server does them by only once.

    Args:
        base_url: Where the server is, such as http://localhost:8000. Nothing is ever sent elsewhere.
        org_id: The org to speak for; the server refuses one that is not the key's.
        api_key: Shown in no text that this class makes.
        timeout_s: For one attempt at one request.
        max_attempts: How often one request is made at most; for streams, connections in a row that bring nothing new.
    Raises: InvalidInput.
    """

    def __init__(
        self,
        base_url: str,
        org_id: str | None = None,
        api_key: str | SecretStr | None = None,
        *,
        timeout_s: float = 30.0,
        max_attempts: int = 7,
    ) -> None:
        key = SecretStr(api_key) if isinstance(api_key, str) else api_key
        super().__init__(Transport(base_url, org_id, key, timeout_s=timeout_s, max_attempts=max_attempts))
        self._org_id = org_id

    def __repr__(self) -> str:
        org = "" if self._org_id is None else f", org_id={self._org_id!r}"
        return f"ConductorClient({self._transport.base_url!r}{org})"

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    async def run_agent(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        *,
        model: str | None = None,
        models: Sequence[str] | None = None,
        tools: Sequence[str] | None = None,
        agent: str | None = None,
        instructions: str | None = None,
        limits: Limits | Mapping[str, Any] | None = None,
        parameters: Parameters | Mapping[str, Any] | None = None,
        response_schema: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> RemoteSession:
        """Start a session; returns once it is durable. What is left out is the agent's or the server's to say.

        Args:
            messages: As `AgentRunner.start_session` takes them, images included.
            models: In place of `model`: each may take over from the one before it.
            tools: None means the agent's, else every tool that the server has.
            idempotency_key: Of several starts with the same key one happens; also for a caller that was itself cut off.
        Raises: InvalidInput, UnknownModel, UnknownTool, UnknownAgent, IdempotencyConflict where the key was used for
            another request, TooManySessions, BudgetSpent.
        """
        body = given(
            messages=wire_messages(messages),
            model=model,
            models=None if models is None else list(models),
            tools=None if tools is None else list(tools),
            agent=agent,
            instructions=instructions,
            limits=wire_limits(limits),
            parameters=wire_parameters(parameters),
            response_schema=None if response_schema is None else dict(response_schema),
            metadata=None if metadata is None else dict(metadata),
        )
        return RemoteSession.of(await self._ask(_keyed("/agents/run", body, idempotency_key)))

    async def session(self, session_id: str) -> RemoteSession:
        """Raises: SessionNotFound."""
        return RemoteSession.of(await self._ask(Call("GET", _session_path(session_id))))

    def sessions(
        self,
        *,
        status: SessionStatus | str | None = None,
        agent: str | None = None,
        created_from: str | None = None,
        created_before: str | None = None,
        page_size: int = 100,
    ) -> AsyncGenerator[RemoteSession]:
        """Newest first, without their steps, page after page as they are read. Times are ISO 8601.

        Raises: InvalidInput, in the iteration.
        """
        query = given(
            status=None if status is None else str(status),
            agent=agent,
            created_from=created_from,
            created_before=created_before,
        )
        return self._listed("/agents", query, RemoteSession.of, page_size)

    async def stream(self, session_id: str, after_seq: int = 0) -> AsyncGenerator[StreamItem]:
        """Everything that happens in a session from behind event `after_seq` on, until it completes, fails, is
        cancelled or pauses; it goes on while the session waits for approval.

        Each event of the log comes once and in order, over as many connections as that takes. Live items come between
        them, as far as they are heard. Leaving early does not stop the session.
        """

        async def stopped() -> bool:
            session = await self.session(session_id)
            return session.stopped and session.status is not SessionStatus.WAITING_APPROVAL

        events = EventStream(self._transport, f"{_session_path(session_id)}/events", after_seq, stopped)
        async with contextlib.aclosing(events.items()) as items:
            async for item in items:
                yield item

    async def wait_for_completion(self, session_id: str, timeout_s: float | None = None) -> RemoteSession:
        """The session once it goes on no more by itself: it has ended, is paused, or waits for approval.

        Raises: TimeoutError after `timeout_s`; the session goes on. SessionNotFound.
        """
        async with asyncio.timeout(timeout_s):
            return await until_stopped(lambda: self.session(session_id), lambda: self.stream(session_id))

    async def cancel(self, session_id: str) -> RemoteSession:
        """Stop a session for good. It is `cancelling` until model and tools have stopped: `wait_for_completion`.

        Raises: SessionNotFound, InvalidTransition where it has ended already.
        """
        call = Call("POST", f"{_session_path(session_id)}/cancel", settled_by=InvalidTransition)
        return await self._session_or_asked(session_id, call)

    async def continue_session(
        self,
        session_id: str,
        message: str | Message | Mapping[str, Any],
        when_running: Literal["reject", "enqueue"] = "reject",
        *,
        limits: Limits | Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> RemoteSession:
        """Give a session another message, and let it go on.

        Args:
            when_running: What becomes of the message where the session still runs: `enqueue` keeps it until it does
                not.
        Raises: SessionNotFound, InvalidTransition or SessionBusy where it runs or waits, IdempotencyConflict.
        """
        body = given(message=wire_message(message), when_running=when_running, limits=wire_limits(limits))
        call = _keyed(f"{_session_path(session_id)}/messages", body, idempotency_key)
        return RemoteSession.of(await self._ask(call))

    async def resume(self, session_id: str, limits: Limits | Mapping[str, Any] | None = None) -> RemoteSession:
        """Go on with a session that is paused, or failed on something that passes.

        Raises: SessionNotFound, SessionBusy; InvalidTransition, also where it is completed or cancelled.
        """
        body = given(limits=wire_limits(limits))
        call = Call("POST", f"{_session_path(session_id)}/resume", body, settled_by=(SessionBusy, InvalidTransition))
        return await self._session_or_asked(session_id, call)

    async def files(self, session_id: str) -> list[SessionFile]:
        """What the session's tools left with it, by name. Raises: SessionNotFound."""
        data = await self._ask(Call("GET", f"{_session_path(session_id)}/files"))
        with reading("a list of files"):
            return [session_file_of(item) for item in data["items"]]

    async def file(self, session_id: str, name: str) -> bytes:
        """What one of them holds; its name as `files` has it. Raises: SessionNotFound, FileNotStored."""
        return await self._transport.content(file_path(session_id, name))

    async def delete(self, session_id: str) -> None:
        """Remove a session with its log and files; its audit rows stay. Raises: SessionNotFound, SessionBusy."""
        await self._ask(Call("DELETE", _session_path(session_id), settled_by=SessionNotFound))

    def approvals(
        self,
        *,
        status: ApprovalStatus | str | None = ApprovalStatus.PENDING,
        session_id: str | None = None,
        page_size: int = 100,
    ) -> AsyncGenerator[RemoteApproval]:
        """Oldest first; `status` None lists the decided ones too. Raises: SessionNotFound, in the iteration."""
        query = given(status=None if status is None else str(status), session_id=session_id)
        return self._listed("/approvals", query, RemoteApproval.of, page_size)

    async def approve(self, approval_id: str) -> RemoteApproval:
        """Allow one tool call, exactly as it was asked for; the session goes on once nothing waits.

        Raises: ApprovalNotFound, ApprovalAlreadyDecided where it was denied, ApprovalVoid.
        """
        return await self._decide(approval_id, {"decision": "approve"})

    async def deny(self, approval_id: str, reason: str | None = None) -> RemoteApproval:
        """Refuse one tool call; the model is told, and why. Raises: as `approve`."""
        return await self._decide(approval_id, given(decision="deny", reason=reason))

    async def _decide(self, approval_id: str, body: dict[str, Any]) -> RemoteApproval:
        path = f"/approvals/{segment(approval_id, ApprovalNotFound, 'approval')}"
        return RemoteApproval.of(await self._ask(Call("POST", path, body)))

    async def _session_or_asked(self, session_id: str, call: Call) -> RemoteSession:
        """The reply as a session; where the reply of an attempt that worked was lost, the server is asked for it."""
        data = await self._ask(call)
        return await self.session(session_id) if data is None else RemoteSession.of(data)


def _session_path(session_id: str) -> str:
    return f"/agents/{segment(session_id, SessionNotFound, 'session')}"


def file_path(session_id: str, name: str) -> str:
    """Where the API has a file. Raises: FileNotStored where no file can have this name; SessionNotFound."""
    try:
        check_name(name)
    except InvalidInput as exc:
        raise FileNotStored(f"no file {name!r:.120}") from exc
    return f"{_session_path(session_id)}/files/{quote(name)}"


def _keyed(path: str, body: dict[str, Any], key: str | None) -> Call:
    """A request that the server does once, however often it comes. Raises: InvalidInput for a key that is none."""
    if key is None:
        key = new_id()
    if not (key.isascii() and key.isprintable() and key.strip() == key and 0 < len(key) <= 255):
        raise InvalidInput("idempotency_key must be 1 to 255 printable ASCII characters")
    return Call("POST", path, body, headers={"Idempotency-Key": key})
