"""One session, driven in this process or followed on a server until it stops, with the person at the terminal where
there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from conductor_ai.cli.asking import ask_yes_no, can_ask, show_call
from conductor_ai.cli.door import person
from conductor_ai.cli.exit_codes import ExitCode
from conductor_ai.cli.live_view import open_view
from conductor_ai.cli.reporting import Report
from conductor_ai.cli.stop_signals import StopSignals
from conductor_ai.cli.text import asker
from conductor_ai.errors import ApprovalAlreadyDecided
from conductor_ai.schemas.session import SessionStatus

if TYPE_CHECKING:
    from conductor_ai.cli.door import Door, SessionView


class Foreground:
    """Entered, it holds Ctrl-C and shows what happens. With JSON output nobody is asked: a program is reading."""

    def __init__(self, door: Door, report: Report) -> None:
        self.view = open_view()
        self._door = door
        self._report = report
        self._asks = can_ask() and not report.as_json
        self._signals = StopSignals(on_stop=self._say_stopping, before_leaving=self.view.hold)

    def __enter__(self) -> Self:
        self._signals.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.view.hold()
        self._signals.__exit__(kind, error, trace)

    async def finish(self, session_id: str, work: Coroutine[Any, Any, SessionView]) -> ExitCode:
        """Wait for `work`, which drives the session; ask, decide and resume as often as it waits; report the end."""
        try:
            session = await self._signals.run(work)
            while self._asks and session.status is SessionStatus.WAITING_APPROVAL:
                if not await self._signals.run(self._ask(session_id)):
                    break
                session = await self._signals.run(self._door.resume(session_id, on_event=self.view.event))
        except asyncio.CancelledError:
            if not self._signals.stopped:
                raise
            session = await self._door.session(session_id)
        self.view.hold()
        pending = await self._door.approvals(session_id=session_id)
        # Only tools leave files.
        files = await self._door.files(session_id) if any(step.tool_calls for step in session.steps) else ()
        return self._report.ended(session, pending, files, self.view, interrupted=self._signals.stopped)

    async def _ask(self, session_id: str) -> bool:
        """False where the person left a question open. A decision that came from elsewhere meanwhile counts as one."""
        self.view.hold()
        for approval in await self._door.approvals(session_id=session_id):
            who = asker(approval.tool_name, approval.action)
            show_call(who, approval.to_dict()["arguments"])
            allowed = await ask_yes_no(f"allow {who}?")
            if allowed is None:
                return False
            try:
                await self._door.decide(approval.approval_id, "approved" if allowed else "denied", by=person())
            except ApprovalAlreadyDecided as earlier:
                self.view.line(f"{earlier}; that decision counts")
        return True

    def _say_stopping(self) -> None:
        self.view.hold()
        what = "stopping cleanly" if self._report.server is None else "leaving the session to its server"
        self.view.line(f"{what}; press Ctrl-C again to leave at once")
