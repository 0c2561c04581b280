"""One home, one session, the world around it, and the ways to stop that world at an exact place."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from conductor_ai.storage.sqlite import SQLiteStore
from tests.crash import invariants
from tests.crash.invariants import Effect
from tests.crash.log_reader import LogReader
from tests.crash.processes import ROOT, SCRIPT, Outcome, Processes, Started
from tests.crash.stage import Stage, Turn

PLUGINS = Path(__file__).parent / "plugins"
TOOLS = ("look_up", "save", "charge", "send", "deploy", "publish")
ANSWER = "All done."


class World:
    """Entered, it has an empty database and a model that plays `turns`, then answers."""

    def __init__(self, folder: Path, *turns: Turn) -> None:
        self.home = folder / "home"
        self.log = LogReader(self.home / "conductor.db")
        self.stage = Stage([*turns, ANSWER], self.log)
        self.processes = Processes(folder)
        self._effects = folder / "effects.jsonl"
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await (await SQLiteStore.open(self.home)).close()
        await self._stack.enter_async_context(self.stage)
        self._stack.push_async_callback(self.processes.close)
        self.processes.env |= {
            **self.stage.environment,
            "CONDUCTOR_HOME": str(self.home),
            "CRASH_EFFECTS": str(self._effects),
        }
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def run(self) -> list[str]:
        return ["run", "do it", "--tools", ",".join(TOOLS), "--json", "--plugins-dir", str(PLUGINS)]

    @property
    def resume(self) -> list[str]:
        return ["resume", self.log.session_id(), "--json", "--plugins-dir", str(PLUGINS)]

    async def start(self, arguments: Sequence[str], *, blocked: str = "", mutant: str = "") -> Started:
        """`conductor ARGUMENTS`; `mutant` names the wall that is missing in that process (see mutants.py)."""
        if not mutant:
            return await self.processes.start(SCRIPT, *arguments, blocked=blocked)
        module = [sys.executable, "-m", "tests.crash.mutants", mutant]
        return await self.processes.start(*module, *arguments, blocked=blocked, env={"PYTHONPATH": str(ROOT)})

    async def conduct(self, arguments: Sequence[str]) -> Outcome:
        """`conductor ARGUMENTS` to its end."""
        return await (await self.start(arguments)).ended()

    async def approval_id(self) -> str:
        """The one approval that waits."""
        [approval] = (await self.conduct(["approvals", "list", "--json"])).json
        return str(approval["approval_id"])

    async def decide(self, decision: str) -> Outcome:
        return await self.conduct(["approvals", decision, await self.approval_id(), "--json"])

    def effects(self) -> list[Effect]:
        if not self._effects.exists():
            return []
        return [Effect(**json.loads(line)) for line in self._effects.read_text().splitlines()]

    def runs(self) -> Counter[str]:
        """How often each tool acted."""
        return Counter(effect.tool for effect in self.effects())

    def violations(self) -> list[str]:
        """What went wrong so far; empty where nothing did."""
        repeated = [
            f"the model was asked again for step {step_no}, which is stored" for step_no in self.stage.asked_again
        ]
        return (
            self.stage.violations
            + repeated
            + invariants.violations(self.log, self.effects(), guarded=["send"], asking=["deploy", "publish"])
        )

    def shown(self) -> list[str]:
        """The results that the model read in its newest request."""
        return [message["content"] for message in self.stage.requests[-1]["messages"] if message["role"] == "tool"]


def calls_of(session: dict[str, Any]) -> list[dict[str, Any]]:
    """The tool calls of a session as `--json` prints it."""
    return [call for step in session["steps"] for call in step["tool_calls"]]


def outcomes_of(session: dict[str, Any]) -> dict[str, str]:
    return {call["name"]: call["outcome"] for call in calls_of(session)}
