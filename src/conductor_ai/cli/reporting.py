"""How a session's stop is told: the answer on standard output, what to do next on standard error."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from conductor_ai.cli.exit_codes import ExitCode, of_session
from conductor_ai.cli.live_view import LiveView
from conductor_ai.cli.output import say, say_json
from conductor_ai.cli.stored_files import file_lines
from conductor_ai.cli.text import asker, count, exact, money, one_line
from conductor_ai.schemas.session import PauseReason, SessionStatus

if TYPE_CHECKING:
    from conductor_ai.cli.door import ApprovalView, SessionView
    from conductor_ai.sdk.context import SessionFile

_RAISED_BY = {PauseReason.MAX_STEPS: " --max-steps N", PauseReason.MAX_COST: " --max-cost USD"}


@dataclass(frozen=True, slots=True)
class Report:
    """`plugins_dir` and `server` as given on the command line: the lines to copy must name them again."""

    as_json: bool
    plugins_dir: Path | None = None
    server: str | None = None

    def ended(
        self,
        session: SessionView,
        pending: Sequence[ApprovalView],
        files: Sequence[SessionFile],
        view: LiveView,
        *,
        interrupted: bool,
    ) -> ExitCode:
        """Tell how `session` stopped. Returns: the exit code that says the same."""
        spent = f"{count(len(session.steps), 'step')}, {session.usage.total_tokens:,} tokens, {money(session.cost_usd)}"
        view.line(f"{_state(session)}: {spent}")
        match session.status:
            case SessionStatus.FAILED:
                view.line(f"error: {one_line(session.error or 'unknown', 1000)}")
                if view.narrator.failure_hint:
                    view.line(f"hint: {one_line(view.narrator.failure_hint, 1000)}")
                if view.narrator.failure_resumable:
                    view.line(f"resume:  {self.resume_line(session.session_id)}")
                else:
                    view.line(f'go on:   conductor run "..." --continue {session.session_id}{self._where}')
            case SessionStatus.WAITING_APPROVAL:
                self._say_what_waits(pending, view)
                view.line(f"then:    {self.resume_line(session.session_id)}")
            case SessionStatus.QUEUED | SessionStatus.RUNNING | SessionStatus.CANCELLING if self.server is not None:
                view.line(f"the session goes on without us; to see it again: {self.resume_line(session.session_id)}")
            case SessionStatus.PAUSED | SessionStatus.RUNNING:
                raised = _RAISED_BY.get(session.pause_reason, "") if session.pause_reason else ""
                view.line(f"resume:  {self.resume_line(session.session_id)}{raised}")
        for line in file_lines(session.session_id, files, self.server):
            view.line(line)
        if self.as_json:
            say_json(session.to_dict())
        elif session.final_answer is not None:
            say(session.final_answer)
        waiting = session.status is SessionStatus.WAITING_APPROVAL
        return ExitCode.INTERRUPTED if interrupted and waiting else of_session(session)

    def resume_line(self, session_id: str) -> str:
        """The command that goes on with the session."""
        folder = f" --plugins-dir {shlex.quote(str(self.plugins_dir))}" if self.plugins_dir else ""
        return f"conductor resume {session_id}{folder}{self._where}"

    @property
    def _where(self) -> str:
        return "" if self.server is None else f" --server {shlex.quote(self.server)}"

    def _say_what_waits(self, pending: Sequence[ApprovalView], view: LiveView) -> None:
        for approval in pending:
            arguments = json.dumps(approval.to_dict()["arguments"], ensure_ascii=False)
            view.line(f"waits:   {asker(approval.tool_name, approval.action)} {exact(arguments)}")
            view.line(f"approve: conductor approvals approve {approval.approval_id}{self._where}")
            view.line(f"deny:    conductor approvals deny {approval.approval_id}{self._where}")


def _state(session: SessionView) -> str:
    reason = f" ({session.pause_reason})" if session.pause_reason else ""
    return f"{session.status.value.replace('_', ' ')}{reason}"
